# SPDX-License-Identifier: Apache-2.0
"""Encryption is set up on one port, and the conversation goes on on another: one server that has both."""
import os
import re
import signal
import socket
import subprocess
import time

import chv
import filesite
import identityclient
import rawclient
import store
from identity_site import allow, line_of, new_key, serve_all, server_pub
from ports import CLOSE, REDIRECT, TICKET, Minted, PortsSite, ask_for_service, port_of
from rotate import RotationSite, labels
from ticketclient import Asks, Comer, Ticket

USAGE, UNAVAILABLE, PROTOCOL, CONFIG = 64, 69, 76, 78
STATUS = 3


class TwoPorts(PortsSite):
    """With a client in Python."""

    def begin(self, **options):
        store.need()
        self.init(**options)
        self.master = rawclient.Keys(self).master
        self.comer = Comer.of_master(self, self.master, not_after=int(time.time()) + 30 * 86400)

    def redirected(self, tickets=0, comer=None, ticket=None):
        """What OPEN on the handshake port is answered by: (the client, TICKETs, REDIRECT's map)."""
        with (comer or self.comer).connect(ticket, address=self.handshake) as client:
            *granted, last = ask_for_service(client, tickets=tickets)
            chv.check_equal(last, (CLOSE, b""), "behind REDIRECT")
            chv.check_equal([kind for kind, _ in granted], [TICKET] * tickets + [REDIRECT], "records")
            told = [rawclient.map_of(body) for _, body in granted]
            client.lines = [Ticket(client, map_) for map_ in told]
            return client, client.lines[:-1], told[-1]


# --- the client follows -------------------------------------------------------------------------------------------------


def test_a_message_takes_both_ports():
    with PortsSite() as site:
        site.init()
        key = site.add_client("cam1")
        site.start(listening=2)
        done = site.client(key, "-v", "send", "ola")
        chv.check_equal(done.stdout, b"message received: 'ola'\n", "answer")
        site.server.wait_for(r"client 'cam1': closed", 2)
        handshake, data = port_of(site.handshake), port_of(site.data[0])
        sent_on = re.findall(r"client 'cam1': redirected to port (\d+) \(came by port (\d+), lineage ([0-9a-f]{32})\)",
                             site.log())
        went_on = re.findall(r"client 'cam1': opened service 'message' \(resumed\) on port (\d+) \(came by port (\d+), "
                             r"lineage ([0-9a-f]{32})\)", site.log())
        chv.check_equal(len(sent_on), 1, "clients that were sent on")
        chv.check_equal(sent_on, went_on, "both sides' lines")
        chv.check_equal(sent_on[0][:2], (str(data), str(handshake)), "ports")
        chv.check_in(str(data).encode(), done.stderr, "the data port in the client's own log")
        chv.check_in(str(handshake).encode(), done.stderr, "the handshake port in the client's own log")
        done = site.client(key, "send", "ola", to=site.data[0], code=PROTOCOL)
        chv.check_in(b"or is a data port only", done.stderr, "who goes to the data port at once")


def test_files_take_both_ports():
    with PortsSite() as site:
        site.init()
        os.mkdir(site.path("homes"))
        site.configure(home=site.path("homes") + "/%i")
        key = site.add_client("cam1", scopes=["files:rw"])
        site.start(listening=2)
        content = filesite.content(3 * filesite.MIB + 17)
        chv.write(site.path("a"), content)
        site.client(key, "put", site.path("a"), "b")
        site.client(key, "get", "b", site.path("c"))
        chv.check_equal(chv.read(site.path("c")) == content, True, "the file that came back is the one that went")
        site.server.wait_for(r"opened service 'files' \(resumed\) on port", 2)


def test_data_ports_are_used_in_turn():
    with PortsSite() as site:
        site.init(data="127.0.0.1:0, 127.0.0.1:0, 127.0.0.1:0")
        key = site.add_client("cam1")
        site.start(listening=4)
        chv.check_equal(len(set(site.data)), 3, "different ports of the kernel's")
        for _ in range(6):
            site.client(key, "send", "ola")
        took = [told[1].decode() for told in site.server.wait_for(r"redirected to port (\d+)", 6)]
        wanted = [str(port_of(address)) for address in site.data]
        chv.check_equal(took, wanted * 2, "ports in turn")


