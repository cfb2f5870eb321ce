# SPDX-License-Identifier: Apache-2.0
"""The whole way with the master in SoftHSM: init, clients with a file and with a token, messages, every PIN source."""
import json
import os
import signal

import chv
import softhsm


def test_a_master_in_a_token_serves_both_kinds_of_clients():
    with softhsm.TokenSite("gate.example") as site:
        site.init()
        site.start()
        cam1, cam2 = site.add_client("cam1"), site.add_token_client("cam2")
        site.send(cam1, "from a file")
        site.send(cam2, "from a token")
        site.stop()


def backend_token(site):
    """The URI of a token for sessions' cryptography, with nothing in it."""
    pin = site.path("crypto.pin")
    site.keyadmin("token", "init", "pkcs11:token=crypto", "--pin-file", pin, "--so-pin-file", site.path("crypto.so-pin"))
    return site.tokens.uri("crypto", pin)


def test_keystores_and_backends_in_every_pairing():
    """Master in a token or a file; each end's cryptography in the process or in a token; both suites of SoftHSM."""
    with softhsm.TokenSite() as site:
        crypto = backend_token(site)
        site.init()
        in_token = site.config
        site.store = site.path("file-server")
        site.config = os.path.join(site.store, "chaveirod.conf")
        chv.Site.init(site)
        in_file, passphrase = site.config, ["--passphrase-file", site.passphrase_file]
        for config, secret in ((in_token, []), (in_file, passphrase)):
            site.config = config
            name = "token" if config == in_token else "file"
            clients = [site.add_client(f"{name}-a", extra=secret), site.add_token_client(f"{name}-b", extra=secret)]
            for backend in ("openssl", crypto):
                site.start("--backend", backend, *secret)
                for client in clients:
                    site.send(client, "openssl")
                    site.send(client, "pkcs11", "--backend", crypto)
                    site.send(client, "p256", "--backend", crypto, "--suite", "p256-aesgcm-sha256")
                done = site.send(clients[0], "x", "--backend", crypto, "--suite", "x25519-chachapoly-sha256", code=None)
                chv.check(done.code != 0, "a suite that the token lacks")
                chv.check_in("CKM_CHACHA20_POLY1305", done.stderr, "its mechanism is named")
                site.stop()


def test_a_net_process_that_leaks_makes_way():
    """What a module leaks for each session object is bounded: a fresh process takes over, and nobody is refused."""
    with softhsm.TokenSite() as site:
        crypto = backend_token(site)
        site.init()
        site.configure(workers="1")
        server = site.start("--backend", crypto + "&chaveiro-objects=600")
        key = site.add_client("cam1")
        first = chv.process_named(server.pid, "chv-net")
        sent = 0
        while b"the net process made way for a fresh one" not in server.stderr and sent < 200:
            site.send(key, str(sent))
            sent += 1
        server.wait_for("the net process made way for a fresh one")
        server.wait_for("a fresh process takes over")
        site.send(key, "after")
        chv.check(chv.process_named(server.pid, "chv-net") != first, "the same process")
        site.stop()


def test_a_server_refuses_a_suite_that_its_token_lacks():
    with softhsm.TokenSite() as site:
        crypto = backend_token(site)
        site.init()
        site.configure(backend=crypto, suites="x25519-aesgcm-sha256, x25519-chachapoly-sha256")
        done = chv.run("chaveirod", "-c", site.config, env=site.env, code=None)
        chv.check(done.code not in (0, None), "it must not start")
        chv.check_in("CKM_CHACHA20_POLY1305", done.stderr, "the mechanism is named")
        site.configure(suites="x25519-aesgcm-sha256")
        site.start()
        site.send(site.add_client("cam1"), "ola")


def test_messages_of_every_size_through_two_tokens():
    with softhsm.TokenSite() as site:
        crypto = backend_token(site)
        site.init()
        site.start("--backend", crypto)
        key = site.add_client("cam1")
        for size in (0, 1, 65536, 300000):
            done = chv.run("chaveiro", "-k", key.path, "--passphrase-file", key.passphrase_file, "--server", site.address,
                           "--backend", crypto, "send", "-", stdin=b"x" * size, env=site.env)
            chv.check_equal(done.stdout, b"message received: '" + b"x" * size + b"'\n", f"{size} bytes")


