# SPDX-License-Identifier: Apache-2.0
"""A PIN or passphrase that is wrong is tried once, however often the keeper is started, until its file changes or SIGHUP."""
import os
import signal
import types

import chv
import faulty
import softhsm

UNAVAILABLE = 69
WAITS = r"error supervisor\[\d+\]: the keeper process could not use its {noun} .*: no {noun} is tried, .* until {file}SIGHUP"


def serving(site):
    site.init()
    site.start()
    key = site.add_client("cam1")
    site.send(key, "before")
    return key


def change_pin(site, old, new):
    """As another process does it, behind the server's back, with the real module."""
    real = types.SimpleNamespace(module=site.tokens.real, env=site.tokens.env)
    softhsm.in_child(lambda: softhsm.Cryptoki(real).change_pin("chaveiro", old, new))


def kill_keeper(site):
    """Ends it; logins are counted from here."""
    site.tokens.forget_calls("C_Login")
    os.kill(chv.process_named(site.server.pid, "chv-keeper"), signal.SIGKILL)


def waits(site, count=1, noun="PIN", file=None):
    """The log says what is waited for, once each time."""
    where = f"{file} changes or " if file else ""
    site.server.wait_for(WAITS.format(noun=noun, file=where), count)
    chv.check_equal(site.server.stderr.count(b"could not use its"), count, "how often it is said")


def away(site, key):
    """With all its retries, which take a while, a client is told 503."""
    done = site.send(key, "x", code=UNAVAILABLE)
    chv.check_in("503", done.stderr, "what the client is told")


def test_tried_once_until_the_file_changes():
    with faulty.FaultySite() as site:
        key = serving(site)
        change_pin(site, chv.read(site.pin_file).strip(), b"another pin")
        kill_keeper(site)
        waits(site, file=site.pin_file)
        away(site, key)
        chv.check_equal(site.tokens.calls("C_Login"), 1, "tries of the wrong PIN")
        # another wrong one is another try, an empty file is none
        chv.write(site.pin_file, "a wrong pin\n")
        waits(site, 2, file=site.pin_file)
        chv.check_equal(site.tokens.calls("C_Login"), 2, "tries of two wrong PINs")
        chv.write(site.pin_file, "")
        waits(site, 3, file=site.pin_file)
        chv.check_equal(site.tokens.calls("C_Login"), 2, "tries without a PIN")
        # the right one, in a file of its own that takes the place
        os.rename(chv.write(site.path("new.pin"), "another pin\n"), site.pin_file)
        site.server.wait_for("the keeper process serves again")
        site.send_until_served(key, "after")
        chv.check_equal(site.server.stderr.count(b"CKR_PIN_INCORRECT"), 2, "wrong PINs in the log")


def test_tried_again_by_sighup():
    with faulty.FaultySite() as site:
        key = serving(site)
        pin = chv.read(site.pin_file).strip()
        change_pin(site, pin, b"another pin")
        kill_keeper(site)
        waits(site, file=site.pin_file)
        site.server.signal(signal.SIGHUP)
        waits(site, 2, file=site.pin_file)
        chv.check_equal(site.tokens.calls("C_Login"), 2, "one more try by SIGHUP")
        change_pin(site, b"another pin", pin)  # the file is right again, though unchanged
        away(site, key)
        site.server.signal(signal.SIGHUP)
        site.server.wait_for("the keeper process serves again")
        site.send_until_served(key, "after")


def test_refused_while_serving_and_then_killed():
    """What the keeper has tried, the next one does not try again; a file that has changed since is another PIN."""
    with faulty.FaultySite() as site:
        key = serving(site)
        for count in (1, 2):
            site.tokens.fail("C_SignInit", "CKR_SESSION_HANDLE_INVALID", times=1)
            site.tokens.fail("C_Login", "CKR_PIN_LOCKED")
            site.send(key, "x", "--retries", "0", code=UNAVAILABLE)
            chv.check_equal(site.tokens.calls("C_Login"), 1, "tries of the keeper")
            os.kill(site.keeper(), signal.SIGKILL)
            waits(site, count, file=site.pin_file)
            away(site, key)
            chv.check_equal(site.tokens.calls("C_Login"), 1, "tries in all")
            site.tokens.heal()
            if count == 1:
                site.server.signal(signal.SIGHUP)
            else:
                chv.write(site.pin_file, chv.read(site.pin_file))
            site.server.wait_for("the keeper process serves again", count)
            site.send_until_served(key, "after")


def test_a_pin_that_was_taken_again_is_forgotten():
    """Refused and then right within one keeper: when that one is killed the next is started at once."""
    with faulty.FaultySite() as site:
        key = serving(site)
        site.tokens.fail("C_SignInit", "CKR_SESSION_HANDLE_INVALID", times=1)
        site.tokens.fail("C_Login", "CKR_PIN_LOCKED", times=1)
        site.send(key, "x", "--retries", "0", code=UNAVAILABLE)
        chv.write(site.pin_file, chv.read(site.pin_file))
        site.send_until_served(key, "after")
        os.kill(site.keeper(), signal.SIGKILL)
        site.server.wait_for("the keeper process serves again")
        chv.check_not_in("could not use its", site.server.stderr, "log")


