# SPDX-License-Identifier: Apache-2.0
"""A data side of its own: chaveirod --data-only with the ticket keys of keyadmin ticket-keys, without a keystore."""
import json
import os
import re
import signal
import stat
import subprocess
import time

import chv
import clock
import ports
import rawclient
import softhsm
import store
from ports import DAY, REDIRECT, TICKET, Minted, PortsSite, ask_for_service, port_of, read_keys
from ticketclient import Comer, Ticket

USAGE, CANTCREAT, CONFIG, NOINPUT = 64, 73, 78, 66
STATUS = 3


class Apart(PortsSite):
    """A handshake server that sends its clients on to a data side, which is a process of its own."""

    def begin(self, keys_for=10, registry=False, **settings):
        store.need()
        self.init(data=None, redirect="1", registry=registry)
        self.key_file = self.keys(days=keys_for)
        self.side, self.beyond = self.data_side(self.key_file, **settings)
        self.configure(redirect=port_of(self.beyond))
        self.start()
        self.master = rawclient.Keys(self).master
        self.comer = Comer.of_master(self, self.master, not_after=int(time.time()) + 30 * DAY)


def today():
    return int(time.time()) // DAY


def hangup(process, text="configuration loaded"):
    before = len(re.findall(text.encode(), process.stderr))
    process.signal(signal.SIGHUP)
    process.wait_for(text, before + 1)


# --- the keys -----------------------------------------------------------------------------------------------------------


def test_ticket_keys_are_those_of_the_protocol():
    with PortsSite() as site:
        store.need()
        site.init()
        path = site.keys(days=92)
        keys, audience = read_keys(path)
        master = rawclient.Keys(site).master
        first = min(period for _, period in keys)
        chv.check(first in (today() - 1, today()), f"the first period, {first}, is today's, {today()}")
        chv.check_equal(audience, "test-server/data", "audience")
        chv.check_equal(sorted(keys), [(1, first + i) for i in range(92)], "epochs and periods")
        for (_, period), key in keys.items():
            info = b"chaveiro v1 ticket\x00" + bytes([len(audience)]) + audience.encode() + period.to_bytes(8, "big")
            chv.check_equal(key, store.expand(master, info), f"key of period {period}")
        chv.check_equal(stat.S_IMODE(os.stat(path).st_mode), 0o600, "mode")
        chv.check_not_in(master.hex(), chv.read(path).decode(), "the file")


def test_ticket_keys_options():
    with PortsSite() as site:
        site.init(registry=True)
        path = site.keys("--from", "2030-02-28", days=2)
        chv.check_equal(sorted(read_keys(path)[0]), [(1, 21973), (1, 21974)], "28 February and 1 March 2030")
        before = chv.read(path)
        done = site.keys(days=3, code=CANTCREAT)
        chv.check_in(b"ticket.keys: is there already: --force", done.stderr, "a file that is there")
        chv.check_equal(chv.read(path), before, "the file that is there")
        chv.check_equal(len(os.listdir(site.folder)), len(set(os.listdir(site.folder))), "files")
        chv.check_equal([n for n in os.listdir(site.folder) if n.startswith("ticket.keys.")], [], "files left behind")
        os.chmod(path, 0o644)
        done = site.keyadmin("ticket-keys", "--days", "3", "--out", path, "--force", "--json", "--name", "other",
                             "-c", site.config, "--passphrase-file", site.passphrase_file)
        told = json.loads(done.stdout)
        chv.check_equal((told["audience"], told["days"], told["epoch"], told["file"]), ("other/data", 3, 1, path), "JSON")
        chv.check_equal(len(read_keys(path)[0]), 3, "keys")
        chv.check_equal(stat.S_IMODE(os.stat(path).st_mode), 0o600, "mode of the file in its place")
        for wrong, text in ((["--days", "0"], b"--days"), (["--days", "93"], b"--days"),
                            (["--days", "1", "--from", "2030-02-29"], b"no date"),
                            (["--days", "1", "--from", "90d"], b"no date"), ([], b"--days"),
                            (["--days", "1", "--name", "a b"], b"no server name")):
            done = site.keyadmin("ticket-keys", *wrong, "--out", site.path("no"), "-c", site.config, "--passphrase-file",
                                 site.passphrase_file, code=USAGE)
            chv.check_in(text, done.stderr, f"{wrong}")
        done = site.keyadmin("ticket-keys", "--days", "1", "-c", site.config, code=USAGE)
        chv.check_in(b"--out", done.stderr, "without a file")
        done = site.keys("--epoch", "2", out="two", code=NOINPUT)
        chv.check_in(b"no master of epoch 2", done.stderr, "an epoch that is not there")
        chv.check(not os.path.exists(site.path("no")) and not os.path.exists(site.path("two")), "a file of a failure")
        trail = json.loads(site.keyadmin("audit", "list", "--json", "-c", site.config).stdout)
        rows = [row for row in trail["rows"] if row["action"] == "ticket-keys"]
        chv.check_equal(len(rows), 2, "rows of the audit trail")
        chv.check_in("2030-03-02T00:00:00Z", json.dumps(rows[0]), "until when")
        site.keyadmin("audit", "verify", "-c", site.config, "--passphrase-file", site.passphrase_file)


