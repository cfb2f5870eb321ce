# SPDX-License-Identifier: Apache-2.0
"""The server's processes end unasked: the keeper, the net process, the supervisor. What goes on, what is said, what
comes back."""
import contextlib
import ctypes
import os
import signal
import socket
import time

import chv
import rawclient
import store


def soon():
    return int(time.time()) + 86400


def pid_of(site, name):
    return chv.process_named(site.server.pid, name)


def state_of(pid):
    with open(f"/proc/{pid}/stat", "rb") as f:
        return f.read().rpartition(b")")[2].split()[0]


def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + chv.DEADLINE
    while state_of(pid) != b"T" and time.monotonic() < end:
        time.sleep(0.01)


def until_served(keys, site):
    """Connects until a handshake is answered with a key: a client that backs off as it should."""
    end = time.monotonic() + chv.DEADLINE
    while time.monotonic() < end:
        with keys.client(site, not_after=soon()) as client:
            code = client.handshake()
            if code is None:
                chv.check_equal(client.open()[0], 200, "STATUS")
                client.close()
                return
            chv.check_equal(code, 503, "refusal meanwhile")
        time.sleep(0.02)
    raise chv.Failure("nobody is served any more")


def test_keeper_killed():
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        server = site.start()
        with keys.client(site, not_after=soon()) as settled:
            settled.handshake()
            settled.open()
            keeper = pid_of(site, "chv-keeper")
            stopped(keeper)
            with keys.client(site, not_after=soon()) as flying:
                flying.send_hello()
                flying.sock.settimeout(0.2)
                try:
                    flying.read_reply()
                    raise chv.Failure("an answer without a keeper")
                except socket.timeout:
                    pass
                flying.sock.settimeout(chv.DEADLINE)
                os.kill(keeper, signal.SIGKILL)
                chv.check_equal(flying.read_reply(), 503, "answer to the connection in flight")
            server.wait_for(r"error supervisor\[\d+\]: the keeper process ended: signal 9")
            chv.check_equal(settled.message(b"still"), b"message received: 'still'", "established session")
            server.wait_for(r"the keeper process serves again")
            chv.check(pid_of(site, "chv-keeper") != keeper, "the same keeper")
            until_served(keys, site)
            chv.check_equal(settled.message(b"here"), b"message received: 'here'", "established session")
            settled.close()


def test_keeper_killed_again_and_again():
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        server = site.start()
        for count in range(1, 4):
            os.kill(pid_of(site, "chv-keeper"), signal.SIGKILL)
            server.wait_for(r"the keeper process serves again", count)
            until_served(keys, site)


def test_keeper_whose_passphrase_was_typed_in():
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        site.server = server = site.spawn("chaveirod", "-c", site.config, "--passphrase-file", "-",
                                          stdin=chv.subprocess.PIPE)
        server.stdin.write(chv.read(site.passphrase_file))
        server.stdin.close()
        site.address = server.wait_for(r"listening on (\S+)")[0].group(1).decode()
        with keys.client(site, not_after=soon()) as settled:
            settled.handshake()
            settled.open()
            os.kill(pid_of(site, "chv-keeper"), signal.SIGKILL)
            server.wait_for(r"the keeper needs the passphrase, .*pin-hold = no.* until chaveirod is restarted")
            with keys.client(site, not_after=soon()) as client:
                chv.check_equal(client.handshake(), 503, "a new client")
            chv.check_equal(settled.message(b"still"), b"message received: 'still'", "established session")
            settled.close()


def test_keeper_whose_passphrase_is_held():
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        site.configure(pin_hold="yes")
        site.server = server = site.spawn("chaveirod", "-c", site.config, "--passphrase-file", "-",
                                          stdin=chv.subprocess.PIPE)
        server.stdin.write(chv.read(site.passphrase_file))
        server.stdin.close()
        site.address = server.wait_for(r"listening on (\S+)")[0].group(1).decode()
        os.kill(pid_of(site, "chv-keeper"), signal.SIGKILL)
        server.wait_for(r"the keeper process serves again")
        until_served(keys, site)


