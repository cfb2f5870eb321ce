# SPDX-License-Identifier: Apache-2.0
"""What those who have no key can take from chaveirod: lines of its log, connections, the unix socket."""
import grp
import os
import re
import socket
import stat

import chv

WARNINGS = 100  # a second


def refused(site, data):
    """What the server answers to those bytes, None if nothing."""
    with site.connect() as stranger:
        stranger.sendall(data)
        stranger.shutdown(socket.SHUT_WR)
        answer = stranger.recv(100)
    return answer[3] << 8 | answer[4] if len(answer) == 5 else None


def test_refusals_do_not_fill_the_log():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        site.start()
        count = 0
        while b" more refusals like these came in one second" not in site.server.stderr:
            chv.check_equal(refused(site, b"no hello"), 400, "answer to a stranger")
            count += 1
            chv.check(count < 20000, f"{count} refusals, each with its line")
        seconds = re.findall(rb"(?m)^(\S+) warning .* refused 400", site.server.stderr)
        worst = max(seconds.count(second) for second in set(seconds))
        chv.check(worst <= 2 * WARNINGS, f"{worst} lines in one second")  # the clock's and the server's seconds differ
        left = sum(int(n) for n in re.findall(rb"(\d+) more refusals", site.server.stderr))
        chv.check(len(seconds) + left <= count, f"{count} refusals: {len(seconds)} lines, {left} counted")
        site.client(key, "send", "ola")


def test_one_network_leaves_connections_to_others():
    """Silent connections from 127.0.0.0/24 take half of the places and no more; 127.0.1.0/24 gets in."""
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        site.configure(connections="8", workers="1")  # one loop accepts in order
        site.start("--listen", "0.0.0.0:0")
        port = site.address.rpartition(":")[2]
        site.address = f"127.0.0.1:{port}"
        silent = [site.connect() for _ in range(5)]
        try:
            with site.connect() as one_more:
                chv.check_equal(one_more.recv(100), b"\x00\x03\x01\x01\xad", "answer to one more: 429")
            with socket.create_connection(("127.0.0.1", int(port)), chv.DEADLINE, ("127.0.1.1", 0)) as other:
                other.sendall(b"no hello")
                chv.check_equal(other.recv(100), b"\x00\x03\x01\x01\x90", "answer to another network: 400")
        finally:
            for s in silent:
                s.close()
        site.client(key, "send", "ola")


def test_unix_socket_is_of_the_servers_group():
    if os.geteuid() != 0:
        raise chv.Skip("only root can give it to another group")
    with chv.Site() as site:
        site.init()
        nobody = site.serve_as("nobody")
        site.start("--listen", f"unix:{site.socket}", "--listen", "127.0.0.1:0", listening=2)
        found = os.stat(site.socket)
        chv.check_equal((grp.getgrgid(found.st_gid), stat.S_IMODE(found.st_mode)),
                        (grp.getgrgid(nobody.pw_gid), 0o660), "group and mode")


if __name__ == "__main__":
    chv.main()
