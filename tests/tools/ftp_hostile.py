# SPDX-License-Identifier: Apache-2.0
"""chaveiro ftp and who means it no good: browsers, bounces, thieves of data connections, floods, sudden ends."""
import hashlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time

import chv
from ftpsite import FtpSite, Raw, read_all

MIB = 1 << 20


def content(size):
    return hashlib.shake_128(b"%d" % size).digest(size)


def reset(s):
    """Closes with a reset."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def begin(raw, data, command):
    raw.send(command + "\r\n")
    chv.check_equal(raw.reply()[:4], b"150 ", command)
    return data


def wait_for_nothing(site, *but):
    end = time.monotonic() + chv.DEADLINE
    while site.left() != sorted(but):
        chv.check(time.monotonic() < end, f"left: {site.left()}")
        time.sleep(0.02)


def active_listener(raw, host="127.0.0.1"):
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.settimeout(chv.DEADLINE)
    port = listener.getsockname()[1]
    raw.ask(f"EPRT |{2 if ':' in host else 1}|{host}|{port}|", 200)
    return listener


# --- who is let in ------------------------------------------------------------------------------------------------------


def test_browsers():
    with FtpSite() as site:
        site.init()
        door = site.door()
        for verb in ("GET / HTTP/1.1", "POST /x HTTP/1.1", "HEAD / HTTP/1.0", "PUT /x HTTP/1.1", "OPTIONS * HTTP/1.1",
                     "DELETE /x HTTP/1.1", "CONNECT x:1 HTTP/1.1", "TRACE / HTTP/1.1", "PATCH / HTTP/1.1", "PRI * HTTP/2.0",
                     "get / http/1.1"):
            raw = site.raw(door, login=False)
            raw.send(f"{verb}\r\nHost: 127.0.0.1\r\n\r\nUSER any\r\nPASS {door.password}\r\nMKD hacked\r\n")
            raw.over()
        door.wait_for("an HTTP request came to the FTP port", 11)
        chv.check(not os.path.exists(site.home()), "something was done")


def test_wrong_passwords():
    with FtpSite() as site:
        site.init()
        door = site.door()
        raw = site.raw(door, login=False)
        for i in range(3):
            raw.ask("USER any", 331)
            begun = time.monotonic()
            raw.ask(f"PASS {door.password[:-1]}{'x' if i else ''}", 530)
            chv.check(time.monotonic() - begun > 0.9, "a wrong password is answered at once")
        chv.check_equal(raw.reply()[:3], b"421", "the third is the last")
        raw.over()
        # a password that is right is not held up by others that are wrong, whose turn comes later and later
        others = [site.raw(door, login=False) for _ in range(6)]
        for other in others:
            other.ask("USER any", 331)
            other.send("PASS x\r\n")
        site.raw(door).ask("PWD", 257)
        chv.check(door.wait_for("wrong password", 9), "it is told")
        chv.check_not_in(door.password, door.stderr, "what is told")


def test_nothing_without_a_password():
    with FtpSite() as site:
        site.init()
        door = site.door()
        raw = site.raw(door, login=False)
        for command in ("PWD", "LIST", "RETR f", "STOR f", "MKD d", "PASV", "EPSV", "PORT 127,0,0,1,9,9", "REST 1", "CWD /",
                        "DELE f", "SIZE f", "STAT", "ABOR", "TYPE I", "RNFR f", "RNTO f", "MLST", "ALLO 1"):
            raw.ask(command, 530)
        raw.ask(f"PASS {door.password}", 503)
        for command, code in (("FEAT", 211), ("SYST", 215), ("NOOP", 200), ("HELP", 214), ("USER x", 331)):
            raw.ask(command, code)
        raw.ask("NOOP", 200)
        raw.login(door.password)
        chv.check(not os.path.exists(site.home("d")), "something was done")


def test_rubbish():
    with FtpSite() as site:
        site.init()
        door = site.door()
        raw = site.raw(door, login=False)
        for line in (b"", b" ", b"\x16\x03\x01", b"USER a\x00b", b"USER a\rMKD d", b"\xff\xf4\xff\xf2NO\xff\xfb\x01OP",
                     b"USERS x"):
            raw.send(line + b"\r\n")
            chv.check_in(raw.reply()[:3], (b"500", b"200"), f"{line}")
        for _ in range(20):
            raw.send("XYZZY\r\n")
        while (reply := raw.reply())[:3] == b"500":
            pass
        chv.check_equal(reply[:3], b"421", "who says nothing sensible is let go")
        raw.over()
        for length in (2559, 2560, 2561, 100000, 10 * MIB):
            raw = site.raw(door, login=False)
            try:
                raw.send(b"A" * length)
                raw.send(b"\r\n")
            except OSError:
                pass  # it is closed already
            first = raw.line()
            chv.check_in(first[:3], (b"500", b""), f"a line of {length} bytes")
        raw = site.raw(door)
        raw.ask("PWD", 257)
        raw.ask("MKD a\tb", 500)
        # Telnet's bytes go; what is left is no argument, not UTF-8, a name
        raw.send(b"MKD \xff\xfe\r\nMKD \xc3\r\nMKD a\xc2\x85b\r\n")
        replies = [raw.reply()[:3] for _ in range(3)]
        chv.check_equal(replies[1], b"553", f"half a character: {replies}")
        door.stop(0)


def test_commands_a_byte_at_a_time_and_all_at_once():
    with FtpSite() as site:
        site.init()
        door = site.door()
        raw = site.raw(door)
        for byte in b"MKD one\r\nPWD\n":
            raw.send(bytes([byte]))
        chv.check_equal((raw.reply()[:3], raw.reply()[:3]), (b"257", b"257"), "a byte at a time")
        raw.send("".join(f"MKD d{i}\r\nCWD d{i}\r\nCWD ..\r\n" for i in range(300)) + "PWD\r\n")
        codes = [raw.reply()[:3] for _ in range(901)]
        chv.check_equal(codes, [b"257", b"250", b"250"] * 300 + [b"257"], "all at once")
        chv.check_equal(len(os.listdir(site.home())), 301, "folders")


def test_replies_that_nobody_reads():
    """Who sends and does not read is not read: the memory of the door has a bound."""
    with FtpSite() as site:
        site.init()
        door = site.door()
        raw = site.raw(door)
        before = memory(door)
        raw.socket.setblocking(False)
        sent = 0
        for _ in range(200):
            try:
                sent += raw.socket.send(b"FEAT\r\n" * 20000)
            except BlockingIOError:
                time.sleep(0.01)
        chv.check(sent > MIB, "not much was sent")
        chv.check(memory(door) - before < 16 * MIB, f"memory grew from {before} to {memory(door)}")
        site.raw(door).ask("PWD", 257)
        raw.socket.settimeout(chv.DEADLINE)
        chv.check_in(b" UTF8", raw.reply(), "it goes on")


def test_more_than_are_let_in():
    with FtpSite() as site:
        site.init()
        door = site.door("--max-clients", "3")
        held = [site.raw(door, login=False) for _ in range(3)]
        for _ in range(3):
            more = Raw("127.0.0.1", door.ports[0])
            chv.check_in("421 Too many", more.reply(), "one too many")
            more.over()
            more.close()
        held[0].ask("QUIT", 221)
        held[0].over()
        site.raw(door).ask("PWD", 257)


# --- data connections ---------------------------------------------------------------------------------------------------


def test_bounce():
    with FtpSite() as site:
        site.init()
        door = site.door(listen=("127.0.0.1:0", "[::1]:0"))
        raw = site.raw(door)
        with socket.create_server(("127.0.0.2", 0)) as victim:
            port = victim.getsockname()[1]
            raw.ask(f"PORT 127,0,0,2,{port >> 8},{port & 255}", 501)
            raw.ask(f"EPRT |1|127.0.0.2|{port}|", 501)
            raw.ask("PORT 192,0,2,1,200,200", 501)
            raw.ask("EPRT |2|::1|2000|", 501)
            raw.ask("EPRT |3|x|2000|", 522)
            raw.ask("PORT 127,0,0,1,0,25", 501)
            raw.ask("EPRT |1|127.0.0.1|1023|", 501)
            raw.ask("PORT 127,0,0,1,300,1", 501)
            raw.ask("LIST", 425)
            victim.settimeout(0.2)
            try:
                victim.accept()
            except TimeoutError:
                pass
            else:
                raise chv.Failure("somebody else was connected to")
        door.wait_for("asked for a data connection to another address", 4)
        six = site.raw(door, host="::1", port=door.ports[1])
        six.ask("PASV", 522)
        six.ask("EPSV 1", 522)
        six.ask("PORT 127,0,0,1,200,200", 501)
        six.ask("EPSV ALL", 200)
        six.ask("EPRT |2|::1|2000|", 501)
        six.ask("PASV", 522)
        six.passive("::1").close()


def test_a_stolen_data_connection():
    with FtpSite() as site:
        site.init()
        door = site.door()
        raw = site.raw(door)
        os.makedirs(site.home(), exist_ok=True)
        chv.write(site.home("f"), content(100))
        port = raw.passive_port()
        thieves = [socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0)) for _ in range(2)]
        for thief in thieves:
            thief.settimeout(chv.DEADLINE)
            chv.check_equal(read_all(thief)[0], b"", "what a thief gets")
        door.wait_for("a data connection came from another address: closed", 2)
        own = socket.create_connection(("127.0.0.1", port))
        begin(raw, own, "RETR f")
        chv.check_equal(read_all(own), (content(100), False), "what the client gets")
        chv.check_equal(raw.reply()[:3], b"226", "done")
        # one connection, and no more
        data = raw.passive()
        try:
            second = socket.create_connection(data.getpeername(), timeout=chv.DEADLINE)
            chv.check_equal(read_all(second)[0], b"", "a second connection")
        except (ConnectionRefusedError, ConnectionResetError):  # in the listener's queue when it closed
            pass
        begin(raw, data, "RETR f")
        chv.check_equal(read_all(data), (content(100), False), "the first one")
        chv.check_equal(raw.reply()[:3], b"226", "done")


def test_a_data_connection_that_another_user_steals():
    user, words = chv.as_other_user("nobody", "daemon")
    if user is None:
        raise chv.Skip("only root can be another user")
    script = ("import socket, sys\n"
              "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
              "try: got = s.recv(100)\n"
              "except ConnectionResetError: got = b''\n"
              "print('got', len(got))\n")
    with FtpSite() as site:
        site.init()
        os.makedirs(site.home(), exist_ok=True)
        chv.write(site.home("f"), content(100))
        door = site.door(listen=("127.0.0.1:0", "[::1]:0", "unix:" + site.path("s")))
        for n, (host, where, port) in enumerate((("127.0.0.1", "127.0.0.1", door.ports[0]), ("::1", "::1", door.ports[1]),
                                                 ("unix", "127.0.0.1", site.path("s")))):
            raw = site.raw(door, host=host, port=port)
            data_port = raw.passive_port()
            thief = subprocess.run([*words, "/usr/bin/python3", "-c", script, where, str(data_port)], capture_output=True,
                                   check=True, timeout=chv.DEADLINE)
            chv.check_equal(thief.stdout, b"got 0\n", "what a thief gets")
            door.wait_for("a data connection came from another user: closed", n + 1)
            own = socket.create_connection((where, data_port))
            begin(raw, own, "RETR f")
            chv.check_equal(read_all(own), (content(100), False), "what the client gets")
            chv.check_equal(raw.reply()[:3], b"226", "done")


def test_a_thief_who_is_gone_before_anybody_looks():
    """A connection that was closed has no user any more: the kernel calls it root's, who may be the client."""
    user, words = chv.as_other_user("nobody", "daemon")
    if user is None:
        raise chv.Skip("only root can be another user")
    script = ("import socket, sys\n"
              "with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as s: s.sendall(b'stolen')\n")
    with FtpSite() as site:
        site.init()
        door = site.door()
        raw = site.raw(door)
        os.makedirs(site.home(), exist_ok=True)
        port = raw.passive_port()
        door.signal(signal.SIGSTOP)
        subprocess.run([*words, "/usr/bin/python3", "-c", script, str(port)], check=True, timeout=chv.DEADLINE)
        door.signal(signal.SIGCONT)
        door.wait_for("a data connection came from another user: closed")
        own = socket.create_connection(("127.0.0.1", port))
        begin(raw, own, "STOR f")
        own.sendall(content(100))
        own.close()
        chv.check_equal(raw.reply()[:3], b"226", "done")
        chv.check_equal(chv.read(site.home("f")), content(100), "what is stored")


