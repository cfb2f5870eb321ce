# SPDX-License-Identifier: Apache-2.0
"""The main job from end to end: a server is made, two clients are provisioned, it serves, they connect and send; and what
each wrong key, name, credential or option gets."""
import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import time

import chv
import store

USAGE, DATAERR, NOINPUT, UNAVAILABLE, IOERR, NOPERM, CONFIG = 64, 65, 66, 69, 74, 77, 78
UNPROVEN = b"chaveiro: the server cannot prove that it knows this key (wrong key, wrong server name or retired epoch)\n"
SUITES = ["x25519-aesgcm-sha256", "x25519-chachapoly-sha256", "p256-aesgcm-sha256"]


def master_of(site):
    return store.Store(os.path.join(site.store, "server.keys"), store.passphrase_of(site.passphrase_file)).keys["master:1"]


def one_line(done):
    chv.check_equal(done.stdout, b"", "standard output")
    chv.check_equal(done.stderr.count(b"\n"), 1, f"lines of {done.stderr}")
    chv.check(done.stderr.startswith(b"chaveiro: "), done.stderr)
    return done.stderr


def files(site):
    return {os.path.join(top, name): chv.read(os.path.join(top, name))
            for top, _, names in os.walk(site.folder) for name in names if not os.path.islink(os.path.join(top, name))}


