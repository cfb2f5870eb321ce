# SPDX-License-Identifier: Apache-2.0
"""What is not as it could be is said: epochs of a token without a key check value, a session copy that cannot be made."""
import json
import re

import chv
import softhsm

MISSING = r"epoch 1 is served from a token and has no key-check.*add 'key-check = 1:VALUE'"


def without_check(site):
    config = chv.read(site.config).decode()
    chv.write(site.config, re.sub(r"(?m)^key-check = ", "#key-check = ", config))


def checked(site):
    return chv.run("chaveirod", "-t", "-c", site.config, env=site.env).stderr.decode()


def test_missing_key_check():
    with softhsm.TokenSite() as site:
        site.init()
        chv.check_equal(checked(site), "", "-t with a key-check")
        without_check(site)
        lines = checked(site).splitlines()
        chv.check_equal(len(lines), 1, f"lines of {lines}")
        chv.check(re.match(f"chaveirod: warning: {MISSING}", lines[0]), lines[0])
        site.start()
        site.server.wait_for(rf"warning keeper\[\d+\]: {MISSING}")


def test_a_file_needs_none():
    with chv.Site("test-server") as site:
        site.init()
        done = chv.run("chaveirod", "-t", "-c", site.config)
        chv.check_equal(done.stderr, b"", "-t")


def test_init_offers_session_copies():
    with softhsm.TokenSite() as site:
        done = json.loads(site.init("--json").stdout)
        chv.check_equal(done["session_copy"], "yes", "session copy")
        chv.check_in("&chaveiro-session-copy=yes\n", chv.read(site.config), "configuration")
        site.start()
        key = site.add_client("cam1")
        site.send(key, "ola")
        chv.check_not_in("session copy", site.log(), "log")


def test_a_key_that_cannot_be_copied():
    with softhsm.TokenSite() as site:
        done = json.loads(site.init("--json", uri=f"pkcs11:token={site.label}?chaveiro-session-copy=no").stdout)
        chv.check("session_copy" not in done, f"the URI has said it: {done}")
        config = chv.read(site.config).decode()
        chv.check_in("chaveiro-session-copy=no", config, "configuration")
        chv.write(site.config, config.replace("chaveiro-session-copy=no", "chaveiro-session-copy=yes"))
        site.start()
        site.server.wait_for(r"warning keeper\[\d+\]: chaveiro-session-copy=yes: no session copy of key 'master:1', which "
                             r"serves itself and is slower: .*C_CopyObject: CKR_")
        site.send(site.add_client("cam1"), "ola")


if __name__ == "__main__":
    chv.main()