def test_ticket_keys_of_the_newest_epoch():
    with PortsSite() as site:
        site.init()
        site.keyadmin("epoch", "new", "-c", site.config, "--passphrase-file", site.passphrase_file)
        chv.check_equal({epoch for epoch, _ in read_keys(site.keys())[0]}, {2}, "epochs")
        chv.check_equal({epoch for epoch, _ in read_keys(site.keys("--epoch", "1", out="one"))[0]}, {1}, "epochs")
        site.configure(epochs="1")  # tickets are made with the newest that is served
        chv.check_equal({epoch for epoch, _ in read_keys(site.keys(out="served"))[0]}, {1}, "epochs")


def test_ticket_keys_of_a_master_in_a_token():
    class Site(softhsm.TokenSite):
        data_side = PortsSite.data_side

    with Site() as site:
        site.init()
        site.configure(handshake="127.0.0.1:0", redirect="1")
        key_file = site.path("ticket.keys")
        site.keyadmin("ticket-keys", "--days", "10", "--out", key_file, "-c", site.config)
        side, address = site.data_side(key_file)
        site.configure(redirect=port_of(address))
        key = site.add_client("cam1")
        site.start(listening=2)
        site.address = re.findall(r"listening on (\S+) for handshakes", site.log())[0]
        site.send(key, "ola")
        side.wait_for("client 'cam1': opened service 'message'")
        side.stop()


# --- its process --------------------------------------------------------------------------------------------------------


def test_a_client_goes_on_at_another_process():
    with Apart() as site:
        site.begin()
        key = site.add_client("cam1")
        chv.check_equal(site.client(key, "-v", "send", "ola").stdout, b"message received: 'ola'\n", "answer")
        site.side.wait_for("client 'cam1': closed")
        site.server.wait_for("redirected to port")
        handshake, data = port_of(site.handshake), port_of(site.beyond)
        sent_on = re.findall(r"client 'cam1': redirected to port (\d+) \(came by port (\d+), lineage ([0-9a-f]{32})\)",
                             site.log())
        went_on = re.findall(r"client 'cam1': opened service 'message' \(resumed\) on port (\d+) \(came by port (\d+), "
                             r"lineage ([0-9a-f]{32})\)", site.side.stderr.decode())
        chv.check_equal(len(sent_on), 1, "clients that were sent on")
        chv.check_equal(sent_on, went_on, "both processes' lines")
        chv.check_equal(sent_on[0][:2], (str(data), str(handshake)), "ports")
        chv.check_not_in("opened service", site.log(), "the log of the handshake server")
        site.side.stop()


def test_it_has_no_keystore_and_no_keeper():
    with Apart() as site:
        site.begin()
        children = chv.processes_under(site.side.pid)
        names = [chv.read(f"/proc/{pid}/comm").decode().strip() for pid in children]
        chv.check_equal(names, ["chv-net"], "its processes")
        for pid in [site.side.pid, *children]:
            opened = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            for name in opened:
                chv.check(site.store not in name and site.key_file not in name, f"process {pid} has {name} open")
            if os.geteuid() == 0:
                chv.check_not_in(site.master, memory_of(pid), f"process {pid} has the master in its memory")
        site.side.stop()


def memory_of(pid):
    found = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            start, end = (int(x, 16) for x in line.split()[0].split("-"))
            if line.split()[1].startswith("rw") and end - start < 1 << 28:  # a sanitizer's shadow is larger
                try:
                    mem.seek(start)
                    found.append(mem.read(end - start))
                except (OSError, ValueError, OverflowError):
                    pass
    return b"".join(found)


def test_it_gets_its_keys_again_after_a_crash():
    with Apart() as site:
        site.begin()
        key = site.add_client("cam1")
        os.kill(chv.process_named(site.side.pid, "chv-net"), signal.SIGKILL)
        site.side.wait_for("the net process serves again")
        site.client(key, "send", "ola")
        site.side.stop()


