# SPDX-License-Identifier: Apache-2.0
"""chaveiro ftp with the clients that there are: Python's ftplib, curl, lftp."""
import ftplib
import hashlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import time

import chv
import ftpsite
from ftpsite import FtpSite, refused
from rotate import labels

USAGE, NOINPUT, IOERR, TEMPFAIL = 64, 66, 74, 75
MIB = 1 << 20


def content(size):
    return hashlib.shake_128(b"%d" % size).digest(size)


def fetch(ftp, name, rest=None):
    out = io.BytesIO()
    chv.check_equal(ftp.retrbinary(f"RETR {name}", out.write, rest=rest)[:3], "226", f"fetched {name}")
    return out.getvalue()


def store(ftp, name, data):
    chv.check_equal(ftp.storbinary(f"STOR {name}", io.BytesIO(data))[:3], "226", f"stored {name}")


def tool(*words, code=0, cwd=None, env=None):
    """A program that is not ours; Skip if it is not here."""
    if shutil.which(words[0]) is None:
        raise chv.Skip(f"{words[0]} is not installed")
    done = subprocess.run(words, capture_output=True, timeout=chv.DEADLINE, check=False, cwd=cwd,
                          env=dict(os.environ, LC_ALL="C.UTF-8", HOME=cwd or "/nonexistent", **(env or {})))
    chv.check_equal(done.returncode, code, f"{' '.join(words)}: {done.stderr.decode(errors='replace')}")
    return done


# --- ftplib -------------------------------------------------------------------------------------------------------------


def test_files_over_every_kind_of_data_connection():
    with FtpSite() as site:
        site.init()
        door = site.door(listen=("127.0.0.1:0", "[::1]:0"))
        for host, port in zip(("127.0.0.1", "::1"), door.ports):
            for passive in (True, False):
                ftp = site.ftp(door, host, port, passive)
                for size in (0, 1, 65279, 65280, 65281, 3 * MIB + 1):
                    store(ftp, f"f{size}", content(size))
                    chv.check(chv.read(site.home(f"f{size}")) == content(size), f"{size} bytes came changed")
                    chv.check(fetch(ftp, f"f{size}") == content(size), f"{size} bytes came back changed")
                    chv.check_equal(ftp.size(f"f{size}"), size, "SIZE")
                    ftp.delete(f"f{size}")
                ftp.quit()
        chv.check_equal(site.left(), [], "what is left")
        door.stop(0)


def test_folders_and_listings():
    with FtpSite() as site:
        site.init()
        ftp = site.ftp(site.door())
        chv.check_equal(ftp.pwd(), "/", "the root")
        chv.check_equal(ftp.mkd("d"), "/d", "MKD")
        with refused(550, "exists already"):
            ftp.mkd("d")
        ftp.cwd("d")
        store(ftp, "f", b"data")
        store(ftp, "/top", b"x")
        chv.check_equal(chv.read(site.home("d/f")), b"data", "stored in the folder")
        chv.check_equal(stat.S_IMODE(os.stat(site.home("d/f")).st_mode), 0o644, "mode")
        os.utime(site.home("d/f"), ns=(1, 1772366400123456789))
        chv.check_equal(ftp.sendcmd("MDTM f"), "213 20260301120000.123", "MDTM")
        chv.check_equal(list(ftp.mlsd()), [("f", {"type": "file", "size": "4", "modify": "20260301120000.123",
                                                  "unix.mode": "0644"})], "MLSD")
        chv.check_equal(sorted(ftp.mlsd("/", facts=["type", "size"])), [("d", {"type": "dir"}),
                                                                      ("top", {"type": "file", "size": "1"})], "facts")
        chv.check_in("\n type=file;size=4; /d/f\n", ftp.sendcmd("MLST f"), "MLST")
        chv.check_equal(sorted(ftp.nlst("/")), ["/d", "/top"], "NLST of a folder")
        chv.check_equal((ftp.nlst(), ftp.nlst("f"), ftp.nlst("/d/*"), ftp.nlst("x*")), (["f"], ["f"], ["/d/f"], []),
                        "NLST")
        lines = []
        ftp.retrlines("LIST -la /", lines.append)
        chv.check_equal(sorted(line[0] for line in lines), ["-", "d"], "LIST")
        lines = []
        ftp.retrlines("LIST f", lines.append)
        chv.check(len(lines) == 1 and lines[0].startswith("-rw-r--r-- ") and lines[0].endswith(" f"), f"LIST: {lines}")
        for name in ("nothing", "f"):
            with refused(550 if name == "nothing" else 501):
                list(ftp.mlsd(name))
        with refused(550, "no folder"):
            ftp.cwd("f")
        with refused(550, "not empty"):
            ftp.rmd("/d")
        ftp.rename("f", "../g")
        with refused(553, "exists"):
            ftp.rename("/g", "/top")
        with refused(503):
            ftp.sendcmd("RNTO x")
        ftp.cwd("..")
        ftp.rmd("d")
        ftp.delete("g")
        with refused(550, "no such"):
            ftp.delete("g")
        for command in ("RETR g", "RETR d/e", "SIZE g", "MDTM g", "CWD g", "RNFR g", "RMD g"):
            with refused(550):
                ftp.transfercmd(command) if command.startswith("RETR") else ftp.sendcmd(command)
        with refused(550):
            store(ftp, "no/where", b"")
        os.mkdir(site.home("e"))
        with refused(553, "is a folder"):
            store(ftp, "e", b"")
        with refused(550):
            fetch(ftp, "e")
        chv.check_equal(site.left(), ["e", "top"], "what is left")


