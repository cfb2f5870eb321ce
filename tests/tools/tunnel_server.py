# SPDX-License-Identifier: Apache-2.0
"""chaveiro tunnel and its server: one that is away, silent, or has two ports; keys that change, or are not good any more."""
import contextlib
import json
import os
import re
import signal
import socket
import threading

import chv
from ports import PortsSite
from rotate import labels
from tunnelsite import TunnelSite, read_all, until

# --- the server is away -------------------------------------------------------------------------------------------------


def test_the_server_is_killed_and_comes_back():
    with TunnelSite() as site:
        where = "unix:" + site.socket
        site.init({"db": site.target()}, listen=where)
        process = site.tunnel("db", to=where)
        chv.check_equal(site.ask(process), (b"hello", False), "before")
        s = site.dial(process)
        s.sendall(b"x")
        chv.check_equal(s.recv(1), b"x", "open")
        site.server.kill()
        site.server = None
        chv.check(read_all(s)[1], "a stream that is cut off is no clean end")
        waiting = [site.dial(process) for _ in range(5)]
        for s in waiting:
            s.sendall(b"late")
        process.wait_for("cannot be used: .*; new connections wait")
        site.start()
        for s in waiting:
            s.shutdown(socket.SHUT_WR)
            chv.check_equal(read_all(s), (b"late", False), "what waited")
        process.wait_for("can be used again")
        for text in ("cannot be used", "can be used again"):
            chv.check_equal(len(process.wait_for(text)), 1, text)
        process.stop(0)


class Name:
    """server.test, for programs started with its environment: it leads where it is set to, also while they run."""

    def __init__(self, folder):
        self.file = os.path.join(folder, "hosts")
        # AddressSanitizer wants to be the first library, but does without
        asan = [os.environ["ASAN_OPTIONS"]] if "ASAN_OPTIONS" in os.environ else []
        self.env = {"LD_PRELOAD": os.path.join(chv.TOP_BUILDDIR, "tests/support/.libs/resolver.so"),
                    "CHV_TEST_RESOLVER": self.file, "ASAN_OPTIONS": ":".join([*asan, "verify_asan_link_order=0"])}

    def leads_to(self, address):
        os.rename(chv.write(self.file + ".new", address.replace(":", " ")), self.file)


def passed_on_to(address):
    """For a Target: what comes goes on to that address, and back."""
    def copy(source, sink):
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)

    def serve(connection):
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), chv.DEADLINE) as server:
            back = threading.Thread(target=copy, args=(server, connection))
            back.start()
            copy(connection, server)
            back.join(chv.DEADLINE)

    return serve


def test_a_server_that_moves():
    """Each session asks where the server's name leads by now."""
    with TunnelSite() as site:
        site.init({"db": site.target()})
        old, new = (site.target(passed_on_to(site.address)) for _ in range(2))
        name = Name(site.folder)
        name.leads_to(old.address)
        process = site.listening(site.spawn("chaveiro", *site.client_argv(
            site.key, "tunnel", "db", "--listen", "127.0.0.1:0", to="server.test:1"), env=name.env))
        chv.check_equal(site.ask(process), (b"hello", False), "before")
        came = old.count
        chv.check((came > 0, new.count) == (True, 0), "the name led elsewhere at first")
        name.leads_to(new.address)
        chv.check_equal(site.ask(process), (b"hello", False), "after")
        chv.check((old.count, new.count > 0) == (came, True), "it went where the name led before")
        process.stop(0)


def test_nobody_waits_longer_than_the_timeout():
    with TunnelSite() as site:
        site.init({"db": site.target()})
        site.stop()
        process = site.tunnel("db", "--timeout", "700ms")
        for _ in range(2):
            chv.check(read_all(site.dial(process))[1], "a reset")
        chv.check_equal(len(process.wait_for("cannot be used")), 1, "lines")
        site.start()
        process.stop(0)


def test_a_server_that_says_nothing():
    """Its connections wait, and the line is said once."""
    with TunnelSite() as site, socket.create_server(("127.0.0.1", 0)) as silent:
        site.init({"db": site.target()})
        process = site.tunnel("db", "--timeout", "700ms", to="127.0.0.1:%d" % silent.getsockname()[1])
        for _ in range(3):
            chv.check(read_all(site.dial(process))[1], "a reset")
        chv.check_equal(len(process.wait_for("cannot be used: .*no answer")), 1, "lines")
        process.stop(0)