def test_configuration_of_a_data_side():
    with PortsSite() as site:
        site.init()
        keys = site.keys()
        side, _ = site.data_side(keys, wait=False)
        side.wait_for("listening on")
        chv.run("chaveirod", "-t", "--data-only", "-c", side.conf)
        good = chv.read(side.conf).decode()
        for line, text in (("keystore = x", "'keystore'"), ("listen = 127.0.0.1:0", "'listen'"),
                           ("handshake = 127.0.0.1:0", "'handshake'")):
            chv.write(side.conf, good.replace("[tickets]", f"{line}\n[tickets]"))
            done = chv.run("chaveirod", "--data-only", "-c", side.conf, code=CONFIG)
            chv.check_in(f"{side.conf}:4: ", done.stderr.decode(), "the line")
            chv.check_in(text, done.stderr.decode(), "the key")
        chv.write(side.conf, good + "[files]\nhome = /nowhere/%i\nreceipts = on\n")
        done = chv.run("chaveirod", "-t", "--data-only", "-c", side.conf, code=CONFIG)
        chv.check_in(f"{side.conf}:8: [files] 'receipts'", done.stderr.decode(), "receipts")
        chv.write(side.conf, good)
        done = chv.run("chaveirod", "-c", side.conf, code=CONFIG)
        chv.check_in("unless chaveirod runs with --data-only", done.stderr.decode(), "without the option")
        for option in (["--listen", "127.0.0.1:0"], ["--passphrase-file", keys], ["--pin-file", keys], ["--pin-fd", "0"]):
            done = chv.run("chaveirod", "--data-only", "-c", side.conf, *option, code=USAGE)
            chv.check_in(option[0].encode(), done.stderr, "the option")
        os.chmod(keys, 0o640)
        done = chv.run("chaveirod", "--data-only", "-c", side.conf, code=CONFIG)
        chv.check_in(b"chmod 600", done.stderr, "keys that others can read")
        done = chv.run("chaveirod", "-t", "--data-only", "-c", side.conf, code=CONFIG)
        chv.check_in(b"chmod 600", done.stderr, "keys that others can read")
        hangup(side)
        chv.check_in("ticket keys stay as they were", side.stderr.decode(), "the log")
        side.stop()
        os.chmod(keys, 0o600)
        chv.write(side.conf, good.replace("name = test-server", "name = other"))
        done = chv.run("chaveirod", "--data-only", "-c", side.conf, code=CONFIG)
        chv.check_in(b"for test-server/data, not for other/data", done.stderr, "another server's keys")


def test_keys_that_run_out():
    with Apart() as site:
        site.begin()
        key = site.add_client("cam1")
        done = chv.run("chaveirod", "-t", "--data-only", "-c", site.side.conf)
        chv.check_not_in(b"run out", done.stderr, "ten days")
        chv.check_not_in(b"run out", site.side.stderr, "ten days")
        site.keys("--force", days=2)
        hangup(site.side)
        chv.check_in("warning supervisor", last_about_keys(site.side), "two days")
        chv.check_in("its ticket keys run out at", last_about_keys(site.side), "two days")
        chv.check_in(b"run out", chv.run("chaveirod", "-t", "--data-only", "-c", site.side.conf).stderr, "two days")
        site.client(key, "send", "ola")
        site.keys("--force", "--from", "2020-01-01")
        hangup(site.side)
        chv.check_in("error supervisor", last_about_keys(site.side), "keys of 2020")
        chv.check_in("has no ticket key for now", last_about_keys(site.side), "keys of 2020")
        done = site.client(key, "send", "ola", code=None)
        chv.check(done.code != 0, "a client came in without a key")
        site.side.wait_for("refused 401: there is no key for tickets of that epoch")
        site.keys("--force")
        hangup(site.side)
        site.client(key, "send", "ola")
        site.side.stop()


def last_about_keys(side):
    lines = [line for line in side.stderr.decode().splitlines() if "ticket key" in line]
    return lines[-1] if lines else ""


# --- what its keys are good for, and what not ---------------------------------------------------------------------------