def test_times_and_modes():
    with FtpSite() as site:
        site.init()
        ftp = site.ftp(site.door())
        ftp.mkd("d")
        store(ftp, "d/f", b"data")
        chv.check_equal(ftp.sendcmd("MFMT 20260301120000.5 d/f"), "213 Modify=20260301120000.500; /d/f", "MFMT")
        chv.check_equal(ftp.sendcmd("MFMT 20260301120001 d"), "213 Modify=20260301120001; /d", "MFMT of a folder")
        ftp.sendcmd("SITE CHMOD 400 d/f")
        ftp.sendcmd("site chmod 0055 d")
        for name, mode, ns in (("d/f", 0o400, 1772366400500000000), ("d", 0o755, 1772366401000000000)):
            st = os.stat(site.home(name))
            chv.check_equal((stat.S_IMODE(st.st_mode), st.st_mtime_ns), (mode, ns), name)
        os.symlink("d/f", site.home("link"))
        for command, code in (("MFMT 20260301120000 nothing", 550), ("MFMT 20260301120000 link", 550),
                              ("SITE CHMOD 777 link", 550), ("SITE CHMOD 777 /", 501), ("MFMT 20260301120000 ..", 501),
                              ("MFMT 2026 d", 501), ("MFMT 20260301120000", 501), ("MFMT 20261301120000 d", 501),
                              ("SITE CHMOD 1777 d", 501), ("SITE CHMOD 8 d", 501), ("SITE CHMOD 644", 501),
                              ("SITE CHMOD 00644 d", 501), ("SITE HELP", 504)):
            with refused(code):
                ftp.sendcmd(command)
        chv.check_equal(stat.S_IMODE(os.stat(site.home("d/f")).st_mode), 0o400, "as it was")


def test_many_entries():
    with FtpSite() as site:
        site.init()
        door = site.door()
        ftp = site.ftp(door)
        store(ftp, "f", b"")
        names = {f"{i:05d} {'n' * (i % 200)} \u00e9" for i in range(10000)}
        for name in names:
            chv.write(site.home(name), "")
        names.add("f")
        chv.check_equal(set(ftp.nlst()), names, "NLST")
        chv.check_equal({name for name, _ in ftp.mlsd()}, names, "MLSD")
        lines = []
        ftp.retrlines("LIST", lines.append)
        chv.check_equal({line.split(None, 8)[8] for line in lines}, names, "LIST")


