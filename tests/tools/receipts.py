# SPDX-License-Identifier: Apache-2.0
"""Signed receipts of stored files from end to end: made, checked by us and by openssl(1), refused when anything of them is
changed; and what happens when none can be made."""
import calendar
import contextlib
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import time

import chv
import faulty
import filesite as files
import softhsm

USAGE, DATAERR, NOINPUT, UNAVAILABLE, CANTCREAT, PROTOCOL, CONFIG = 64, 65, 66, 69, 73, 76, 78
END, DATA = files.END, files.DATA


class ReceiptSite(files.FilesSite):
    """A site that signs receipts, with a client; `public` is the key that checks them."""

    def init(self, *extra, start=True, **settings):
        chv.Site.init(self, *extra)
        self.prepare(**settings)
        return self.start() if start else None

    def prepare(self, **settings):
        self.root = self.path("homes")
        os.makedirs(self.root, exist_ok=True)
        self.configure(home=self.root + "/%i", receipts="on", **settings)
        self.rw = self.add_client("cam1", scopes=["files:rw"])
        self.told = json.loads(self.new_key().stdout)
        self.public = os.path.join(self.store, "receipt.pub")

    def new_key(self):
        return self.keyadmin("--json", "receipt", "new-key", "-c", self.config, *self.key_options())

    def key_options(self):
        return ["--passphrase-file", self.passphrase_file]

    def verify(self, name, *extra, code=0):
        return self.keyadmin("receipt", "verify", self.path(name), "--key", self.public, *extra, code=code)

    def refused(self, name, *texts, extra=(), code=DATAERR):
        done = self.verify(name, *extra, code=code)
        chv.check_equal(done.stdout, b"", "standard output")
        for text in texts:
            chv.check_in(text, done.stderr, "the error")
        chv.check_equal(done.stderr.count(b"\n"), 1, "lines of the error")


class TokenReceiptSite(softhsm.TokenSite, ReceiptSite):
    def init(self, *extra, start=True, **settings):
        softhsm.TokenSite.init(self, *extra)
        self.prepare(**settings)
        return self.start() if start else None

    def add_client(self, client_id, scopes=("message",), **options):
        extra = [word for scope in scopes for word in ("--scope", scope)]
        return softhsm.TokenSite.add_client(self, client_id, extra=extra, **options)

    def key_options(self):
        return []


class PemReceiptSite(ReceiptSite):
    """The key is in a file of its own."""

    def prepare(self, **settings):
        self.secret = os.path.join(self.store, "receipt.key")
        super().prepare(receipt_key="receipt.key", **settings)
        self.public = self.secret + ".pub"

    def new_key(self):
        return self.keyadmin("--json", "receipt", "new-key", "--out", self.secret)


def openssl_takes(public, name):
    if shutil.which("openssl") is None:
        raise chv.Skip("openssl is not installed")
    done = subprocess.run(["openssl", "dgst", "-sha256", "-verify", public, "-signature", name + ".sig", name],
                          capture_output=True, check=False)
    return done.returncode == 0 and done.stdout == b"Verified OK\n"


def check_receipt(site, name, path, data, started):
    """A receipt in files: every line, and who takes it."""
    lines = chv.read(site.path(name)).decode().split("\n")
    chv.check_equal(lines[:6], ["chaveiro-receipt: 1", f"server: {site.name}", "client: cam1", f"path: {path}",
                                f"size: {len(data)}", f"sha256: {hashlib.sha256(data).hexdigest()}"], "lines")
    chv.check_equal((lines[6][:6], lines[7:]), ("time: ", [""]), "last line")
    when = calendar.timegm(time.strptime(lines[6][6:], "%Y-%m-%dT%H:%M:%SZ"))
    chv.check(int(started) <= when <= time.time(), f"time: {lines[6]}")
    for part in (name, name + ".sig"):
        chv.check_equal(stat.S_IMODE(os.stat(site.path(part)).st_mode), 0o644, f"mode of {part}")
    chv.check(openssl_takes(site.public, site.path(name)), "openssl does not take it")
    told = json.loads(site.verify(name, "--json", "--content", chv.write(site.path("content"), data)).stdout)
    chv.check_equal((told["signature"], told["server"], told["client"], told["size"], told["sha256"], told["content"],
                     told["fingerprint"]),
                    ("good", site.name, "cam1", len(data), hashlib.sha256(data).hexdigest(), "the same",
                     site.told["fingerprint"]), "keyadmin receipt verify")
    return told