def test_net_killed():
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        server = site.start("--listen", "127.0.0.1:0", "--listen", "unix:" + site.socket, listening=2)
        address = site.address
        with keys.client(site, not_after=soon()) as client:
            client.handshake()
            client.open()
            os.kill(pid_of(site, "chv-net"), signal.SIGKILL)
            chv.check_equal(client.sock.recv(1), b"", "what the client of a killed process gets")
        server.wait_for(r"error supervisor\[\d+\]: the net process ended: signal 9")
        # the same port and socket file; clients wait in the queue meanwhile
        for where in (address, "unix:" + site.socket):
            with keys.client(site, not_after=soon(), address=where) as client:
                chv.check_equal(client.handshake(), None, "handshake")
                chv.check_equal(client.open()[0], 200, "STATUS")
                client.close()
        server.wait_for(r"the net process serves again")


def test_both_killed():
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        server = site.start()
        for name in ("chv-keeper", "chv-net"):
            os.kill(pid_of(site, name), signal.SIGKILL)
        server.wait_for(r"the (net|keeper) process serves again")
        until_served(keys, site)


def test_supervisor_killed():
    with chv.Site() as site:
        site.init()
        server = site.start("--listen", "unix:" + site.socket)
        children = chv.processes_under(server.pid)
        chv.check_equal(len(children), 3, "number of children")
        server.signal(signal.SIGKILL)
        server.wait()
        chv.wait_gone(children)
        site.server = None
        site.start("--listen", "unix:" + site.socket)  # the file that the dead one left is no obstacle


def test_stopped_keeper_and_full_queue():
    """One source takes at most half of the queue; what waits too long is told so."""
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        site.configure(workers="1", keeper_queue="4", handshake_timeout="4s")
        server = site.start()
        keeper = pid_of(site, "chv-keeper")
        stopped(keeper)
        clients = []
        try:
            for _ in range(64 + 4):
                client = keys.client(site, not_after=soon())
                clients.append(client)
                client.send_hello()
            refused = [client.read_reply() for client in clients[66:]]
            chv.check_equal(refused, [429, 429], "beyond the queue")
            chv.check_equal([client.read_reply() for client in clients[64:66]], [503, 503], "waited too long")
            server.wait_for("too many handshakes wait for the keeper")
            server.wait_for("the keeper did not answer in time")
            with contextlib.suppress(ProcessLookupError):  # if this took long it was replaced
                os.kill(keeper, signal.SIGCONT)
        finally:
            for client in clients:
                client.sock.close()
        until_served(keys, site)


def test_no_core_not_traceable():
    with chv.Site() as site:
        site.init()
        server = site.start()
        for pid in [server.pid, *chv.processes_under(server.pid)]:
            with open(f"/proc/{pid}/limits") as f:
                line = [text for text in f if text.startswith("Max core file size")][0]
            chv.check_equal(line.split()[4:6], ["0", "0"], f"core limit of {pid}")
        with open(f"/proc/{pid_of(site, 'chv-net')}/status") as f:
            text = f.read()
        chv.check_in("NoNewPrivs:\t1", text, "status of the net process")


def test_net_process_has_no_secret():
    """The passphrase and the master, which the keeper reads, are nowhere in the net process or the supervisor."""
    if os.geteuid() != 0:
        raise chv.Skip("only root can read another process's memory")
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        keys = rawclient.Keys(site)
        server = site.start()
        site.client(key, "send", "ola")
        opened = store.Store(key.path, store.passphrase_of(key.passphrase_file))
        access = opened.keys["access:1.1"]
        for pid in (server.pid, pid_of(site, "chv-net")):
            for secret, what in ((keys.master, "master"), (access, "access key"),
                                 (store.passphrase_of(site.passphrase_file), "passphrase")):
                chv.check(not in_memory(pid, secret), f"{what} in the memory of process {pid}")
        chv.check(in_memory(pid_of(site, "chv-keeper"), keys.master), "the search does not find what is there")


def in_memory(pid, needle):
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            area, rights = line.split()[:2]
            if "rw" not in rights or "[v" in line:
                continue
            start, end = (int(x, 16) for x in area.split("-"))
            if end - start > 1 << 28:  # a sanitizer's shadow
                continue
            memory.seek(start)
            try:
                if needle in memory.read(end - start):
                    return True
            except OSError:
                continue
    return False