def test_names():
    with FtpSite() as site:
        site.init()
        ftp = site.ftp(site.door())
        for name in ("\u00e9 \u20ac", 'quo"te', "a;b c", "-la", "\U0001f600", "n" * 255, "%0d%0a", "..."):
            ftp.mkd("./" + name)
            ftp.cwd("./" + name)
            chv.check_equal(ftp.pwd(), "/" + name, "PWD")
            store(ftp, "./" + name, name.encode())
            chv.check_equal(ftp.nlst(), [name], "NLST")
            chv.check_equal([n for n, _ in ftp.mlsd()], [name], "MLSD")
            chv.check_equal(chv.read(site.home(f"{name}/{name}")), name.encode(), "stored")
            ftp.delete("./" + name)
            ftp.cwd("..")
            ftp.rmd("./" + name)
        # what the home has and FTP cannot name is not in its listings
        for name in (b"a\nb", b"\xff", b"\r", ftpsite.PART.encode() + b"x"):
            os.close(os.open(os.path.join(site.home().encode(), name), os.O_CREAT | os.O_WRONLY, 0o600))
        os.symlink("/etc/passwd", site.home("link"))
        chv.check_equal(ftp.nlst(), ["link"], "what can be named")
        chv.check_equal([facts["type"] for _, facts in ftp.mlsd()], ["OS.unix=symlink"], "a link")
        with refused(550, "links are not followed"):
            fetch(ftp, "link")
        for name in ("n" * 256, "d/" * 600, ftpsite.PART + "x"):
            with refused(553):
                ftp.mkd(name)
        for path in ("../../../etc/passwd", "/../etc/passwd", "x/../../../etc/passwd"):
            with refused(550, "no such"):
                fetch(ftp, path)
        with refused(530, "already"):
            ftp.login("any", "again")


def test_rest():
    with FtpSite() as site:
        site.init()
        ftp = site.ftp(site.door())
        data = content(300001)
        store(ftp, "f", data)
        for offset in (0, 1, 65280, 300000, 300001):
            chv.check(fetch(ftp, "f", rest=offset) == data[offset:], f"from byte {offset}")
        chv.check(fetch(ftp, "f") == data, "REST is for one transfer")
        with refused(554):
            fetch(ftp, "f", rest=300002)
        with refused(554, "from its start"):
            ftp.storbinary("STOR f", io.BytesIO(b"x"), rest=5)
        with refused(502):
            ftp.storbinary("APPE f", io.BytesIO(b"x"))
        for wrong in ("x", "-1", "1x", "9" * 19):
            with refused(501):
                ftp.sendcmd("REST " + wrong)
        chv.check(fetch(ftp, "f") == data, "as it was")


def test_types():
    with FtpSite() as site:
        site.init()
        ftp = site.ftp(site.door())
        ftp.storlines("STOR t", io.BytesIO(b"one\ntwo\n"))
        chv.check_equal(chv.read(site.home("t")), b"one\r\ntwo\r\n", "files go as they are in TYPE A, too")
        with refused(550, "TYPE I"):
            ftp.size("t")
        for command in ("TYPE E", "TYPE L 36", "MODE B", "STRU R", "STAT t"):
            with refused(504):
                ftp.sendcmd(command)
        for command in ("TYPE L 8", "TYPE A N", "MODE S", "STRU F", "OPTS UTF8 ON", "NOOP", "SYST", "HELP", "STAT",
                        "ALLO 5", "CLNT x"):
            chv.check_equal(ftp.sendcmd(command)[0], "2", command)
        for command in ("AUTH TLS", "STOU", "ACCT x", "REIN"):
            with refused(502):
                ftp.sendcmd(command)
        features = ftp.sendcmd("FEAT").splitlines()
        for feature in ("UTF8", "EPRT", "EPSV", "SIZE", "MDTM", "MFMT", "REST STREAM", "TVFS"):
            chv.check_in(" " + feature, features, "FEAT")
        chv.check_equal(ftp.sendcmd("OPTS MLST size;type;x;"), "200 MLST OPTS type;size;", "OPTS MLST")
        chv.check_in(" MLST type*;size*;modify;UNIX.mode;", ftp.sendcmd("FEAT"), "FEAT tells which are on")


# --- what the server refuses --------------------------------------------------------------------------------------------


def test_limits():
    with FtpSite() as site:
        site.init(max_size="2M", quota="5M")
        ftp = site.ftp(site.door())
        store(ftp, "a", content(2 * MIB))
        with refused(552, "this server takes"):
            store(ftp, "b", content(2 * MIB + 1))
        store(ftp, "b", content(2 * MIB))
        with refused(552, "quota"):
            store(ftp, "c", content(MIB + 1))
        chv.check_equal(site.left(), ["a", "b"], "nothing is left of what was refused")
        store(ftp, "c", content(MIB))


def test_a_client_that_may_only_read():
    with FtpSite() as site:
        site.init(scopes=["files:ro"])
        os.makedirs(site.home("d"))
        chv.write(site.home("f"), "data")
        ftp = site.ftp(site.door())
        chv.check_equal(fetch(ftp, "f"), b"data", "may be read")
        for command in ("MKD x", "RMD d", "DELE f", "MFMT 20260301120000 f", "SITE CHMOD 777 f"):
            with refused(550, "may only read"):
                ftp.sendcmd(command)
        with refused(550, "may only read"):
            store(ftp, "x", b"")
        chv.check_equal(site.left(), ["d", "f"], "as it was")


