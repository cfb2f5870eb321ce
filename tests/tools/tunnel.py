# SPDX-License-Identifier: Apache-2.0
"""chaveiro tunnel, with sockets of our own at both ends."""
import concurrent.futures
import hashlib
import json
import os
import signal
import socket
import stat
import threading
import time

import chv
from tunnelsite import Target, TunnelSite, content, echo, read_all, reset, resident, until

USAGE, TEMPFAIL, NOPERM, CONFIG = 64, 75, 77, 78
MIB = 1 << 20


# --- streams ------------------------------------------------------------------------------------------------------------


def test_bytes_go_both_ways_on_every_kind_of_socket():
    with TunnelSite() as site:
        path = site.path("target")
        site.init({"tcp": site.target(), "unix": site.target(path=path)})
        local = site.path("local")
        for name in ("tcp", "unix"):
            tunnel = site.tunnel(name, listen=("127.0.0.1:0", "[::1]:0", f"unix:{local}"))
            chv.check_equal(stat.S_IMODE(os.stat(local).st_mode), 0o600, "the socket's mode")
            for address in tunnel.addresses:
                for size in (0, 1, 65280, 65281, 3 * MIB + 1):
                    chv.check(site.ask(tunnel, content(size), address) == (content(size), False),
                              f"{name}, {address}: {size} bytes came back changed")
            tunnel.stop(0)
            chv.check(not os.path.exists(local), "the socket is left behind")


def test_the_target_answers_after_the_end():
    """Half-close, client first: what follows still arrives."""
    def serve(connection):
        got, was_reset = read_all(connection)
        connection.sendall(hashlib.sha256(got).hexdigest().encode() + (b"!" if was_reset else b"."))

    with TunnelSite() as site:
        site.init({"db": site.target(serve)})
        tunnel = site.tunnel("db")
        for size in (0, 10, 2 * MIB):
            chv.check_equal(site.ask(tunnel, content(size)),
                            (hashlib.sha256(content(size)).hexdigest().encode() + b".", False), f"{size} bytes")
        tunnel.stop(0)


def test_the_client_sends_after_the_end():
    """Half-close, target first: the other direction goes on."""
    seen = []

    def serve(connection):
        connection.sendall(b"greeting")
        connection.shutdown(socket.SHUT_WR)
        seen.append(read_all(connection))

    with TunnelSite() as site:
        target = site.target(serve)
        site.init({"db": target})
        tunnel = site.tunnel("db")
        with site.dial(tunnel) as s:
            chv.check_equal(read_all(s), (b"greeting", False), "what the target said")
            for _ in range(10):
                s.sendall(content(100000))
                time.sleep(0.01)
        target.wait(lambda t: not t.open, "still open")
        chv.check(seen == [(content(100000) * 10, False)], "what the client sent afterwards")
        tunnel.stop(0)


def test_a_reset_is_no_end():
    seen = []

    def take(connection):
        connection.sendall(b"go")
        seen.append(read_all(connection)[1])

    def give(connection):
        connection.recv(2)
        connection.sendall(b"half")
        reset(connection)

    with TunnelSite() as site:
        taker, giver = site.target(take), site.target(give)
        site.init({"take": taker, "give": giver})
        process = site.tunnel("take", "-v")
        s = site.dial(process)
        chv.check_equal(s.recv(2), b"go", "greeting")
        s.sendall(b"half")
        reset(s)
        taker.wait(lambda t: not t.open, "still open")
        chv.check_equal(seen, [True], "the target saw a reset")
        process.wait_for(r"closed after \S+ s, \d+ bytes sent, 2 received: ")
        process.stop(0)
        process = site.tunnel("give", "-v")
        s = site.dial(process)
        s.sendall(b"go")
        chv.check(read_all(s)[1], "the client saw a clean end")
        process.wait_for(r"closed after \S+ s, 2 bytes sent, \d received: ")
        process.stop(0)


