# SPDX-License-Identifier: Apache-2.0
"""The connector: who makes the connections behind tunnels, what becomes of them when it is killed, and what SIGHUP changes."""
import contextlib
import os
import pwd
import re
import resource
import signal
import socket
import subprocess
import threading

import chv
from server_processes import Sockets

NAME = "chv-connector"


class Target:
    """A service that answers each connection's bytes with `mark` before them, and ends when the client does."""

    def __init__(self, mark, path=None):
        self.mark = mark
        self.socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_STREAM)
        self.socket.bind(path or ("127.0.0.1", 0))
        self.socket.listen(50)
        self.address = f"unix:{path}" if path else f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.port = self.address.rpartition(":")[2]
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=(self.socket.accept()[0],), daemon=True).start()

    def _answer(self, peer):
        with peer, contextlib.suppress(OSError):
            while data := peer.recv(4096):
                peer.sendall(self.mark + data)


def refusing():
    """A port that nobody listens at, and nobody else gets meanwhile."""
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.bind(("127.0.0.1", 0))
    return s


def set_tunnels(site, **tunnels):
    """These sections, in place of all others; a value is a target or a dictionary of keys."""
    text = re.sub(r"(?ms)^\[tunnel .*?(?=^\[(?!tunnel)|\Z)", "", chv.read(site.config).decode()).rstrip("\n") + "\n"
    for name, keys in tunnels.items():
        keys = keys if isinstance(keys, dict) else {"target": keys}
        text += f'[tunnel "{name}"]\n' + "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in keys.items())
    chv.write(site.config, text)


def reload(site, count=1):
    site.server.signal(signal.SIGHUP)
    site.server.wait_for("configuration loaded", count)


@contextlib.contextmanager
def served(workers="2", client=("tunnel:db", "tunnel:web", "tunnel:u"), **tunnels):
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1", scopes=client)
        site.configure(workers=workers)
        set_tunnels(site, **tunnels)
        site.start()
        yield site, key


def through(site, key, name, text=b"hello", code=0, retries="0"):
    return site.client(key, "connect", name, "--retries", retries, stdin=text, code=code)


def fails(site, key, name, code, *not_in):
    done = through(site, key, name, code=code)
    chv.check_equal(done.stdout, b"", "what came through")
    for text in not_in:
        chv.check_not_in(text, done.stderr.decode(), "what the client is told")
    return done.stderr.decode()


class Open:
    """A connection through a tunnel that stays open."""

    def __init__(self, site, key, name):
        self.process = site.client_start(key, "connect", name, stdin=subprocess.PIPE)
        self.count = 0

    def echo(self, mark):
        self.count += 1
        text = f"[{self.count}]".encode()
        self.process.stdin.write(text)
        self.process.stdin.flush()
        self.process.wait_for(re.escape((mark + text).decode()), 1, "stdout")
        return self

    def end(self):
        self.process.stdin.close()
        self.process.wait(0)


def connectors(site):
    found = []
    for pid in chv.processes_under(site.server.pid):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as f:
            if f.read().strip() == NAME:
                found.append(pid)
    return found


def test_targets():
    with Target(b"db:") as db, contextlib.ExitStack() as stack:
        path = os.path.join(chv.folder(), "s")
        unix = stack.enter_context(Target(b"u:", path))
        with served(db=db.address, web=f"localhost:{db.port}", u=unix.address) as (site, key):
            chv.check_equal(through(site, key, "db").stdout, b"db:hello", "TCP")
            chv.check_equal(through(site, key, "web").stdout, b"db:hello", "by name")
            chv.check_equal(through(site, key, "u").stdout, b"u:hello", "unix socket")
            site.server.wait_for(re.escape(f"connected to {db.address}"))
            chv.check_equal(len(connectors(site)), 1, "connectors")


def test_targets_that_cannot_be_reached():
    """The log says why; a client learns no address."""
    with refusing() as nobody:
        port = nobody.getsockname()[1]
        with served(db=f"127.0.0.1:{port}", web={"target": "no-such-host.invalid:80", "connect_timeout": "2s"},
                    u="unix:/nonexistent/s") as (site, key):
            fails(site, key, "db", 69, str(port), "connection refused")
            site.server.wait_for(rf"client 'cam1'.*127\.0\.0\.1:{port}: connection refused")
            fails(site, key, "web", 69, "no-such-host")
            site.server.wait_for(r"no-such-host\.invalid:80: (no such host|the name)")  # what a name server says varies
            fails(site, key, "u", 69, "nonexistent")
            site.server.wait_for(r"unix:/nonexistent/s: No such file")


