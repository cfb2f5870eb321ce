# SPDX-License-Identifier: Apache-2.0
"""keyadmin from end to end: init, client add and show, check, derive; what it refuses; what it leaves behind."""
import base64
import datetime
import json
import os
import re
import resource
import signal
import subprocess

import chv
import store

CANTCREAT, DATAERR, CONFIG, NOINPUT, NOPERM, USAGE, IOERR = 73, 65, 78, 66, 77, 64, 74


def fails(code, text, name, *arguments, **options):
    """One line on standard error, nothing on standard output."""
    done = chv.run(name, *arguments, code=code, **options)
    chv.check_equal(done.stdout, b"", f"{arguments}: standard output")
    chv.check_equal(done.stderr.count(b"\n"), 1, f"{arguments}: lines of {done.stderr}")
    chv.check(done.stderr.startswith(name.encode() + b": "), f"{arguments}: {done.stderr}")
    chv.check_in(text, done.stderr, f"{arguments}: error")
    return done


def tree(folder):
    return sorted(os.path.relpath(os.path.join(top, name), folder)
                  for top, folders, files in os.walk(folder) for name in folders + files)


def show(key, **options):
    return json.loads(chv.run("keyadmin", "client", "show", key.path, "--passphrase-file", key.passphrase_file, "--json",
                              **options).stdout)


def secrets_of(site, *keys):
    """Every secret of this site in the spellings that a leak would have."""
    found = []
    for path, passphrase_file in [(os.path.join(site.store, "server.keys"), site.passphrase_file),
                                  *[(k.path, k.passphrase_file) for k in keys]]:
        passphrase = store.passphrase_of(passphrase_file)
        found.append(passphrase)
        for key in store.Store(path, passphrase).keys.values():
            found += [key, key.hex().encode(), key.hex().upper().encode(), store.b64(key).encode(),
                      base64.b64encode(key).rstrip(b"=")]
    return found


def test_init_makes_a_server():
    with chv.Site("gate.example") as site:
        done = site.init("--address", "gate.example:7040")
        chv.check_equal(tree(site.store), ["chaveirod.conf", "registry.db", "server.keys", "server.pub", "state"], "files")
        chv.check_equal(os.stat(site.store).st_mode & 0o777, 0o700, "mode of the folder")
        chv.check_equal(os.stat(os.path.join(site.store, "server.keys")).st_mode & 0o777, 0o600, "mode of the keystore")
        config = chv.read(site.config).decode()
        for line in ("name = gate.example", "keystore = file:server.keys", "listen = 127.0.0.1:0"):
            chv.check(re.search(rf"^{re.escape(line)}$", config, re.M), f"no line '{line}' in {config}")
        opened = store.Store(os.path.join(site.store, "server.keys"), store.passphrase_of(site.passphrase_file))
        chv.check_equal(list(opened.keys), ["master:1"], "keys")
        chv.check_equal(opened.data, {"server": b"gate.example", "address": b"gate.example:7040"}, "data")
        chv.check_equal(opened.header["n"], 16384, "scrypt N")
        chv.check_in(store.key_check(opened.keys["master:1"], 16), done.stdout, "key check value")
        chv.check_in("keyadmin client add", done.stdout, "next steps")


def test_init_refuses_to_overwrite():
    with chv.Site() as site:
        site.init()
        before = {name: chv.read(os.path.join(site.store, name)) for name in ("server.keys", "chaveirod.conf")}
        site.init(code=CANTCREAT)
        os.unlink(site.config)
        fails(CANTCREAT, "server.keys is there already", "keyadmin", "init", "--dir", site.store, "--name", "x",
              "--passphrase-file", site.passphrase_file)
        chv.check_equal(tree(site.store), ["registry.db", "server.keys", "server.pub", "state"], "files")
        chv.check_equal(chv.read(os.path.join(site.store, "server.keys")), before["server.keys"], "keystore")
        os.rename(os.path.join(site.store, "server.keys"), site.path("kept"))
        chv.write(site.config, before["chaveirod.conf"])
        site.init(code=CANTCREAT)
        chv.check_equal(tree(site.store), ["chaveirod.conf", "registry.db", "server.pub", "state"], "files")
        os.unlink(site.config)
        fails(CANTCREAT, "server.pub is there already", "keyadmin", "init", "--dir", site.store, "--name", "x",
              "--passphrase-file", site.passphrase_file)
        chv.check_equal(tree(site.store), ["registry.db", "server.pub", "state"], "files")
        chv.write(site.config, before["chaveirod.conf"])
        chv.check_equal(chv.read(site.config), before["chaveirod.conf"], "configuration")


