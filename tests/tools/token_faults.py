# SPDX-License-Identifier: Apache-2.0
"""Tokens that fail while a server uses them: a clear line in the log, 503 for clients, and service when they are back."""
import ctypes
import json
import os
import re
import signal
import sqlite3
import time

import chv
import faulty
import softhsm


def away(site, key):
    """A client is told 503, and the server lives."""
    done = site.send_until_refused(key)
    chv.check_in("503", done.stderr, "what the client is told")
    chv.check(site.server.running(), "the server ended")


def serving(site):
    site.init()
    site.start()
    key = site.add_client("cam1")
    site.send(key, "before")
    return key


def test_folder_gone_and_back():
    with softhsm.TokenSite() as site:
        key = serving(site)
        site.tokens.hide()
        away(site, key)
        site.server.wait_for(r"keeper\[\d+\]: .*token \"chaveiro\".*(is gone|CKR_)")
        site.tokens.show()
        site.send_until_served(key, "after")
        site.server.wait_for("the keystore answers again")
        # the way there stands in the log
        site.server.wait_for(r"warning keeper\[\d+\]: token .*: another session and login are tried after CKR_\w+")
        site.server.wait_for(r"warning keeper\[\d+\]: token .*: the module was restarted after CKR_\w+")


def test_folder_unreadable_and_back():
    """As somebody who is not root: root may read every folder."""
    with softhsm.TokenSite() as site:
        site.init()
        if os.geteuid() == 0:
            give_to_nobody(site)
        site.start()
        key = site.add_client("cam1")
        site.send(key, "before")
        os.chmod(site.tokens.folder, 0)
        away(site, key)
        os.chmod(site.tokens.folder, 0o700)
        site.send_until_served(key, "after")


def give_to_nobody(site):
    """The server becomes another user, who has what the token's module needs."""
    nobody = site.serve_as("nobody")
    os.chmod(site.tokens.config, 0o644)
    os.chown(site.pin_file, nobody.pw_uid, nobody.pw_gid)
    for top, folders, files in os.walk(site.tokens.folder):
        for name in [".", *folders, *files]:
            os.chown(os.path.join(top, name), nobody.pw_uid, nobody.pw_gid)


def test_keeper_killed_while_the_token_is_gone():
    with softhsm.TokenSite() as site:
        key = serving(site)
        site.tokens.hide()
        os.kill(site.keeper(), signal.SIGKILL)
        site.server.wait_for("the keeper process ended: exit code")
        away(site, key)
        site.tokens.show()
        site.server.wait_for("the keeper process serves again")
        site.send_until_served(key, "after")


def seal_of(file):
    """(rows of the audit trail, how many of them are sealed)."""
    db = sqlite3.connect(file)
    try:
        return (db.execute("SELECT COUNT(*) FROM audit").fetchone()[0],
                (db.execute("SELECT n FROM seal").fetchone() or (0,))[0])
    finally:
        db.close()


def wait_until_sealed(file):
    end = time.monotonic() + chv.DEADLINE
    while len(set(seal_of(file))) != 1:
        chv.check(time.monotonic() < end, f"rows and sealed: {seal_of(file)}")
        time.sleep(0.1)


def test_the_seal_of_the_audit_trail_waits_for_the_token():
    with faulty.FaultySite() as site:
        site.init()
        file = site.path("clients.db")
        uri = f"sqlite:{file}"
        tool = os.path.join(chv.TOP_BUILDDIR, "tests", "registry", "registry_tool")
        chv.run(tool, uri, "create")
        chv.run(tool, uri, "put", "cam1")
        site.configure(registry=uri)
        site.start()
        wait_until_sealed(file)
        site.tokens.fail("C_Sign", "CKR_DEVICE_ERROR")
        chv.run(tool, uri, "put", "cam2")
        site.server.wait_for(r"error keeper\[\d+\]: .*CKR_DEVICE_ERROR")
        rows, sealed = seal_of(file)
        chv.check(sealed < rows, f"{sealed} of {rows} rows are sealed without the token")
        site.tokens.heal()
        wait_until_sealed(file)
        done = site.keyadmin("audit", "verify", "-c", site.config, "--json")
        found = json.loads(done.stdout)
        chv.check_equal((found["rows"], found["sealed"]), seal_of(file), "what keyadmin finds")


