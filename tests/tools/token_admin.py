# SPDX-License-Identifier: Apache-2.0
"""keyadmin and tokens: making, listing, checking; what is refused, what is left after a failure."""
import json
import os
import re

import chv
import faulty
import softhsm

CANTCREAT, CONFIG, NOINPUT, NOPERM, SOFTWARE, USAGE = 73, 78, 66, 77, 70, 64
# SoftHSM's
KNOWN_ANSWERS = {
    ("SHA-256", 'FIPS 180-4, "abc"'): "ok", ("SHA-256", "FIPS 180-4, two blocks"): "ok",
    **{("HMAC-SHA256", f"RFC 4231, test case {i}"): "ok" for i in (1, 2, 3, 4)},
    **{("HKDF-Expand by hmac", f"RFC 5869, A.{i}"): "ok" for i in (1, 2, 3)},
    ("HKDF-Expand by hkdf", "RFC 5869, A.1"): "absent", ("HKDF-Expand by sp800-108", "RFC 5869, A.1"): "absent",
    ("AES-256-GCM", "McGrew and Viega, GCM, test case 16"): "ok", ("ChaCha20-Poly1305", "RFC 8439, 2.8.2"): "absent",
    ("ECDH on P-256", "RFC 5903, 8.1"): "ok", ("X25519", "RFC 7748, 6.1"): "ok"}


def fails(site, code, text, *arguments, **options):
    """One line on standard error, nothing on standard output."""
    done = site.keyadmin(*arguments, code=code, **options)
    chv.check_equal(done.stdout, b"", f"{arguments}: standard output")
    chv.check_equal(done.stderr.count(b"\n"), 1, f"{arguments}: lines of {done.stderr}")
    chv.check_in(text, done.stderr, f"{arguments}: error")
    return done


def init(site, *extra, dir=None):
    return ["init", "--dir", dir or site.store, "--name", "gate", *extra]


def tree(folder):
    return sorted(os.path.relpath(os.path.join(top, name), folder)
                  for top, folders, files in os.walk(folder) for name in folders + files)


def test_init_never_overwrites():
    with softhsm.TokenSite() as site:
        site.init()
        before = {name: chv.read(os.path.join(site.store, name)) for name in tree(site.store) if name != "state"}
        tokens = tree(site.tokens.folder)
        fails(site, CANTCREAT, "chaveirod.conf is there already", *init(site, "--keystore", "pkcs11:token=chaveiro"))
        fails(site, CANTCREAT, "holds a keystore \"chaveiro\" already",
              *init(site, "--keystore", site.uri, dir=site.path("other")))
        chv.check(not os.path.exists(site.path("other")), "a failure left a folder")
        chv.check_equal({name: chv.read(os.path.join(site.store, name)) for name in tree(site.store) if name != "state"}, before, "files")
        chv.check_equal(tree(site.tokens.folder), tokens, "tokens")
        # beside it, under another name, it may
        site.keyadmin(*init(site, "--keystore", site.uri.replace("?", ";object=second?"), dir=site.path("other")))
        shown = json.loads(site.keyadmin("check", site.uri, "--json").stdout)
        chv.check_equal([key["label"] for key in shown["keys"]], ["identity", "master:1"], "keys of the first")