def test_killed():
    """Tunnels that are open go on, new ones come once it is back."""
    with Target(b"db:") as db, served(db=db.address) as (site, key):
        settled = Open(site, key, "db").echo(b"db:")
        for count in (1, 2):
            os.kill(chv.process_named(site.server.pid, NAME), signal.SIGKILL)
            site.server.wait_for(r"the connector process ended: signal 9", count)
            settled.echo(b"db:")
            chv.check_equal(through(site, key, "db").stdout, b"db:hello", "a new one waits for it")
            site.server.wait_for(r"the connector process serves again", count)
        settled.echo(b"db:").end()


def test_stopped():
    """One that does not answer is killed."""
    with Target(b"db:") as db, served(db={"target": db.address, "connect_timeout": "1s"}) as (site, key):
        os.kill(chv.process_named(site.server.pid, NAME), signal.SIGSTOP)
        fails(site, key, "db", 69)
        site.server.wait_for(r"the connector process does not answer: .* it is killed")
        site.server.wait_for(r"the connector process serves again")
        chv.check_equal(through(site, key, "db", retries="4").stdout, b"db:hello", "afterwards")


def test_lost_sockets_are_replaced():
    """Between living processes, spoilt by what is no question and no answer: nothing else is lost."""
    with Target(b"db:") as db, served(workers="1", db=db.address) as (site, key):
        settled = Open(site, key, "db").echo(b"db:")
        net = Sockets(chv.process_named(site.server.pid, "chv-net"))
        os.kill(chv.process_named(site.server.pid, NAME), signal.SIGKILL)
        site.server.wait_for("the connector process serves again")
        chv.check_equal(through(site, key, "db", retries="4").stdout, b"db:hello", "by a new socket")
        connector = Sockets(chv.process_named(site.server.pid, NAME))
        children = sorted(chv.processes_under(site.server.pid))
        with net.replaced().between() as between:
            between.send(b"no question")
        site.server.wait_for("the net process had lost the connector: they are connected again", 1)
        site.server.wait_for("is no question: its socket is closed", 1)
        chv.check_equal(through(site, key, "db", retries="4").stdout, b"db:hello", "after no question")
        with connector.replaced().between() as between:
            between.send(b"no answer")
        site.server.wait_for("the net process had lost the connector: they are connected again", 2)
        chv.check_equal(through(site, key, "db", retries="4").stdout, b"db:hello", "after no answer")
        settled.echo(b"db:").end()
        chv.check_equal(sorted(chv.processes_under(site.server.pid)), children, "processes")


def test_configured_anew():
    """SIGHUP brings the first tunnel, changes it, and takes the last one away."""
    with Target(b"one:") as one, Target(b"two:") as two, served() as (site, key):
        chv.check_equal(connectors(site), [], "connectors without a tunnel")
        fails(site, key, "db", 78)
        set_tunnels(site, db=one.address)
        reload(site)
        site.server.wait_for("the connector process serves")
        chv.check_equal(through(site, key, "db").stdout, b"one:hello", "the first tunnel")
        settled = Open(site, key, "db").echo(b"one:")
        set_tunnels(site, db=two.address, web=one.address)
        reload(site, 2)
        chv.check_equal(through(site, key, "db").stdout, b"two:hello", "another target")
        chv.check_equal(through(site, key, "web").stdout, b"one:hello", "another tunnel")
        settled.echo(b"one:")
        (old,) = connectors(site)
        set_tunnels(site)
        reload(site, 3)
        site.server.wait_for("has no tunnel any more")
        chv.wait_gone([old])
        fails(site, key, "db", 78)
        settled.echo(b"one:").end()
        set_tunnels(site, db=one.address)
        reload(site, 4)
        chv.check_equal(through(site, key, "db", retries="4").stdout, b"one:hello", "a tunnel again")
        chv.check_not_in("process ended", site.log(), "log")


def test_a_bad_configuration_changes_nothing():
    with Target(b"db:") as db, served(db=db.address) as (site, key):
        set_tunnels(site, db="nowhere")
        site.server.signal(signal.SIGHUP)
        site.server.wait_for(r"the configuration stays as it was: .*target = 'nowhere' is not allowed")
        chv.check_equal(through(site, key, "db").stdout, b"db:hello", "the tunnel")


def test_a_clients_share():
    """`connections`, in all loops together."""
    with Target(b"db:") as db, served(workers="3", db={"target": db.address, "connections": "2"}) as (site, key):
        first, second = Open(site, key, "db").echo(b"db:"), Open(site, key, "db").echo(b"db:")
        told = fails(site, key, "db", 69)
        chv.check_in("2 connections through tunnel 'db'", told, "the third")
        first.end()
        other = site.add_client("cam2", scopes=("tunnel:db",))
        chv.check_equal(through(site, other, "db").stdout, b"db:hello", "another client")
        chv.check_equal(through(site, key, "db", retries="4").stdout, b"db:hello", "once there is room")
        second.end()


def set_ports(site, **keys):
    """Addresses for handshakes and data in place of `listen`."""
    lines = [line for line in chv.read(site.config).decode().splitlines() if not line.startswith("listen ")]
    chv.write(site.config, "\n".join(lines) + "\n")
    site.configure(**keys)