def test_token_initialised_again_is_noticed():
    """The same label, serial and PIN, an empty token: 503, and no new master is taken for the old one."""
    with softhsm.TokenSite() as site:
        key = serving(site)
        so_pin = chv.read(os.path.join(site.store, "chaveiro.so-pin")).strip()
        pin = chv.read(site.pin_file).strip()
        before = chv.read(site.config).decode()
        softhsm.in_child(lambda: softhsm.Cryptoki(site.tokens).initialise("chaveiro", so_pin, pin))
        away(site, key)
        site.server.wait_for("was there and is gone|another one than before")
        # somebody makes a master in it, by the rules
        done = site.keyadmin("init", "--dir", site.path("other"), "--name", site.name, "--keystore",
                             site.tokens.uri("chaveiro", site.pin_file), "--json")
        away(site, key)
        site.server.wait_for("key 'master:1' is another one than before")
        site.stop()
        refused = chv.run("chaveirod", "-c", site.config, env=site.env, code=None)
        chv.check(refused.code not in (0, None), "a server with another master must not start")
        old = re.search(r"key-check = 1:(\w+)", before).group(1)
        new = re.search(rb'"key_check":"(\w+)"', done.stdout).group(1).decode()
        chv.check_in(old, refused.stderr, "both values are named")
        chv.check_in(new, refused.stderr, "both values are named")
        add = site.keyadmin("client", "add", "cam9", "--config", site.config, "--out", site.path("cam9.key"), code=None)
        chv.check(add.code != 0 and new.encode() in add.stderr, f"keyadmin notices it too: {add.stderr}")
        chv.check(not os.path.exists(site.path("cam9.key")), "no client by a wrong master")


def test_pin_changed_while_serving():
    """The login that is there goes on; a new keeper tries the old PIN once, and serves when the file has the new one."""
    with softhsm.TokenSite() as site:
        key = serving(site)
        old = chv.read(site.pin_file).strip()
        softhsm.in_child(lambda: softhsm.Cryptoki(site.tokens).change_pin("chaveiro", old, b"another pin"))
        site.send(key, "login stays")
        os.kill(site.keeper(), signal.SIGKILL)
        site.server.wait_for("CKR_PIN_INCORRECT")
        away(site, key)
        chv.write(site.pin_file, "another pin\n")
        site.server.wait_for("the keeper process serves again")
        site.send_until_served(key, "after")


def test_wrong_pin_is_tried_once():
    with softhsm.TokenSite() as site:
        site.init()
        chv.write(site.pin_file, "wrong\n")
        done = chv.run("chaveirod", "-c", site.config, env=site.env, code=77)
        chv.check_equal(done.stderr.count(b"CKR_PIN_INCORRECT"), 1, f"tries in {done.stderr}")
        chv.check_in("chaveiro", done.stderr, "which token")
        # the same once more while it runs: SoftHSM says in its flags that somebody tried
        listed = site.keyadmin("token", "list", "--module", site.tokens.module, "--json").stdout
        chv.check_in('"label":"chaveiro"', listed, "token list")


def test_two_tokens_of_one_label():
    with softhsm.TokenSite() as site:
        site.init()
        softhsm.in_child(lambda: second_token(site))
        done = chv.run("chaveirod", "-c", site.config, env=site.env, code=78)
        chv.check_in("2 tokens match", done.stderr, "what is wrong")
        chv.check_in("serial", done.stderr, "what to do")


def second_token(site):
    """C_InitToken does not mind a label that is there."""
    cryptoki = softhsm.Cryptoki(site.tokens)
    count = ctypes.c_ulong()
    cryptoki.fn["C_GetSlotList"](ctypes.c_ubyte(1), None, ctypes.byref(count))
    slots = (ctypes.c_ulong * count.value)()
    cryptoki.fn["C_GetSlotList"](ctypes.c_ubyte(1), slots, ctypes.byref(count))
    rv = cryptoki.fn["C_InitToken"](ctypes.c_ulong(slots[count.value - 1]), b"0000", ctypes.c_ulong(4),
                                    b"chaveiro".ljust(32))
    assert rv == 0, hex(rv)


def test_module_missing_or_none():
    with softhsm.TokenSite() as site:
        site.init()
        config = chv.read(site.config).decode()
        nothing = site.path("nothing.so")
        chv.write(site.config, config.replace(site.tokens.module, nothing))
        done = chv.run("chaveirod", "-c", site.config, env=site.env, code=66)
        chv.check_in(nothing, done.stderr, "which module")
        text = chv.write(site.path("text.so"), "no library\n")
        chv.write(site.config, config.replace(site.tokens.module, text))
        done = chv.run("chaveirod", "-c", site.config, env=site.env, code=78)
        chv.check_in(text, done.stderr, "which module")


def test_client_token_gone():
    with softhsm.TokenSite() as site:
        site.init()
        site.start()
        uri = site.add_token_client("cam1")
        site.send(uri, "ola")
        pin = chv.read(site.path("cam1.pin"))
        chv.write(site.path("cam1.pin"), "wrong\n")
        done = site.send(uri, "ola", code=77)
        chv.check_in("CKR_PIN_INCORRECT", done.stderr, "wrong PIN")
        chv.write(site.path("cam1.pin"), pin)
        os.chmod(site.path("cam1.pin"), 0o640)
        chv.check_in("chmod 600", site.send(uri, "ola", code=78).stderr, "open PIN file")
        os.chmod(site.path("cam1.pin"), 0o600)
        site.send(uri, "ola")
        done = site.send(uri.replace("token=cam1?", "token=cam9?"), "ola", code=66)
        chv.check_in("cam9", done.stderr, "no such token")


if __name__ == "__main__":
    chv.main()