def test_init_refuses_and_leaves_nothing():
    with softhsm.TokenSite() as site:
        empty = chv.write(site.path("empty"), "")
        shared = chv.write(site.path("shared"), "1234567890\n", 0o644)
        os.chmod(shared, 0o644)
        uri = "pkcs11:token=chaveiro"
        here = f"?module-path={site.tokens.module}"  # by default all modules of the host are asked, and some are noisy
        cases = [(CONFIG, "pin-value", ["--keystore", uri + "?pin-value=1234"]),
                 (CONFIG, "nothing is run", ["--keystore", uri + "?pin-source=|cat"]),
                 (CONFIG, "names no token", ["--keystore", "pkcs11:object=x"]),
                 (CONFIG, "not known", ["--keystore", "pkcs11:token=x;colour=red"]),
                 (NOINPUT, "by its label alone", ["--keystore", "pkcs11:serial=00ff" + here]),
                 (NOINPUT, "empty", ["--keystore", uri + here, "--pin-file", empty]),
                 (CONFIG, "chmod 600", ["--keystore", uri + here, "--pin-file", shared]),
                 (CONFIG, "chmod 600", ["--keystore", uri + here, "--so-pin-file", shared]),
                 (USAGE, "not both", ["--keystore", uri, "--ask-pin", "--pin-file", site.path("new")]),
                 (USAGE, "of a new one is asked for", ["--keystore", uri + here, "--pin-fd", "0"]),
                 (USAGE, "already", ["--keystore", uri + "?module-path=/x.so", "--module", "/y.so"]),
                 (USAGE, "is for tokens", ["--module", "/y.so"]),
                 (USAGE, "is for tokens", ["--pin-file", empty]),
                 (NOINPUT, "/no/module.so", ["--keystore", uri, "--module", "/no/module.so"]),
                 (CONFIG, "cannot be loaded", ["--keystore", uri, "--module", empty]),
                 (USAGE, "listen = not an address", ["--keystore", uri + here, "--listen", "not an address"])]
        before = tree(site.folder)
        for code, text, extra in cases:
            fails(site, code, text, *init(site, *extra))
            chv.check_equal(tree(site.folder), before, f"{extra}: files")
        chv.check_equal(site.tokens.labels(), [], "tokens")


def test_pins_of_a_new_token():
    with softhsm.TokenSite() as site:
        pin, so_pin = chv.write(site.path("pin"), "chosen by me\n"), site.path("so")
        site.init("--pin-file", pin, "--so-pin-file", so_pin)
        chv.check_equal(chv.read(pin), b"chosen by me\n", "a PIN file that was there")
        chv.check_equal(len(chv.read(so_pin)), 33, "a PIN file that was made")
        chv.check_equal(sorted(os.listdir(site.store)), ["chaveirod.conf", "registry.db", "server.pub", "state"], "files beside the configuration")
        chv.check_in(f"pin-source=file:{pin}&chaveiro-session-copy=yes\n", chv.read(site.config), "configuration")
        site.keyadmin("check", site.tokens.uri("chaveiro", pin))


def test_pin_source_names_where_a_new_pin_goes():
    with softhsm.TokenSite() as site:
        where = site.path("a pin")
        site.init(uri=f"pkcs11:token=chaveiro?pin-source=file:{site.folder}/a%20pin")
        chv.check_equal(os.stat(where).st_mode & 0o777, 0o600, "mode")
        chv.check_in("/a%20pin", chv.read(site.config), "configuration")


def test_init_in_a_token_that_is_there():
    with softhsm.TokenSite() as site:
        pin = site.path("hsm.pin")
        made = json.loads(site.keyadmin("token", "init", "pkcs11:token=hsm", "--pin-file", pin, "--so-pin-file",
                                        site.path("so"), "--json").stdout)
        chv.check_equal(made, {"token": site.tokens.uri("hsm", pin), "token_made": True, "pin_file": pin,
                               "so_pin_file": site.path("so")}, "token init")
        fails(site, CANTCREAT, "is there already", "token", "init", "pkcs11:token=hsm", "--pin-file", pin)
        site.label = "hsm"
        chv.check_in("CKR_PIN_INCORRECT", site.keyadmin(
            *init(site, "--keystore", "pkcs11:token=hsm", "--pin-file", chv.write(site.path("wrong"), "nonsense\n")),
            code=NOPERM).stderr, "wrong PIN")
        chv.check(not os.path.exists(site.store), "a failure leaves no folder")
        site.init("--pin-file", pin)
        chv.check_equal(sorted(os.listdir(site.store)), ["chaveirod.conf", "registry.db", "server.pub", "state"], "files")
        with open(pin, "rb") as f:
            site.keyadmin("check", "pkcs11:token=hsm", "--module", site.tokens.module, "--pin-fd", str(f.fileno()),
                          pass_fds=[f.fileno()])
        site.keyadmin("check", "pkcs11:token=hsm", "--module", site.tokens.module, "--pin-fd", "0",
                      stdin=chv.read(pin) + b"more\n")
        fails(site, USAGE, "no open descriptor", "check", "pkcs11:token=hsm", "--pin-fd", "77")
        fails(site, USAGE, "give one of", "check", "pkcs11:token=hsm", "--pin-fd", "0", "--pin-file", pin)
        fails(site, USAGE, "has a pin-source", "check", site.tokens.uri("hsm", pin), "--pin-file", pin)