def open_files(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


@contextlib.contextmanager
def stuck_target():
    """The address of a target that takes nobody: who connects waits for an answer to its SYN."""
    with contextlib.ExitStack() as held:
        full = held.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            s = held.enter_context(socket.socket())
            s.setblocking(False)
            s.connect_ex(full.getsockname())
        yield "127.0.0.1:%d" % full.getsockname()[1]


def test_targets_that_say_nothing_hold_up_nobody():
    """A target that is not reached uses tickets up and gives none back."""
    with TunnelSite() as site, stuck_target() as stuck:
        site.init({"stuck": stuck, "db": site.target()}, sections={"connect_timeout": "20s"})
        config = site.path("c.conf")
        chv.write(config, '[tunnel "stuck"]\nlisten = 127.0.0.1:0\n[tunnel "db"]\nlisten = 127.0.0.1:0\n')
        process = site.tunnel("--config", config, "--timeout", "30s", listen=(), count=2)
        waiting = [site.dial(process, process.by_name["stuck"]) for _ in range(24)]
        for _ in range(3):
            chv.check_equal(site.ask(process, b"x", process.by_name["db"]), (b"x", False), "the other tunnel")
        for s in waiting:
            s.close()
        process.signal(signal.SIGTERM)
        process.wait(0)


def test_a_target_that_says_nothing():
    """Either side's limit ends the wait, and the text says whose it was."""
    with TunnelSite() as site, stuck_target() as stuck:
        site.init({}, scopes=["tunnel:slow", "tunnel:soon"], start=False)
        site.section('tunnel "slow"', target=stuck, connect_timeout="1h")
        site.section('tunnel "soon"', target=stuck, connect_timeout="1s")
        site.start()
        for name, timeout, told in (("slow", "700ms", "not let through: its target did not answer within --timeout\n"),
                                    ("soon", "1h", "not let through: .*504")):
            process = site.tunnel(name, "--timeout", timeout)
            for _ in range(2):
                chv.check_equal(read_all(site.dial(process)), (b"", True), f"{name}: a reset")
            chv.check_equal(len(process.wait_for(rf"tunnel {name}: \S+: {told}")), 1, f"{name}: lines")
            process.stop(0)
            chv.check_not_in(b"cannot be used", process.stderr, f"{name}: the server is there")


def dropped_at_the_end(process, waiting, number):
    """It does not wait for those that have no stream yet."""
    process.signal(number)
    for s in waiting:
        chv.check_equal(read_all(s), (b"", True), f"{number.name}: a reset")
    done = process.wait(0)
    chv.check_not_in(b"cut off", done.stderr, f"{number.name}: no stream was there")


def test_its_end_while_they_wait_for_the_target():
    with TunnelSite() as site, stuck_target() as stuck:
        site.init({"db": stuck}, sections={"connect_timeout": "1h"}, level="debug")
        began = 0
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            process = site.tunnel("db", "--timeout", "1h")
            waiting = [site.dial(process) for _ in range(2)]
            began += 2
            until(lambda: site.log_count("began a session|resumed a session") == began, "not all have a session")
            dropped_at_the_end(process, waiting, number)


def test_its_end_while_they_wait_for_the_server():
    with TunnelSite() as site, socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(chv.DEADLINE)
        site.init({"db": site.target()})
        for number in (signal.SIGTERM, signal.SIGHUP):
            process = site.tunnel("db", "--timeout", "1h", to="127.0.0.1:%d" % silent.getsockname()[1])
            waiting = [site.dial(process)]
            with silent.accept()[0]:
                before = open_files(process)
                waiting += [site.dial(process) for _ in range(2)]
                until(lambda: open_files(process) == before + 2, "not all are accepted")
                dropped_at_the_end(process, waiting, number)


# --- two ports ----------------------------------------------------------------------------------------------------------


class TunnelPorts(PortsSite, TunnelSite):
    pass


def told_as(process, event):
    """The first object of that event that --json has printed."""
    return json.loads(process.wait_for(r'\{.*"event": ?"%s".*\}' % event, stream="stdout")[0][0])


def test_it_goes_on_at_the_data_port():
    with TunnelPorts() as site:
        site.init({"db": site.target()}, start=False)
        site.start(listening=2)
        process = site.tunnel("db", "-v")
        for _ in range(3):
            chv.check_equal(site.ask(process), (b"hello", False), "an answer")
        data = site.data[0]
        told = rf"connected to {re.escape(data)}, redirected by {re.escape(site.handshake)}"
        chv.check_equal(len(process.wait_for(told + r"(?: \(resumed\))?\n", 3)), 3, "where to, and by whom")
        chv.check_equal(len(process.wait_for(told + r" \(resumed\)\n", 2)), 2, "by ticket")
        done = site.client(site.key, "connect", "db", stdin=b"abc")
        chv.check_equal(done.stdout, b"abc", "connect")
        process.stop(0)
        process = site.client_start(site.key, "tunnel", "db", "--json", "--listen", "127.0.0.1:0")
        chv.check_equal(site.ask(process, b"x", told_as(process, "listening")["address"]), (b"x", False), "with --json")
        opened = told_as(process, "opened")
        chv.check_equal((opened["server"], opened["redirected_by"]), (data, site.handshake), "where to, and by whom")
        process.stop(0)


# --- keys ---------------------------------------------------------------------------------------------------------------


def test_the_key_is_updated_meanwhile():
    with TunnelSite() as site:
        site.init({"db": site.target()})
        process = site.tunnel("db", "-v")
        chv.check_equal(site.ask(process), (b"hello", False), "before")
        held = site.dial(process)
        held.sendall(b"x")
        chv.check_equal(held.recv(1), b"x", "open")
        site.rotate()
        until(lambda: site.ask(process) == (b"hello", False) and "2.1" in labels(site.key), "no new key")
        process.wait_for(r"credential 2\.1: it is stored")
        until(lambda: site.ask(process) == (b"hello", False) and labels(site.key) == ["2.1"], "the old key is still there")
        held.sendall(b"y")
        chv.check_equal(held.recv(1), b"y", "what was open lives")
        held.close()
        until(lambda: site.ask(process) == (b"hello", False), "afterwards")
        process.stop(0)


def test_a_client_that_is_revoked():
    with TunnelSite() as site:
        path = site.path("registry.db")
        site.init({"db": site.target()}, registry=f"sqlite:{path}")
        process = site.tunnel("db")
        s = site.dial(process)
        s.sendall(b"x")
        chv.check_equal(s.recv(1), b"x", "open")
        site.keyadmin("client", "revoke", "cam1", "-c", site.config, "--reason", "stolen")
        chv.check(read_all(s)[1], "a stream that is cut off is no clean end")
        process.wait_for("403.*revoked")
        chv.check_equal(site.ask(process), (b"", True), "not any more")
        process.stop(0)


def test_a_key_that_the_server_does_not_know():
    with TunnelSite() as site, TunnelSite() as other:
        site.init({"db": site.target()})
        other.init({"db": other.target()})
        process = site.client_start(other.key, "tunnel", "db", "--listen", "127.0.0.1:0", to=site.address)
        site.listening(process)
        for _ in range(3):
            chv.check_equal(site.ask(process), (b"", True), "a reset")
        chv.check_equal(len(process.wait_for("the server cannot prove that it knows this key")), 1, "lines")
        process.stop(0)


def test_another_run_has_the_key_updated():
    with TunnelSite() as site:
        site.init({"db": site.target()}, scopes=["tunnel:db", "message"])
        process = site.tunnel("db")
        chv.check_equal(site.ask(process), (b"hello", False), "before")
        site.rotate()
        site.send_until(site.key, ["2.1"])
        site.epoch("retire", "1", "--force")
        site.server.signal(signal.SIGHUP)
        site.server.wait_for("configuration loaded", 2)
        until(lambda: site.ask(process) == (b"hello", False), "the key that another run has stored is not taken")
        process.stop(0)


if __name__ == "__main__":
    chv.main()