def test_init_is_all_or_nothing():
    with chv.Site() as site:
        empty = chv.write(site.path("empty"), "")
        cases = [(NOINPUT, "empty", ["--passphrase-file", empty]),
                 (NOINPUT, "No such file", ["--passphrase-file", site.path("missing")]),
                 (USAGE, "bad server name", ["--name", "a b"]),
                 (USAGE, "bad server name", ["--name", "x" * 65]),
                 (USAGE, "bad address", ["--address", "gate"]),
                 (USAGE, "listen = not an address", ["--listen", "not an address"]),
                 (USAGE, "16384 to 1048576", ["--scrypt-cost", "8192"]),
                 (USAGE, "power of two", ["--scrypt-cost", "20000"]),
                 (CONFIG, "unknown scheme", ["--keystore", "vault:x"])]
        for code, text, extra in cases:
            arguments = ["init", "--dir", site.store]
            if "--name" not in extra:
                arguments += ["--name", "gate"]
            if "--passphrase-file" not in extra:
                arguments += ["--passphrase-file", site.passphrase_file]
            fails(code, text, "keyadmin", *arguments, *extra)
            chv.check(not os.path.exists(site.store), f"{extra}: left {site.store}")
        os.mkdir(site.store)
        fails(NOINPUT, "empty", "keyadmin", "init", "--dir", site.store, "--name", "g", "--passphrase-file", empty)
        chv.check_equal(tree(site.store), [], "files in a folder that was there")
        fails(IOERR, "No such file", "keyadmin", "init", "--dir", site.path("no/where"), "--name", "g",
              "--passphrase-file", site.passphrase_file)