def test_a_client_without_files():
    with FtpSite() as site:
        site.init(scopes=["message"])
        door = site.door()
        with refused(530, "files:ro"):
            site.ftp(door)
        door.wait_for(r"chaveiro: .*no scope 'files:ro'")
        door.stop(0)


def test_a_server_that_comes_and_goes():
    with FtpSite() as site:
        site.init()
        door = site.door(to=site.address)
        ftp = site.ftp(door)
        raw = site.raw(door)
        site.configure(listen=site.address)
        site.stop()
        chv.check_in("421 The connection to the server is lost", raw.reply(), "an idle client is told")
        raw.over()
        with refused(421):
            ftp.pwd()
        with refused(421, "Connection refused"):
            site.ftp(door)
        chv.check(door.running(), "the door stays")
        site.start()
        ftp = site.ftp(door)
        store(ftp, "f", b"x")
        door.stop(0)


# --- programs -----------------------------------------------------------------------------------------------------------


def test_curl():
    with FtpSite() as site:
        site.init()
        door = site.door(listen=("127.0.0.1:0", "[::1]:0"))
        url, url6 = (f"ftp://any:{door.password}@{host}:{port}/" for host, port in zip(("127.0.0.1", "[::1]"), door.ports))
        data = content(2 * MIB + 5)
        chv.write(site.path("in"), data)
        ways = ((url, []), (url, ["--disable-epsv"]), (url, ["-P", "-"]), (url6, []), (url6, ["-P", "-"]))
        for i, (base, mode) in enumerate(ways):
            tool("curl", "-sS", *mode, "--ftp-create-dirs", "-T", site.path("in"), f"{base}d{i}/e%20f/x%C3%A9")
            chv.check(chv.read(site.home(f"d{i}/e f/x\u00e9")) == data, f"curl {mode}: stored")
            tool("curl", "-sS", *mode, "-o", site.path("out"), f"{base}d{i}/e%20f/x%C3%A9")
            chv.check(chv.read(site.path("out")) == data, f"curl {mode}: fetched")
        with open(site.path("out"), "r+b") as f:
            f.truncate(MIB)
        tool("curl", "-sS", "-C", "-", "-o", site.path("out"), url + "d0/e%20f/x%C3%A9")
        chv.check(chv.read(site.path("out")) == data, "gone on with")
        part = tool("curl", "-sS", "-r", "100-199", url + "d0/e%20f/x%C3%A9").stdout
        chv.check(part == data[100:200], "a range")
        chv.check_equal(tool("curl", "-sS", "-l", url + "d0/").stdout, b"e f\n", "names")
        chv.check_in("Content-Length: %d" % len(data), tool("curl", "-sSI", url + "d0/e%20f/x%C3%A9").stdout, "head")
        tool("curl", "-sS", "-Q", "DELE d0/e f/x\u00e9", "-Q", "RMD d0/e f", "-Q", "RMD d0", url)
        chv.check(not os.path.exists(site.home("d0")), "removed")
        tool("curl", "-sS", url + "nothing", code=78)
        tool("curl", "-sS", f"ftp://any:wrong@127.0.0.1:{door.ports[0]}/", code=67)


def make_tree(top):
    for name in ("a", "b/c", "b/\u00e9 \u20ac/d", "empty/x", "b/c d", "big"):
        os.makedirs(os.path.dirname(os.path.join(top, name)), exist_ok=True)
        chv.write(os.path.join(top, name), content(3 * MIB + 1) if name == "big" else name)
        os.utime(os.path.join(top, name), (1772366400, 1772366400))
    for i in range(200):
        chv.write(os.path.join(top, "b", f"n{i}"), content(i))


def tree(top):
    found = {}
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, top)] = chv.read(path)
    return found


def lftp(site, door, script, passive=True):
    settings = (f"set net:max-retries 2; set net:timeout 60; set ftp:passive-mode {'on' if passive else 'off'}; "
                f"set xfer:verify no; open -u any,{door.password} 127.0.0.1:{door.ports[0]}; ")
    return tool("lftp", "-c", settings + script, cwd=site.path(""))