# --- good ones ----------------------------------------------------------------------------------------------------------


def test_from_a_file_keystore():
    with ReceiptSite() as site:
        site.init()
        started = time.time()
        for name, remote, shown in (("r1", "d/\u00e9 b", "d/\u00e9 b"), ("r2", "d/a\\b", "d/a\\x5cb"), ("r3", "e", "e")):
            data = files.content(100000) if name != "r3" else b""
            chv.write(site.path("f"), data)
            if name == "r1":
                site.client(site.rw, "mkdir", "d")
            done = site.client(site.rw, "put", "--receipt", site.path(name), "--receipt-key", site.public,
                               site.path("f"), remote)
            chv.check_equal((done.stdout, done.stderr), (b"", b""), "a put is silent")
            chv.check_equal(chv.read(site.home(remote)), data, "what is stored")
            told = check_receipt(site, name, shown, data, started)
            chv.check_equal(told["path"], remote, "path")
        people = site.verify("r1").stdout.decode()
        chv.check_in("signature:      good\n", people, "for people")
        chv.check_in("client:         cam1\n", people, "for people")
        # without --key: beside the configuration
        site.keyadmin("receipt", "verify", site.path("r1"), "-c", site.config)
        chv.check_equal(site.keyadmin("receipt", "public-key", "-c", site.config, *site.key_options()).stdout,
                        chv.read(site.public), "public-key")
        chv.check(chv.read(site.public).startswith(b"-----BEGIN PUBLIC KEY-----\n"), "PEM")


def test_from_a_token():
    with TokenReceiptSite() as site:
        site.init()
        started = time.time()
        data = files.content(70000)
        chv.write(site.path("f"), data)
        site.client(site.rw, "put", "--receipt", site.path("r"), "--receipt-key", site.public, site.path("f"), "x")
        check_receipt(site, "r", "x", data, started)
        keys = json.loads(site.keyadmin("--json", "check", site.uri).stdout)["keys"]
        chv.check_equal([k["use"] for k in keys if k["label"] == "receipt"], ["receipt"], "its use in the token")
        # the keeper that takes the place of one that died has it too
        os.kill(site.keeper(), signal.SIGKILL)
        site.server.wait_for("keeper")
        for _ in range(10):
            done = site.client(site.rw, "put", "--receipt", site.path("r2"), "--receipt-key", site.public,
                               site.path("f"), "y", code=None)
            if done.code != UNAVAILABLE:
                break
        chv.check_equal((done.code, done.stderr), (0, b""), "behind a keeper that died")
        check_receipt(site, "r2", "y", data, started)


def test_from_a_pem_file():
    with PemReceiptSite() as site:
        server = site.init()
        started = time.time()
        data = files.content(70000)
        chv.write(site.path("f"), data)
        site.client(site.rw, "put", "--receipt", site.path("r"), "--receipt-key", site.public, site.path("f"), "x")
        check_receipt(site, "r", "x", data, started)
        site.keyadmin("receipt", "verify", site.path("r"), "-c", site.config)  # receipt-key names it
        chv.check_equal(site.keyadmin("receipt", "public-key", "-c", site.config).stdout, chv.read(site.public), "public-key")
        chv.check_equal(stat.S_IMODE(os.stat(site.secret).st_mode), 0o600, "mode")
        os.kill(chv.process_named(server.pid, "chv-keeper"), signal.SIGKILL)
        server.wait_for("keeper")
        site.client(site.rw, "--retries", "10", "put", "--receipt", site.path("r2"), "--receipt-key", site.public,
                    site.path("f"), "y")
        check_receipt(site, "r2", "y", data, started)
        site.stop()

        def refused(*texts, code):
            done = chv.run("chaveirod", "-c", site.config, "--passphrase-file", site.passphrase_file, code=code)
            for text in texts:
                chv.check_in(text, done.stderr, "the error")

        # its use was fixed when it was made, whoever wrote the file
        for name, curve in (("identity", "p256"), ("identity25519", "x25519")):
            site.keyadmin("identity", "new", "--curve", curve, "--out", os.path.join(site.store, name))
            site.configure(receipt_key=name)
            refused(f"{name}: is no key that signs receipts: 'keyadmin receipt new-key --out'", code=CONFIG)
        done = site.keyadmin("identity", "show", site.secret, "cam1", code=None)
        chv.check(done.code != 0, "a receipt key is shown as an identity key")
        site.configure(receipt_key="nothing")
        refused("nothing: cannot open: No such file", code=NOINPUT)
        chv.write(site.path("pass"), "secret\n")
        site.keyadmin("receipt", "new-key", "--out", os.path.join(site.store, "sealed"), "--passphrase-file",
                      site.path("pass"))
        site.configure(receipt_key="sealed")
        refused("sealed: is encrypted: the server takes a key without a passphrase here", code=77)
        site.configure(receipt_key="receipt.key")
        os.chmod(site.secret, 0o640)
        refused("others may read this private key", code=77)
        os.chmod(site.secret, 0o600)
        done = site.keyadmin("receipt", "new-key", "--out", site.secret, code=CANTCREAT)
        chv.check_in("is there already", done.stderr, "the error")
        done = site.keyadmin("receipt", "new-key", "--out", site.path("z"), "-c", site.config, code=USAGE)
        site.configure(receipts="off")
        refused("[files] has 'receipt-key', but not 'receipts = on'", code=CONFIG)


