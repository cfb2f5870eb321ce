# SPDX-License-Identifier: Apache-2.0
"""The server's side of tunnels: its end, its limits for silent clients and for idle tunnels, its log, what it holds."""
import signal
import socket
import time

import chv
from tunnelsite import TunnelSite, read_all, resident, until

MIB = 1 << 20


def opened(site, tunnel):
    """A stream that has been used."""
    s = site.dial(tunnel)
    s.sendall(b"x")
    chv.check_equal(s.recv(1), b"x", "open")
    return s


def test_the_server_ends():
    """A stream goes on until its end, and the server waits for it; others are let go at once."""
    with TunnelSite() as site:
        site.init({"db": site.target()}, handshake_timeout="30s", stall_timeout="30s")
        tunnel = site.tunnel("db")
        streams = [opened(site, tunnel) for _ in range(3)]
        site.server.signal(signal.SIGTERM)
        site.server.wait_for(r"ending: no new clients")
        for s in streams:
            s.sendall(b"more")
            chv.check_equal(s.recv(4), b"more", "a stream goes on")
            s.shutdown(socket.SHUT_WR)
            chv.check_equal(read_all(s), (b"", False), "its end")
        chv.check_equal(len(site.server.wait_for(r"tunnel 'db': complete after \d+\.\d+ s, 5 bytes to \S+, 5 bytes back", 3)), 3,
                        "what the log says")
        site.server.wait(0)
        site.server = None
        tunnel.kill()


def test_a_stream_that_does_not_end():
    with TunnelSite() as site:
        target = site.target()
        site.init({"db": target}, handshake_timeout="1s", stall_timeout="1s")
        tunnel = site.tunnel("db")
        s = opened(site, tunnel)
        site.server.signal(signal.SIGTERM)
        chv.check(read_all(s)[1], "a stream that is cut off is no clean end")
        target.wait(lambda t: not t.open, "still open")
        site.server.wait_for(r"1 clients did not go in \d+ s")
        site.server.wait_for(r"tunnel 'db': cut after ")
        site.server.wait(0)
        site.server = None
        tunnel.kill()


def test_idle_tunnel():
    """The server's limit for silent clients is not for tunnels, whose client pings; the tunnel's own is."""
    with TunnelSite() as site:
        site.init({"db": site.target()}, sections={"idle_timeout": "3s"}, idle_timeout="1s", stall_timeout="1s")
        tunnel = site.tunnel("db", "-v")
        s = opened(site, tunnel)
        for _ in range(3):
            time.sleep(1.5)  # more than the server's, less than the tunnel's
            s.sendall(b"x")
            chv.check_equal(s.recv(1), b"x", "alive")
        chv.check(read_all(s)[1], "an idle tunnel is reset")
        tunnel.wait_for(rb"408: tunnel 'db': no byte in 3 s|no byte through the tunnel")
        site.server.wait_for(r"tunnel 'db': cut after ")
        tunnel.stop(0)


def test_a_stopped_client_is_not_ended():
    """The stall limit is for peers that owe something: a reader that has stopped may stop for longer."""
    def flood(connection):
        connection.sendall(bytes(64 * MIB))
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)

    with TunnelSite() as site:
        site.init({"db": site.target(flood)}, stall_timeout="1s", idle_timeout="1s")
        tunnel = site.tunnel("db")
        net = chv.process_named(site.server.pid, "chv-net")
        streams = [site.dial(tunnel) for _ in range(10)]
        for s in streams:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            chv.check_equal(len(s.recv(1)), 1, "it comes")
        time.sleep(3.5)
        before = resident(net)
        time.sleep(1)
        chv.check(resident(net) <= before + MIB, "memory grows while nobody reads")
        for s in streams:
            got, was_reset = read_all(s)
            chv.check((len(got) + 1, was_reset) == (64 * MIB, False), f"{len(got) + 1} bytes came, reset: {was_reset}")
            s.close()
        until(lambda: site.log_count(r"tunnel 'db': complete after") == 10, "not all are complete")
        tunnel.stop(0)


if __name__ == "__main__":
    chv.main()