def test_lftp():
    with FtpSite() as site:
        site.init()
        door = site.door()
        os.mkdir(site.path("local"))
        make_tree(site.path("local/tree"))
        for passive in (True, False):
            lftp(site, door, "mirror -R -P 4 local/tree up", passive)
            chv.check_equal(tree(site.home("up")), tree(site.path("local/tree")), "mirrored to the server")
            lftp(site, door, "mirror -P 4 up local/back", passive)
            chv.check_equal(tree(site.path("local/back")), tree(site.path("local/tree")), "mirrored back")
            chv.check_equal(lftp(site, door, "mirror --dry-run up local/back", passive).stdout, b"", "nothing is left")
            chv.check_equal(os.stat(site.home("up/b/c")).st_mtime, 1772366400, "times are kept")
            shutil.rmtree(site.path("local/back"))
            lftp(site, door, "rm -r up", passive)
            chv.check_equal(site.left(), [], "removed")
        lftp(site, door, "mkdir d; cd d; put local/tree/big; pget -n 3 big -o local/got; mv big large; ls; cls -l")
        chv.check(chv.read(site.path("local/got")) == content(3 * MIB + 1), "in several parts at once")
        with open(site.path("local/got"), "r+b") as f:
            f.truncate(MIB)
        lftp(site, door, "get -c d/large -o local/got")
        chv.check(chv.read(site.path("local/got")) == content(3 * MIB + 1), "gone on with")


# --- the door itself ----------------------------------------------------------------------------------------------------


def test_command_line():
    with FtpSite() as site:
        site.init()
        for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0", "localhost:0", "128.0.0.1:0", "[::ffff:10.0.0.1]:0"):
            done = site.client(site.key, "ftp", "--listen", address, code=USAGE)
            chv.check_in("cross the network in clear", done.stderr, address)
            chv.check_equal(done.stdout, b"", "no password is told")
        for wrong in (["--listen", "nowhere"], ["--max-clients", "0"], ["--max-clients", "201"], ["x"]):
            site.client(site.key, "ftp", *wrong, code=USAGE)
        door = site.door("--unsafe-listen", listen=("0.0.0.0:0",))
        door.wait_for("warning: 0.0.0.0:0: files and password cross the network in clear")
        site.client(site.key, "ftp", "--listen", f"127.0.0.1:{door.ports[0]}", code=TEMPFAIL)
        site.ftp(door)
        door.stop(0)
        door = site.client_start(site.key, "--json", "ftp", "--listen", "127.0.0.1:0", "--listen", "unix:" + site.path("s"))
        told = json.loads(door.wait_for(r"\{.*\}\n", stream="stdout")[0][0])
        chv.check_equal((len(told["listening"]), told["listening"][1], len(told["password"])),
                        (2, "unix:" + site.path("s"), 32), "as JSON")
        chv.check_equal(stat.S_IMODE(os.stat(site.path("s")).st_mode), 0o600, "mode of the socket")
        door.stop(0)
        chv.check(not os.path.exists(site.path("s")), "the socket is gone")


def test_where_it_listens_cannot_be_said():
    with FtpSite() as site:
        site.init()
        with open("/dev/full", "wb") as full:
            done = subprocess.run(chv.argv("chaveiro", *site.client_argv(site.key, "ftp", "--listen", "127.0.0.1:0")),
                                  stdout=full, stderr=subprocess.PIPE, timeout=chv.DEADLINE, check=False)
        chv.check_equal(done.returncode, IOERR, "exit code")
        chv.check_in("cannot be said: standard output: No space", done.stderr, "the error")


def test_clients_that_think():
    """The server's idle limit is not theirs: the door keeps their sessions."""
    with FtpSite() as site:
        site.init(idle_timeout="2")
        raw = site.raw(site.door())
        raw.ask("MKD d", 257)
        with raw.passive() as data:
            raw.send("STOR f\r\n")
            chv.check_in("150 ", raw.reply(), "STOR")
            for _ in range(2):
                data.sendall(b"x")
                time.sleep(3)
        chv.check_in("226 ", raw.reply(), "stored")
        time.sleep(3)
        raw.ask("SIZE f", 213)