def fails_to_write(limit, *arguments):
    """Runs keyadmin with files limited to so many bytes: a full disk."""
    def full():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run([chv.program("keyadmin"), *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          preexec_fn=full, check=False)
    chv.check_equal(done.returncode, IOERR, f"{arguments}: {done.stderr}")
    chv.check_equal(done.stderr.count(b"\n"), 1, f"{arguments}: lines of {done.stderr}")


def test_a_full_disk_leaves_nothing():
    with chv.Site() as site:
        before = tree(site.folder)
        fails_to_write(100, "init", "--dir", site.store, "--name", "g", "--passphrase-file", site.passphrase_file,
                       "--scrypt-cost", "16384")
        chv.check_equal(tree(site.folder), before, "files after init")
        site.init()
        client_pass = site.new_passphrase("client.pass")
        before = tree(site.folder)
        fails_to_write(100, "client", "add", "cam1", "-c", site.config, "--passphrase-file", site.passphrase_file,
                       "--client-passphrase-file", client_pass, "--scrypt-cost", "16384", "--out", site.path("cam1.key"))
        chv.check_equal(tree(site.folder), before, "files after client add")


def test_init_with_a_keystore_elsewhere():
    with chv.Site() as site:
        chv.run("keyadmin", "init", "--dir", "srv", "--name", "gate", "--keystore", "other.keys", "--passphrase-file",
                site.passphrase_file, "--scrypt-cost", "16384", cwd=site.folder)
        chv.check_equal(tree(site.path("srv")), ["chaveirod.conf", "registry.db", "server.pub", "state"], "files")
        chv.check_in(f"keystore = file:{site.path('other.keys')}", chv.read(site.path("srv/chaveirod.conf")), "keystore")
        site.config = site.path("srv/chaveirod.conf")
        site.add_client("cam1")


def test_a_client_has_the_key_that_python_derives():
    with chv.Site("gate") as site:
        site.init("--address", "gate.example:7040")
        key = site.add_client("cam1", scopes=["message", "files:ro", "message"], expires="2031-05-06",
                              extra=["--serial", "7"])
        master = store.Store(os.path.join(site.store, "server.keys"),
                             store.passphrase_of(site.passphrase_file)).keys["master:1"]
        end = int(datetime.datetime(2031, 5, 6, 23, 59, 59, tzinfo=datetime.timezone.utc).timestamp())
        cred = store.credential("cam1", ["message", "files:ro"], end, serial=7)
        client = store.Store(key.path, store.passphrase_of(key.passphrase_file))
        chv.check_equal(client.keys, {"access:1.7": store.access_key(master, cred)}, "keys")
        chv.check_equal(client.data, {"credential:1.7": cred, "server": b"gate", "address": b"gate.example:7040"}, "data")
        chv.check_equal(os.stat(key.path).st_mode & 0o777, 0o600, "mode")
        shown = show(key)
        chv.check_equal(shown, {"client": "cam1", "profile": "psk", "scopes": ["files:ro", "message"],
                                "expires": "2031-05-06T23:59:59Z", "epoch": 1, "serial": 7, "server": "gate",
                                "address": "gate.example:7040", "file": key.path,
                                "key_check": store.key_check(client.keys["access:1.7"])}, "client show")


def test_the_same_credential_gives_the_same_key():
    with chv.Site() as site:
        site.init()
        day = datetime.datetime.now(datetime.timezone.utc).date()
        first = show(site.add_client("cam1", out=site.path("a.key")))
        again = show(site.add_client("cam1", out=site.path("b.key")))
        if datetime.datetime.now(datetime.timezone.utc).date() != day:
            raise chv.Skip("midnight passed between the two")
        chv.check_equal(again["key_check"], first["key_check"], "key check value of the same credential")
        for name, extra in [("id", {}), ("scope", {"scopes": ["files:ro"]}), ("expiry", {"expires": "91d"}),
                            ("serial", {"extra": ["--serial", "2"]})]:
            other = show(site.add_client("cam2" if name == "id" else "cam1", out=site.path(f"{name}.key"), **extra))
            chv.check(other["key_check"] != first["key_check"], f"another {name} must give another key")
    with chv.Site() as site:
        site.init()
        other = show(site.add_client("cam1"))
        chv.check(other["key_check"] != first["key_check"], "another master must give another key")


def test_client_add_defaults():
    with chv.Site() as site:
        site.init()
        shown = show(site.add_client("cam1", scopes=[]))
        chv.check_equal(shown["scopes"], ["message"], "default scope")
        chv.check_equal((shown["epoch"], shown["serial"]), (1, 1), "epoch and serial")
        chv.check(shown["expires"].endswith("T23:59:59Z"), f"expires at the end of a day: {shown['expires']}")
        never = site.add_client("cam2", expires="never")
        chv.check_equal(show(never)["expires"], "never", "never")


def test_client_add_warns_of_what_will_not_work():
    with chv.Site() as site:
        site.init()

        def warned(name, *extra):
            return chv.run("keyadmin", "client", "add", "cam1", "-c", site.config, "--passphrase-file",
                           site.passphrase_file, "--client-passphrase-file", site.passphrase_file, "--scrypt-cost",
                           "16384", "--out", site.path(name), *extra).stderr

        chv.check_in("the server's port is not fixed: give --address", warned("a"), "port 0")
        chv.check_equal(warned("b", "--address", "localhost:7040"), b"", "nothing to warn of")
        for expires in ("never", "200d"):
            chv.check_in("lives longer than max-lifetime = 90 days", warned(expires, "--expires", expires), "lifetime")
        site.configure(max_lifetime="0")
        chv.check_equal(warned("c", "--address", "localhost:7040", "--expires", "never"), b"", "no limit")
        chv.check_in("warning: no service knows the scope 'file:ro'", warned("d", "--address", "localhost:7040", "--scope",
                                                                           "file:ro", "--scope", "files:rw"), "a slip")
        chv.check_equal(warned("e", "--address", "localhost:7040", "--scope", "tunnel:ssh", "--scope", "push"), b"", "known")
        chv.check_in("warning: no service knows the scope 'tunnel:a/b'", warned("t", "--address", "localhost:7040", "--scope",
                                                                              "tunnel:a/b"), "no tunnel's name")
        site.configure(epochs="2")
        done = chv.run("keyadmin", "client", "add", "cam1", "-c", site.config, "--passphrase-file", site.passphrase_file,
                       "--client-passphrase-file", site.passphrase_file, "--out", site.path("f"), code=CONFIG)
        chv.check_in("epoch 1: it is not in epochs", done.stderr, "epoch")
        chv.check(not os.path.exists(site.path("f")), "a key of an epoch that is not served was issued")


def test_client_add_refuses():
    with chv.Site() as site:
        site.init()
        out = site.path("x.key")
        client_pass = site.new_passphrase("client.pass")
        base = ["--config", site.config, "--passphrase-file", site.passphrase_file, "--client-passphrase-file", client_pass]
        wrong = site.new_passphrase("wrong.pass")
        cases = [(USAGE, "may hold letters, digits, . _ @ : -, first one alphanumeric", ["-", *base, "--out", out]),
                 (USAGE, "bad client id", ["a b", *base, "--out", out]),
                 (USAGE, "bad client id", ["x" * 65, *base, "--out", out]),
                 (USAGE, "bad client id", ["", *base, "--out", out]),
                 (USAGE, "bad scope", ["cam1", "--scope", "Files", *base, "--out", out]),
                 (USAGE, "bad scope", ["cam1", "--scope", "x" * 33, *base, "--out", out]),
                 (USAGE, "longer than 512", ["cam1", *[a for i in range(20) for a in ("--scope", f"{i:02}" + "y" * 30)],
                                             *base, "--out", out]),
                 (USAGE, "in the past", ["cam1", "--expires", "2020-01-01", *base, "--out", out]),
                 (USAGE, "is no expiry", ["cam1", "--expires", "soon", *base, "--out", out]),
                 (USAGE, "--serial wants", ["cam1", "--serial", "0", *base, "--out", out]),
                 (USAGE, "--epoch wants", ["cam1", "--epoch", "4294967296", *base, "--out", out]),
                 (NOINPUT, "no master of epoch 2: it has 1", ["cam1", "--epoch", "2", *base, "--out", out]),
                 (USAGE, "bad address", ["cam1", "--address", "nowhere", *base, "--out", out]),
                 (USAGE, "Give --out FILE", ["cam1", *base]),
                 (NOINPUT, "No such file", ["cam1", *base, "--out", site.path("no/where.key")]),
                 (NOPERM, "wrong passphrase", ["cam1", *base[:2], "--passphrase-file", wrong, *base[4:], "--out", out]),
                 (NOINPUT, "No such file", ["cam1", *base[:4], "--client-passphrase-file", site.path("no"), "--out", out]),
                 (NOINPUT, "no.conf", ["cam1", "--config", site.path("no.conf"), *base[2:], "--out", out]),
                 (USAGE, "not both", ["cam1", *base, "--keystore", "x", "--out", out])]
        before = tree(site.folder)
        for code, text, arguments in cases:
            # an id that begins with a dash stands behind "--"
            words = ["client", "add", *arguments[1:], "--", arguments[0]]
            fails(code, text, "keyadmin", *words)
            chv.check_equal(tree(site.folder), before, f"{arguments}: files")
        key = site.add_client("cam1")
        bytes_before = chv.read(key.path)
        fails(CANTCREAT, "is there already", "keyadmin", "client", "add", "cam1", *base, "--out", key.path)
        chv.check_equal(chv.read(key.path), bytes_before, "the file that was there")


def test_passphrases_on_standard_input():
    with chv.Site() as site:
        site.init()
        server = chv.read(site.passphrase_file).decode()
        out = site.path("cam1.key")
        chv.run("keyadmin", "client", "add", "cam1", "-c", site.config, "--passphrase-file", "-",
                "--client-passphrase-file", "-", "--scrypt-cost", "16384", "--out", out, stdin=server + "for cam1\n")
        chv.run("keyadmin", "client", "show", out, "--passphrase-file", "-", stdin="for cam1\n")
        fails(NOPERM, "wrong passphrase", "keyadmin", "client", "show", out, "--passphrase-file", "-", stdin=server)
        fails(NOINPUT, "empty", "keyadmin", "client", "show", out, "--passphrase-file", "-", stdin="")


def test_passphrase_from_a_systemd_credential():
    with chv.Site() as site:
        site.init()
        folder = site.path("credentials")
        os.mkdir(folder)
        chv.write(os.path.join(folder, "chaveiro.passphrase"), chv.read(site.passphrase_file), mode=0o400)
        path = os.path.join(site.store, "server.keys")
        chv.run("keyadmin", "check", path, env={"CREDENTIALS_DIRECTORY": folder})
        # the server's credential never becomes a new client's passphrase: that one is asked for
        done = subprocess.run([chv.program("keyadmin"), "client", "add", "cam1", "-c", site.config, "--out",
                               site.path("cam1.key")], env=dict(os.environ, CREDENTIALS_DIRECTORY=folder),
                              stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True, check=False)
        chv.check_equal(done.returncode, NOINPUT, f"without a terminal: {done.stderr}")
        chv.check_in("--client-passphrase-file FILE", done.stderr, "what to do")
        chv.check(not os.path.exists(site.path("cam1.key")), "a failure must leave no file")


def test_check_tells_the_kind():
    with chv.Site("gate") as site:
        site.init()
        key = site.add_client("cam1")
        path = os.path.join(site.store, "server.keys")
        server = json.loads(chv.run("keyadmin", "check", path, "--passphrase-file", site.passphrase_file, "--json").stdout)
        master = store.Store(path, store.passphrase_of(site.passphrase_file)).keys["master:1"]
        chv.check_equal(server, {"file": path, "kind": "server", "server": "gate",
                                 "keys": [{"label": "identity", "use": "identity", "curve": "25519"},
                                          {"label": "master:1", "use": "secret",
                                           "key_check": store.key_check(master, 16)}]}, "server")
        client = json.loads(chv.run("keyadmin", "--json", "check", key.path, "--passphrase-file",
                                    key.passphrase_file).stdout)
        chv.check_equal((client["kind"], client["keys"][0]["label"], client["keys"][0]["key_check"]),
                        ("client", "access:1.1", show(key)["key_check"]), "client")
        people = chv.run("keyadmin", "check", path, "--passphrase-file", site.passphrase_file).stdout.decode()
        chv.check(re.search(r"^kind: +server$", people, re.M), people)
        chv.check(re.search(rf"^master:1 +secret +{store.key_check(master, 16)}$", people, re.M), people)
        fails(NOINPUT, "no access key", "keyadmin", "client", "show", path, "--passphrase-file", site.passphrase_file)


def test_damaged_files_are_told_apart():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        whole = chv.read(key.path)
        copy = site.path("copy")

        def refused(code, text, data, mode=0o600):
            chv.write(copy, data)
            os.chmod(copy, mode)
            fails(code, text, "keyadmin", "client", "show", copy, "--passphrase-file", key.passphrase_file)
            chv.check_equal(chv.read(copy), data, "the file")

        refused(DATAERR, "truncated", whole[:-10])
        refused(CONFIG, "others", whole, mode=0o644)
        refused(DATAERR, "", whole.replace(b'"ciphertext": "', b'"ciphertext": "A'))
        refused(DATAERR, "", b"ola\n")
        fails(NOINPUT, "", "keyadmin", "client", "show", site.path("missing"), "--passphrase-file", key.passphrase_file)


def test_derive_explains_and_shows_no_key():
    with chv.Site("gate") as site:
        site.init()
        key = site.add_client("cam1", scopes=["files:ro", "message"], expires="2031-05-06")
        options = ["--scope", "message", "--scope", "files:ro", "--expires", "2031-05-06", "-c", site.config,
                   "--passphrase-file", site.passphrase_file]
        told = json.loads(chv.run("keyadmin", "derive", "--explain", "cam1", *options, "--json").stdout)
        client = store.Store(key.path, store.passphrase_of(key.passphrase_file))
        cred = client.data["credential:1.1"]
        chv.check_equal(told["credential"], cred.hex(), "credential")
        chv.check_equal(told["key_check"], show(key)["key_check"], "key check value")
        chv.check_equal("".join(field["bytes"] for field in told["fields"]), cred.hex(), "the fields are the credential")
        chv.check_equal([field["offset"] for field in told["fields"]],
                        [sum(f["length"] for f in told["fields"][:i]) for i in range(len(told["fields"]))], "offsets")
        chv.check_equal(bytes.fromhex(told["info"]),
                        told["label"].encode() + b"\0" + len(cred).to_bytes(2, "big") + cred, "info")
        master = store.Store(os.path.join(site.store, "server.keys"),
                             store.passphrase_of(site.passphrase_file)).keys[told["master"]]
        access = store.expand(master, bytes.fromhex(told["info"]))
        chv.check_equal(access, client.keys["access:1.1"], "what the formula gives")
        chv.check_equal(store.expand(access, bytes.fromhex(told["check_info"]))[:4].hex(), told["key_check"], "check")
        people = chv.run("keyadmin", "derive", "--explain", "cam1", *options).stdout
        for secret in secrets_of(site, key):
            chv.check_not_in(secret, people + json.dumps(told).encode(), "derive --explain")
        chv.check_in(told["key_check"], people, "key check value")
        fails(USAGE, "never printed", "keyadmin", "derive", "cam1", *options)


def test_no_secret_comes_out():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        path = os.path.join(site.store, "server.keys")
        server = ["--passphrase-file", site.passphrase_file]
        client = ["--passphrase-file", key.passphrase_file]
        output = b""
        for arguments in (["check", path, *server], ["check", key.path, *client], ["client", "show", key.path, *client],
                          ["check", path, *server, "--json"], ["client", "show", key.path, *client, "--json"],
                          ["check", path, *client], ["init", "--dir", site.store, "--name", "x", *server]):
            done = chv.run("keyadmin", *arguments, code=None)
            output += done.stdout + done.stderr
        for name in tree(site.folder):
            if not name.endswith(".pass") and os.path.isfile(site.path(name)):
                output += chv.read(site.path(name))
        for secret in secrets_of(site, key):
            chv.check_not_in(secret, output, "output and files")


def test_help_and_usage():
    for arguments in ([], ["init"], ["client", "add"], ["client", "show"], ["check"], ["derive"]):
        text = chv.run("keyadmin", *arguments, "--help").stdout.decode()
        chv.check(text.startswith("Usage: keyadmin"), text)
        chv.check_in("Example", text, f"{arguments}: help teaches by example")
        for line in text.splitlines():
            if "/chaveiro/" not in line:  # as long as the prefix that was configured
                chv.check(len(line) <= 110, f"a help line of {len(line)} characters: {line}")
            chv.check("\033" not in line, f"colours in a pipe: {line!r}")
    chv.check(re.fullmatch(rb"keyadmin \(chaveiro\) \d+\.\d+\.\d+\n", chv.run("keyadmin", "--version").stdout), "version")
    fails(USAGE, "no command given", "keyadmin")
    fails(USAGE, "there are init, client add", "keyadmin", "clent", "add")
    fails(USAGE, "does not belong", "keyadmin", "check", "x", "--scope", "message")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([chv.program("keyadmin"), "--help"], stdout=full, stderr=subprocess.PIPE, check=False)
    chv.check_equal(done.returncode, IOERR, f"a full disk: {done.stderr}")


def test_interrupted_it_leaves_nothing():
    """A signal while a passphrase is waited for: the program ends by it, and no file is there."""
    with chv.Site() as site:
        site.init()
        before = tree(site.folder)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
            reading, writing = os.pipe()
            process = site.spawn("keyadmin", "client", "add", "cam1", "-c", site.config, "--passphrase-file",
                                 site.passphrase_file, "--client-passphrase-file", "-", "--out", site.path("cam1.key"),
                                 stdin=reading)
            os.close(reading)
            process.signal(number)
            process.wait(-number)
            os.close(writing)
            chv.check_equal(tree(site.folder), before, f"files after {number!r}")


if __name__ == "__main__":
    chv.main()
