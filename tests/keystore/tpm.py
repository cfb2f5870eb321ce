# SPDX-License-Identifier: Apache-2.0
"""A master in a TPM 2.0 (tpm2-pkcs11 over swtpm): what derives, what a TPM cannot do.  scripts/check --long runs it."""
import json
import os
import signal
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

import chv
import swtpm

NOPERM = 77
CHECK_INFO = b"chaveiro v1 check\0"


def expand(key, info):
    """OpenSSL's HKDF-Expand."""
    return HKDFExpand(hashes.SHA256(), 32, info).derive(key)


def fails(site, text, *arguments, code=None, **options):
    done = site.keyadmin(*arguments, code=code, **options)
    chv.check(done.code > 0, f"{arguments}: must fail")
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("keyadmin: ")]
    chv.check_equal(len(lines), 1, f"{arguments}: lines of keyadmin's own in {done.stderr}")
    for part in text if isinstance(text, list) else [text]:
        chv.check_in(part, lines[0], f"{arguments}: error")


def test_a_known_master_derives_what_openssl_derives():
    with swtpm.TpmSite() as site:
        master = bytes(range(100, 132))
        site.import_key("chaveiro:master:1", master)
        fails(site, ["'master:1' is refused", "CKA_EXTRACTABLE is true"], "check", site.uri)
        site.deny_extraction()
        shown = json.loads(site.keyadmin("check", site.uri, "--json").stdout)
        chv.check_equal(shown["keys"], [{"label": "master:1", "use": "secret",
                                         "key_check": expand(master, CHECK_INFO)[:16].hex()}], "keys")
        site.write_config()
        told = json.loads(site.keyadmin("derive", "--explain", "cam1", "--config", site.config, "--json").stdout)
        access = expand(master, bytes.fromhex(told["info"]))
        chv.check_equal(told["key_check"], expand(access, CHECK_INFO)[:4].hex(), "key check value of an access key")


def test_a_server_with_a_master_that_the_tpm_made():
    with swtpm.TpmSite() as site:
        site.make_key("chaveiro:master:1")
        site.write_config()
        cam1 = site.add_client("cam1")
        site.start()
        done = site.client(cam1, "send", "ola")
        chv.check_equal(done.stdout, b"message received: 'ola'\n", "what the server answered")
        os.kill(chv.process_named(site.server.pid, "chv-keeper"), signal.SIGKILL)
        site.server.wait_for("the keeper process serves again")
        done = site.client(cam1, "send", "again")
        chv.check_equal(done.stdout, b"message received: 'again'\n", "what the next keeper's server answered")
        report = json.loads(site.keyadmin("token", "check", site.uri, "--json").stdout)
        chv.check_equal(report["derive_key"], "master:1", "measured with")
        chv.check(report["derive_per_second"] > 0, "rate")


def test_what_a_tpm_lacks_is_named():
    with swtpm.TpmSite() as site:
        fails(site, ["CKR_FUNCTION_NOT_SUPPORTED", "C_GenerateKey"], "init", "--dir", site.path("new"), "--name", "gate",
              "--keystore", site.uri)
        chv.check(not os.path.exists(site.path("new")), "a failure leaves no folder")
        site.make_key("chaveiro:master:1")
        site.write_config()
        # an access key comes from outside
        fails(site, "C_CreateObject", "client", "add", "cam1", "--config", site.config, "--to",
              site.uri.replace("?", ";object=cam1?"), "--address", "127.0.0.1:1")
        shown = json.loads(site.keyadmin("check", site.uri.replace("?", ";object=cam1?"), "--json").stdout)
        chv.check_equal(shown["keys"], [], "what a failure left")
        for rung, mechanism in (("hkdf", "CKM_HKDF_DERIVE"), ("sp800-108", "CKM_SP800_108_COUNTER_KDF")):
            fails(site, mechanism, "check", f"{site.uri}&chaveiro-derive={rung}")
        report = json.loads(site.keyadmin("token", "check", site.uri, "--json").stdout)
        for mechanism in ("CKM_GENERIC_SECRET_KEY_GEN", "CKM_AES_GCM", "CKM_CHACHA20_POLY1305", "CKM_ECDH1_DERIVE"):
            chv.check_in(mechanism, report["lacks"], "token check")
        chv.check_equal(report["curves"], [], "curves")
        chv.check_equal(report["backend"]["opens"], False, "as a backend")
        chv.check_equal({known["result"] for known in report["known_answers"] if known["what"] == "HMAC-SHA256"}, {"refused"},
                        "HMAC by keys from outside")
        advice = "\n".join(report["advice"])
        for part in ("A master that its own tools make can serve", "It cannot be a backend"):
            chv.check_in(part, advice, "advice")
        done = chv.run("chaveirod", "-c", site.config, "--backend", site.uri, code=None, env=site.env)
        chv.check(done.code > 0, "a TPM is no backend")
        chv.check_in("C_CreateObject: CKR_ATTRIBUTE_VALUE_INVALID (0x13): the token does not take such an object",
                     done.stderr, "why")


def test_session_copy_falls_back_to_the_key():
    """A TPM makes no session objects: the key itself serves."""
    with swtpm.TpmSite() as site:
        site.make_key("chaveiro:master:1")
        plain = json.loads(site.keyadmin("check", site.uri, "--json").stdout)["keys"]
        copied = json.loads(site.keyadmin("check", f"{site.uri}&chaveiro-session-copy=yes", "--json").stdout)["keys"]
        chv.check_equal(copied, plain, "check values")


def test_a_wrong_pin_is_tried_once():
    with swtpm.TpmSite() as site:
        site.make_key("chaveiro:master:1")
        bare = f"pkcs11:token=tpm?module-path={site.module}"
        fails(site, "CKR_PIN_INCORRECT", "check", bare, "--pin-fd", "0", stdin="wrong\n", code=NOPERM)
        chv.check_equal(len(json.loads(site.keyadmin("check", site.uri, "--json").stdout)["keys"]), 1, "the right one")


if __name__ == "__main__":
    if os.environ.get("CHV_TEST_LONG") != "1":
        print("skipped: scripts/check --long runs it (CHV_TEST_LONG=1)")
        sys.exit(chv.SKIPPED)
    chv.main()