def test_one_for_each_file_in_a_folder():
    with ReceiptSite() as site:
        site.init()
        os.mkdir(site.path("receipts"))
        started = time.time()
        chv.write(site.path("f"), b"one")
        site.client(site.rw, "mkdir", "a", "a/b")
        site.client(site.rw, "put", "--receipt", site.path("receipts"), site.path("f"), "a/b/c")
        check_receipt(site, "receipts/a/b/c.receipt", "a/b/c", b"one", started)
        site.client(site.rw, "put", "--receipt", site.path("new") + "/", site.path("f"), "top")
        check_receipt(site, "new/top.receipt", "top", b"one", started)
        # a whole tree: each file has its own
        os.makedirs(site.path("tree/sub"))
        for number in range(20):
            chv.write(site.path(f"tree/sub/{number}"), b"%d" % number)
        chv.write(site.path("tree/0"), b"")
        site.client(site.rw, "put", "-r", "--receipt", site.path("trees"), "--receipt-key", site.public,
                    site.path("tree"), code=USAGE)  # no folder: one name for many
        os.mkdir(site.path("trees"))
        site.client(site.rw, "put", "-r", "--receipt", site.path("trees"), "--receipt-key", site.public, site.path("tree"))
        for number in range(20):
            check_receipt(site, f"trees/tree/sub/{number}.receipt", f"tree/sub/{number}", b"%d" % number, started)
        check_receipt(site, "trees/tree/0.receipt", "tree/0", b"", started)
        # one whose receipt cannot be is told, the others go on
        chv.write(site.path("trees/tree/sub/7.receipt"), "mine")
        shutil.rmtree(site.home("tree"))
        for name in os.listdir(site.path("trees/tree/sub")):
            if not name.startswith("7."):
                os.unlink(site.path("trees/tree/sub/" + name))
        os.unlink(site.path("trees/tree/0.receipt"))
        os.unlink(site.path("trees/tree/0.receipt.sig"))
        done = site.client(site.rw, "put", "-r", "--receipt", site.path("trees"), site.path("tree"), code=CANTCREAT)
        chv.check_in("7.receipt: is there already", done.stderr, "the error")
        chv.check_equal(sorted(os.listdir(site.home("tree/sub"))), sorted(str(n) for n in range(20) if n != 7), "stored")


def test_the_key_from_the_configuration():
    with ReceiptSite() as site:
        site.init()
        chv.write(site.path("f"), b"one")
        conf = chv.write(site.path("client.conf"), f"[client]\nreceipt-key = {os.path.relpath(site.public, site.folder)}\n")
        site.client(site.rw, "--config", conf, "put", "--receipt", site.path("r"), site.path("f"))
        key = site.told["receipt_key"]
        chv.check(key.startswith("p256 "), key)
        site.client(site.rw, "put", "--receipt", site.path("r2"), "--receipt-key", key, site.path("f"))
        site.keyadmin("receipt", "verify", site.path("r2"), "--key", key)