def test_password_file():
    with FtpSite() as site:
        site.init()
        path = chv.write(site.path("ftp.pass"), "corr\u00e9ct horse\n")
        door = site.door("--password-file", path)
        chv.check_not_in("correct", door.stdout, "what it prints")
        chv.check_not_in("password", door.stdout, "what it prints")
        door.password = "corr\u00e9ct horse"
        store(site.ftp(door), "f", b"x")
        for wrong in ("corr\u00e9ct hors", "corr\u00e9ct horse ", "", "x" * 1000):
            door.password = wrong
            with refused(530, "Wrong password"):
                site.ftp(door)
        door.stop(0)
        os.chmod(path, 0o644)
        site.client(site.key, "ftp", "--password-file", path, code=NOINPUT)
        for bad in ("short\n", "with\ttab and more\n"):
            site.client(site.key, "ftp", "--password-file", chv.write(site.path("bad.pass"), bad), code=USAGE)


def test_unix_socket():
    with FtpSite() as site:
        site.init()
        door = site.door(listen=("unix:" + site.path("s"),))
        raw = site.raw(door, host="unix", port=site.path("s"))
        data = raw.passive()
        raw.send("STOR f\r\n")
        chv.check_in("150 ", raw.reply(), "STOR")
        data.sendall(b"over a socket")
        data.close()
        chv.check_in("226 ", raw.reply(), "stored")
        chv.check_equal(chv.read(site.home("f")), b"over a socket", "what was stored")


def test_it_ends_in_order():
    with FtpSite() as site:
        site.init()
        door = site.door()
        idle, busy = site.raw(door), site.raw(door)
        data = busy.passive()
        busy.send("STOR f\r\n")
        chv.check_in("150 ", busy.reply(), "STOR")
        data.sendall(content(MIB))
        door.signal(signal.SIGTERM)
        chv.check_in("421 This program is being ended", idle.reply(), "the idle one is told")
        idle.over()
        data.sendall(content(MIB))
        data.close()
        chv.check_in("226 ", busy.reply(), "what is under way is finished")
        chv.check_in("421 ", busy.reply(), "and then told")
        door.wait(0)
        chv.check_equal(chv.read(site.home("f")), content(MIB) * 2, "stored")


def test_a_second_signal_cuts_it_off():
    with FtpSite() as site:
        site.init()
        door = site.door()
        busy = site.raw(door)
        with busy.passive() as data:
            busy.send("STOR f\r\n")
            chv.check_in("150 ", busy.reply(), "STOR")
            data.sendall(b"half")
            idle = site.raw(door)
            door.signal(signal.SIGINT)
            chv.check_in("421 ", idle.reply(), "the first signal has come")
            door.signal(signal.SIGINT)
            door.wait(0)
        wait_for_nothing(site)


def wait_for_nothing(site):
    end = time.monotonic() + chv.DEADLINE
    while site.left():
        chv.check(time.monotonic() < end, f"left: {site.left()}")
        time.sleep(0.02)


def test_many_clients_at_once():
    with FtpSite() as site:
        site.init()
        door = site.door("--max-clients", "20")
        clients = [site.ftp(door) for _ in range(20)]
        with refused(421, "Too many"):
            site.ftp(door)
        for i, ftp in enumerate(clients):
            ftp.data = ftp.transfercmd(f"STOR f{i}")
        for _ in range(10):
            for i, ftp in enumerate(clients):
                ftp.data.sendall(content(10000 + i))
        for ftp in clients:
            ftp.data.close()
            ftp.voidresp()
        for i, ftp in enumerate(clients):
            chv.check(fetch(ftp, f"f{(i + 1) % 20}") == content(10000 + (i + 1) % 20) * 10, f"file {i}")
            ftp.quit()
        site.ftp(door).quit()
        door.stop(0)


def test_key_update():
    """A door that runs on takes the next key, and lets clients in with it when the old one is served no more."""
    with FtpSite() as site:
        site.init()
        door = site.door("-v")
        before = site.ftp(door)
        site.rotate()
        store(before, "f", b"x")  # a session that was there goes on
        site.ftp(door).quit()
        door.wait_for(r"the server gave the key of credential 2\.1")
        site.ftp(door).quit()
        door.wait_for(r"keys older than credential 2\.1 are removed")
        chv.check_equal(labels(site.key), ["2.1"], "the keystore")
        site.epoch("retire", "1", "--force")
        site.server.signal(signal.SIGHUP)
        site.server.wait_for("configuration loaded", 2)
        chv.check_equal(fetch(site.ftp(door), "f"), b"x", "with the new key")
        door.stop(0)


if __name__ == "__main__":
    chv.main()