def test_data_connections_that_do_not_come():
    with FtpSite() as site:
        site.init()
        door = site.door("--timeout", "1s")
        raw = site.raw(door)
        os.makedirs(site.home(), exist_ok=True)
        chv.write(site.home("f"), content(5 * MIB))
        for command in ("RETR f", "STOR g", "LIST", "MLSD"):
            raw.passive_port()
            begin(raw, None, command)
            chv.check_equal(raw.reply()[:3], b"425", command)
            raw.ask("PWD", 257)
        port = raw.passive_port()
        time.sleep(1.5)
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            raise chv.Failure("a port is still open that nobody came to")
        except ConnectionRefusedError:
            pass
        raw.ask("RETR f", 425)
        with active_listener(raw):
            pass  # nobody listens any more
        begin(raw, None, "RETR f")
        chv.check_equal(raw.reply()[:3], b"425", "active")
        raw.ask("STOR x", 425)
        chv.check_equal(site.left(), ["f"], "what is left")
        data = raw.passive()
        begin(raw, data, "RETR f")
        chv.check(read_all(data) == (content(5 * MIB), False), "it works after all that")
        chv.check_equal(raw.reply()[:3], b"226", "done")


# --- ends in the middle -------------------------------------------------------------------------------------------------


def test_store_that_ends_suddenly():
    with FtpSite() as site:
        site.init()
        door = site.door()
        raw = site.raw(door)
        os.makedirs(site.home(), exist_ok=True)
        chv.write(site.home("f"), "as it was")
        for end in ("reset", "abort", "pipelined abort", "close"):
            data = raw.passive()
            begin(raw, data, "STOR f")
            data.sendall(content(MIB))
            if end == "reset":
                reset(data)
                chv.check_equal(raw.reply()[:3], b"426", end)
            elif end == "close":
                raw.close()  # the program is gone: its other connection ends, too, and that is not the end of a file
                data.close()
            else:
                raw.socket.send(b"\xff\xf4\xff", socket.MSG_OOB)
                raw.send(b"\xf2ABOR\r\n" + (b"PWD\r\n" if end != "abort" else b""))
                chv.check_equal((raw.reply()[:3], raw.reply()[:3]), (b"426", b"226"), end)
                if end != "abort":
                    chv.check_equal(raw.reply()[:3], b"257", "what came behind")
                data.close()
            wait_for_nothing(site, "f")
            chv.check_equal(chv.read(site.home("f")), b"as it was", end)
        raw = site.raw(door)
        data = raw.passive()
        begin(raw, data, "STOR g")
        data.sendall(content(MIB))
        door.process.kill()
        door.wait()
        wait_for_nothing(site, "f")