def test_many_on_one_connection():
    with ReceiptSite() as site:
        site.init()
        with files.Raw(site) as raw:
            for number in range(1, 41):
                data = b"%d" % number
                raw.ask(number, "put", f"f{number}", size=len(data), mode=0o644, mtime=0, receipt=number % 2 == 1)
                raw.send_record(DATA, data)
                raw.send_record(END, hashlib.sha256(data).digest())
            for number in range(1, 41):
                told = raw.check_answer(number, 200, f"f{number}")
                chv.check_equal("receipt" in told, number % 2 == 1, f"a receipt in answer {number}")
                if number % 2 == 1:
                    chv.check_in(f"path: f{number}\n", told["receipt"], "the receipt")
                    chv.check_in(hashlib.sha256(b"%d" % number).hexdigest(), told["receipt"], "the receipt")
            raw.ask(50, "put", "g", size=0, mode=0o644, mtime=0, receipt=1)  # neither true nor false
            raw.check_answer(50, 400, "g")
            raw.send_record(END)
            raw.ask(51, "put", "a\nb", size=0, mode=0o644, mtime=0, receipt=True)
            raw.check_answer(51, 400)
            raw.send_record(END)
            raw.close()


def test_of_the_whole_file_however_it_came():
    """Resumed, of a size that nobody announced, in a shared folder, behind puts that are stored in one go."""
    with ReceiptSite() as site:
        site.init(start=False)
        os.mkdir(site.path("plans"))
        with open(site.config, "a", encoding="ascii") as config:
            config.write(f'[share "plans"]\npath = {site.path("plans")}\naccess = rw\n')
        site.start()
        whole = hashlib.sha256(b"0123456789").digest()

        def check(raw, number, path, size, digest):
            told = raw.check_answer(number, 200, path)
            chv.check_in(f"\nclient: cam1\npath: {path}\nsize: {size}\nsha256: {digest.hex()}\ntime: ", told["receipt"],
                         "the receipt")

        with files.Raw(site) as raw:
            raw.ask(1, "put", "f", size=10, mode=0o644, mtime=0, resume=True, receipt=True)
            raw.send_record(DATA, b"0123")
            files.wait_until("the part is there",
                             lambda: [n for n in site.parts() if os.path.getsize(site.home(n)) == 4])
            part = site.home(site.parts()[0])
        net = chv.process_named(site.server.pid, "chv-net")
        files.wait_until("nobody writes it", lambda: part not in open_files(net))
        with files.Raw(site) as raw:
            raw.ask(1, "put", "f", size=10, mode=0o644, mtime=0, resume=True, receipt=True, offset=4,
                    sha256=hashlib.sha256(b"0123").digest())
            raw.check_answer(1, 100)
            raw.send_record(DATA, b"456789")
            raw.send_record(END, whole)
            check(raw, 1, "f", 10, whole)
            raw.ask(2, "put", "g", mode=0o644, mtime=0, receipt=True)
            raw.check_answer(2, 100)
            for piece in (b"01234", b"56789"):
                raw.send_record(DATA, piece)
            raw.send_record(END, whole)
            check(raw, 2, "g", 10, whole)
            raw.ask(3, "put", "@plans/h", size=10, mode=0o644, mtime=0, receipt=True)
            raw.send_record(DATA, b"0123456789")
            raw.send_record(END, whole)
            check(raw, 3, "@plans/h", 10, whole)
            raw.close()
        chv.check_equal([chv.read(name) for name in (site.home("f"), site.home("g"), site.path("plans/h"))],
                        [b"0123456789"] * 3, "what is stored")


def test_of_a_client_without_a_credential():
    """Profile key: the id is that of the allow-list."""
    with ReceiptSite() as site:
        site.init(start=False)
        site.keyadmin("identity", "new", "--out", site.path("cam9"))
        line = site.keyadmin("identity", "show", site.path("cam9.pub"), "--scope", "files:rw").stdout
        chv.write(os.path.join(site.store, "allowed_keys"), line)
        site.configure(profiles="psk, key", allowed_keys="allowed_keys")
        site.start()
        chv.write(site.path("f"), b"one")
        chv.run("chaveiro", "--identity", site.path("cam9"), "--server-key", os.path.join(site.store, "server.pub"),
                "--server", site.address, "put", "--receipt", site.path("r"), "--receipt-key", site.public, site.path("f"))
        told = json.loads(site.verify("r", "--json").stdout)
        chv.check_equal((told["client"], told["path"]), ("cam9", "f"), "the receipt")