def test_a_data_side_neither_opens_nor_makes_what_the_handshake_port_takes():
    with Apart() as site:
        site.begin()
        keys, audience = read_keys(site.key_file)
        mine = keys[1, today()]
        with site.comer.connect(address=site.handshake) as client:
            records = ask_for_service(client, tickets=1)
            chv.check_equal([kind for kind, _ in records[:2]], [TICKET, REDIRECT], "records")
            resumption, data = (Ticket(client, rawclient.map_of(body)) for _, body in records[:2])
        # It opens its own, and no key of the file opens the other.
        chv.check(ports.opens(mine, data.bytes) is not None, "the data side's own ticket does not open")
        for key in keys.values():
            chv.check(ports.opens(key, resumption.bytes) is None, "a key of the data side opens the other ticket")
        # What it can make is taken by a data side, with any rights, and by nobody else.
        made = Minted(mine, audience)
        with site.comer.connect(made, address=site.beyond) as client:
            kind, body = ask_for_service(client)[0]
            chv.check_equal((kind, rawclient.status_of(body)[0]), (STATUS, 200), "the data side takes its own make")
        for audience_, what in ((site.name, "the server's name"), (audience, "the data audience")):
            for key in (mine, keys[1, today() + 1]):
                site.comer.refused(Minted(key, audience_), 401, address=site.handshake)
        site.server.wait_for("refused 401: the ticket does not open", 2)
        site.server.wait_for("refused 401: the ticket is for another audience", 2)
        # The other way round, too; and only tickets.
        site.comer.refused(resumption, 401, address=site.beyond)
        site.comer.refused(None, 426, address=site.beyond)
        site.comer.refused(Minted(mine, site.name), 401, address=site.beyond)
        site.comer.refused(Minted(mine, audience, lifetime=-1), 401, address=site.beyond)
        # Control: with the right key the handshake port would take such a ticket.
        info = b"chaveiro v1 ticket\x00" + bytes([len(site.name)]) + site.name.encode() + today().to_bytes(8, "big")
        with site.comer.connect(Minted(store.expand(site.master, info), site.name), address=site.handshake) as client:
            chv.check_equal(ask_for_service(client)[0][0], REDIRECT, "a ticket with the server's own key")
        site.side.stop()


def test_no_tickets_and_no_redirect_from_a_data_side():
    with Apart() as site:
        site.begin()
        keys, audience = read_keys(site.key_file)
        with site.comer.connect(Minted(keys[1, today()], audience), address=site.beyond) as client:
            chv.check_equal(ask_for_service(client, tickets=8)[0][0], STATUS, "answer to OPEN")
            chv.check_equal(client.message(b"ola"), b"message received: 'ola'", "what comes next")
            client.close()
        site.side.stop()


def test_rights_are_the_tickets():
    with Apart() as site:
        site.begin()
        keys, audience = read_keys(site.key_file)
        ticket = Minted(keys[1, today()], audience, scopes=("files:ro",))
        with site.comer.connect(ticket, address=site.beyond) as client:
            kind, body = ask_for_service(client)[0]
            chv.check_equal((kind, rawclient.status_of(body)), (STATUS, (403, "the ticket has no scope 'message'")), "OPEN")
        site.side.stop()


def test_revoked_with_and_without_a_registry():
    with Apart() as site:
        site.begin(registry=True)
        asks, beyond = site.data_side(site.key_file, registry=f"sqlite:{os.path.join(site.store, 'registry.db')}")
        key = site.add_client("cam1")
        first = site.client_start(key, "chat", stdin=subprocess.PIPE)
        site.side.wait_for("client 'cam1': opened service")
        site.configure(redirect=port_of(beyond))
        hangup(site.server)
        second = site.client_start(key, "chat", stdin=subprocess.PIPE)
        asks.wait_for("client 'cam1': opened service")
        site.keyadmin("client", "revoke", "cam1", "-c", site.config)
        chv.check_in(b"403", second.wait().stderr, "with a registry the session ends")
        chv.check(first.running(), "without a registry it goes on")
        done = site.client(key, "send", "ola", code=None)
        chv.check_in(b"403", done.stderr, "at the handshake port")
        chv.check_equal(asks.stderr.count(b"opened service"), 1, "sessions")
        first.stdin.close()
        first.wait(0)
        asks.stop()
        site.side.stop()


def test_a_session_limit():
    with Apart() as site:
        site.begin(session_limit="1s")
        key = site.add_client("cam1")
        stays = site.client_start(key, "chat", stdin=subprocess.PIPE)
        done = stays.wait()
        chv.check_in(b"403", done.stderr, "the end")
        chv.check_in(b"limit", done.stderr, "why")
        site.side.stop()


def test_the_log_says_it_while_it_runs():
    with PortsSite() as site:
        site.init()
        set_clock = clock.Clock(site.folder)
        keys = site.keys(days=5)
        side, _ = site.data_side(keys, env=set_clock.env)
        chv.check_not_in(b"run out", side.stderr, "five days")
        set_clock.shift(3 * DAY)
        hangup(side)
        side.wait_for("warning supervisor.*its ticket keys run out at")
        set_clock.shift(6 * DAY)
        hangup(side)
        side.wait_for("error supervisor.*has no ticket key for now")
        side.stop()


if __name__ == "__main__":
    chv.main()