PIDFD_OPEN, PIDFD_GETFD = 434, 438


class Sockets:
    """A process's sockets to the other two. The one to the supervisor stays, those between keeper and net are replaced:
    that tells them apart, after `replaced`."""

    def __init__(self, pid):
        if os.geteuid() != 0:
            raise chv.Skip("only root can take another process's socket")
        self.pid = pid
        self.control = set(self.numbers())

    def numbers(self):
        """Descriptor by inode, of SOCK_SEQPACKET sockets."""
        found = {}
        for number in map(int, os.listdir(f"/proc/{self.pid}/fd")):
            name = os.readlink(f"/proc/{self.pid}/fd/{number}")
            if name.startswith("socket:"):
                with self.copy(number) as copy:
                    if (copy.family, copy.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
                        found[name] = number
        return found

    def copy(self, number):
        libc = ctypes.CDLL(None, use_errno=True)
        pidfd = libc.syscall(PIDFD_OPEN, self.pid, 0)
        if pidfd < 0:
            raise chv.Skip("no pidfd_open here")
        fd = libc.syscall(PIDFD_GETFD, pidfd, number, 0)
        os.close(pidfd)
        if fd < 0:
            raise chv.Skip("no pidfd_getfd here")
        return socket.socket(fileno=fd)

    def replaced(self):
        self.control &= set(self.numbers())
        return self

    def between(self):
        """A copy of the one socket between keeper and net."""
        (number,) = (n for name, n in self.numbers().items() if name not in self.control)
        return self.copy(number)


def test_lost_sockets_are_replaced():
    """Between living processes: cut off, and spoilt by what is no answer and no question."""
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        site.configure(workers="1")
        server = site.start()
        until_served(keys, site)
        net = Sockets(pid_of(site, "chv-net"))
        os.kill(pid_of(site, "chv-keeper"), signal.SIGKILL)
        server.wait_for(r"the keeper process serves again")
        until_served(keys, site)
        net.replaced()
        children = sorted(chv.processes_under(server.pid))
        keeper = Sockets(pid_of(site, "chv-keeper"))

        def lost(count):
            server.wait_for("the net process had lost the keeper: they are connected again", count)
            until_served(keys, site)
        with net.between() as between:
            between.shutdown(socket.SHUT_RDWR)
        lost(1)
        with keeper.replaced().between() as between:
            between.send(b"no answer")
        lost(2)
        with net.between() as between:
            between.send(b"no question")
        lost(3)
        chv.check_equal(sorted(chv.processes_under(server.pid)), children, "processes")


def test_a_full_socket_to_the_keeper():
    """A question waits until the keeper has read what is before it."""
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        site.configure(workers="1")
        server = site.start()
        until_served(keys, site)
        net = Sockets(pid_of(site, "chv-net"))
        os.kill(pid_of(site, "chv-keeper"), signal.SIGKILL)
        server.wait_for(r"the keeper process serves again")
        until_served(keys, site)
        keeper = pid_of(site, "chv-keeper")
        with net.replaced().between() as between, contextlib.ExitStack() as stack:
            between.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20000)
            stopped(keeper)
            with contextlib.suppress(BlockingIOError):
                while True:  # questions whose answers nobody waits for
                    between.send(bytes(7) + b"\xff" + b"\x01\x01\x00\x20\x01\x00" + bytes(578), socket.MSG_DONTWAIT)
            clients = [stack.enter_context(keys.client(site, not_after=soon())) for _ in range(4)]
            for client in clients:
                client.send_hello()
            clients[0].sock.settimeout(0.5)
            try:
                clients[0].read_reply()
                raise chv.Failure("an answer while the keeper stands still")
            except socket.timeout:
                clients[0].sock.settimeout(chv.DEADLINE)
            os.kill(keeper, signal.SIGCONT)
            chv.check_equal([client.read_reply() for client in clients], [None] * 4, "answers")
        chv.check_not_in("had lost the keeper", server.stderr, "log")


if __name__ == "__main__":
    chv.main()