def test_two_ports():
    """A tunnel's connection goes on at a data port."""
    with Target(b"here:") as here, chv.Site() as site:
        site.init()
        key = site.add_client("cam1", scopes=("tunnel:db",))
        set_ports(site, handshake="127.0.0.1:0", data="127.0.0.1:0")
        set_tunnels(site, db=here.address)
        site.start(listening=2)
        site.address = re.search(r"listening on (\S+) for handshakes", site.log()).group(1)
        chv.check_equal(through(site, key, "db").stdout, b"here:hello", "at the data port")
        site.server.wait_for(r"opened service 'tunnel' \(resumed\)")


def test_a_data_side():
    """One of its own has a connector, too."""
    with Target(b"there:") as there, chv.Site() as site:
        site.init()
        key = site.add_client("cam1", scopes=("tunnel:db",))
        keys = site.path("ticket.keys")
        site.keyadmin("ticket-keys", "-c", site.config, "--passphrase-file", site.passphrase_file, "--days", "1",
                      "--out", keys)
        config = chv.write(site.path("data.conf"), f"[server]\nname = {site.name}\ndata = 127.0.0.1:0\n"
                           f'[tickets]\nkeys = {keys}\n[tunnel "db"]\ntarget = {there.address}\n')
        data = site.spawn("chaveirod", "--data-only", "-c", config)
        port = data.wait_for(r"listening on 127\.0\.0\.1:(\d+)", 1)[0].group(1).decode()
        chv.process_named(data.pid, NAME)
        set_ports(site, handshake="127.0.0.1:0", redirect=port)
        site.start()
        chv.check_equal(through(site, key, "db").stdout, b"there:hello", "at the data side")
        data.stop()


def status(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def test_rights():
    """The connector and the net process have no rights; whom the latter can reach: tests/net/sandbox_test."""
    with Target(b"db:") as db, chv.Site() as site:
        site.init()
        key = site.add_client("cam1", scopes=("tunnel:db",))
        set_tunnels(site, db=db.address)
        user = site.serve_as("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        site.start()
        chv.check_equal(through(site, key, "db").stdout, b"db:hello", "through it")
        for name in (NAME, "chv-net"):
            pid = chv.process_named(site.server.pid, name)
            found = status(pid)
            chv.check_equal(found["Uid"].split(), [str(user.pw_uid)] * 4, f"{name}: user")
            chv.check_equal((found["NoNewPrivs"], int(found["CapEff"], 16), int(found["CapBnd"], 16) if os.geteuid() == 0
                             else 0), ("1", 0, 0), f"{name}: rights")
            if "sanitize" not in os.environ.get("CHV_BUILD", "") and found["Seccomp"] != "0":
                chv.check_equal(found["Seccomp"], "2", f"{name}: seccomp")
            with open(f"/proc/{pid}/limits") as f:
                chv.check_equal([line.split()[4:6] for line in f if line.startswith("Max core file size")], [["0", "0"]],
                                f"{name}: core dumps")


def test_descriptors():
    """A connection through a tunnel has two of them."""
    with Target(b"db:") as db, served(workers="1") as (site, _):
        _, hard = resource.prlimit(site.server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(site.server.pid, resource.RLIMIT_NOFILE, (1128, hard))  # 128 are for other things
        os.kill(chv.process_named(site.server.pid, "chv-net"), signal.SIGKILL)
        site.server.wait_for(r"the limit of open files leaves 1000\b")
        site.server.wait_for("the net process serves again")
        set_tunnels(site, db=db.address)
        reload(site)
        site.server.wait_for(r"the limit of open files leaves 500 \(one through a tunnel has two\)")


def test_told_by_check():
    with chv.Site() as site:
        site.init()
        set_tunnels(site, db="127.0.0.1:5432", web="localhost:80", u="unix:/nonexistent/s", x="no-such-host.invalid:1")
        done = chv.run("chaveirod", "-t", "-c", site.config)
        lines = done.stdout.decode().splitlines()
        chv.check_equal(lines[0], 'tunnel "db" leads to 127.0.0.1:5432, now 127.0.0.1:5432', "an address")
        chv.check_in('tunnel "web" leads to localhost:80, now ', lines[1], "a name")
        chv.check_in("127.0.0.1:80", lines[1], "a name")
        chv.check_equal(lines[2], 'tunnel "u" leads to unix:/nonexistent/s', "a unix socket")
        chv.check_equal(lines[3], 'tunnel "x" leads to no-such-host.invalid:1', "a name that there is not")
        told = done.stderr.decode()
        chv.check_in('warning: [tunnel "u"] target: /nonexistent/s: No such file', told, "warnings")
        chv.check_in('warning: [tunnel "x"] target: no-such-host.invalid cannot be resolved now', told, "warnings")


if __name__ == "__main__":
    chv.main()