def test_init_says_all_in_the_configuration():
    with softhsm.TokenSite("gate.example") as site:
        done = json.loads(site.init("--json").stdout)
        config = chv.read(site.config).decode()
        chv.check_in(f"\nkeystore = {site.uri}\n", config, "configuration")
        chv.check_in(f"\nkey-check = 1:{done['key_check']}\n", config, "configuration")
        chv.check_equal(done["keystore"], site.uri, "keystore")
        for name in ("chaveiro.pin", "chaveiro.so-pin"):
            path = os.path.join(site.store, name)
            chv.check_equal(os.stat(path).st_mode & 0o777, 0o600, f"mode of {name}")
            chv.check_equal(len(chv.read(path)), 33, f"length of {name}")
            chv.check_not_in(chv.read(path).strip().decode(), json.dumps(done), "what init prints")
        chv.check_equal(sorted(os.listdir(site.store)), ["chaveiro.pin", "chaveiro.so-pin", "chaveirod.conf", "registry.db", "server.pub", "state"], "files")
        shown = json.loads(site.keyadmin("check", site.uri, "--json").stdout)
        chv.check_equal((shown["kind"], shown["server"]), ("server", "gate.example"), "check")
        masters = [k for k in shown["keys"] if k["use"] == "secret"]
        chv.check_equal(masters, [{"label": "master:1", "use": "secret", "key_check": done["key_check"]}], "keys")


def test_a_client_token_shows_what_it_is():
    with softhsm.TokenSite() as site:
        site.init()
        uri = site.add_token_client("cam1", ["--scope", "message", "--serial", "7"])
        shown = json.loads(site.keyadmin("client", "show", uri, "--json").stdout)
        chv.check_equal((shown["client"], shown["serial"], shown["server"], shown["token"]),
                        ("cam1", 7, "test-server", uri), "client show")
        # the key that was put into the token is the one that the server derives
        explained = json.loads(site.keyadmin("derive", "--explain", "cam1", "--serial", "7", "--config", site.config,
                                             "--json").stdout)
        chv.check_equal(shown["key_check"], explained["key_check"], "key check value")


def test_pin_sources_of_a_server():
    """By file, by descriptor, by credential; each one again after the keeper was killed, where it can be read again."""
    with softhsm.TokenSite() as site:
        site.init()
        cam1 = site.add_client("cam1")
        config = chv.read(site.config).decode()
        bare = config.replace(f"&pin-source=file:{site.pin_file}", "")
        chv.check(bare != config, "the PIN file is in the configuration")
        chv.write(site.config, bare)
        credentials = site.path("credentials")
        os.mkdir(credentials, 0o700)
        chv.write(os.path.join(credentials, "chaveiro.pin"), chv.read(site.pin_file), 0o400)
        for what, extra, env in (("file", ["--pin-file", site.pin_file], None),
                                 ("credential", [], {"CREDENTIALS_DIRECTORY": credentials})):
            site.start(*extra, env=env)
            site.send(cam1, what)
            os.kill(site.keeper(), signal.SIGKILL)
            site.server.wait_for("the keeper process serves again")
            site.send_until_served(cam1, f"{what} again")
            site.stop()
        with open(site.pin_file, "rb") as f:  # a file behind a descriptor can be read again
            site.start("--pin-fd", str(f.fileno()), pin={"pass_fds": [f.fileno()]})
            site.send(cam1, "descriptor")
            os.kill(site.keeper(), signal.SIGKILL)
            site.server.wait_for("the keeper process serves again")
            site.send_until_served(cam1, "descriptor again")
            site.stop()


def test_a_pin_from_a_pipe_is_gone_with_the_keeper_unless_held():
    with softhsm.TokenSite() as site:
        site.init()
        cam1 = site.add_client("cam1")
        chv.write(site.config, chv.read(site.config).decode().replace(f"&pin-source=file:{site.pin_file}", ""))
        for hold in ("no", "yes"):
            site.configure(pin_hold=hold)
            reader, writer = os.pipe()
            os.write(writer, chv.read(site.pin_file))
            os.close(writer)
            site.start("--pin-fd", str(reader), pin={"pass_fds": [reader]})
            os.close(reader)
            site.send(cam1, "one")
            os.kill(site.keeper(), signal.SIGKILL)
            if hold == "yes":
                site.server.wait_for("the keeper process serves again")
                site.send_until_served(cam1, "two")
            else:
                site.server.wait_for(r"PIN, which came by a descriptor once and is not kept \(pin-hold = no\)")
                site.send(cam1, "two", "--retries", "0", code=69)
            site.stop()


def test_no_pin_in_process_lists():
    """Neither PIN nor key stands in what other users can read of the processes."""
    with softhsm.TokenSite() as site:
        site.init()
        site.start()
        pin = chv.read(site.pin_file).strip()
        for pid in [site.server.pid, *chv.processes_under(site.server.pid)]:
            chv.check_not_in(pin, chv.read(f"/proc/{pid}/cmdline"), "a command line")
        chv.check_not_in(pin, site.log().encode(), "the log")


if __name__ == "__main__":
    chv.main()
