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
        chv.check_equal(sorted(os.listdir(site.store)), ["chaveiro.pin", "chaveiro.so-pin", "chaveirod.conf"], "files")
        shown = json.loads(site.keyadmin("check", site.uri, "--json").stdout)
        chv.check_equal((shown["kind"], shown["server"]), ("server", "gate.example"), "check")
        chv.check_equal(shown["keys"], [{"label": "master:1", "use": "secret", "key_check": done["key_check"]}], "keys")


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
