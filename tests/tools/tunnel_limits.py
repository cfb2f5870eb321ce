# SPDX-License-Identifier: Apache-2.0
"""chaveiro tunnel and chaveiro connect: when they come back, how long they stay, where they listen, what they leave."""
import contextlib
import os
import socket
import time

import chv
from tunnelsite import TunnelSite, read_all, until

USAGE, CONFIG = 64, 78
BACKOFF, ATTEMPTS = 0.25, 5  # s before the second attempt, doubled each time, each cut by up to a half
CLOCK = 0.005  # s: the program's clock counts whole milliseconds


def test_a_server_that_is_away_is_not_pressed():
    """Lower bounds only, from its end of one connection to the next: load makes them longer, never shorter."""
    ends, accepts = [], []
    with TunnelSite() as site, socket.create_server(("127.0.0.1", 0)) as server:
        site.init({"db": "127.0.0.1:1"}, start=False)
        server.settimeout(chv.DEADLINE)
        process = site.tunnel("db", "--timeout", "1h", to="127.0.0.1:%d" % server.getsockname()[1])
        site.dial(process)
        for _ in range(ATTEMPTS):
            connection, _ = server.accept()
            accepts.append(time.monotonic())
            with connection, contextlib.suppress(ConnectionError):
                connection.settimeout(chv.DEADLINE)
                connection.recv(1)  # what it has to say: the end is news to it
                ends.append(time.monotonic())
        chv.check_equal(len(ends), ATTEMPTS, "connections that said something")
        for i in range(1, ATTEMPTS):
            least, gap = BACKOFF * 2 ** (i - 1) / 2, accepts[i] - ends[i - 1]
            chv.check(gap >= least - CLOCK, f"retry {i} came after {gap:.3f} s; at least {least} s are due")
        process.stop(0)


def test_the_idle_limit_of_a_section():
    with TunnelSite() as site:
        site.init({"db": site.target(), "web": site.target()})
        config = site.path("c.conf")
        chv.write(config, '[tunnel "db"]\nlisten = 127.0.0.1:0\nidle-timeout = 500ms\n'
                          '[tunnel "web"]\nlisten = 127.0.0.1:0\n')
        process = site.tunnel("-v", "--config", config, listen=(), count=2)
        free = site.dial(process, process.by_name["web"])
        free.sendall(b"x")
        chv.check_equal(free.recv(1), b"x", "open")
        limited = site.dial(process, process.by_name["db"])
        limited.sendall(b"x")
        read_all(limited)  # what comes back may be late for the limit
        process.wait_for("tunnel db: .*closed after .*no byte through the tunnel")
        free.sendall(b"y")
        chv.check_equal(free.recv(1), b"y", "the one without a limit")
        free.close()
        process.stop(0)


def test_a_silent_connect_lives():
    """As a session in which nobody types: the server's limit is no limit of what it carries."""
    with TunnelSite() as site:
        site.init({"db": site.target()}, idle_timeout="2s")
        read_end, write_end = os.pipe()
        process = site.client_start(site.key, "connect", "db", stdin=read_end)
        os.close(read_end)
        with open(write_end, "wb", buffering=0) as stdin:
            stdin.write(b"before")
            process.wait_for("^before$", stream="stdout")
            time.sleep(5)
            stdin.write(b"after")
            process.wait_for("^beforeafter$", stream="stdout")
        process.wait(0)


def test_addresses_that_others_reach_are_refused():
    """Before anything is listened on: with these addresses, which nobody has, that would be another error."""
    with TunnelSite() as site:
        site.init({"db": "127.0.0.1:1"}, start=False)
        config, path = site.path("c.conf"), site.path("local")
        to = "127.0.0.1:1"
        for address in ("192.0.2.1:1", "[2001:db8::1]:1"):
            done = site.client(site.key, "tunnel", "db", "--listen", f"unix:{path}", "--listen", address, to=to,
                               code=USAGE)
            for word in (f"'{address}' is not a loopback address", "add --unsafe-listen"):
                chv.check_in(word, done.stderr, "why not")
            chv.check_equal(done.stdout, b"", "what it listens on")
            chv.write(config, f'[tunnel "db"]\nlisten = {address}\n')
            done = site.client(site.key, "tunnel", "--config", config, to=to, code=CONFIG)
            chv.check_in(f"'{address}' is not a loopback address", done.stderr, "why not")
            chv.check_in("add 'unsafe-listen = yes' to its section", done.stderr, "why not")


def test_tickets_are_kept_only_if_asked():
    """Without --tickets nothing is left in the home folder or the one that it runs in."""
    with TunnelSite() as site:
        site.init({"db": site.target()}, scopes=["tunnel:db", "message"])
        home, work = site.path("home"), site.path("work")
        for folder in (home, work):
            os.mkdir(folder, 0o700)
        env = {"HOME": home, "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": "", "XDG_STATE_HOME": "",
               "XDG_RUNTIME_DIR": ""}

        def listing():
            return sorted(os.path.join(top, name) for folder in (home, work)
                          for top, folders, files in os.walk(folder) for name in folders + files)

        def send(*words):
            site.client(site.key, *words, "send", "ola", env=env, cwd=work)

        def tunnel(*words):
            process = site.spawn("chaveiro", *site.client_argv(site.key, *words, "tunnel", "-v", "db", "--listen",
                                                               "127.0.0.1:0"), env=env, cwd=work)
            site.listening(process)
            until(lambda: site.ask(process) == (b"hello", False) and b"(resumed)" in process.stderr, "no tickets")
            process.stop(0)

        for use in (send, tunnel):
            use()
            chv.check_equal(listing(), [], f"files after {use.__name__}")
            kept = os.path.join(work, use.__name__)
            use("--tickets", kept)
            chv.check_in(kept, listing(), "with --tickets")
            for left in listing():
                os.remove(left)


if __name__ == "__main__":
    chv.main()