def test_client_add_refuses():
    with softhsm.TokenSite() as site:
        site.init()
        uri = site.add_token_client("cam1")
        add = ["client", "add", "cam2", "--config", site.config, "--address", "127.0.0.1:1"]
        before = tree(site.folder)
        fails(site, USAGE, "Give --out FILE, or --to URI", *add)
        fails(site, USAGE, "Give --out FILE, or --to URI", *add, "--out", site.path("x"), "--to", uri)
        fails(site, USAGE, "is no token", *add, "--to", site.path("x"))
        fails(site, USAGE, "is given by --to", *add, "--out", uri)
        fails(site, CANTCREAT, "already", *add, "--to", uri)
        fails(site, NOINPUT, "no token matches", *add, "--to", site.tokens.uri("cam2", site.path("cam1.pin")))
        chv.check_equal(tree(site.folder), before, "files")
        shown = json.loads(site.keyadmin("client", "show", uri, "--json").stdout)
        chv.check_equal(shown["client"], "cam1", "the client that was there")


def test_token_list():
    with softhsm.TokenSite() as site:
        site.init()
        listed = json.loads(site.keyadmin("token", "list", "--module", site.tokens.module, "--json").stdout)
        chv.check_equal([(t["label"], t["initialised"]) for t in listed], [("chaveiro", True), ("", False)], "tokens")
        chv.check_equal(listed[0]["manufacturer"], "SoftHSM project", "manufacturer")
        chv.check_equal(listed[1]["flags"], ["free: not initialised"], "flags")
        table = site.keyadmin("token", "list", "--module", site.tokens.module).stdout.decode()
        chv.check(re.search(r"^chaveiro +SoftHSM project +SoftHSM v2 +\w{16} PIN set, login required", table, re.M),
                  f"table: {table}")


def test_token_check():
    with softhsm.TokenSite() as site:
        site.init()
        objects = tree(site.tokens.folder)
        report = json.loads(site.keyadmin("token", "check", site.uri, "--json").stdout)
        chv.check_equal(report["sessions"], "no limit", "what C_GetTokenInfo says of SoftHSM's sessions")
        results = {(known["what"], known["source"]): known["result"] for known in report["known_answers"]}
        chv.check_equal(results, KNOWN_ANSWERS, "known answers")
        chv.check_equal([known["reason"] for known in report["known_answers"] if known["what"] == "ChaCha20-Poly1305"],
                        ["CKM_CHACHA20_POLY1305 is not in its list"], "why one is not there")
        backend = report["backend"]
        chv.check_equal((backend["opens"], backend["suites"]), (True, ["x25519-aesgcm-sha256", "p256-aesgcm-sha256"]), "backend")
        chv.check_in("CKM_CHACHA20_POLY1305: CKR_MECHANISM_INVALID", backend["lacks"]["x25519-chachapoly-sha256"], "backend")
        chv.check_equal(report["derive_hmac"], "equal to OpenSSL", "random infos")
        chv.check_equal((report["derive_hkdf"], report["derive_sp800-108"]), ("no", "no"), "other ways")
        chv.check_equal(report["extraction"], "refused", "extraction")
        chv.check_equal(report["derive_key"], "master:1", "measured with")
        chv.check(report["hmac_per_second"] > 0 and report["derive_per_second"] > 0, "rates")
        chv.check_in("CKM_AES_GCM", report["has"], "mechanisms")
        chv.check_in("CKM_CHACHA20_POLY1305", report["lacks"], "mechanisms")
        chv.check(any("SoftHSM keeps its keys in files" in line for line in report["advice"]), "advice")
        chv.check_equal(tree(site.tokens.folder), objects, "objects in the token")
        text = site.keyadmin("token", "check", site.uri).stdout
        for line in ("\n- It can be a keystore", "\n  ok       HMAC-SHA256 (RFC 4231, test case 1)\n",
                     "\n  absent   ChaCha20-Poly1305 (RFC 8439, 2.8.2): CKM_CHACHA20_POLY1305 is not in its list\n",
                     "\n  ok       p256-aesgcm-sha256\n", "\n  refused  x25519-chachapoly-sha256: "):
            chv.check_in(line, text, "lines for people")


