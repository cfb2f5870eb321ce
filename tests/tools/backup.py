# SPDX-License-Identifier: Apache-2.0
"""keyadmin init --backup-to and restore: certificates of openssl(1), which opens and makes backups too; every refusal."""
import base64
import json
import os
import resource
import shutil
import signal
import subprocess
import time

import chv
import clock
import faulty
import softhsm
import store

USAGE, DATAERR, NOINPUT, CANTCREAT, IOERR, NOPERM, CONFIG = 64, 65, 66, 73, 74, 77, 78
KEYS = {"rsa": ["rsa:2048"], "rsa3072": ["rsa:3072"], "ec": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "p384": ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"], "weak": ["rsa:1024"], "ed25519": ["ed25519"]}
_made = {}


def openssl(*arguments, data=None, code=0):
    path = shutil.which("openssl")
    if path is None:
        raise chv.Skip("openssl is not installed")
    done = subprocess.run([path, *arguments], input=data, stdin=None if data is not None else subprocess.DEVNULL,
                          capture_output=True, check=False, timeout=chv.DEADLINE)
    if code is not None:
        chv.check_equal(done.returncode, code, f"openssl {' '.join(arguments)}: {done.stderr}")
    return done


class Recipient:
    """A certificate and its private key, PEM; made once for all tests."""

    def __init__(self, kind, *more):
        folder = chv.folder()
        self.key, self.certificate = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
        openssl("req", "-x509", "-newkey", *KEYS[kind], "-nodes", "-keyout", self.key, "-out", self.certificate, "-subj",
                "/CN=Recovery", "-days", "30", *more)

    def opens(self, backup):
        """The contents, as openssl(1) finds them."""
        return json.loads(openssl("cms", "-decrypt", "-inform", "PEM", "-in", backup, "-inkey", self.key).stdout)

    def seals(self, contents, out, *how):
        """A backup made by openssl(1) alone."""
        openssl("cms", "-encrypt", "-binary", *(how or ("-aes-256-gcm",)), "-outform", "PEM", "-out", out, self.certificate,
                data=json.dumps(contents).encode() if isinstance(contents, dict) else contents)
        return out


def recipient(kind):
    if kind not in _made:
        _made[kind] = Recipient(kind)
    return _made[kind]


class BackedUp(chv.Site):
    """A site in files whose master has a backup."""

    def __init__(self, name="gate", kind="ec"):
        super().__init__(name)
        self.recipient = recipient(kind)
        self.backup = self.path("backup.cms")
        self.keys = os.path.join(self.store, "server.keys")

    def init(self, *extra, listen="127.0.0.1:0", code=0):
        return super().init("--backup-to", self.recipient.certificate, "--backup-out", self.backup, *extra, listen=listen,
                            code=code)

    def master(self, label="master:1"):
        return store.Store(self.keys, store.passphrase_of(self.passphrase_file)).keys[label]

    def restore(self, *extra, backup=None, key=None, where=None, passphrase_file=None, code=0):
        return chv.run("keyadmin", "restore", "--from", backup or self.backup, "--key", key or self.recipient.key,
                       *(where or ["-c", self.config]), "--passphrase-file", passphrase_file or self.passphrase_file,
                       "--scrypt-cost", chv.SCRYPT_COST, *extra, code=code)

    def refuses(self, code, text, *extra, **how):
        """One line of error, and nothing in the folder has changed."""
        before = contents_of(self.folder)
        done = self.restore(*extra, code=code, **how)
        chv.check_equal(done.stdout, b"", "standard output")
        chv.check_equal(done.stderr.count(b"\n"), 1, f"lines of {done.stderr}")
        chv.check_in(text, done.stderr, "error")
        chv.check_equal(contents_of(self.folder), before, "files")
        return done


def contents_of(folder):
    return {os.path.join(top, name): chv.read(os.path.join(top, name))
            for top, _, names in os.walk(folder) for name in names}


def contents(master, server="gate", epoch=1, **more):
    """What a backup has in it, written from doc/keystore-format.md."""
    return {"format": "chaveiro master backup 1", "server": server, "epoch": epoch,
            "key_check": store.key_check(master, 16), "kty": "oct", "kid": f"master:{epoch}", "k": store.b64(master), **more}


# --- making -------------------------------------------------------------------------------------------------------------


def test_openssl_opens_it():
    for kind in ("rsa", "rsa3072", "ec", "p384"):
        with BackedUp(kind=kind) as site:
            done = site.init("--address", "gate.example:7040")
            chv.check_equal(os.stat(site.backup).st_mode & 0o777, 0o600, "mode")
            chv.check_equal(site.recipient.opens(site.backup), contents(site.master(), address="gate.example:7040"), kind)
            chv.check_in(store.key_check(site.master(), 16), done.stdout, "key check value")
            chv.check_in(f"key-check = 1:{store.key_check(site.master(), 16)}\n", chv.read(site.config), "configuration")
            shown = openssl("cms", "-cmsout", "-print", "-noout", "-inform", "PEM", "-in", site.backup).stdout
            chv.check_in("id-smime-ct-authEnvelopedData", shown, "kind of CMS")
            chv.check_in("aes-256-gcm", shown, "cipher")
            chv.check_in("rsaesOaep" if kind.startswith("rsa") else "dhSinglePass-stdDH-sha256kdf-scheme", shown, "key")


def test_the_documents_example():
    text = chv.read(os.path.join(chv.TOP_SRCDIR, "doc/keystore-format.md")).decode()
    example = next(line for line in text.splitlines() if line.startswith('{"format":"chaveiro master backup 1"'))
    chv.check_equal(json.loads(example), contents(bytes(range(32)), server="cellar"), "example of a backup")
    with BackedUp() as site:
        made = site.recipient.seals(example.encode(), site.path("example.cms"))
        site.restore(backup=made, where=["--keystore", site.path("cellar.keys")])
        site.keys = site.path("cellar.keys")
        chv.check_equal(site.master(), bytes(range(32)), "master")


def test_what_init_says():
    with BackedUp() as site:
        text = site.init().stdout
        chv.check_in("was once outside", text, "a warning")
        chv.check_in("backup certificate: CN = Recovery", text, "whose it is")
    with chv.Site("gate") as site:
        done = json.loads(site.init("--backup-to", recipient("ec").certificate, "--json").stdout)
        chv.check_equal(done["backup"], os.path.join(site.store, "master-1.cms"), "default place")
        fingerprint = openssl("x509", "-in", recipient("ec").certificate, "-noout", "-fingerprint", "-sha256").stdout
        chv.check_equal(done["backup_fingerprint"],
                        fingerprint.decode().strip().split("=")[1].replace(":", "").lower(), "fingerprint")


def test_a_certificate_may_be_der():
    with BackedUp() as site:
        der = site.path("cert.der")
        openssl("x509", "-in", site.recipient.certificate, "-outform", "DER", "-out", der)
        chv.Site.init(site, "--backup-to", der, "--backup-out", site.backup)
        chv.check_equal(site.recipient.opens(site.backup), contents(site.master()), "contents")


def test_certificates_that_are_refused():
    signing = Recipient("ec", "-addext", "keyUsage=digitalSignature")
    rsa_signing = Recipient("rsa", "-addext", "keyUsage=digitalSignature")
    for certificate, code, text in ((recipient("ed25519").certificate, USAGE, "ED25519; one of RSA or EC"),
                                    (recipient("weak").certificate, USAGE, "too weak"),
                                    (signing.certificate, USAGE, "does not allow key agreement"),
                                    (rsa_signing.certificate, USAGE, "does not allow key encipherment"),
                                    (recipient("ec").key, USAGE, "there is no certificate in it"),
                                    ("/nonexistent", NOINPUT, "No such file"), ("/dev/null", IOERR, "is not a file of")):
        with chv.Site() as site:
            done = site.init("--backup-to", certificate, code=code)
            chv.check_in(text, done.stderr, certificate)
            chv.check(not os.path.exists(site.store), f"{text}: something was made")
    with chv.Site() as site:
        later = clock.Clock(site.folder)
        later.shift(31 * 86400)
        done = chv.run("keyadmin", "init", "--dir", site.store, "--name", "g", "--backup-to", recipient("ec").certificate,
                       env=later.env, code=USAGE)
        chv.check_in("has expired", done.stderr, "after its time")
    agreement = Recipient("ec", "-addext", "keyUsage=keyAgreement")
    with chv.Site() as site:
        site.init("--backup-to", agreement.certificate)


def test_init_is_all_or_nothing():
    with BackedUp() as site:
        before = sorted(os.listdir(site.folder))
        empty = chv.write(site.path("empty"), "")
        done = chv.run("keyadmin", "init", "--dir", site.store, "--name", "g", "--passphrase-file", empty, "--backup-to",
                       site.recipient.certificate, "--backup-out", site.backup, code=NOINPUT)
        chv.check_in("empty", done.stderr, "error")
        os.unlink(empty)
        chv.check_equal(sorted(os.listdir(site.folder)), before, "files after a passphrase that is none")
        chv.write(site.backup, "mine")
        chv.check_in("is there already", site.init(code=CANTCREAT).stderr, "error")
        chv.check_equal(chv.read(site.backup), b"mine", "the file that was there")
        os.unlink(site.backup)
        chv.check_in("Give --backup-to", chv.Site.init(site, "--backup-out", site.backup, code=USAGE).stderr, "error")
        site.backup = site.path("no/where.cms")
        chv.check_in("No such file", site.init(code=IOERR).stderr, "error")
        chv.check_equal(sorted(os.listdir(site.folder)), before, "files at last")


def test_a_full_disk_leaves_nothing():
    with BackedUp(kind="rsa") as site:
        before = sorted(os.listdir(site.folder))

        def full():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

        done = subprocess.run([chv.program("keyadmin"), "init", "--dir", site.store, "--name", "g", "--passphrase-file",
                               site.passphrase_file, "--scrypt-cost", chv.SCRYPT_COST, "--backup-to",
                               site.recipient.certificate, "--backup-out", site.backup],
                              stdin=subprocess.DEVNULL, capture_output=True, preexec_fn=full, check=False)
        chv.check_equal(done.returncode, IOERR, f"{done.stderr}")
        chv.check_equal(sorted(os.listdir(site.folder)), before, "files")


def test_the_next_epochs_master():
    """epoch new --backup-to is as init's; without it, where earlier masters are in a backup, it is said."""
    with BackedUp() as site:
        site.init()
        words = ["epoch", "new", "-c", site.config, "--passphrase-file", site.passphrase_file]
        second = site.path("second.cms")
        done = chv.run("keyadmin", *words, "--backup-to", site.recipient.certificate, "--backup-out", second)
        chv.check_equal((done.stderr, b"backup certificate: CN = Recovery" in done.stdout), (b"", True), "what is said")
        chv.check_equal(site.recipient.opens(second), contents(site.master("master:2"), epoch=2), "backup")
        done = chv.run("keyadmin", *words)
        chv.check_in("warning: the master of epoch 3 is in no backup", done.stderr, "the third")
        chv.check_in("epoch new --backup-to", done.stderr, "what to do")
        chv.check_equal(done.stderr.count(b"\n"), 1, "one line")
        chv.run("keyadmin", "restore", "--from", second, "--key", site.recipient.key, "--keystore", site.path("again.keys"),
                "--passphrase-file", site.passphrase_file, "--scrypt-cost", chv.SCRYPT_COST)
        site.keys = site.path("again.keys")
        again = site.master("master:2")
        site.keys = os.path.join(site.store, "server.keys")
        chv.check_equal(again, site.master("master:2"), "restored")
    with chv.Site("gate") as site:
        site.init()
        words = ["epoch", "new", "-c", site.config, "--passphrase-file", site.passphrase_file]
        chv.check_equal(chv.run("keyadmin", *words).stderr, b"", "no backup was ever made")
        chv.write(os.path.join(site.store, "master-1.cms"), "one that was")
        chv.check_in("epoch 3 is in no backup", chv.run("keyadmin", *words).stderr, "one that lies there")


# --- restoring ----------------------------------------------------------------------------------------------------------


def test_a_restored_server_serves_who_was_there_before():
    for kind in ("rsa", "ec"):
        with BackedUp(kind=kind) as site:
            site.init()
            client, master = site.add_client("cam1", extra=["--address", "127.0.0.1:1"]), site.master()
            os.unlink(site.keys)
            done = site.restore()
            chv.check_equal(site.master(), master, "master")
            chv.check_equal(os.stat(site.keys).st_mode & 0o777, 0o600, "mode of the keystore")
            chv.check_in(store.key_check(master, 16), done.stdout, "key check value")
            site.start()
            chv.check_equal(site.client(client, "send", "ola").stdout, b"message received: 'ola'\n", "reply")


def follow(site, text):
    """Runs what it tells to run; the passphrase comes as from systemd."""
    credentials = chv.folder()
    shutil.copy(site.passphrase_file, os.path.join(credentials, "chaveiro.passphrase"))
    path = os.path.dirname(chv.program("keyadmin")) + os.pathsep + os.environ.get("PATH", "")
    told = [line.strip() for line in text.decode().splitlines() if line.startswith("  ")]
    for line in told:
        if not line.startswith("chaveirod "):
            done = subprocess.run(["sh", "-c", line], capture_output=True, check=False, timeout=chv.DEADLINE,
                                  env=dict(os.environ, CREDENTIALS_DIRECTORY=credentials, PATH=path))
            chv.check_equal(done.returncode, 0, f"{line}: {done.stderr}")
    return told


def test_a_lost_identity_key_has_a_successor():
    """It is in no backup; what restore says about it works as it stands."""
    for lost in (["server.keys"], ["server.keys", "server.pub"]):
        with BackedUp() as site:
            site.init()
            public = os.path.join(site.store, "server.pub")
            before = chv.read(public)
            for name in lost:
                os.unlink(os.path.join(site.store, name))
            told = follow(site, site.restore().stdout)
            chv.check_equal(len(told), 4 - len(lost), f"what to do: {told}")
            chv.check(chv.read(public) != before, "the public key is the old one's")
            chv.check_equal(os.path.exists(public + ".old"), len(lost) == 1, "the old one is kept")
            shown = chv.run("keyadmin", "identity", "show", "--pem", site.keys, "--passphrase-file", site.passphrase_file)
            chv.check_equal(shown.stdout, chv.read(public), "the keystore's")
            site.configure(profiles="psk, key+psk")
            chv.run("chaveirod", "-t", "-c", site.config)
            site.start()


def test_an_identity_key_that_stayed():
    with BackedUp() as site:
        site.init()
        site.keyadmin("epoch", "new", "-c", site.config, "--passphrase-file", site.passphrase_file)
        site.keyadmin("epoch", "retire", "1", "--force", "--destroy", "--yes", "-c", site.config, "--passphrase-file",
                      site.passphrase_file)
        done = site.restore()
        chv.check_not_in("identity", done.stdout, "nothing to do about it")


def test_restore_without_a_configuration():
    with BackedUp() as site:
        site.init("--address", "gate.example:7040")
        new = site.path("new.keys")
        done = site.restore(where=["--keystore", new])
        chv.check_in(f"key-check = 1:{store.key_check(site.master(), 16)}", done.stdout, "what to write down")
        opened = store.Store(new, store.passphrase_of(site.passphrase_file))
        chv.check_equal(opened.keys, {"master:1": site.master()}, "keys")
        chv.check_equal(opened.data, {"server": b"gate", "address": b"gate.example:7040", "backup": b"yes"}, "data")
        shown = json.loads(site.restore("--json", where=["--keystore", site.path("json.keys")]).stdout)
        chv.check_equal((shown["server"], shown["epoch"], shown["key_check"]),
                        ("gate", 1, store.key_check(site.master(), 16)), "JSON")


def test_a_key_with_a_passphrase():
    with BackedUp() as site:
        site.init()
        locked, passphrase = site.path("locked.pem"), site.new_passphrase("key.pass")
        text = store.passphrase_of(passphrase).decode()
        openssl("pkcs8", "-topk8", "-v2", "aes256", "-in", site.recipient.key, "-out", locked, "-passout", f"pass:{text}")
        os.unlink(site.keys)
        wrong = site.new_passphrase("wrong.pass")
        site.refuses(NOPERM, "wrong passphrase", "--key-passphrase-file", wrong, key=locked)
        site.refuses(NOINPUT, "No such file", "--key-passphrase-file", site.path("no"), key=locked)
        site.restore("--key-passphrase-file", passphrase, key=locked)
        os.unlink(site.keys)
        both = text + "\n" + store.passphrase_of(site.passphrase_file).decode() + "\n"
        chv.run("keyadmin", "restore", "--from", site.backup, "--key", locked, "-c", site.config, "--key-passphrase-file", "-",
                "--passphrase-file", "-", "--scrypt-cost", chv.SCRYPT_COST, stdin=both)
        chv.check_equal(store.key_check(site.master(), 16), site.recipient.opens(site.backup)["key_check"], "master")


def test_another_key_does_not_open_it():
    for kind, other in (("ec", Recipient("ec")), ("rsa", Recipient("rsa")), ("ec", recipient("rsa")),
                        ("rsa", recipient("ec"))):
        with BackedUp(kind=kind) as site:
            site.init()
            os.unlink(site.keys)
            site.refuses(NOPERM, "it was encrypted to another certificate, or was changed", key=other.key)
            site.refuses(USAGE, "there is no private key in it", key=site.recipient.certificate)
            site.refuses(NOINPUT, "No such file", key=site.path("no"))


def test_an_edited_file_is_refused():
    for kind in ("rsa", "ec"):
        with BackedUp(kind=kind) as site:
            site.init()
            master, hints = site.master(), 0
            os.unlink(site.keys)
            lines = chv.read(site.backup).decode().splitlines()
            der = base64.b64decode("".join(lines[1:-1]))
            edited = site.path("edited")
            for at in (*range(len(der) // 8, len(der), len(der) // 12), len(der) - 1):
                chv.write(edited, der[:at] + bytes([der[at] ^ 0x10]) + der[at + 1:])
                done = site.restore(backup=edited, code=None)
                if done.code == 0:  # whose it is, issuer and serial, is a hint that is not needed to open it
                    chv.check_equal(site.master(), master, f"{kind}, byte {at}: what was restored")
                    os.unlink(site.keys)
                    hints += 1
                    continue
                chv.check(done.code in (NOPERM, DATAERR), f"{kind}, byte {at} of {len(der)}: {done.code} {done.stderr}")
                chv.check(not os.path.exists(site.keys), f"{kind}, byte {at}: something was made")
            chv.check(hints < 3, f"{kind}: {hints} edits do not matter")
            for text in (der[:-1], der[:100], b"", b"x" * 500, chv.read(site.recipient.certificate)):
                chv.write(edited, text)
                chv.check(site.restore(backup=edited, code=None).code in (NOPERM, DATAERR, IOERR), f"{len(text)} bytes")
                chv.check(not os.path.exists(site.keys), f"{len(text)} bytes: something was made")
            chv.write(edited, der)  # as it was, in DER
            site.restore(backup=edited)


def test_contents_that_are_no_backup():
    with BackedUp() as site:
        site.init()
        master = site.master()
        os.unlink(site.keys)
        good, made = contents(master), site.path("made.cms")
        changes = [{"format": "chaveiro master backup 2"}, {"server": "a b"}, {"server": ""}, {"epoch": 0}, {"epoch": 2},
                   {"epoch": "1"}, {"epoch": 1 << 32}, {"kty": "EC"}, {"kid": "master:2"}, {"k": store.b64(master[:31])},
                   {"k": store.b64(master) + "="}, {"k": 1}, {"key_check": ""}, {"key_check": good["key_check"][:30]},
                   {"address": "nowhere"}]
        for change in changes:
            site.recipient.seals({**good, **change}, made)
            site.refuses(DATAERR, "is no backup of a master", backup=made)
        for text in (b"", b"x", b"[]", b"{}", b"{" * 2000, json.dumps(good).encode() * 2, json.dumps(good).encode() + b" x",
                     b'{"format":"x",' + json.dumps(good).encode()[1:]):
            site.recipient.seals(text, made)
            site.refuses(DATAERR, "is no backup of a master", backup=made)
        site.recipient.seals(json.dumps(good).encode() + b" " * 8192, made)
        site.refuses(NOPERM, "does not open", backup=made)
        other = os.urandom(32)
        for change in ({"k": store.b64(other)}, {"key_check": store.key_check(other, 16)}):
            site.recipient.seals({**good, **change}, made)
            site.refuses(DATAERR, "the key check value differs", backup=made)
        openssl("cms", "-sign", "-binary", "-nodetach", "-signer", site.recipient.certificate, "-inkey", site.recipient.key,
                "-outform", "PEM", "-out", made, data=json.dumps(good).encode())
        site.refuses(DATAERR, "is not a CMS file that is encrypted to a certificate", backup=made)
        site.restore(backup=site.recipient.seals(good, made))


def test_a_backup_that_openssl_encrypted_anew():
    """To another certificate, in the older kind of CMS, too."""
    with BackedUp() as site:
        site.init()
        master, made = site.master(), site.path("made.cms")
        for kind, how in (("rsa", ["-aes256"]), ("ec", ["-aes256"]), ("rsa", ["-aes-256-gcm"])):
            os.unlink(site.keys)
            site.restore(backup=recipient(kind).seals(contents(master), made, *how), key=recipient(kind).key)
            chv.check_equal(site.master(), master, f"{kind} {how}")


def test_another_servers_backup():
    with BackedUp("a") as a, BackedUp("b") as b:
        a.init()
        b.init()
        b.refuses(CONFIG, "the backup is of the server 'a'", backup=a.backup)
        os.unlink(b.keys)
        b.refuses(CONFIG, "the backup is of the server 'a'", backup=a.backup)
        b.restore()
        b.refuses(CONFIG, "the backup is of the server 'a', the keystore of 'b'", backup=a.backup,
                  where=["--keystore", b.keys])


def test_another_masters_backup():
    """Of a server of the same name."""
    with BackedUp() as site, BackedUp() as twin:
        site.init()
        twin.init()
        os.unlink(site.keys)
        done = site.refuses(CONFIG, "the key check value differs", backup=twin.backup)
        for value in (store.key_check(twin.master(), 16), twin.recipient.opens(site.backup)["key_check"]):
            chv.check_in(value, done.stderr, "both values are told")


def test_a_master_that_is_there_stays():
    with BackedUp() as site, BackedUp() as twin:
        site.init()
        twin.init()
        site.refuses(CANTCREAT, "a master of epoch 1 already, and it is this one: it stays")
        site.refuses(CANTCREAT, "a master of epoch 1 already, and it is another one: it stays", backup=twin.backup,
                     where=["--keystore", site.keys])
        site.refuses(NOPERM, "wrong passphrase", passphrase_file=site.new_passphrase("wrong.pass"))
        key = site.add_client("cam1")
        site.refuses(CANTCREAT, "a master of epoch 1 already", where=["-c", site.config, "--keystore", site.keys])
        opened = store.Store(key.path, store.passphrase_of(key.passphrase_file))
        del opened.data["server"]
        opened.write(key.path)
        site.refuses(CANTCREAT, "has keys, but is not a server's", where=["--keystore", key.path],
                     passphrase_file=key.passphrase_file)


def test_another_epoch_joins():
    with BackedUp() as site:
        site.init()
        first, second = site.master(), os.urandom(32)
        made = site.recipient.seals(contents(second, epoch=2), site.path("second.cms"))
        chv.check_in("Epoch 2 is not in epochs", site.restore(backup=made).stdout, "what is said")
        chv.check_equal((site.master(), site.master("master:2")), (first, second), "masters")


def test_what_is_missing():
    with BackedUp() as site:
        site.init()
        for arguments in ([], ["--from", site.backup], ["--key", site.recipient.key]):
            done = chv.run("keyadmin", "restore", *arguments, "-c", site.config, code=USAGE)
            chv.check_in("Give --from FILE and --key KEY.pem", done.stderr, "error")
        done = chv.run("keyadmin", "restore", "--from", site.backup, "--key", site.recipient.key, "--keystore",
                       site.path("x"), "--pin-file", site.path("x"), code=USAGE)
        chv.check_in("a PIN is a token's", done.stderr, "error")


# --- tokens -------------------------------------------------------------------------------------------------------------


def token_restore(site, backup, *extra, code=0):
    return site.keyadmin("restore", "--from", backup, "--key", recipient("ec").key, "-c", site.config, *extra, code=code)


def lose_token(site):
    """Gone with all that is in it, and a new one of the same name and PIN file is made."""
    shutil.rmtree(site.tokens.folder)
    os.mkdir(site.tokens.folder, 0o700)
    for ending in ("pin", "so-pin"):
        os.unlink(os.path.join(site.store, f"{site.label}.{ending}"))
    site.keyadmin("token", "init", site.uri, "--so-pin-file", os.path.join(site.store, f"{site.label}.so-pin"))


def test_a_master_in_a_token_comes_back():
    with softhsm.TokenSite("gate") as site:
        backup = site.path("gate.cms")
        done = site.init("--backup-to", recipient("ec").certificate, "--backup-out", backup)
        chv.check_in("the token will not give it out", done.stdout, "what is said")
        chv.check_not_in("never leaves it", done.stdout, "what is said")
        client = site.add_client("cam1")
        inside = recipient("ec").opens(backup)
        chv.check_in(f"key-check = 1:{inside['key_check']}\n", chv.read(site.config), "configuration")
        chv.check_in("a master of epoch 1 already, and it is this one", token_restore(site, backup, code=CANTCREAT).stderr,
                     "it is there")
        lose_token(site)
        token_restore(site, backup)
        site.start()
        site.send(client, "after the restore")
        site.stop()
        # not extractable, as one that was made there
        tool = softhsm.pkcs11_tool()
        pin = chv.read(site.pin_file).decode().strip()
        listed = subprocess.run([tool, "--module", site.tokens.module, "--login", "--pin", pin, "--token-label", site.label,
                                 "--list-objects", "--type", "secrkey"], capture_output=True, check=True,
                                env={**os.environ, **site.env}).stdout
        access = [line.split(b":")[1].split(b",") for line in listed.splitlines() if b"Access:" in line]
        chv.check_equal([[word.strip() for word in words] for words in access], [[b"sensitive"]], f"{listed}")


def test_a_failure_leaves_nothing_in_the_token():
    with faulty.FaultySite("gate") as site:
        backup = site.path("gate.cms")
        site.init("--backup-to", recipient("ec").certificate, "--backup-out", backup, "--address", "gate.example:7040")
        lose_token(site)
        for call, first in (("C_CreateObject", 1), ("C_CreateObject", 2), ("C_CreateObject", 3), ("C_Sign", 1)):
            site.tokens.fail(call, "CKR_FUNCTION_FAILED", first=first)
            done = token_restore(site, backup, code=None)
            chv.check(done.code not in (0, None), f"{call} {first}: it must fail")
            chv.check_equal(done.stdout, b"", "standard output")
            site.tokens.heal()
            shown = site.keyadmin("check", site.uri, code=None)
            chv.check_not_in("master:1", shown.stdout, f"{call} {first}: what is left")
        token_restore(site, backup)


def test_init_undoes_its_backup():
    with faulty.FaultySite("gate") as site:
        backup = site.path("gate.cms")
        wanted = ["--backup-to", recipient("ec").certificate, "--backup-out", backup]
        for call, first in (("C_CreateObject", 1), ("C_CreateObject", 2), ("C_Sign", 1)):
            site.tokens.fail(call, "CKR_FUNCTION_FAILED", first=first)
            done = site.init(*wanted, code=None)
            chv.check(done.code not in (0, None), f"{call} {first}: it must fail")
            chv.check(not os.path.exists(backup), f"{call} {first}: the backup of a master that is nowhere")
            chv.check(not os.path.exists(site.config), f"{call} {first}: a configuration")
            site.tokens.heal()
        site.init(*wanted)
        chv.check_equal(recipient("ec").opens(backup)["server"], "gate", "a backup at last")


# --- secrets ------------------------------------------------------------------------------------------------------------


def spellings(key):
    return [key, key.hex().encode(), key.hex().upper().encode(), store.b64(key).encode(),
            base64.b64encode(key).rstrip(b"=")]


def test_no_secret_comes_out():
    with BackedUp() as site:
        output = b""
        for done in (site.init(), site.restore(code=None), site.restore(where=["--keystore", site.path("new.keys")]),
                     site.restore("--json", where=["--keystore", site.path("newer.keys")]),
                     site.restore(key=recipient("rsa").key, code=None)):
            output += done.stdout + done.stderr
        site.add_client("cam1")
        site.start("-v")
        site.stop()
        for name, text in contents_of(site.folder).items():
            output += b"" if name.endswith(".pass") else text
        for text in spellings(site.master()):
            chv.check_not_in(text, output, "output and files")


def core_limit(pid):
    with open(f"/proc/{pid}/limits", encoding="ascii") as f:
        return next(line for line in f if line.startswith("Max core file size")).split()[4:6]


def test_no_core_is_left():
    """While the master may be in memory no core is written, whatever ends the program."""
    with BackedUp() as site:
        site.init()
        waiting = site.spawn("keyadmin", "restore", "--from", site.backup, "--key", site.recipient.key, "--keystore",
                             site.path("new.keys"), "--passphrase-file", "-", stdin=subprocess.PIPE)
        end = time.monotonic() + chv.DEADLINE
        while core_limit(waiting.pid) != ["0", "0"]:  # once it has begun
            chv.check(waiting.running() and time.monotonic() < end, f"core files: {core_limit(waiting.pid)}")
            time.sleep(0.01)
        waiting.stdin.close()
        waiting.wait()
        chv.check(not os.path.exists(site.path("new.keys")), "something was made")


if __name__ == "__main__":
    chv.main()