# --- bad ones -----------------------------------------------------------------------------------------------------------


def test_forgeries():
    with ReceiptSite() as site:
        site.init()
        chv.write(site.path("f"), b"one")
        chv.write(site.path("f2"), b"two")
        site.client(site.rw, "put", "--receipt", site.path("r"), site.path("f"))
        site.client(site.rw, "put", "--receipt", site.path("other"), site.path("f2"))
        text, signature = chv.read(site.path("r")), chv.read(site.path("r.sig"))

        def forge(changed, sig=signature, by_openssl=True):
            chv.write(site.path("forged"), changed)
            chv.write(site.path("forged.sig"), sig)
            site.refused("forged", "forged: the signature is not of this text by this key")
            if by_openssl:
                chv.check(not openssl_takes(site.public, site.path("forged")), "openssl takes it")

        for old, new in ((b": 1\n", b": 2\n"), (b"test-server", b"best-server"), (b"cam1", b"cam2"), (b"path: f", b"path: g"),
                         (b"size: 3", b"size: 4"), (b"time: 2", b"time: 3"), (b"\nsha256: ", b"\nsha256: 0")):
            chv.check_equal(text.count(old) > 0, True, f"{old} is there")
            forge(text.replace(old, new, 1))
        forge(text + b"\n")
        forge(text + b"note: paid\n")
        forge(text[:-1])
        forge(b"")
        forge(text.replace(b"\n", b"\r\n"))
        forge(text, signature + b"\0", by_openssl=False)  # which reads no more than a longest signature
        for sig in (b"", signature[:-1], bytes([signature[0] ^ 1]) + signature[1:],
                    signature[:-1] + bytes([signature[-1] ^ 1]), chv.read(site.path("other.sig"))):
            forge(text, sig)
        site.refused("r", "f2: is not the file of this receipt", extra=["--content", site.path("f2")])
        chv.write(site.path("long"), text * 20)
        chv.write(site.path("long.sig"), signature)
        site.refused("long", "longer than a receipt")
        chv.write(site.path("alone"), text)
        site.refused("alone", "alone.sig: No such file", code=NOINPUT)
        site.refused("nothing", "nothing: No such file", code=NOINPUT)
        site.refused("r", "missing: No such file", extra=["--content", site.path("missing")], code=NOINPUT)


def test_a_true_signature_of_another_text():
    """What that key signed is a receipt only if it reads as one: here by a key whose private half we have."""
    if shutil.which("openssl") is None:
        raise chv.Skip("openssl is not installed")
    with ReceiptSite() as site:
        chv.Site.init(site)
        secret, site.public = site.path("key.pem"), site.path("key.pub")
        subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", secret],
                       check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", secret, "-pubout", "-out", site.public], check=True,
                       capture_output=True)
        good = ("chaveiro-receipt: 1\nserver: s\nclient: c\npath: p\nsize: 1\nsha256: " + "0" * 64 +
                "\ntime: 2026-03-01T12:00:00Z\n")
        for text, fits in ((good, True), ("I owe you 1000\n", False), (good + good, False),
                           (good.replace("size: 1", "size: 01"), False), (good.replace("path: p", "path: \x1b[2J"), False)):
            chv.write(site.path("t"), text)
            subprocess.run(["openssl", "dgst", "-sha256", "-sign", secret, "-out", site.path("t.sig"), site.path("t")],
                           check=True, capture_output=True)
            if fits:
                site.verify("t")
            else:
                site.refused("t", "t: the text is no receipt")


