# SPDX-License-Identifier: Apache-2.0
"""Tokens and modules that are lost and found while a server runs: named in the log, 503, and service without a restart."""
import contextlib
import ctypes
import os
import shutil
import signal
import types

import chv
import faulty
import softhsm


def away(site, key):
    """A client is told 503, and the server lives."""
    done = site.send_until_refused(key)
    chv.check_in("503", done.stderr, "what the client is told")
    chv.check(site.server.running(), "the server ended")


def serving(site):
    site.start()
    key = site.add_client("cam1")
    site.send(key, "before")
    return key


def test_folder_deleted_and_restored():
    """Not moved: the files are gone, and others of the same contents come, as from a backup."""
    with softhsm.TokenSite() as site:
        site.init()
        key = serving(site)
        copy = site.path("backup")
        shutil.copytree(site.tokens.folder, copy)
        shutil.rmtree(site.tokens.folder)
        away(site, key)
        site.server.wait_for(r"keeper\[\d+\]: .*token \"chaveiro\".*CKR_")
        shutil.copytree(copy, site.tokens.folder)
        site.send_until_served(key, "after")
        site.server.wait_for("the keystore answers again")


def test_one_token_deleted_and_restored():
    """The folder stays, with another token in it."""
    with softhsm.TokenSite() as site:
        site.init()
        site.add_token_client("other")
        key = serving(site)
        uri_before = site.uri
        mine = chaveiro_folder(site)
        shutil.move(mine, site.path("kept"))
        away(site, key)
        site.server.wait_for(r"error keeper\[\d+\]: .*chaveiro")
        shutil.move(site.path("kept"), mine)
        site.send_until_served(key, "after")
        site.keyadmin("check", uri_before)


def chaveiro_folder(site):
    """SoftHSM's folder of the token that has the label."""
    for name in site.tokens.labels():
        if b"chaveiro" in chv.read(os.path.join(site.tokens.folder, name, "token.object")):
            return os.path.join(site.tokens.folder, name)
    raise chv.Failure("no token of the label")


@contextlib.contextmanager
def own_module():
    """A site whose module is a file of its own, that can be lost."""
    with softhsm.TokenSite() as site:
        site.module = shutil.copy(site.tokens.module, site.path("module.so"))
        site.tokens.module = site.module
        site.init(uri=f"pkcs11:token=chaveiro?module-path={site.module}")
        yield site


def kill_keeper(site):
    os.kill(site.keeper(), signal.SIGKILL)


def test_module_lost_and_back():
    """The keeper that has it loaded goes on; one that is started meanwhile says what is missing."""
    with own_module() as site:
        key = serving(site)
        os.rename(site.module, site.path("away.so"))
        site.send(key, "it is loaded")
        kill_keeper(site)
        site.server.wait_for(rf"error keeper\[\d+\]: .*PKCS #11 module {site.module}: is not there: install it")
        away(site, key)
        os.rename(site.path("away.so"), site.module)
        site.server.wait_for("the keeper process serves again")
        site.send_until_served(key, "after")


def test_module_replaced_by_what_is_none():
    """A text, then a library that is no module, then the right one."""
    with own_module() as site:
        key = serving(site)
        os.rename(site.module, site.path("away.so"))
        chv.write(site.module, "no library\n")
        kill_keeper(site)
        site.server.wait_for(rf"PKCS #11 module {site.module}: cannot be loaded: ")
        os.unlink(site.module)
        shutil.copy(libc(), site.module)
        site.server.wait_for(rf"PKCS #11 module {site.module}: is a library, but no PKCS #11 module")
        away(site, key)
        os.rename(site.path("away.so"), site.module)
        site.server.wait_for("the keeper process serves again")
        site.send_until_served(key, "after")


def libc():
    with open("/proc/self/maps", encoding="ascii") as f:
        return next(line.split()[-1] for line in f if "/libm.so" in line or "/libz.so" in line or "/libc.so" in line)


def test_a_library_that_is_no_module_at_the_start():
    with own_module() as site:
        os.unlink(site.module)
        shutil.copy(libc(), site.module)
        done = chv.run("chaveirod", "-c", site.config, env=site.env, code=78)
        chv.check_in(f"{site.module}: is a library, but no PKCS #11 module", done.stderr, "what is wrong")
        for arguments in (["check", site.uri], ["token", "list", "--module", site.module]):
            chv.check_in("is a library, but no PKCS #11 module", site.keyadmin(*arguments, code=78).stderr, "keyadmin")


def twin(site):
    """Another token of the label, by another process; SoftHSM's name for its folder."""
    before = set(site.tokens.labels())

    def make():
        real = getattr(site.tokens, "real", site.tokens.module)  # a module with a sanitizer is none for this interpreter
        cryptoki = softhsm.Cryptoki(types.SimpleNamespace(env=site.tokens.env, module=real))
        count = ctypes.c_ulong()
        cryptoki.fn["C_GetSlotList"](ctypes.c_ubyte(1), None, ctypes.byref(count))
        slots = (ctypes.c_ulong * count.value)()
        cryptoki.fn["C_GetSlotList"](ctypes.c_ubyte(1), slots, ctypes.byref(count))
        rv = cryptoki.fn["C_InitToken"](ctypes.c_ulong(slots[count.value - 1]), b"0000", ctypes.c_ulong(4),
                                        b"chaveiro".ljust(32))
        assert rv == 0, hex(rv)

    softhsm.in_child(make)
    made = set(site.tokens.labels()) - before
    chv.check_equal(len(made), 1, "new tokens")
    return os.path.join(site.tokens.folder, made.pop())


def test_a_twin_appears():
    """Nothing changes for the keeper that has its token; the next one cannot choose, and can once the twin is gone."""
    with softhsm.TokenSite() as site:
        site.init()
        key = serving(site)
        other = twin(site)
        site.send(key, "its token is known")
        kill_keeper(site)
        site.server.wait_for(r"error keeper\[\d+\]: .*2 tokens match .*add ;serial= and one of ")
        away(site, key)
        shutil.rmtree(other)
        site.server.wait_for("the keeper process serves again")
        site.send_until_served(key, "after")


def test_a_twin_appears_and_the_module_is_restarted():
    """The same within one keeper, which had to look for its token again."""
    with faulty.FaultySite() as site:
        site.init()
        key = serving(site)
        keeper = site.keeper()
        other = twin(site)
        site.tokens.fail("C_SignInit", "CKR_DEVICE_ERROR", times=2)  # the session, then the next: the module is restarted
        away(site, key)
        site.server.wait_for(r"error keeper\[\d+\]: .*2 tokens match .*add ;serial= and one of ")
        shutil.rmtree(other)
        site.send_until_served(key, "after")
        chv.check_equal(site.keeper(), keeper, "the keeper")


if __name__ == "__main__":
    chv.main()