def test_token_check_tells_what_does_not_work():
    """What the list of mechanisms promises and the token does not keep; and a token that computes wrongly."""
    with faulty.FaultySite() as site:
        site.init()
        site.tokens.fail("C_EncryptInit", "CKR_FUNCTION_FAILED")
        text = site.keyadmin("token", "check", site.uri).stdout
        chv.check_in("\n  refused  AES-256-GCM (McGrew and Viega, GCM, test case 16): C_EncryptInit with CKM_AES_GCM: "
                     "CKR_FUNCTION_FAILED\n", text, "known answers")
        chv.check_in("\n- It cannot be a backend: ", text, "advice comes from what was tried")
        report = json.loads(site.keyadmin("token", "check", site.uri, "--json").stdout)
        chv.check_in("CKM_AES_GCM", report["has"], "its list has it")
        chv.check_equal((report["backend"]["opens"], report["backend"]["suites"]), (False, []), "backend")
        chv.check_in("CKR_FUNCTION_FAILED", report["backend"]["reason"], "backend")
        site.tokens.heal()
        site.tokens.fail("C_Digest", "short")
        text = site.keyadmin("token", "check", site.uri, code=SOFTWARE).stdout
        chv.check_in('\n  WRONG    SHA-256 (FIPS 180-4, "abc"): gives other bytes\n', text, "known answers")
        chv.check_in("\n- DO NOT USE IT: its SHA-256 is wrong", text, "advice")


def test_token_check_finds_a_leak():
    """NSS gives out keys that are not extractable."""
    module = next((f"/usr/lib/{p}" for p in ("x86_64-linux-gnu/libsoftokn3.so", "aarch64-linux-gnu/libsoftokn3.so",
                                             "libsoftokn3.so") if os.path.exists(f"/usr/lib/{p}")), None)
    if module is None:
        raise chv.Skip("libnss3 is not installed")
    with softhsm.TokenSite() as site:
        os.mkdir(site.path("nss"), 0o700)
        arguments = f"configdir='sql:{site.path('nss')}' certPrefix='' keyPrefix='' secmod='secmod.db' flags="
        quoted = "".join(c if c.isalnum() or c in "/." else f"%{ord(c):02X}" for c in arguments)
        softhsm.in_child(lambda: softhsm.nss_pin(module, arguments.encode(), b"correct horse"))
        uri = f"pkcs11:token=NSS%20Certificate%20DB?module-path={module}&chaveiro-init={quoted}"
        report = json.loads(site.keyadmin("token", "check", uri, "--pin-fd", "0", "--json", stdin="correct horse\n").stdout)
        chv.check_equal((report["derive_hmac"], report["derive_hkdf"], report["derive_sp800-108"]),
                        ("equal to OpenSSL", "no", "no"), "known answers by a key that stays inside")
        chv.check_equal(report["extraction"], "CKM_EXTRACT_KEY_FROM_KEY", "what gives the key out")
        results = {known["what"]: (known["result"], known.get("reason")) for known in report["known_answers"]}
        for what in ("HMAC-SHA256", "HKDF-Expand by hmac", "AES-256-GCM", "ChaCha20-Poly1305", "ECDH on P-256",
                     "X25519"):
            chv.check_equal(results[what], ("ok", None), f"known answers of {what}")
        for rung in ("hkdf", "sp800-108"):
            chv.check_equal(results[f"HKDF-Expand by {rung}"][0], "refused", f"by {rung}, with a key that stays inside")
            chv.check_in("CKR_", results[f"HKDF-Expand by {rung}"][1], f"by {rung}")
        # its list has what a suite needs but a hash: that is another of NSS's tokens
        chv.check_equal(results["SHA-256"][0], "absent", "a hash")
        chv.check_equal(report["backend"]["opens"], False, "backend")
        chv.check_in("CKM_SHA256", report["backend"]["reason"], "why")
        chv.check(any("tests only" in line for line in report["advice"]), f"advice: {report['advice']}")


if __name__ == "__main__":
    chv.main()