def test_a_held_pin():
    with faulty.FaultySite() as site:
        key = serving(site)
        site.stop()
        pin = chv.read(site.pin_file)
        site.configure(pin_hold="yes", keystore=site.tokens.uri("chaveiro"))
        reader, writer = os.pipe()
        os.write(writer, pin)
        os.close(writer)
        site.start("--pin-fd", str(reader), pin={"pass_fds": [reader]})
        os.close(reader)
        site.send(key, "held")
        change_pin(site, pin.strip(), b"another pin")
        kill_keeper(site)
        site.server.wait_for(r"error supervisor\[\d+\]: the keeper could not use the PIN that is held .* restart chaveirod")
        site.server.signal(signal.SIGHUP)
        site.server.wait_for("configuration loaded")
        away(site, key)
        chv.check_equal(site.tokens.calls("C_Login"), 1, "tries of the held PIN")


def test_a_pin_by_a_descriptor_of_a_file():
    with faulty.FaultySite() as site:
        key = serving(site)
        site.stop()
        pin = chv.read(site.pin_file).strip()
        site.configure(keystore=site.tokens.uri("chaveiro"))
        with open(site.pin_file, "rb") as f:
            site.start("--pin-fd", str(f.fileno()), pin={"pass_fds": [f.fileno()]})
            change_pin(site, pin, b"another pin")
            kill_keeper(site)
            waits(site, file=f"the file of descriptor {f.fileno()}")
        away(site, key)
        chv.check_equal(site.tokens.calls("C_Login"), 1, "tries of the wrong PIN")
        chv.write(site.pin_file, "another pin\n")  # the same file
        site.server.wait_for("the keeper process serves again")


def test_a_credential():
    with faulty.FaultySite() as site:
        key = serving(site)
        site.stop()
        pin = chv.read(site.pin_file).strip()
        os.mkdir(site.path("credentials"), 0o700)
        credential = chv.write(site.path("credentials/chaveiro.pin"), pin)
        site.configure(keystore=site.tokens.uri("chaveiro"))
        site.start(env={"CREDENTIALS_DIRECTORY": site.path("credentials")})
        change_pin(site, pin, b"another pin")
        kill_keeper(site)
        waits(site, file=credential)
        away(site, key)
        chv.check_equal(site.tokens.calls("C_Login"), 1, "tries of the wrong PIN")
        chv.write(credential, "another pin")
        site.server.wait_for("the keeper process serves again")


def kill(site):
    os.kill(chv.process_named(site.server.pid, "chv-keeper"), signal.SIGKILL)


def test_a_passphrase_file():
    with chv.Site() as site:
        site.init()
        site.start()
        key = site.add_client("cam1")
        right = chv.read(site.passphrase_file)
        chv.write(site.passphrase_file, "wrong\n")
        kill(site)
        waits(site, noun="passphrase", file=site.passphrase_file)
        site.server.signal(signal.SIGHUP)
        waits(site, 2, noun="passphrase", file=site.passphrase_file)
        chv.check_equal(site.client(key, "send", "x", code=None).code, UNAVAILABLE, "a client with all its retries")
        chv.check_equal(site.server.stderr.count(b"could not use its"), 2, "tries")
        os.unlink(site.passphrase_file)
        waits(site, 3, noun="passphrase", file=site.passphrase_file)
        chv.write(site.passphrase_file, right)
        site.server.wait_for("the keeper process serves again")
        site.client(key, "send", "after")


def test_a_keystore_file_that_is_mended():
    """Not the passphrase was at fault but the keystore's mode: its change is a reason to try as well."""
    with chv.Site() as site:
        site.init()
        site.start()
        store = os.path.join(site.store, "server.keys")
        chv.check(os.path.exists(store), f"the keystore is in {os.listdir(site.store)}")
        os.chmod(store, 0o644)
        kill(site)
        waits(site, noun="passphrase", file=site.passphrase_file)
        os.chmod(store, 0o600)
        site.server.wait_for("the keeper process serves again")


def test_the_backends_token():
    """The net process logs in as well where the backend's URI has a PIN file."""
    with faulty.FaultySite() as site:
        site.init()
        pin = chv.write(site.path("backend.pin"), chv.read(site.pin_file))
        site.start("--backend", site.tokens.uri("chaveiro", pin))
        key = site.add_client("cam1")
        site.send(key, "before")
        chv.write(pin, "wrong\n")
        site.tokens.forget_calls("C_Login")
        os.kill(chv.process_named(site.server.pid, "chv-net"), signal.SIGKILL)
        site.server.wait_for(rf"the net process could not use its PIN .* until {pin} changes or SIGHUP comes; no client is")
        site.server.signal(signal.SIGHUP)
        site.server.wait_for("the net process could not use its PIN", 2)
        chv.check_equal(site.tokens.calls("C_Login"), 2, "tries of the wrong PIN")
        chv.write(pin, chv.read(site.pin_file))
        site.server.wait_for("the net process serves again")
        site.send_until_served(key, "after")


if __name__ == "__main__":
    chv.main()