def test_a_reset_right_behind_the_last_bytes():
    """It comes with them, and is no end of a file."""
    with FtpSite() as site:
        site.init()
        door = site.door()
        raw = site.raw(door)
        for size in (1, 1000, 65280, 100000):
            data = raw.passive()
            begin(raw, data, "STOR f")
            door.signal(signal.SIGSTOP)
            data.sendall(content(size))
            reset(data)
            door.signal(signal.SIGCONT)
            chv.check_equal(raw.reply()[:3], b"426", f"a reset after {size} bytes")
        chv.check_equal(site.left(), [], "what is left")


def test_a_program_that_is_killed_while_it_stores():
    script = ("import ftplib, sys, time\n"
              "f = ftplib.FTP(); f.connect('127.0.0.1', int(sys.argv[1])); f.login('x', sys.argv[2])\n"
              "d = f.transfercmd('STOR f'); d.sendall(b'x' * 300000); print('sent', flush=True); time.sleep(1000)\n")
    with FtpSite() as site:
        site.init()
        door = site.door()
        for _ in range(20):
            with subprocess.Popen([sys.executable, "-c", script, str(door.ports[0]), door.password],
                                  stdout=subprocess.PIPE) as victim:
                chv.check_equal(victim.stdout.readline(), b"sent\n", "the program")
                victim.kill()
            wait_for_nothing(site)


