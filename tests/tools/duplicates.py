# SPDX-License-Identifier: Apache-2.0
"""on-duplicate: the same id twice at once, with real processes and with clients that do as they like."""
import subprocess

import chv
import rawclient
import registrar
from fakeserver import CLOSE, PING, PONG, STATUS


def open_map(run):
    """CBOR {"service": "message", "instance": run}."""
    head = b"\xa2\x67service\x67message\x68instance"
    return head + bytes([0x40 + len(run)]) + run


def ask(house, run=b"", client_id="cam1"):
    """A client of that run that has sent OPEN and not read yet."""
    client = house.keys.client(house.site, client_id)
    house.sockets.append(client.sock)
    chv.check_equal(client.handshake(), None, "handshake")
    client.send_record(rawclient.OPEN, open_map(run) if run else rawclient.open_map())
    return client


def code_of(client):
    kind, body = client.read_record()
    chv.check_equal(kind, STATUS, "record")
    return rawclient.status_of(body)[0]


def come(house, run=b"", code=200):
    client = ask(house, run)
    chv.check_equal(code_of(client), code, "STATUS of OPEN")
    return client


def pong(client):
    chv.check_equal(client.read_record()[0], PING, "whether it lives")
    client.send_record(PONG)


def evicted(client):
    chv.check_equal(code_of(client), 409, "STATUS of the one that goes")
    chv.check_equal(client.read_record()[0], CLOSE, "behind STATUS")
    client.send_record(CLOSE)
    chv.check_equal(client.sock.recv(1), b"", "the end")


ONE, TWO, THREE = b"1" * 16, b"2" * 16, b"3" * 16


def test_allow():
    with registrar.House() as house:
        house.put("cam1")
        clients = [come(house, ONE), come(house, TWO), come(house)]
        for client in clients:
            registrar.serves(client)


def test_reject_while_the_old_one_lives():
    with registrar.House(on_duplicate="reject", workers="3") as house:
        house.put("cam1")
        old, mine = come(house, ONE), [come(house, ONE) for _ in range(4)]
        chv.check_equal(len(mine), 4, "connections of the same run")
        new = ask(house, TWO)
        pong(old)
        for client in mine:
            pong(client)
        chv.check_equal(code_of(new), 409, "STATUS of the new one")
        for client in [old, *mine]:
            registrar.serves(client)
        house.server.wait_for("refused 409: another run of this client is connected")
        house.put("cam2")
        chv.check_equal(code_of(ask(house, TWO, "cam2")), 200, "another client of whatever run")


def test_reject_replaces_a_dead_one():
    with registrar.House(on_duplicate="reject") as house:
        house.put("cam1")
        old = come(house, ONE)
        new = ask(house, TWO)
        chv.check_equal(old.read_record()[0], PING, "whether it lives")
        chv.check_equal(code_of(new), 200, "STATUS of the new one")
        evicted(old)
        registrar.serves(new)


def test_reject_does_not_wait_for_one_that_has_gone():
    with registrar.House(on_duplicate="reject") as house:
        house.put("cam1")
        old = come(house, ONE)
        new = ask(house, TWO)
        chv.check_equal(old.read_record()[0], PING, "whether it lives")
        old.send_record(CLOSE)
        chv.check_equal(code_of(new), 200, "STATUS of the new one")
        third = ask(house, THREE)
        pong(new)
        chv.check_equal(code_of(third), 409, "STATUS of the third")


def revoked_while_it_waits(house, client_id):
    """The STATUS of one that is revoked while another run of it is asked whether it lives."""
    house.put(client_id)
    old = ask(house, ONE, client_id)
    chv.check_equal(code_of(old), 200, "STATUS of the old one")
    new = ask(house, TWO, client_id)
    chv.check_equal(old.read_record()[0], PING, "whether it lives")
    house.put(client_id, "status=revoked")
    return code_of(new)


def test_one_that_waits_is_told_of_a_change():
    """It does not come in.  (A machine that takes longer than 3 s for the change has let it in before: once more.)"""
    with registrar.House(on_duplicate="reject") as house:
        codes = []
        while 403 not in codes and len(codes) < 10:
            codes.append(revoked_while_it_waits(house, f"cam{len(codes)}"))
        chv.check_in(403, codes, "STATUS of the new one")


def test_replace():
    with registrar.House(on_duplicate="replace", workers="3") as house:
        house.put("cam1")
        old = [come(house, ONE) for _ in range(4)]
        other = come(house)
        new = come(house, TWO)
        for client in [other, *old[1:]]:
            evicted(client)
        registrar.serves(new)
        registrar.serves(come(house, TWO))
        registrar.serves(new)


def test_who_may_not_come_in_evicts_nobody():
    """Neither one without the scope, nor one whose service is not there, nor one that the registry does not let in."""
    for policy in ("reject", "replace"):
        with registrar.House(on_duplicate=policy, workers="3") as house:
            house.put("cam1", "scopes=files:ro,message", "latest=1.9")
            old = come(house, ONE)
            for fields, service, code in (({"scopes": ("files:ro",)}, "message", 403), ({}, "files", 403),
                                          ({}, "nothing", 404), ({"scopes": ("files:ro",)}, "files", 404),
                                          ({"not_after": 1000000000}, "message", 403)):
                new = house.keys.client(house.site, "cam1", **fields)
                house.sockets.append(new.sock)
                chv.check_equal(new.handshake(), None, "handshake")
                new.send_record(rawclient.OPEN, rawclient.open_map(service))
                if policy == "reject" and service == "files":
                    pong(old)  # what the service itself refuses is asked after the others
                    chv.check_equal(code_of(new), 409, f"{service} for {fields}")
                else:
                    chv.check_equal(code_of(new), code, f"{service} for {fields}")
                registrar.serves(old)


def test_a_replayed_hello_evicts_nobody():
    for policy in ("reject", "replace"):
        with registrar.House(on_duplicate=policy) as house:
            house.put("cam1")
            old = house.keys.client(house.site, "cam1")
            house.sockets.append(old.sock)
            hello = old.hello()
            old.sock.sendall(hello)
            chv.check_equal(old.read_reply(), None, "handshake")
            old.send_record(rawclient.OPEN, open_map(ONE))
            chv.check_equal(code_of(old), 200, "STATUS")
            for _ in range(5):
                with house.site.connect() as copy:
                    copy.sendall(hello + old.record(rawclient.OPEN, open_map(TWO)))
                    old.counts[0] -= 1  # it was not sent here
                    while copy.recv(4096):
                        pass
            registrar.serves(old)


def test_real_processes():
    with registrar.House(on_duplicate="reject") as house:
        key = house.site.add_client("cam1")
        chat = house.site.client_start(key, "chat", stdin=subprocess.PIPE)
        chat.stdin.write(b"ola\n")
        chat.stdin.flush()
        chat.wait_for("message received: 'ola'", stream="stdout")
        done = house.site.client(key, "send", "x", code=69)
        chv.check_in(b"409: another run of this client is connected", done.stderr, "what the second one says")
        chat.stdin.write(b"boa\n")
        chat.stdin.flush()
        chat.wait_for("message received: 'boa'", stream="stdout")
        chat.stdin.close()
        chat.wait(0)
        house.site.client(key, "send", "x")


if __name__ == "__main__":
    chv.main()