def test_profiles_with_identity_keys_follow_too():
    with PortsSite() as site:
        site.init()
        site.configure(profiles="psk, key, key+psk", allowed_keys="allowed")
        allowed = os.path.join(site.store, "allowed")
        chv.write(allowed, "")
        bound = site.add_client("cam2", extra=["--profile", "key+psk"])
        with open(allowed, "wb") as f:
            f.write(site.keyadmin("client", "add", "cam3", "--profile", "key", "--config", site.config,
                                  "--passphrase-file", site.passphrase_file, "--client-passphrase-file",
                                  bound.passphrase_file, "--scrypt-cost", chv.SCRYPT_COST, "--out", site.path("cam3.key"),
                                  "--json").stdout and
                    site.keyadmin("identity", "show", site.path("cam3.key"), "cam3", "--passphrase-file",
                                  bound.passphrase_file, "--scope", "message").stdout)
        site.start(listening=2)
        keyed = chv.Key("cam3", site.path("cam3.key"), bound.passphrase_file)
        for key in (bound, keyed):
            chv.check_equal(site.client(key, "send", "ola").stdout, b"message received: 'ola'\n", f"answer to {key.id}")
        came = site.server.wait_for(r"client '(\w+)': opened service 'message' \(resumed\) on port", 2)
        chv.check_equal([told[1] for told in came], [b"cam2", b"cam3"], "who came to the data port")
        before = site.server.stderr.count(b"configuration loaded")
        site.server.signal(signal.SIGHUP)  # the list is the same: nobody goes
        site.server.wait_for("configuration loaded", before + 1)


def test_who_comes_by_listen_is_not_sent_on():
    with PortsSite() as site:
        site.init(listen=True)
        key = site.add_client("cam1")
        site.start(listening=3)
        plain = re.findall(r"listening on (\S+)\n", site.log())
        chv.check_equal(len(plain), 1, "addresses with nothing behind them")
        site.client(key, "send", "ola", to=plain[0])
        site.server.wait_for("opened service 'message'\n")  # no ports in the line
        chv.check_not_in("redirected", site.log(), "the log")


def test_one_connection_of_a_client_is_enough():
    with PortsSite() as site:
        site.init()
        site.configure(client_connections=1)
        key = site.add_client("cam1")
        site.start(listening=2)
        for _ in range(3):
            site.client(key, "send", "ola")


def test_duplicates_are_settled_on_the_data_port():
    with PortsSite() as site:
        site.init()
        site.configure(on_duplicate="reject")
        key = site.add_client("cam1")
        site.start(listening=2)
        stays = site.client_start(key, "chat", stdin=subprocess.PIPE)
        site.server.wait_for("opened service 'message'")
        done = site.client(key, "send", "ola", code=None)
        chv.check_in(b"409", done.stderr, "what the second run is told")
        chv.check(stays.running(), "the first run went")
        site.server.wait_for("redirected to port", 2)
        stays.stdin.close()
        stays.wait(0)


def test_no_data_port_in_reach():
    """Nobody is sent to an address of another family than the one that it came by."""
    with TwoPorts() as site:
        site.begin()
        site.configure(handshake="127.0.0.1:0, [::1]:0")
        key = site.add_client("cam1")
        site.start(listening=3)
        apart = site.told("for handshakes")[1]
        chv.check_in("[::1]:", apart, "the second address for handshakes")
        with site.comer.connect(address=apart) as client:
            (kind, body), = ask_for_service(client)
            chv.check_equal(kind, STATUS, "what OPEN is answered by")
            chv.check_equal(rawclient.status_of(body),
                            (503, "there is no data port at the address by which this client came"), "refusal")
        done = site.client(key, "--retries", "0", "send", "ola", to=apart, code=UNAVAILABLE)
        chv.check_in(b"503", done.stderr, "what the client says")
        site.server.wait_for("client 'cam1': refused 503: there is no data port at the address", 2)
        chv.check_not_in("redirected", site.log(), "the log")
        chv.check_equal(site.client(key, "send", "ola").stdout, b"message received: 'ola'\n", "by the other address")


# --- what is on the wire ------------------------------------------------------------------------------------------------


def test_redirect_is_the_answer_to_open():
    with TwoPorts() as site:
        site.begin()
        site.start(listening=2)
        client, tickets, told = site.redirected(tickets=3)
        chv.check_equal(told["port"], port_of(site.data[0]), "the port that the kernel picked, told by REDIRECT")
        chv.check_not_in("host", told, "REDIRECT to the same host")
        chv.check(0 < told["lifetime"] <= 30, f"lifetime of the data ticket: {told['lifetime']}")
        chv.check_equal([t.number for t in tickets], [0, 1, 2], "numbers of the tickets")
        data = client.lines[-1]
        chv.check_equal(data.label()[:2], (1, "test-server/data"), "audience of the data ticket")
        with site.comer.connect(data, address=site.data[0]) as on:
            chv.check_equal(ask_for_service(on, tickets=4)[0][0], STATUS, "the first record on the data port")
            chv.check_equal(on.lineage(), client.lineage(), "lineage")
            chv.check_equal(on.message(b"ola"), b"message received: 'ola'", "answer")  # no ticket came before it
            on.close()
        _, _, again = site.redirected(ticket=tickets[1])  # resumption: by the handshake port, too
        chv.check_equal(again["port"], told["port"], "after resumption")