def test_fetch_that_ends_suddenly():
    with FtpSite() as site:
        site.init()
        door = site.door("-v")
        raw = site.raw(door)
        os.makedirs(site.home(), exist_ok=True)
        with open(site.home("f"), "wb") as f:
            f.truncate(300 * MIB)
        for end in ("reset", "close", "abort"):
            data = raw.passive()
            begin(raw, data, "RETR f")
            chv.check(len(data.recv(100000)) > 0, "it comes")
            if end == "reset":
                reset(data)
                chv.check_equal(raw.reply()[:3], b"426", end)
            elif end == "close":
                data.close()
                chv.check_equal(raw.reply()[:3], b"426", end)
            else:
                raw.send("ABOR\r\nSTAT\r\n")
                chv.check_equal((raw.reply()[:3], raw.reply()[:3]), (b"426", b"226"), end)
                chv.check(read_all(data)[1], "a file that is not whole ends with a reset")
                chv.check_equal(raw.reply()[:3], b"211", "what came behind")
            raw.ask("PWD", 257)
            raw.ask("SIZE f", 213)
        data = raw.passive()
        begin(raw, data, "RETR f")
        data.recv(1)
        raw.ask("STAT", 211)  # meanwhile
        raw.close()
        chv.check(read_all(data)[1], "the control connection is the one that counts")


