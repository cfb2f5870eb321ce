# SPDX-License-Identifier: Apache-2.0
"""keyadmin identity: key pairs as PEM text, in keystores and in tokens; fingerprints, lines of the allow-list."""
import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess

import chv
import softhsm
import store

CURVES = {"x25519": (0, 32), "p256": (1, 65)}


def openssl(*arguments, stdin=None):
    if shutil.which("openssl") is None:
        raise chv.Skip("openssl(1) is not installed")
    done = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=False)
    chv.check_equal(done.returncode, 0, f"openssl {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def new(folder, name, *extra, code=0):
    path = os.path.join(folder, name)
    return path, chv.run("keyadmin", "identity", "new", "--out", path, "--json", *extra, code=code)


def public_bytes(path, curve):
    return openssl("pkey", "-pubin", "-in", path, "-outform", "DER")[-CURVES[curve][1]:]


def fingerprint(curve, public):
    digest = hashlib.sha256(b"chaveiro v1 identity\0" + bytes([CURVES[curve][0]]) + public).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def test_openssl_reads_both_halves_of_either_curve():
    folder = chv.folder()
    for curve in CURVES:
        path, done = new(folder, curve, "--curve", curve)
        told = json.loads(done.stdout)
        chv.check_equal(stat.S_IMODE(os.stat(path).st_mode), 0o600, "mode of the private key")
        chv.check_equal(stat.S_IMODE(os.stat(path + ".pub").st_mode), 0o644, "mode of the public key")
        chv.check_in(b"BEGIN PRIVATE KEY", chv.read(path), "PKCS #8")
        chv.check_in(b"BEGIN PUBLIC KEY", chv.read(path + ".pub"), "SubjectPublicKeyInfo")
        chv.check_equal(openssl("pkey", "-in", path, "-pubout"), chv.read(path + ".pub"), "openssl's public half")
        public = public_bytes(path + ".pub", curve)
        chv.check_equal(told["identity"], fingerprint(curve, public), "fingerprint")
        chv.check_equal(told["identity_key"], f"{curve} {base64.b64encode(public).decode()}", "key as text")
        for key in (path, path + ".pub", "pem:" + path):
            shown = chv.run("keyadmin", "identity", "fingerprint", key).stdout.decode()
            chv.check_equal(shown, fingerprint(curve, public) + "\n", f"fingerprint of {key}")


def test_a_key_that_openssl_made_is_taken():
    folder = chv.folder()
    for name, arguments in {"x25519": ["-algorithm", "X25519"],
                            "p256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]}.items():
        path = chv.write(os.path.join(folder, name), openssl("genpkey", *arguments))
        public = chv.write(path + ".pub", openssl("pkey", "-in", path, "-pubout"))
        told = chv.run("keyadmin", "identity", "fingerprint", path).stdout.decode().strip()
        chv.check_equal(told, fingerprint(name, public_bytes(public, name)), f"fingerprint of openssl's {name}")


def test_a_passphrase_encrypts_it():
    folder = chv.folder()
    secret = chv.write(os.path.join(folder, "pass"), "correct horse\n")
    wrong = chv.write(os.path.join(folder, "wrong"), "battery staple\n")
    path, _ = new(folder, "cam1", "--passphrase-file", secret)
    chv.check_in(b"BEGIN ENCRYPTED PRIVATE KEY", chv.read(path), "PKCS #8")
    chv.check_equal(openssl("pkey", "-in", path, "-passin", "file:" + secret, "-pubout"), chv.read(path + ".pub"),
                    "openssl's public half")
    chv.run("keyadmin", "identity", "fingerprint", path, "--passphrase-file", secret)
    done = chv.run("keyadmin", "identity", "fingerprint", path, "--passphrase-file", wrong, code=77)
    chv.check_in(b"wrong passphrase", done.stderr, "wrong passphrase")


def test_it_is_kept_between_runs():
    folder = chv.folder()
    path, _ = new(folder, "cam1")
    before = chv.read(path), chv.read(path + ".pub")
    done = chv.run("keyadmin", "identity", "new", "--out", path, code=73)
    chv.check_in(b"will not be overwritten", done.stderr, "a second time")
    chv.check_equal((chv.read(path), chv.read(path + ".pub")), before, "the key pair")
    os.unlink(path)
    done = chv.run("keyadmin", "identity", "new", "--out", path, code=73)
    chv.check_in(b"cam1.pub: is there already", done.stderr, "with the public half left")
    chv.check(not os.path.exists(path), "a private key without its public one was left")
    chv.check_equal(chv.read(path + ".pub"), before[1], "the public key")


def test_refusals():
    folder = chv.folder()
    path, _ = new(folder, "cam1")
    run = lambda *a, code: chv.run("keyadmin", "identity", *a, code=code).stderr.decode()  # noqa: E731
    chv.check_in("give one of --out", run("new", code=64).lower(), "no place")
    run("new", "--out", "x", "--server", code=64)
    chv.check_in("x25519 and p256", run("new", "--out", "x", "--curve", "p384", code=64), "curve")
    chv.check_in("--server", run("new", "--out", "x", "-c", "y", code=64), "a server's options")
    run("fingerprint", os.path.join(folder, "none"), code=66)
    os.chmod(path, 0o640)
    chv.check_in("others may read", run("fingerprint", path, code=78), "mode")
    os.chmod(path, 0o600)
    chv.check_in("whose key", run("show", "pkcs11:token=x", code=64), "no ID")
    chv.check_in("no client id", run("show", path, "a b", code=64), "bad ID")
    rsa = chv.write(os.path.join(folder, "rsa"), openssl("genpkey", "-algorithm", "ED25519"))
    chv.check_in("another kind", run("fingerprint", rsa, code=78), "Ed25519")
    text = chv.read(path).replace(b"M", b"N", 1)
    run("fingerprint", chv.write(os.path.join(folder, "bad"), text), code=65)
    run("fingerprint", chv.write(os.path.join(folder, "fat"), b"-----BEGIN " + b"x" * 70000), code=65)


def test_a_line_of_the_allow_list():
    folder = chv.folder()
    path, done = new(folder, "cam1")
    key = json.loads(done.stdout)["identity_key"]
    show = lambda *a: chv.run("keyadmin", "identity", "show", *a).stdout.decode()  # noqa: E731
    chv.check_equal(show(path + ".pub"), f"{key} cam1 message\n", "by the file's name")
    chv.check_equal(show(path, "door", "--scope", "files:rw", "--scope", "files:ro", "--expires", "2099-01-31"),
                    f"{key} door files:ro,files:rw expires=2099-01-31T23:59:59Z\n", "with everything")
    chv.check_equal(show("--pem", path), chv.read(path + ".pub").decode(), "--pem")
    chv.check_equal(json.loads(show(path, "--json"))["allowed_key"], f"{key} cam1 message", "--json")


def test_a_server_has_one():
    for curve in ("x25519", "p256"):
        with chv.Site() as site:
            told = json.loads(site.init("--json", "--curve", curve).stdout)
            public = os.path.join(site.store, "server.pub")
            chv.check_equal(told["identity"], fingerprint(curve, public_bytes(public, curve)), "what init tells")
            inside = site.keyadmin("identity", "fingerprint", os.path.join(site.store, "server.keys"),
                                   "--passphrase-file", site.passphrase_file).stdout.decode().strip()
            chv.check_equal(inside, told["identity"], "fingerprint of the keystore's")
            done = site.keyadmin("identity", "new", "--server", "-c", site.config, "--passphrase-file",
                                 site.passphrase_file, code=73)
            chv.check_in(b"there already", done.stderr, "a second one")


def test_a_server_without_one_gets_it():
    """One that was made by an earlier version: only its secrets are in it."""
    with chv.Site() as site:
        site.init()
        file, public = os.path.join(site.store, "server.keys"), os.path.join(site.store, "server.pub")
        store.Store(file, store.passphrase_of(site.passphrase_file)).write(file)
        secret = ["--passphrase-file", site.passphrase_file]
        done = site.keyadmin("identity", "fingerprint", file, *secret, code=66)
        chv.check_in(b"no identity key", done.stderr, "before")
        make = ["identity", "new", "--server", "-c", site.config, *secret]
        chv.check_in(b"will not be overwritten", site.keyadmin(*make, code=73).stderr, "a server.pub of before")
        chv.check_in(b"no identity key", site.keyadmin("identity", "fingerprint", file, *secret, code=66).stderr, "then")
        os.unlink(public)
        told = json.loads(site.keyadmin(*make, "--json").stdout)
        chv.check_equal(told["identity"], fingerprint("x25519", public_bytes(public, "x25519")), "server.pub")
        inside = site.keyadmin("identity", "fingerprint", file, *secret).stdout.decode().strip()
        chv.check_equal(inside, told["identity"], "fingerprint of the keystore's")


def test_in_a_token_it_stays():
    with softhsm.TokenSite() as site:
        told = json.loads(site.init("--json").stdout)
        public = os.path.join(site.store, "server.pub")
        chv.check_equal(told["identity"], fingerprint("x25519", public_bytes(public, "x25519")), "the server's")
        pin = site.path("cam1.pin")
        site.keyadmin("token", "init", "pkcs11:token=cam1", "--pin-file", pin, "--so-pin-file", site.path("so"))
        uri = site.tokens.uri("cam1", pin)
        made = json.loads(site.keyadmin("identity", "new", "--to", uri, "--curve", "p256", "--json").stdout)
        chv.check_in(b"there already", site.keyadmin("identity", "new", "--to", uri, code=73).stderr, "a second time")
        chv.check_equal(site.keyadmin("identity", "show", uri, "cam1").stdout.decode(),
                        made["identity_key"] + " cam1 message\n", "its line")
        pem = chv.write(site.path("pem"), site.keyadmin("identity", "show", "--pem", uri).stdout)
        chv.check_equal(made["identity"], fingerprint("p256", public_bytes(pem, "p256")), "--pem")
        site.keyadmin("identity", "new", "--to", site.path("x"), code=64)


if __name__ == "__main__":
    chv.main()
