# SPDX-License-Identifier: Apache-2.0
"""chaveiro connect: a tunnel on standard input and output, be they pipes, files or sockets."""
import os
import signal
import socket

import chv
from tunnelsite import Target, TunnelSite, content, echo, read_all, reset

UNAVAILABLE, IOERR, PROTOCOL = 69, 74, 76
MIB = 1 << 20


def test_connect():
    def serve(connection):
        got, _ = read_all(connection)
        connection.sendall(got[::-1])

    with TunnelSite() as site:
        site.init({"db": site.target(serve)})
        for size in (0, 5, 2 * MIB):
            done = site.client(site.key, "connect", "db", stdin=content(size))
            chv.check(done.stdout == content(size)[::-1], f"{size} bytes, by pipes")
            chv.check_equal(done.stderr, b"", "what is said")
        source, result = chv.write(site.path("in"), content(3 * MIB)), site.path("out")
        with open(source, "rb") as stdin, open(result, "wb") as stdout:
            chv.check_equal(os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(
                chv.program("chaveiro"), chv.argv("chaveiro", *site.client_argv(site.key, "connect", "db")), os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, stdin.fileno(), 0), (os.POSIX_SPAWN_DUP2, stdout.fileno(), 1)]),
                0)[1]), 0, "with files")
        chv.check(chv.read(result) == content(3 * MIB)[::-1], "with files")
        ours, its = socket.socketpair()
        with ours, its:
            ours.settimeout(chv.DEADLINE)
            child = os.posix_spawn(chv.program("chaveiro"),
                                   chv.argv("chaveiro", *site.client_argv(site.key, "connect", "db")), os.environ,
                                   file_actions=[(os.POSIX_SPAWN_DUP2, its.fileno(), 0),
                                                 (os.POSIX_SPAWN_DUP2, its.fileno(), 1)])
            its.close()
            ours.sendall(b"abc")
            ours.shutdown(socket.SHUT_WR)
            chv.check_equal(read_all(ours), (b"cba", False), "with a socket")
            chv.check_equal(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0, "with a socket")


def test_connect_when_the_target_ends_first():
    seen = []

    def serve(connection):
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        seen.append(read_all(connection)[0])

    with TunnelSite() as site:
        target = site.target(serve)
        site.init({"db": target})
        read_end, write_end = os.pipe()
        process = site.client_start(site.key, "connect", "db", stdin=read_end)
        os.close(read_end)
        process.wait_for("bye", stream="stdout")
        os.write(write_end, b"still here")
        os.close(write_end)
        process.wait(0)
        target.wait(lambda t: not t.open, "still open")
        chv.check_equal(seen, [b"still here"], "what was sent after its end")


def test_connect_that_fails():
    def cut(connection):
        connection.sendall(b"half")
        connection.recv(1)
        reset(connection)

    with TunnelSite() as site:
        down = Target(echo)
        site.init({"cut": site.target(cut), "down": down.address, "flow": site.target(lambda c: c.sendall(bytes(64 * MIB)))})
        down.close()
        done = site.client(site.key, "connect", "down", code=UNAVAILABLE)
        chv.check_in("502", done.stderr, "a target that is down")
        done = site.client(site.key, "connect", "cut", stdin=b"x", code=None)
        chv.check_equal(done.stdout, b"half", "what came")
        chv.check(done.code in (UNAVAILABLE, IOERR, PROTOCOL), f"exit code of a cut stream: {done.code}")
        chv.check(done.stderr.startswith(b"chaveiro: "), "one line")
        read_end, write_end = os.pipe()
        process = site.client_start(site.key, "connect", "cut", stdin=read_end)
        os.close(read_end)
        process.wait_for("half", stream="stdout")
        process.signal(signal.SIGTERM)
        process.wait(128 + signal.SIGTERM)
        os.close(write_end)
        closed_end, pipe_end = os.pipe()  # a reader that is gone: EPIPE, no signal
        os.close(closed_end)
        child = os.posix_spawn(chv.program("chaveiro"),
                               chv.argv("chaveiro", *site.client_argv(site.key, "connect", "flow")), os.environ,
                               file_actions=[(os.POSIX_SPAWN_DUP2, pipe_end, 1),
                                             (os.POSIX_SPAWN_OPEN, 2, site.path("err"), os.O_WRONLY | os.O_CREAT, 0o600)])
        os.close(pipe_end)
        chv.check_equal(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), IOERR, "a reader that is gone")
        chv.check_in("the plain side of the tunnel was lost: Broken pipe", chv.read(site.path("err")), "what is said")
        site.stop()
        done = site.client(site.key, "connect", "cut", code=UNAVAILABLE)
        chv.check(done.stderr.startswith(b"chaveiro: "), "one line")


if __name__ == "__main__":
    chv.main()