def test_the_server_ends_suddenly():
    with FtpSite() as site:
        site.init()
        door = site.door()
        fetches, stores = site.raw(door), site.raw(door)
        os.makedirs(site.home(), exist_ok=True)
        with open(site.home("f"), "wb") as f:
            f.truncate(300 * MIB)
        down, up = fetches.passive(), stores.passive()
        begin(fetches, down, "RETR f")
        begin(stores, up, "STOR g")
        up.sendall(content(MIB))
        down.recv(1)
        site.server.process.kill()
        site.server.kill()
        site.server = None
        chv.check_equal(stores.reply()[:3], b"421", "a store")
        chv.check(read_all(down)[1], "a file that is not whole ends with a reset")
        chv.check_equal(fetches.reply()[:3], b"421", "a fetch")
        door.stop(0)


def test_a_file_that_changes():
    with FtpSite() as site:
        site.init()
        raw = site.raw(site.door())
        os.makedirs(site.home(), exist_ok=True)
        with open(site.home("f"), "wb") as f:
            f.truncate(300 * MIB)
        data = raw.passive()
        begin(raw, data, "RETR f")
        data.recv(1)
        with open(site.home("f"), "r+b") as f:
            f.truncate(5)
        chv.check(read_all(data)[1], "a file that is not whole ends with a reset")
        chv.check_equal(raw.reply()[:3], b"451", "the server says it")
        raw.ask("SIZE f", 213)


def memory(process):
    with open(f"/proc/{process.pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) * 1024


def test_memory_does_not_grow():
    """A reader and a writer that are slower than the other side: what waits has a bound."""
    with FtpSite() as site:
        site.init()
        door = site.door()
        os.makedirs(site.home(), exist_ok=True)
        with open(site.home("f"), "wb") as f:
            f.truncate(200 * MIB)
        before = memory(door)
        slow = [site.raw(door) for _ in range(4)]
        down = [begin(raw, raw.passive(), "RETR f") for raw in slow]
        most = 0
        for _ in range(20):
            for data in down:
                data.recv(1 << 18)
            most = max(most, memory(door) - before)
            time.sleep(0.01)
        fast = site.raw(door)
        with begin(fast, fast.passive(), "STOR g") as up:
            for _ in range(200):
                up.sendall(bytes(MIB))
                most = max(most, memory(door) - before)
        chv.check_equal(fast.reply()[:3], b"226", "stored")
        chv.check_equal(os.path.getsize(site.home("g")), 200 * MIB, "its size")
        chv.check(most < 48 * MIB, f"{most} bytes more than before")
        for raw, data in zip(slow, down):
            got = 0
            with data:
                while piece := data.recv(MIB):
                    got += len(piece)
            chv.check_equal(raw.reply()[:3], b"226", "fetched")


def test_content_is_verified():
    with FtpSite() as site:
        site.init()
        raw = site.raw(site.door())
        data = raw.passive()
        begin(raw, data, "STOR f")
        for i in range(50):
            data.sendall(content(i * 1000 + 1))
        data.close()
        chv.check_equal(raw.reply()[:3], b"226", "stored")
        whole = b"".join(content(i * 1000 + 1) for i in range(50))
        chv.check(chv.read(site.home("f")) == whole, "what was stored")
        with active_listener(raw) as listener:
            begin(raw, None, "RETR f")
            chv.check(read_all(listener.accept()[0]) == (whole, False), "what was fetched")
        chv.check_equal(raw.reply()[:3], b"226", "fetched")


def test_a_child_of_another_user_does_not_come_in():
    """The socket file is its user's alone."""
    user, words = chv.as_other_user("nobody", "daemon")
    if user is None:
        raise chv.Skip("only root can be another user")
    with FtpSite() as site:
        site.init()
        os.chmod(site.folder, 0o711)
        site.door(listen=("unix:" + site.path("s"),))
        done = subprocess.run([*words, "/usr/bin/python3", "-c", "import socket, sys\n"
                               "s = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])", site.path("s")],
                              capture_output=True, check=False)
        chv.check_in("Permission denied", done.stderr, "another user")


if __name__ == "__main__":
    chv.main()