def test_other_keys():
    with ReceiptSite() as site:
        site.init("--curve", "p256")
        chv.write(site.path("f"), b"one")
        site.client(site.rw, "put", "--receipt", site.path("r"), site.path("f"))
        public, site.public = site.public, os.path.join(site.store, "server.pub")  # the identity key, also P-256
        site.refused("r", "the signature is not of this text by this key")
        site.keyadmin("identity", "new", "--out", site.path("id"))
        site.public = site.path("id.pub")
        site.refused("r", "an X25519 key signs no receipts", code=USAGE)
        site.public = site.path("f")
        site.refused("r", "f: ", code=DATAERR)
        # the client: stored, but the receipt is of another key
        done = site.client(site.rw, "put", "--receipt", site.path("r2"), "--receipt-key",
                           os.path.join(site.store, "server.pub"), site.path("f"), "g", code=PROTOCOL)
        chv.check_in("g: the file is stored, but its receipt is refused: the signature is not of this text by this key",
                     done.stderr, "the error")
        chv.check_equal((os.path.exists(site.path("r2")), os.path.exists(site.path("r2.sig"))), (False, False), "written")
        chv.check_equal(chv.read(site.home("g")), b"one", "what is stored")
        done = site.client(site.rw, "put", "--receipt", site.path("r2"), "--receipt-key", site.path("id.pub"),
                           site.path("f"), "h", code=USAGE)
        chv.check_in("X25519", done.stderr, "the error")
        chv.check_equal(os.path.exists(site.home("h")), False, "nothing was sent")
        site.public = public
        site.verify("r")


def test_nothing_is_overwritten():
    with ReceiptSite() as site:
        site.init()
        chv.write(site.path("f"), b"one")
        for there in ("r", "r.sig"):
            chv.write(site.path(there), "mine")
            done = site.client(site.rw, "put", "--receipt", site.path("r"), site.path("f"), code=CANTCREAT)
            chv.check_in(f"{there}: is there already and will not be overwritten", done.stderr, "the error")
            chv.check_equal((os.listdir(site.root), chv.read(site.path(there))), ([], b"mine"), "nothing was sent")
            os.unlink(site.path(there))
        done = site.client(site.rw, "put", "--receipt", site.path("no/such/r"), site.path("f"), code=None)
        chv.check(done.code != 0 and b"no/such/r" in done.stderr, f"a folder that is missing: {done.stderr}")
        done = site.keyadmin("receipt", "new-key", "-c", site.config, *site.key_options(), code=CANTCREAT)
        chv.check_in("'receipt' is there already", done.stderr, "a second key")


def replaced(site):
    """Another key: what the old one has signed is checked by its public half, under its new name."""
    site.init()
    chv.write(site.path("f"), b"one")
    site.client(site.rw, "put", "--receipt", site.path("old"), "--receipt-key", site.public, site.path("f"))
    before = chv.read(site.public)
    site.stop()
    told = json.loads(site.keyadmin("--json", "receipt", "new-key", "--replace", "-c", site.config,
                                    *site.key_options()).stdout)
    chv.check(told["fingerprint"] != site.told["fingerprint"], "it is the same key")
    chv.check_equal(chv.read(told["old_public_file"]), before, "the old public key")
    chv.check_in("receipt-until-2", os.path.basename(told["old_public_file"]), "its name")
    site.told = told
    site.start()
    started = time.time()
    site.client(site.rw, "put", "--receipt", site.path("new"), "--receipt-key", site.public, site.path("f"))
    check_receipt(site, "new", "f", b"one", started)
    site.refused("old", "the signature is not of this text by this key")
    site.keyadmin("receipt", "verify", site.path("old"), "--key", told["old_public_file"])


def test_another_key_in_a_file():
    with ReceiptSite() as site:
        replaced(site)
        # a keystore that cannot be written: all is as it was
        shutil.copytree(site.store, site.path("copy"))
        public = chv.read(site.path("copy/receipt.pub"))
        done = site.keyadmin("receipt", "new-key", "--replace", "-c", site.path("copy/chaveirod.conf"), "--keystore",
                             site.path("none.keys"), *site.key_options(), code=None)
        chv.check(done.code != 0, "a keystore that is not there")
        names = os.listdir(site.path("copy"))
        chv.check_equal(chv.read(site.path("copy/receipt.pub")), public, "the public key")
        chv.check_equal(len([n for n in names if n.startswith("receipt-until")]), 1, "old keys")


def test_another_key_in_a_token():
    with TokenReceiptSite() as site:
        replaced(site)


def test_another_key_in_a_token_that_makes_none():
    with faulty.FaultySite() as site:
        site.init()
        words = ("receipt", "new-key", "--json", "-c", site.config)
        first = json.loads(site.keyadmin(*words).stdout)
        site.tokens.fail("C_GenerateKeyPair", "CKR_DEVICE_ERROR")
        done = site.keyadmin(*words, "--replace", code=None)
        chv.check(done.code != 0, "a token that makes no key")
        chv.check_in("the old key is destroyed: no receipts are signed until this was run again", done.stderr, "what to do")
        site.tokens.heal()
        second = json.loads(site.keyadmin(*words, "--replace").stdout)
        chv.check(second["fingerprint"] != first["fingerprint"], "another key")