def test_kinds_of_tickets_and_ports():
    with TwoPorts() as site:
        site.begin()
        site.start(listening=2)
        client, tickets, _ = site.redirected(tickets=1)
        data = client.lines[-1]
        site.comer.refused(tickets[0], 401, address=site.data[0])  # it is for the handshake port
        site.comer.refused(data, 401, address=site.handshake)  # and the other for the data port
        site.comer.refused(None, 426, address=site.data[0])  # a full handshake
        sock = site.connect(site.data[0])
        sock.sendall(rawclient.frame(rawclient.head(b"", profile=2, kind=0) + bytes(96)))
        chv.check_equal(sock.recv(5), b"\x00\x03\x01" + (426).to_bytes(2, "big"), "kind 0 on the data port")
        sock.close()
        site.server.wait_for(r"refused 426: hello: a full handshake, and only tickets are taken here", 2)
        site.server.wait_for(r"refused 401: the ticket is for another audience", 2)


class IdentityComer(Asks, identityclient.IdentityClient):
    pass


def test_rights_that_no_ticket_has_room_for():
    """Whoever has them is served without tickets; there is no way to the data port without one."""
    with PortsSite() as site:
        store.need()
        site.init(listen=True)
        serve_all(site)
        scopes = ["message"] + [f"{i:032}" for i in range(63)]
        few, many = new_key(site, "few"), new_key(site, "many")
        allow(site, line_of(few, "--scope", "message"),
              line_of(many, *(word for scope in scopes for word in ("--scope", scope))))
        site.start(listening=3)
        plain = re.findall(r"listening on (\S+)\n", site.log())[0]
        public = identityclient.public_bytes(server_pub(site))

        def comes(path, address):
            private = identityclient.private_of(path)
            return IdentityComer(site, identityclient.KEY, private, public, address=address)

        for path, given in ((few, 2), (many, 0)):
            with comes(path, plain) as client:
                chv.check_equal((client.handshake(), client.open(tickets=2)[0]), (None, 200), "where none is sent on")
                client.take_tickets(given)
                chv.check_equal(client.message(b"ola"), b"message received: 'ola'", "answer")
                client.close()
        with comes(few, site.handshake) as client:
            chv.check_equal([kind for kind, _ in ask_for_service(client, tickets=1)], [TICKET, REDIRECT, CLOSE], "records")
        with comes(many, site.handshake) as client:
            kind, body = ask_for_service(client, tickets=1)[0]
            chv.check_equal((kind, rawclient.status_of(body)), (
                STATUS, (500, "this client's rights do not fit into a ticket for the data port")), "what it is told")
        site.server.wait_for("client 'many': refused 500: this client's rights do not fit")


def test_who_may_not_come_in_is_not_sent_on():
    with TwoPorts() as site:
        site.begin()
        site.start(listening=2)
        for scopes, code in ((["files:ro"], 403), (["message"], None)):
            comer = Comer.of_master(site, site.master, scopes=scopes, not_after=int(time.time()) + 86400)
            with comer.connect(address=site.handshake) as client:
                kind, body = ask_for_service(client)[0]
                chv.check_equal((kind, rawclient.status_of(body)[0]) if kind == STATUS else kind,
                                (STATUS, code) if code else REDIRECT, f"answer to {scopes}")
        expired = Comer.of_master(site, site.master, not_after=1)
        with expired.connect(address=site.handshake) as client:
            kind, body = ask_for_service(client)[0]
            chv.check_equal((kind, rawclient.status_of(body)[0]), (STATUS, 403), "an expired credential")
        with site.comer.connect(address=site.handshake) as client:
            kind, body = ask_for_service(client, "nothing")[0]
            chv.check_equal((kind, rawclient.status_of(body)[0]), (STATUS, 404), "no such service")
        site.server.wait_for("client 'cam1': refused 404")
        chv.check_equal(site.server.stderr.count(b"redirected to"), 1, "clients that were sent on")


def test_revoked_on_the_handshake_port():
    with PortsSite() as site:
        site.init(registry=True)
        key, other = site.add_client("cam1"), site.add_client("cam2")
        site.start(listening=2)
        site.client(key, "send", "ola")
        stays = site.client_start(key, "chat", stdin=subprocess.PIPE)
        site.server.wait_for(r"opened service 'message' \(resumed\) on port", 2)
        site.keyadmin("client", "revoke", "cam1", "-c", site.config)
        chv.check_in(b"403", stays.wait().stderr, "a live session on the data port of a server with a registry")
        done = site.client(key, "send", "ola", code=None)
        chv.check(done.code != 0, "a revoked client came in")
        chv.check_in(b"403", done.stderr, "what it is told")
        site.server.wait_for(rf"client 'cam1': refused 403")
        chv.check_equal(site.server.stderr.count(b"client 'cam1': redirected"), 2, "how often it was sent on")
        site.client(other, "send", "ola")