def test_a_stopped_reader_stops_the_sender():
    """Each way: what waits is in the sockets, and not in the processes."""
    amount = 200 * MIB
    go = threading.Event()
    got = []

    def serve(connection):
        what = connection.recv(1)
        if what == b"s":  # send
            connection.sendall(bytes(amount))
            connection.shutdown(socket.SHUT_WR)
        if what != b"r":
            return
        connection.sendall(b"k")
        chv.check(go.wait(chv.DEADLINE), "never told to read")
        got.append(len(read_all(connection)[0]))

    def memory(site, process):
        return {p: resident(p) for p in (process.pid, site.server.pid, *chv.processes_under(site.server.pid))}

    def blocked(sent):
        """Nothing has gone out for a while."""
        last = -1
        while sent[0] != last:
            last = sent[0]
            time.sleep(0.5)

    with TunnelSite() as site:
        site.init({"db": site.target(serve)})
        process = site.tunnel("db")
        chv.check_equal(site.ask(process, b"-"), (b"", False), "warm")
        s = site.dial(process)
        s.sendall(b"r")
        chv.check_equal(s.recv(1), b"k", "ready")
        before, sent = memory(site, process), [0]

        def push():
            piece = bytes(MIB)
            for _ in range(amount // MIB):
                s.sendall(piece)
                sent[0] += MIB
            s.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=push, daemon=True)
        thread.start()
        blocked(sent)
        chv.check(0 < sent[0] < amount // 2, f"the sender was not stopped: {sent[0]} bytes")
        after = memory(site, process)
        go.set()
        thread.join(chv.DEADLINE)
        chv.check_equal(read_all(s), (b"", False), "the end")
        chv.check_equal(got, [amount], "bytes that arrived")
        limits(before, after, "up")
        s = site.dial(process)
        before = memory(site, process)
        s.sendall(b"s")
        time.sleep(2)
        after = memory(site, process)
        limits(before, after, "down")
        chv.check_equal(len(read_all(s)[0]), amount, "bytes that came")
        process.stop(0)


def limits(before, after, what):
    for pid, size in after.items():
        if pid in before:
            chv.check(size - before[pid] < 16 * MIB, f"{what}: process {pid} grew by {size - before[pid]} bytes")


# --- who is let through -------------------------------------------------------------------------------------------------


def test_a_target_that_is_down():
    with TunnelSite() as site:
        down = Target(echo)
        site.init({"db": down.address, "web": site.target()})
        down.close()
        config = site.path("c.conf")
        chv.write(config, '[tunnel "db"]\nlisten = 127.0.0.1:0\n[tunnel "web"]\nlisten = 127.0.0.1:0\n')
        process = site.tunnel("--config", config, listen=(), count=2)
        for _ in range(3):
            chv.check_equal(site.ask(process, b"x", process.by_name["db"]), (b"", True), "a reset")
        chv.check_equal(site.ask(process, b"x", process.by_name["web"]), (b"x", False), "the other tunnel")
        process.wait_for(r"tunnel db: 127.0.0.1:\d+: not let through: .*502")
        chv.check_equal(len(process.wait_for("not let through: ")), 1, "lines about it")  # a port may have a 502 in it
        chv.check_not_in(b"cannot be used", process.stderr, "the server is there")
        process.stop(0)


def test_a_tunnel_that_the_client_has_no_scope_for():
    with TunnelSite() as site:
        site.init({"db": site.target(), "web": site.target()}, scopes=["tunnel:web"])
        process = site.tunnel("db")
        chv.check_equal(site.ask(process), (b"", True), "a reset")
        process.wait_for(r"tunnel db: \S+: not let through: .*403")
        process.stop(0)
        done = site.client(site.key, "connect", "db", code=NOPERM)
        chv.check_in("403", done.stderr, "connect")
        chv.check_equal(site.targets[0].count, 0, "connections to the target")


def test_a_tunnel_that_is_not_there():
    with TunnelSite() as site:
        site.init({"db": site.target()}, scopes=["tunnel:db", "tunnel:web"])
        process = site.tunnel("web")
        chv.check_equal(site.ask(process), (b"", True), "a reset")
        process.wait_for(r"tunnel web: \S+: not let through: .*404")
        process.stop(0)
        done = site.client(site.key, "connect", "web", code=CONFIG)
        chv.check_in("404", done.stderr, "connect")
        for name in ("a b", "DB", 26 * "a"):
            chv.check_in("no tunnel's name: 1 to 25", site.client(site.key, "connect", name, code=USAGE).stderr, name)


def test_more_connections_than_a_client_may_have():
    with TunnelSite() as site:
        site.init({"db": site.target()}, sections={"connections": 2})
        process = site.tunnel("db")
        held = [site.dial(process) for _ in range(2)]
        for s in held:
            s.sendall(b"x")
            chv.check_equal(s.recv(1), b"x", "within the limit")
        chv.check_equal(site.ask(process), (b"", True), "a reset")
        process.wait_for(r"tunnel db: \S+: not let through: .*429")
        held[0].shutdown(socket.SHUT_WR)
        chv.check_equal(read_all(held[0]), (b"", False), "its end")
        until(lambda: site.ask(process) == (b"hello", False), "no room again")
        held[1].close()
        process.stop(0)


def check_third_waits(held):
    """Of three that have sent b"x", until the first ends."""
    held[2].settimeout(0.3)
    try:
        held[2].recv(1)
        raise chv.Failure("the third was let through")
    except TimeoutError:
        held[2].settimeout(chv.DEADLINE)
    held[0].close()
    chv.check_equal(held[2].recv(1), b"x", "the third one's turn")


def test_more_connections_than_the_program_takes():
    """What comes above waits in the backlog."""
    with TunnelSite() as site:
        site.init({"db": site.target()})
        process = site.tunnel("db", "--connections", "2")
        held = [site.dial(process) for _ in range(3)]
        for s in held:
            s.sendall(b"x")
        chv.check_equal([s.recv(1) for s in held[:2]], [b"x", b"x"], "the first two")
        check_third_waits(held)
        for s in held:
            s.close()
        process.stop(0)


def test_more_connections_than_a_section_allows():
    """They wait in its backlog; the other tunnel still lets in."""
    with TunnelSite() as site:
        site.init({"db": site.target(), "web": site.target()})
        config = site.path("c.conf")
        chv.write(config, '[tunnel "db"]\nlisten = 127.0.0.1:0\nconnections = 2\n[tunnel "web"]\nlisten = 127.0.0.1:0\n')
        process = site.tunnel("--config", config, listen=(), count=2)
        db, web = process.by_name["db"], process.by_name["web"]
        held = [site.dial(process, db) for _ in range(3)]
        for s in held:
            s.sendall(b"x")
        chv.check_equal([s.recv(1) for s in held[:2]], [b"x", b"x"], "the first two")
        others = [site.dial(process, web) for _ in range(3)]
        for s in others:
            s.sendall(b"y")
            chv.check_equal(s.recv(1), b"y", "the other tunnel")
        check_third_waits(held)
        for s in [*held, *others]:
            s.close()
        process.stop(0)


def test_unsafe_listen():
    with TunnelSite() as site:
        site.init({"db": site.target()})
        for address in ("0.0.0.0:0", "[::]:0"):
            done = site.client(site.key, "tunnel", "db", "--listen", address, code=USAGE)
            for word in (f"'{address}' is not a loopback address", "in clear", "add --unsafe-listen"):
                chv.check_in(word, done.stderr, "why not")
        config = site.path("c.conf")
        chv.write(config, '[tunnel "db"]\nlisten = 0.0.0.0:0\n')
        done = site.client(site.key, "tunnel", "--config", config, code=CONFIG)
        chv.check_in("add 'unsafe-listen = yes' to its section", done.stderr, "why not")
        process = site.tunnel("db", "--unsafe-listen", listen=("0.0.0.0:0", "localhost:0"), count=2)
        process.wait_for("warning: tunnel 'db': 0.0.0.0:0: everybody who reaches it")
        chv.check_not_in(b"localhost:0: every", process.stderr, "localhost is safe")
        chv.check_equal(site.ask(process, b"x", process.addresses[0].replace("0.0.0.0", "127.0.0.1")), (b"x", False),
                        "through it")
        process.stop(0)
        chv.write(config, '[tunnel "db"]\nlisten = 0.0.0.0:0\nunsafe-listen = yes\n')
        site.tunnel("--config", config, listen=(), count=1).stop(0)


def test_one_tunnel_of_the_file():
    with TunnelSite() as site:
        site.init({"db": site.target(), "web": site.target()})
        config, path = site.path("c.conf"), site.path("web.sock")
        chv.write(config, f'[tunnel "db"]\nlisten = 127.0.0.1:0\n[tunnel "web"]\nlisten = unix:{path}\n')
        process = site.tunnel("web", "--config", config, listen=(), count=1)
        chv.check_equal(process.addresses, [f"unix:{path}"], "where it listens")
        chv.check_equal(site.ask(process, b"x"), (b"x", False), "through it")
        process.stop(0)
        process = site.tunnel("web", "-v", "--config", config, count=1)
        chv.check_in("127.0.0.1:", process.addresses[0], "--listen goes before the section")
        process.stop(0)
        chv.check_not_in(b"ending:", process.stderr, "nothing is there that could end")


def test_what_is_not_taken():
    with TunnelSite() as site:
        site.init({"db": site.target()})
        empty, other = site.path("empty.conf"), site.path("other.conf")
        chv.write(empty, "[client]\n")
        chv.write(other, '[tunnel "db"]\nconnections = 3\n')
        for words, code, text in (
                (["tunnel", "db"], USAGE, "needs --listen ADDR"),
                (["tunnel", "a/b", "--listen", "127.0.0.1:0"], USAGE, "is no tunnel's name"),
                (["tunnel", "db", "--listen", "7040"], USAGE, "--listen '7040' is not allowed"),
                (["tunnel", "db", "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"], USAGE, "up to 16 different"),
                (["tunnel", "db", "--listen", "127.0.0.1:0", "--connections", "0"], USAGE, "--connections"),
                (["tunnel", "db", "--listen", "127.0.0.1:0", "--idle-timeout", "soon"], USAGE, "soon"),
                (["tunnel", "--config", empty], CONFIG, 'no section [tunnel "NAME"]'),
                (["tunnel", "--config", empty, "--listen", "127.0.0.1:0"], USAGE, "chaveiro tunnel NAME --listen"),
                (["tunnel", "--config", other], CONFIG, "has no 'listen'"),
                (["tunnel"], CONFIG, "which tunnel?")):
            chv.check_in(text, site.client(site.key, *words, code=code).stderr, str(words))
        for bad, text in (("frob = 1", "unknown key 'frob' in [tunnel \"db\"]; known are: listen"),
                          ("listen = 7040", "listen = '7040' is not allowed"),
                          ("listen =", "is not allowed"),
                          ("connections = 0", "connections = '0' is not allowed; allowed: 1 to 16384"),
                          ("connections = 1x", "is not allowed"),
                          ("idle-timeout = never", "idle-timeout = 'never' is not allowed"),
                          ("unsafe-listen = true", "allowed: yes or no"),
                          ("listen = 127.0.0.1:1\nlisten = 127.0.0.1:2", "key 'listen' is given twice")):
            chv.write(other, f'[tunnel "db"]\n{bad}\n')
            chv.check_in(text, site.client(site.key, "tunnel", "--config", other, code=CONFIG).stderr, bad)
        chv.write(other, '[tunnel "d b"]\nlisten = 127.0.0.1:1\n')
        chv.check_in("the name 1 to 25 of a-z", site.client(site.key, "tunnel", "--config", other,
                                                                       code=CONFIG).stderr, "a bad name")
        taken = socket.create_server(("127.0.0.1", 0))
        with taken:
            address = "127.0.0.1:%d" % taken.getsockname()[1]
            done = site.client(site.key, "tunnel", "db", "--listen", address, code=TEMPFAIL)
            chv.check_in("Address already in use", done.stderr, "a port in use")


# --- many, and over time ------------------------------------------------------------------------------------------------


def test_fifty_at_once_come_by_ticket():
    with TunnelSite() as site:
        site.init({"db": site.target()}, level="debug")
        process = site.tunnel("db", "-v")
        barrier = threading.Barrier(50)

        def one(number):
            barrier.wait(chv.DEADLINE)
            return site.ask(process, b"%d" % number) == (b"%d" % number, False)

        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            chv.check(all(pool.map(one, range(50))), "an answer was wrong")
        until(lambda: len(process.wait_for("closed after")) == 50, "not all are closed")
        resumed = len(process.wait_for(r"connected to \S+ \(resumed\)"))
        chv.check_equal(resumed, 49, "resumed connections, by the client")
        chv.check_equal(site.log_count(r"opened service 'tunnel\S*' .*\(resumed\)|opened service 'tunnel\S*' \(resumed\)"), 49,
                        "by the server")
        process.stop(0)


def test_without_tickets():
    """Each is a full handshake, and they do not wait for tickets that never come."""
    with TunnelSite() as site:
        site.init({"db": site.target()})
        site.stop()
        site.section("tickets", tickets="off")
        site.start()
        process = site.tunnel("db", "-v")
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            chv.check_equal(list(pool.map(lambda n: site.ask(process, b"%d" % n), range(10))),
                            [(b"%d" % n, False) for n in range(10)], "answers")
        chv.check_not_in(b"(resumed)", process.stderr, "resumed")
        process.stop(0)


def test_two_tunnels_of_a_configuration():
    def upper(connection):
        connection.sendall(read_all(connection)[0].upper())

    with TunnelSite() as site:
        site.init({"db": site.target(), "web": site.target(upper)})
        config = site.path("chaveiro.conf")
        chv.write(config, f"[client]\nkeystore = {site.key.path}\npassphrase-file = {site.key.passphrase_file}\n"
                          f"address = {site.address}\n"
                          f'[tunnel "db"]\nlisten = 127.0.0.1:0, unix:{site.path("u")}\nconnections = 3\n'
                          '[tunnel "web"]\nlisten = 127.0.0.1:0\nidle-timeout = 1h\n')
        process = site.spawn("chaveiro", "--config", config, "tunnel", "--json")

        def told(event, count):
            return [json.loads(m[0]) for m in process.wait_for(r'\{.*"event": ?"%s".*\}' % event, count, stream="stdout")]

        events = told("listening", 3)
        chv.check_equal([e["tunnel"] for e in events], ["db", "db", "web"], "tunnels")
        chv.check_equal(events[1]["address"], "unix:" + site.path("u"), "the second address")
        chv.check_equal(site.ask(process, b"abc", events[0]["address"]), (b"abc", False), "db")
        chv.check_equal(site.ask(process, b"abc", events[1]["address"]), (b"abc", False), "db, unix")
        chv.check_equal(site.ask(process, b"abc", events[2]["address"]), (b"ABC", False), "web")
        opened = told("opened", 3)
        chv.check_equal([(e["tunnel"], e["resumed"]) for e in opened], [("db", False), ("db", True), ("web", True)],
                        "opened")
        chv.check_equal([(e["server"], "redirected_by" in e) for e in opened], [(site.address, False)] * 3, "where to")
        closed = told("closed", 3)
        chv.check_equal([(e["sent"], e["received"], e["clean"]) for e in closed], [(3, 3, True)] * 3, "closed")
        process.stop(0)


def test_drain():
    with TunnelSite() as site:
        site.init({"db": site.target()})
        process = site.tunnel("db", "--timeout", "2m")
        s = site.dial(process)
        s.sendall(b"x")
        chv.check_equal(s.recv(1), b"x", "open")
        process.signal(signal.SIGTERM)

        def refused():
            try:
                site.dial(process).close()
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:
                pass  # it came in just when the listening socket was closed
            return False

        until(refused, "still listening")
        s.sendall(b"more")
        chv.check_equal(s.recv(4), b"more", "a stream goes on")
        s.shutdown(socket.SHUT_WR)
        chv.check_equal(read_all(s), (b"", False), "its end")
        process.wait(0)
        for signals in (1, 2):  # by --timeout, by the second one
            process = site.tunnel("db", "--timeout", "700ms" if signals == 1 else "1h")
            s = site.dial(process)
            s.sendall(b"x")
            chv.check_equal(s.recv(1), b"x", "open")
            process.signal(signal.SIGINT)
            if signals == 2:
                until(refused, "still listening")
                process.signal(signal.SIGINT)
            chv.check(read_all(s)[1], "a stream that is cut off is no clean end")
            chv.check_in(b"1 connection is cut off", process.wait(0).stderr, "what is said")


def test_readiness():
    """As systemd has it."""
    with TunnelSite() as site:
        site.init({"db": site.target()})
        path = site.path("notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind(path)
            s.settimeout(chv.DEADLINE)
            process = site.spawn("chaveiro", *site.client_argv(site.key, "tunnel", "db", "--listen", "127.0.0.1:0"),
                                 env={"NOTIFY_SOCKET": path})
            chv.check_equal(s.recv(100), b"READY=1", "once it listens")
            process.signal(signal.SIGTERM)
            chv.check_equal(s.recv(100), b"STOPPING=1", "at the end")
            process.wait(0)


def test_an_idle_tunnel_lives():
    """The server's limit is no limit of what it carries; the tunnel's own is."""
    with TunnelSite() as site:
        site.init({"db": site.target()}, idle_timeout="1s")
        process = site.tunnel("db")
        s = site.dial(process)
        s.sendall(b"x")
        chv.check_equal(s.recv(1), b"x", "open")
        time.sleep(3)
        s.sendall(b"y")
        chv.check_equal(s.recv(1), b"y", "still open")
        process.signal(signal.SIGTERM)
        s.close()
        process.wait(0)
        process = site.tunnel("db", "--idle-timeout", "500ms", "-v")
        s = site.dial(process)
        s.sendall(b"x")
        chv.check_equal(s.recv(1), b"x", "open")
        read_all(s)
        process.wait_for("closed after .*no byte through the tunnel")
        process.stop(0)


if __name__ == "__main__":
    chv.main()