# --- none can be made ---------------------------------------------------------------------------------------------------


def test_receipts_off():
    with ReceiptSite() as site:
        site.init(start=False)
        site.configure(receipts="off")
        site.start()
        chv.write(site.path("f"), b"one")
        done = site.client(site.rw, "put", "--receipt", site.path("r"), site.path("f"), code=UNAVAILABLE)
        chv.check_in("f: this server signs no receipts: nothing was stored (501)", done.stderr, "the error")
        chv.check_equal((os.listdir(site.home()), os.path.exists(site.path("r"))), ([], False), "what was stored")
        site.client(site.rw, "put", site.path("f"))


def test_a_server_without_the_key_does_not_start():
    with files.FilesSite() as site:
        chv.Site.init(site)
        os.mkdir(site.path("homes"))
        site.configure(home=site.path("homes") + "/%i", receipts="on")
        done = chv.run("chaveirod", "-c", site.config, "--passphrase-file", site.passphrase_file, code=CONFIG)
        chv.check_in("run 'keyadmin receipt new-key'", done.stderr, "the error")
        done = site.keyadmin("receipt", "public-key", "-c", site.config, "--passphrase-file", site.passphrase_file,
                             code=NOINPUT)
        chv.check_in("there is no receipt key", done.stderr, "the error")


def open_files(pid):
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def raw_put(raw, number, name, data):
    raw.ask(number, "put", name, size=len(data), mode=0o644, mtime=0, receipt=True)
    raw.send_record(DATA, data)
    raw.send_record(END, hashlib.sha256(data).digest())


def test_a_keeper_that_dies_and_comes_back():
    with ReceiptSite() as site:
        server = site.init()
        with files.Raw(site) as raw:
            raw_put(raw, 1, "before", b"one")
            chv.check_in("path: before\n", raw.check_answer(1, 200)["receipt"], "the receipt")
            os.kill(chv.process_named(server.pid, "chv-keeper"), signal.SIGKILL)
            raw_put(raw, 2, "after", b"two")
            chv.check_in("path: after\n", raw.check_answer(2, 200)["receipt"], "the receipt of the next keeper")
            raw.close()


def test_a_keeper_that_does_not_come_back():
    """The file is stored, and the answer says that there is no receipt; later requests are answered too."""
    with ReceiptSite() as site:
        server = site.init()
        with files.Raw(site) as raw:
            raw.ask(1, "stat", "")
            raw.check_answer(1, 200)
            hidden = site.path("hidden")
            os.rename(site.passphrase_file, hidden)
            os.kill(chv.process_named(server.pid, "chv-keeper"), signal.SIGKILL)
            raw_put(raw, 2, "f", b"two")
            raw.ask(3, "stat", "f")
            told = raw.check_answer(2, 200, "f")
            chv.check_equal(told["text"],
                            "stored, but without a receipt: the process that signs receipts does not answer", "text")
            chv.check_equal(("receipt" in told, "signature" in told), (False, False), "a receipt")
            chv.check_equal(told["sha256"], hashlib.sha256(b"two").digest(), "digest")
            raw.check_answer(3, 200, "f")
            chv.check_equal(chv.read(site.home("f")), b"two", "what is stored")
            raw.close()
            os.rename(hidden, site.passphrase_file)


def test_a_client_that_goes_while_its_receipt_is_made():
    with ReceiptSite() as site:
        server = site.init()
        keeper = chv.process_named(server.pid, "chv-keeper")
        with files.Raw(site) as first, files.Raw(site) as second:
            os.kill(keeper, signal.SIGSTOP)
            try:
                raw_put(first, 1, "f", b"one")
                files.wait_until("the file is stored", lambda: os.path.exists(site.home("f")))
                first.sock.close()
                server.wait_for("closed|ended")
                raw_put(second, 1, "g", b"two")
            finally:
                os.kill(keeper, signal.SIGCONT)
            chv.check_in("path: g\n", second.check_answer(1, 200, "g")["receipt"], "the receipt")
            second.close()


if __name__ == "__main__":
    chv.main()
