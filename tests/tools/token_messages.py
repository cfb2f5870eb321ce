# SPDX-License-Identifier: Apache-2.0
"""What a person reads who sets up tokens: which file, which variable, what to do next."""
import json
import os
import shutil
import signal
import subprocess
import time

import chv
import softhsm

CONFIG, NOINPUT, NOPERM, UNAVAILABLE, USAGE = 78, 66, 77, 69, 64


def test_the_configuration_of_softhsm_is_named():
    with softhsm.TokenSite() as site:
        missing = site.path("missing.conf")
        for command in (["token", "init", "pkcs11:token=cam1"], ["token", "list", "--module", site.tokens.module],
                        ["init", "--dir", site.store, "--keystore", "pkcs11:token=chaveiro"]):
            text = site.keyadmin(*command, env={"SOFTHSM2_CONF": missing}, code=UNAVAILABLE).stderr
            for part in ("C_Initialize: CKR_GENERAL_ERROR", f"SOFTHSM2_CONF={missing}", "directories.tokendir", "disk"):
                chv.check_in(part, text, f"{command}: error")
        chv.check(not os.path.exists(site.store), "a failure left a folder")
        text = site.keyadmin("check", site.tokens.uri("cam1"), "--pin-fd", "0", stdin="1\n", code=NOINPUT).stderr
        chv.check_in("there is none", text, "without any token")
        chv.check_in(f"SOFTHSM2_CONF={site.tokens.config}", text, "without any token")
        chv.check_in("'keyadmin token init' makes a token", text, "without any token")


def test_the_file_with_the_wrong_pin_is_named():
    with softhsm.TokenSite() as site:
        site.init()
        wrong = chv.write(site.path("wrong"), "nonsense\n")
        text = site.keyadmin("check", site.tokens.uri("chaveiro", wrong), code=NOPERM).stderr
        chv.check_in(f"CKR_PIN_INCORRECT (0xa0): the PIN in {wrong} is wrong", text, "error")


def test_a_token_that_was_initialised_anew_is_suspected():
    """It is empty, and has the old name and PIN."""
    with softhsm.TokenSite() as site:
        site.init()
        site.start()
        cam1 = site.add_token_client("cam1")
        site.stop()
        for token in site.tokens.labels():
            shutil.rmtree(os.path.join(site.tokens.folder, token))
        site.keyadmin("token", "init", site.tokens.uri("chaveiro", site.pin_file), "--so-pin-file", site.path("so"))
        site.keyadmin("token", "init", "pkcs11:token=cam1", "--pin-file", site.path("cam1.pin"), "--so-pin-file",
                      site.path("so"))
        text = chv.run("chaveirod", "-c", site.config, env=site.env, code=CONFIG).stderr
        chv.check_in("no master secret of epoch 1: by its key-check there was one", text, "chaveirod")
        text = site.keyadmin("client", "add", "cam2", "--config", site.config, "--to", cam1, code=NOINPUT).stderr
        chv.check_in("initialised anew", text, "keyadmin")
        text = chv.run("chaveiro", "-k", cam1, "send", "x", env=site.env, code=NOINPUT).stderr
        chv.check_in("or it was initialised anew", text, "chaveiro")


def test_a_list_without_tokens_says_so():
    """p11-kit leaves out modules that fail."""
    with softhsm.TokenSite() as site:
        missing = {"SOFTHSM2_CONF": site.path("missing.conf"), "HOME": site.folder}
        listed = json.loads(site.keyadmin("token", "list", "--json", env=missing).stdout)
        if listed:
            raise chv.Skip("this host has tokens")
        done = site.keyadmin("token", "list", env=missing)
        chv.check_equal(done.stdout, b"", "standard output")
        chv.check_in("no tokens, or fail: --module", done.stderr, "standard error")


def test_nss_without_its_arguments():
    module = next((f"/usr/lib/{p}" for p in ("x86_64-linux-gnu/libsoftokn3.so", "aarch64-linux-gnu/libsoftokn3.so",
                                             "libsoftokn3.so") if os.path.exists(f"/usr/lib/{p}")), None)
    if module is None:
        raise chv.Skip("libnss3 is not installed")
    with softhsm.TokenSite() as site: # for its environment: NSS keeps memory
        text = site.keyadmin("token", "list", "--module", module, code=CONFIG).stderr
    chv.check_in("CKR_ARGUMENTS_BAD", text, "error")
    chv.check_in("chaveiro-init=", text, "error")


def test_a_module_that_cannot_be_reached_is_not_called_missing():
    """As one in a folder that the server's user may not enter; root may enter any, but no ring of links."""
    with chv.Site() as site:
        ring = site.path("ring.so")
        os.symlink("ring.so", ring)
        text = chv.run("keyadmin", "token", "list", "--module", ring, code=CONFIG).stderr
        chv.check_in(f"{ring}: cannot be reached: Too many levels of symbolic links", text, "error")
        text = chv.run("keyadmin", "token", "list", "--module", site.path("none.so"), code=NOINPUT).stderr
        chv.check_in("is not there", text, "error")


def test_half_a_command():
    text = chv.run("keyadmin", "token", "--help", code=USAGE).stderr
    chv.check_in("'token' is not a whole command: there are token list, token init, token check", text, "error")
    chv.check_not_in("client", text, "error")
    text = chv.run("keyadmin", "token", "frob", code=USAGE).stderr
    chv.check_in("no command 'token frob': there are token list,", text, "error")
    text = chv.run("keyadmin", "frob", code=USAGE).stderr
    chv.check_in("restore", text, "all commands")


def interrupted(site, passphrase):
    """keyadmin init, which gets SIGINT when it has begun to make something; None: it was ready before."""
    with subprocess.Popen(chv.argv("keyadmin", "init", "--dir", site.store, "--name", "gate", "--passphrase-file", "-"),
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(passphrase)
        process.stdin.flush()
        until = time.monotonic() + chv.DEADLINE
        while not os.path.exists(site.store) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=chv.DEADLINE)
        if process.returncode == 0:
            return None
        chv.check_equal(process.returncode, -signal.SIGINT, "how it ended")
    return out, err


def test_interrupted_init_tells_what_it_made():
    """Signals are held until all is made, but for those that come while it waits for a passphrase."""
    with chv.Site() as site:
        out, err = interrupted(site, b"")
        chv.check_equal(out, b"", "standard output")
        chv.check_in("passphrase", err, "a failure's reason")
        chv.check(not os.path.exists(site.store), "a failure left a folder")
        done = None
        for _ in range(20):
            done = interrupted(site, b"a passphrase of some length\n")
            if done is not None:
                break
            chv.remove_folder(site.store)
        chv.check_in("key check:", done[0], f"what was made ({done[1]})")
        chv.check(os.path.exists(os.path.join(site.store, "chaveirod.conf")), "what was told is there")


if __name__ == "__main__":
    chv.main()