def test_two_clients_send_chat_and_ping():
    with chv.Site("gate.example") as site:
        site.init()
        first, second = site.add_client("1"), site.add_client("cam2", scopes=["message", "files:ro"])
        site.start()
        before = set(files(site))
        for key, text in ((first, "ola"), (second, "bom dia")):
            done = site.client(key, "send", text)
            chv.check_equal(done.stdout, f"message received: '{text}'\n".encode(), "answer")
            chv.check_equal(done.stderr, b"", "standard error")
            site.server.wait_for(re.escape(f"client '{key.id}': '{text}'\n"), stream="stdout")
        done = site.client(first, "chat", stdin="um\ndois\n")
        chv.check_equal(done.stdout, b"message received: 'um'\nmessage received: 'dois'\n", "chat")
        told = json.loads(site.client(second, "ping", "-c", "5", "--json").stdout)
        shown = json.loads(chv.run("keyadmin", "client", "show", second.path, "--passphrase-file",
                                   second.passphrase_file, "--json").stdout)
        chv.check_equal(told["key_check"], shown["key_check"], "key check value")
        chv.check_equal((told["server"], told["client"], told["suite"], told["profile"], told["epoch"], told["serial"]),
                        ("gate.example", "cam2", SUITES[0], "psk", 1, 1), "what ping tells")
        chv.check_equal(len(told["round_trips_ms"]), 5, "round trips")
        chv.check(0 < told["least_ms"] <= told["mean_ms"] <= told["most_ms"], f"times: {told}")
        chv.check(re.fullmatch(r"[0-9a-f]{32}", told["lineage"]), told["lineage"])
        chv.check(abs(time.mktime(time.strptime(told["server_time"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone - time.time())
                  < 3600, f"server time {told['server_time']}")
        people = site.client(second, "ping").stdout.decode()
        for name in ("server", "key check", "suite", "profile", "server time", "idle limit s", "connect ms"):
            chv.check(re.search(rf"^{name}: +\S", people, re.M), f"no '{name}' in {people}")
        chv.check_equal(set(files(site)), before, "files left behind")


def test_a_message_from_a_pipe():
    """echo ola | chaveiro -k cam1.key send -"""
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        site.start()
        chv.check_equal(site.client(key, "send", "-", stdin="ola\n").stdout, b"message received: 'ola\n'\n", "answer")


def test_any_bytes_any_length():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        site.start()
        for size in (0, 1, 255, 65279, 65280, 65281, 65536, 5 << 20):
            data = hashlib.shake_128(b"%d" % size).digest(size)
            done = site.client(key, "send", "-", stdin=data)
            chv.check(done.stdout == b"message received: '" + data + b"'\n", f"{size} bytes came back changed")
        every = bytes(range(256)) * 3
        chv.check_equal(site.client(key, "send", "-", stdin=every).stdout, b"message received: '" + every + b"'\n", "bytes")


def test_every_suite_and_options_anywhere():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        site.start()
        for suite in SUITES:
            done = site.client(key, "--suite", suite, "-v", "send", "ola")
            chv.check_equal(done.stdout, b"message received: 'ola'\n", suite)
            for part in (suite, "profile psk", "lineage ", "credential 1.1"):
                chv.check_in(part, done.stderr, "-v")
        late = chv.run("chaveiro", "send", "ola", "--server", site.address, "-k", key.path, "--passphrase-file",
                       key.passphrase_file, "--timeout", "60s", "--backend", "openssl")
        chv.check_equal(late.stdout, b"message received: 'ola'\n", "options behind the command")


def test_a_unix_socket():
    with chv.Site() as site:
        address = "unix:" + site.socket
        site.init("--address", address, listen=address)
        key = site.add_client("cam1")
        site.start()
        done = chv.run("chaveiro", "-k", key.path, "--passphrase-file", key.passphrase_file, "send", "ola")
        chv.check_equal(done.stdout, b"message received: 'ola'\n", "with the address in the key file")


def test_wrong_passphrase_and_files():
    with chv.Site() as site:
        site.init()
        key, other = site.add_client("cam1"), site.add_client("cam2")
        before = files(site)
        wrong = chv.Key("cam1", key.path, other.passphrase_file)
        chv.check_in("wrong passphrase", one_line(site.client(wrong, "send", "x", to="127.0.0.1:9", code=NOPERM)), "error")
        missing = chv.Key("cam1", site.path("no.key"), key.passphrase_file)
        chv.check_in("no.key", one_line(site.client(missing, "send", "x", to="127.0.0.1:9", code=NOINPUT)), "error")
        server = chv.Key("", os.path.join(site.store, "server.keys"), site.passphrase_file)
        chv.check_in("keyadmin client add", one_line(site.client(server, "send", "x", to="127.0.0.1:9", code=NOINPUT)), "error")
        os.chmod(key.path, 0o640)
        chv.check_in("others", one_line(site.client(key, "send", "x", to="127.0.0.1:9", code=CONFIG)), "error")
        os.chmod(key.path, 0o600)
        chv.check_equal(files(site), before, "files")


def test_wrong_usage():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        cases = [("which key", ["send", "x"]), ("no command given", ["-k", key.path]),
                 ("unknown suite 'x': there are x25519-aesgcm-sha256", ["-k", key.path, "--suite", "x", "send", "x"]),
                 ("bad address", ["-k", key.path, "--server", "nowhere", "send", "x"]),
                 ("no time span", ["-k", key.path, "--timeout", "soon", "send", "x"]),
                 ("--retries wants", ["-k", key.path, "--retries", "11", "send", "x"]),
                 ("--count wants", ["-k", key.path, "ping", "-c", "0"]),
                 ("does not belong", ["-k", key.path, "-c", "3", "send", "x"]),
                 ("unexpected 'x'", ["-k", key.path, "chat", "x"])]
        for text, arguments in cases:
            chv.check_in(text, one_line(chv.run("chaveiro", *arguments, code=USAGE)), f"{arguments}")
        unknown = chv.run("chaveiro", "-k", key.path, "--passphrase-file", key.passphrase_file, "--backend", "abacus",
                          "send", "x", code=CONFIG)
        chv.check_in("openssl", one_line(unknown), "the known backends")
        for arguments in ([], ["send"], ["chat"], ["ping"]):
            chv.check_in("Example", chv.run("chaveiro", *arguments, "--help").stdout, f"{arguments}: help")


def test_another_master():
    with chv.Site("gate") as site, chv.Site("gate") as elsewhere:
        site.init()
        elsewhere.init()
        stranger = elsewhere.add_client("cam1")
        site.start()
        chv.check_equal(one_line(site.client(stranger, "send", "x", code=NOPERM)), UNPROVEN, "error")


def test_another_server_name():
    with chv.Site("gate") as site:
        site.init()
        key = site.add_client("cam1")
        opened = store.Store(key.path, store.passphrase_of(key.passphrase_file))
        opened.data["server"] = b"other"
        opened.write(key.path)
        site.start()
        chv.check_equal(one_line(site.client(key, "send", "x", code=NOPERM)), UNPROVEN, "error")


def test_an_epoch_that_is_not_served():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        store.client_store(key, store.credential("cam1", epoch=7, not_after=int(time.time()) + 86400), epoch=7,
                           master=master_of(site))
        site.start()
        chv.check_equal(one_line(site.client(key, "send", "x", code=NOPERM)), UNPROVEN, "error")


def test_an_expired_credential():
    """The key is right: its holder, and only its holder, reads why."""
    with chv.Site() as site:
        site.init()
        key, thief = site.add_client("cam1"), site.add_client("cam2")
        expired = store.credential("cam1", not_after=int(time.time()) - 60)
        store.client_store(key, expired, master=master_of(site))
        store.client_store(thief, expired)  # the credential without its key
        site.start()
        error = one_line(site.client(key, "send", "x", code=NOPERM))
        chv.check_in("403", error, "the reason")
        chv.check_in("expired", error, "the reason")
        chv.check_equal(one_line(site.client(thief, "send", "x", code=NOPERM)), UNPROVEN, "error without the key")


def test_a_credential_cannot_be_edited():
    """More scopes, another id, a later end, another serial: the key does not belong to it any more."""
    end = int(time.time()) + 86400
    with chv.Site() as site:
        site.init()
        site.start()
        edits = {"scopes": store.credential("cam1", ["message", "files:rw"], end),
                 "id": store.credential("admin", ["message"], end),
                 "end": store.credential("cam1", ["message"], end + 86400),
                 "never": store.credential("cam1", ["message"], 0)}
        for name, edited in edits.items():
            key = site.add_client("cam1", out=site.path(f"{name}.key"))
            store.client_store(key, store.credential("cam1", ["message"], end), master=master_of(site))
            chv.check_equal(site.client(key, "send", "x").stdout, b"message received: 'x'\n", f"{name}: before")
            store.client_store(key, edited)
            chv.check_equal(one_line(site.client(key, "send", "x", code=NOPERM)), UNPROVEN, f"{name}: edited")


def test_a_scope_that_was_not_given():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1", scopes=["files:ro"])
        site.start()
        error = one_line(site.client(key, "send", "x", code=NOPERM))
        chv.check_in("403", error, "the reason")


def test_no_secret_anywhere():
    """Not in argv, output, log, environment, nor in what is left on disk."""
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        server = site.start()
        seen = b""
        for arguments in (["-v", "send", "ola"], ["ping"], ["ping", "--json"], ["chat"]):
            done = site.client(key, *arguments, stdin="ola\n")
            seen += done.stdout + done.stderr + " ".join(done.command).encode()
        reading, writing = os.pipe()
        client = site.client_start(key, "chat", stdin=reading)
        os.close(reading)
        os.write(writing, b"ola\n")
        client.wait_for("message received", stream="stdout")
        for pid in (client.pid, server.pid, *chv.processes_under(server.pid)):
            for name in ("cmdline", "environ"):
                # an undumpable process lets nobody read its environment but root
                try:
                    seen += chv.read(f"/proc/{pid}/{name}")
                except PermissionError:
                    continue
        os.close(writing)
        client.wait(0)
        secrets = []
        for path, passphrase in ((key.path, store.passphrase_of(key.passphrase_file)),
                                 (os.path.join(site.store, "server.keys"), store.passphrase_of(site.passphrase_file))):
            secrets.append(passphrase)
            for secret in store.Store(path, passphrase).keys.values():
                secrets += [secret, secret.hex().encode(), secret.hex().upper().encode(), store.b64(secret).encode(),
                            base64.b64encode(secret).rstrip(b"=")]
        site.stop()
        seen += server.stdout + server.stderr
        for path, data in files(site).items():
            if not path.endswith(".pass"):
                seen += data
        for secret in secrets:
            chv.check_not_in(secret, seen, "output, log, argv, environment, files")


def test_control_c_in_the_middle():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        site.start()
        before = files(site)
        for number in (signal.SIGINT, signal.SIGTERM):
            reading, writing = os.pipe()
            client = site.client_start(key, "-v", "send", "-", stdin=reading)
            os.close(reading)
            client.wait_for("connected to")
            os.write(writing, b"half a mess")
            client.signal(number)
            client.wait(-number)
            os.close(writing)
            chv.check_equal(files(site), before, f"files after {number!r}")
        chv.check_equal(site.client(key, "send", "x").stdout, b"message received: 'x'\n", "the server goes on")


def test_not_dumpable_and_without_core():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        site.start()
        reading, writing = os.pipe()
        client = site.client_start(key, "-v", "chat", stdin=reading)
        os.close(reading)
        client.wait_for("connected to")
        limits = chv.read(f"/proc/{client.pid}/limits").decode()
        chv.check(re.search(r"Max core file size +0 +0 ", limits), limits)
        # proc(5): the files of an undumpable process belong to root; as root: only ptrace-like access tells
        if os.geteuid() != 0:
            chv.check_equal(os.stat(f"/proc/{client.pid}/status").st_uid, 0, "owner of the process's files")
        os.close(writing)
        client.wait(0)


def test_who_types_slowly_is_not_cut_off():
    """--timeout is about the server's answers, not about standard input."""
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        site.start()
        for timeout in (1, 4, 16, 64):
            reading, writing = os.pipe()
            client = site.client_start(key, "-v", "--timeout", f"{timeout}s", "send", "-", stdin=reading)
            os.close(reading)
            try:
                client.wait_for("connected to")
            except chv.Failure:  # a machine too busy to connect in that time
                os.close(writing)
                continue
            os.write(writing, b"slow")
            try:
                client.process.wait(timeout=1.5 * timeout)
                raise chv.Failure(f"cut off: {client.stderr}")
            except subprocess.TimeoutExpired:
                client.signal(signal.SIGTERM)
                client.wait(-signal.SIGTERM)
                os.close(writing)
                return
        raise chv.Failure("it could never connect")


if __name__ == "__main__":
    chv.main()