def test_a_new_key_is_handed_out_on_the_handshake_port():
    class Site(PortsSite, RotationSite):
        pass

    with Site() as site:
        site.init()
        key = site.add_client("cam1")
        site.start(listening=2)
        site.client(key, "send", "ola")
        site.rotate()
        done = site.send_until(key, ["2.1"])
        chv.check_in(b"message received", done.stdout, "answer")
        site.server.wait_for(r"client 'cam1': is handed its key of epoch 2")
        handed = [line for line in site.log().splitlines() if "is handed its key" in line]
        number = re.search(r"conn (\d+): ", handed[0])[1]
        site.server.wait_for(f"conn {number}: .*redirected to port")  # that is the handshake port's


# --- elsewhere ----------------------------------------------------------------------------------------------------------


def test_another_host_is_followed_only_if_the_client_says_so():
    with PortsSite() as site:
        site.init(data=None, redirect="other.example:7041")
        key = site.add_client("cam1")
        site.start()
        done = site.client(key, "send", "ola", code=None)
        chv.check(done.code != 0, "the client followed to another host")
        for word in (b"other.example", b"7041", b"redirect-hosts"):
            chv.check_in(word, done.stderr, "what the client says")
        site.server.wait_for("redirected to other.example port 7041")
        side, address = site.data_side(site.keys())
        site.configure(redirect=f"localhost:{port_of(address)}")
        site.server.signal(signal.SIGHUP)
        site.server.wait_for(f"sending clients on to localhost:{port_of(address)}")
        conf = chv.write(site.path("client.conf"), "[client]\nredirect-hosts = elsewhere.example\n")
        chv.check(site.client(key, "--config", conf, "send", "ola", code=None).code != 0, "another host than those named")
        chv.write(conf, "[client]\nredirect-hosts = elsewhere.example, localhost\n")
        done = site.client(key, "--config", conf, "send", "ola")
        chv.check_equal(done.stdout, b"message received: 'ola'\n", "answer")
        side.wait_for(r"client 'cam1': opened service 'message' \(resumed\) on port")
        side.stop()


def test_hangup_changes_redirect_and_says_what_it_cannot():
    with PortsSite() as site:
        site.init(redirect="1")
        site.start(listening=2)
        site.server.wait_for("sending clients on to port 1 of where they are")
        site.configure(redirect="[2001:db8::1]:7041, 7042")
        site.server.signal(signal.SIGHUP)
        site.server.wait_for(r"sending clients on to \[2001:db8::1\]:7041\n")
        site.server.wait_for(r"sending clients on to port 7042 of where they are")
        site.server.wait_for("configuration loaded")
        site.configure(handshake="127.0.0.1:1", data="127.0.0.1:2")
        site.server.signal(signal.SIGHUP)
        site.server.wait_for(r"these take a restart: handshake, data\n")


# --- configuration ------------------------------------------------------------------------------------------------------


def test_combinations_are_refused_with_their_line():
    with PortsSite() as site:
        site.init()
        good = chv.read(site.config).decode()
        line = next(i for i, text in enumerate(good.splitlines(), 1) if text.startswith("handshake ="))
        chv.run("chaveirod", "-t", "-c", site.config)
        chv.write(site.config, re.sub(r"(?m)^data = .*\n", "", good))
        for arguments in (["-t"], []):
            done = chv.run("chaveirod", *arguments, "-c", site.config, code=CONFIG)
            chv.check_in(f"{site.config}:{line}: ", done.stderr.decode(), "the line")
            chv.check_in("'data' or 'redirect'", done.stderr.decode(), "what is missing")
            chv.check_equal(done.stderr.count(b"\n"), 1, "lines")


def test_the_ready_lines_name_all_ports():
    with PortsSite() as site:
        site.init(data="127.0.0.1:0, 127.0.0.1:0")
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(site.path("notify"))
        notify.settimeout(chv.DEADLINE)
        site.start("--listen", f"unix:{site.socket}", listening=4, env={"NOTIFY_SOCKET": site.path("notify")})
        status = notify.recv(4096).decode()
        notify.close()
        chv.check_in("READY=1", status, "what systemd is told")
        for address, purpose in ((f"unix:{site.socket}", ""), (site.handshake, " for handshakes"),
                                 (site.data[0], " for data"), (site.data[1], " for data")):
            chv.check_in(f"listening on {address}{purpose}\n", site.log(), "the log")
            chv.check_in(f"{address}{purpose}", status, "what systemd is told")


if __name__ == "__main__":
    chv.main()
