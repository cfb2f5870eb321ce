# SPDX-License-Identifier: Apache-2.0
"""Profiles key and key+psk through the programs: who is let in and who is not, files and tokens on both sides, what is
bound to what, lists loaded again, a server's key that changed."""
import json
import os
import signal
import subprocess
import time

import chv
import clock
import faulty
import identityclient
import rawclient
import softhsm
import store

CONFIG, NOPERM, PROTOCOL = 78, 77, 76
CURVES = ("x25519", "p256")
ALL = "psk, key, key+psk"


class IdentitySite(chv.Site):
    """A site that serves all profiles; its allow-list is empty."""

    def init(self, *extra, **options):
        done = super().init(*extra, **options)
        serve_all(self)
        return done


def serve_all(site):
    site.configure(profiles=ALL, allowed_keys="allowed_keys")
    allow(site)


def server_pub(site):
    return os.path.join(site.store, "server.pub")


def allow(site, *lines):
    path = os.path.join(site.store, "allowed_keys")
    chv.write(path + ".new", "".join(line + "\n" for line in lines), 0o644)
    os.rename(path + ".new", path)


def reload(site, count=1):
    os.kill(site.server.pid, signal.SIGHUP)
    site.server.wait_for("configuration loaded", count)


def new_key(site, name, curve="x25519"):
    path = site.path(name)
    chv.run("keyadmin", "identity", "new", "--out", path, "--curve", curve)
    return path


def line_of(path, *arguments):
    return chv.run("keyadmin", "identity", "show", path + ".pub", *arguments).stdout.decode().rstrip("\n")


def send(site, path, *extra, code=0, text="ola", env=None):
    done = chv.run("chaveiro", "--identity", path, "--server-key", server_pub(site), "--server", site.address, *extra,
                   "send", text, code=code, env=env)
    if code == 0:
        chv.check_equal(done.stdout, f"message received: '{text}'\n".encode(), "what the server answered")
    return done


def fingerprint(key, env=None):
    return chv.run("keyadmin", "identity", "fingerprint", key, env=env).stdout.decode().strip()


def test_allowed_and_not():
    for curve in CURVES:
        with IdentitySite() as site:
            site.init("--curve", curve)
            cams = [new_key(site, f"cam{i}", curve) for i in range(1, 5)]
            allow(site, "# who may come in", line_of(cams[0]), line_of(cams[1], "--expires", "2099-01-01"),
                  line_of(cams[3], "--scope", "files:ro"))
            server = site.start()
            for cam in cams[:2]:
                send(site, cam)
                server.wait_for(f"client '{os.path.basename(cam)}': opened service 'message'")
            done = send(site, cams[2], code=NOPERM)
            chv.check_in("does not let this identity key in (403)", done.stderr, "cam3")
            chv.check_in(fingerprint(cams[2]), done.stderr, "cam3's fingerprint")
            server.wait_for(f"key {fingerprint(cams[2])}: refused 403: this identity key is not in allowed-keys"
                            .replace("+", r"\+"))
            done = send(site, cams[3], code=NOPERM)
            chv.check_in("the allow-list's entry has no scope 'message'", done.stderr, "cam4")
            site.stop()
            chv.check_not_in("cam3", server.stderr, "cam3 is nobody")
            chv.check_equal(server.stderr.count(b"opened service"), 2, "services opened")


def test_expired_entry():
    with IdentitySite() as site:
        site.init()
        cam1 = new_key(site, "cam1")
        allow(site, line_of(cam1) + " expires=2026-01-31 last year")
        site.start()
        done = send(site, cam1, code=NOPERM)
        chv.check_in("the allow-list's entry expired at 2026-01-31 23:59 UTC", done.stderr, "cam1")


def test_a_session_ends_with_its_entry():
    with IdentitySite() as site:
        site.init()
        cam1, shifted = new_key(site, "cam1"), clock.Clock(site.folder)
        allow(site, line_of(cam1, "--expires", "2d"))
        site.start(env=shifted.env)
        chat = site.spawn("chaveiro", "--identity", cam1, "--server-key", server_pub(site), "--server", site.address, "chat",
                          stdin=subprocess.PIPE)
        chat.stdin.write(b"ola\n")
        chat.stdin.flush()
        chat.wait_for("message received: 'ola'", stream="stdout")
        shifted.shift(4 * 86400)
        done = chat.wait(NOPERM)
        chv.check_in("403: the allow-list's entry expired at", done.stderr, "error")
        chv.check_in("the session ends", done.stderr, "error")


def test_unknown_key_gets_one_refusal_and_the_end():
    with IdentitySite() as site:
        site.init()
        stranger = identityclient.private_of(new_key(site, "stranger"))
        site.start()
        public = identityclient.public_bytes(server_pub(site))
        with identityclient.IdentityClient(site, identityclient.KEY, stranger, public) as client:
            client.sock.sendall(client.hello() + rawclient.frame(bytes(64)))  # and a first record in advance
            chv.check_equal(client.read_reply(), 403, "refusal")
            chv.check_equal(client.received[2:], b"\x01\x01\x93", "all that came")
            chv.check_equal(client.sock.recv(1), b"", "bytes behind the refusal")
        site.server.wait_for("refused 403")
        chv.check_not_in("opened service", site.log(), "log")


def test_the_python_client_is_let_in():
    """What the next tests rely on: with everything right it works."""
    with IdentitySite() as site:
        site.init()
        path = new_key(site, "cam1")
        allow(site, line_of(path))
        site.start()
        public, static = identityclient.public_bytes(server_pub(site)), identityclient.private_of(path)
        master = rawclient.Keys(site).master
        cred = store.credential("cam1", not_after=int(time.time()) + 86400, profile=3,
                                identity=identityclient.identity_hash(identityclient.public_bytes(static)))
        for profile, more in ((identityclient.KEY, ()),
                              (identityclient.KEY_PSK, (cred, store.access_key(master, cred)))):
            with identityclient.IdentityClient(site, profile, static, public, *more) as client:
                chv.check_equal(client.handshake(), None, "handshake")
                chv.check_equal(client.open(), (200, "ready"), "OPEN")
                chv.check_equal(client.message(b"ola"), b"message received: 'ola'", "reply")
                client.close()


def doomed(site, client):
    """A handshake that only the reply's tag stops, as with any wrong key."""
    with client:
        client.send_hello()
        try:
            chv.check_equal(client.read_reply(), "no reply that opens", "reply")
        except identityclient.InvalidTag:
            pass
        client.sock.shutdown(1)
        client.sock.recv(1)


def test_credential_and_key_of_two_clients():
    with IdentitySite() as site:
        site.init()
        site.start()
        a, b = (identityclient.private_of(new_key(site, name)) for name in "ab")
        public = identityclient.public_bytes(server_pub(site))
        master = rawclient.Keys(site).master
        end = int(time.time()) + 86400
        cred = store.credential("b", not_after=end, profile=3,
                                identity=identityclient.identity_hash(identityclient.public_bytes(b)))
        access = store.access_key(master, cred)
        with identityclient.IdentityClient(site, identityclient.KEY_PSK, b, public, cred, access) as client:
            chv.check_equal(client.handshake(), None, "b with b's")
        doomed(site, identityclient.IdentityClient(site, identityclient.KEY_PSK, a, public, cred, access))
        site.server.wait_for("claimed client 'b': .*the credential belongs to another identity key")
        # b's credential rewritten for a: another access key, which a has not
        forged = store.credential("b", not_after=end, profile=3,
                                  identity=identityclient.identity_hash(identityclient.public_bytes(a)))
        doomed(site, identityclient.IdentityClient(site, identityclient.KEY_PSK, a, public, forged, access))
        # b's key alone
        doomed(site, identityclient.IdentityClient(site, identityclient.KEY_PSK, b, public, cred, bytes(32)))
        chv.check_not_in("opened service", site.log(), "log")


def test_a_stolen_access_key_is_worth_nothing_in_psk():
    with IdentitySite() as site:
        site.init()
        site.start()
        master = rawclient.Keys(site).master
        end = int(time.time()) + 86400
        cred = store.credential("b", not_after=end, profile=3, identity=bytes(range(32)))
        access = store.access_key(master, cred)
        with rawclient.RawClient(site, cred, access) as client:  # as it is
            client.send_hello()
            chv.check_equal(client.read_frame(), b"\x01\x01\x90", "refused: 400")
        doomed(site, rawclient.RawClient(site, store.credential("b", not_after=end), access))  # rewritten
        # and a credential of profile psk is none of key+psk
        plain = store.credential("b", not_after=end)
        static = identityclient.private_of(new_key(site, "b"))
        with identityclient.IdentityClient(site, identityclient.KEY_PSK, static,
                                           identityclient.public_bytes(server_pub(site)), plain,
                                           store.access_key(master, plain)) as client:
            chv.check_equal(client.handshake(), 400, "refusal")


def add_client(site, name, *extra):
    """keyadmin client add: a chv.Key."""
    return site.add_client(name, extra=("--profile", "key+psk", *extra))


def test_key_psk_by_files():
    for curve in CURVES:
        with IdentitySite() as site:
            site.init("--curve", curve)
            site.start()
            cam1 = new_key(site, "cam1", curve)
            cam2 = new_key(site, "cam2", curve)
            address = ["--address", site.address]
            key1 = add_client(site, "cam1", "--identity", cam1 + ".pub", *address)
            inside = add_client(site, "cam3", *address)  # its key pair is in its keystore
            done = site.client(key1, "--identity", cam1, "send", "ola")
            chv.check_equal(done.stdout, b"message received: 'ola'\n", "reply to cam1")
            done = site.client(inside, "send", "ola")
            chv.check_equal(done.stdout, b"message received: 'ola'\n", "reply to cam3")
            done = site.client(key1, "send", "ola", code=CONFIG)
            chv.check_in("give --identity", done.stderr, "without its key")
            done = site.client(key1, "--identity", cam2, "send", "ola", code=CONFIG)
            chv.check_in(fingerprint(cam1), done.stderr, "the key that it is bound to")
            chv.check_in(fingerprint(cam2), done.stderr, "the key that was given")
            told = json.loads(site.client(inside, "ping", "--json").stdout)
            chv.check_equal((told["profile"], told["client"]), ("key+psk", "cam3"), "what ping tells")
            chv.check_equal(told["suite"], f"{curve}-aesgcm-sha256", "suite, by the key's curve")


def test_the_id_and_rights_are_hidden_on_the_wire():
    with IdentitySite() as site:
        site.init()
        site.start()
        static = identityclient.private_of(new_key(site, "hidden-cam"))
        cred = store.credential("hidden-cam", not_after=int(time.time()) + 86400, profile=3,
                                identity=identityclient.identity_hash(identityclient.public_bytes(static)))
        client = identityclient.IdentityClient(site, identityclient.KEY_PSK, static,
                                               identityclient.public_bytes(server_pub(site)), cred)
        with client:
            hello = client.hello()
        for secret in (b"hidden-cam", b"message", identityclient.public_bytes(static)):
            chv.check_not_in(secret, hello, "hello")


def test_an_entry_narrows_a_credential():
    with IdentitySite() as site:
        site.init()
        cam1 = new_key(site, "cam1")
        site.start()
        key = add_client(site, "cam1", "--identity", cam1 + ".pub", "--scope", "files:ro", "--address", site.address)
        site.client(key, "--identity", cam1, "send", "ola")
        allow(site, line_of(cam1, "--scope", "files:ro"))
        reload(site)
        done = site.client(key, "--identity", cam1, "send", "ola", code=NOPERM)
        chv.check_in("has no scope 'message'", done.stderr, "rights are what both grant")
        allow(site, line_of(cam1, "other", "--scope", "message"))
        reload(site, 2)
        done = site.client(key, "--identity", cam1, "send", "ola", code=NOPERM)
        chv.check_in("the allow-list has this identity key for another client", done.stderr, "another id")
        allow(site, line_of(cam1, "--scope", "message", "--scope", "files:rw"))
        reload(site, 3)
        site.client(key, "--identity", cam1, "send", "ola")


def chat(site, path):
    """A live session that has had an answer."""
    process = site.spawn("chaveiro", "--identity", path, "--server-key", server_pub(site), "--server", site.address,
                         "chat", stdin=-1)
    say(process, b"first", 1)
    return process


def say(process, text, answers):
    process.stdin.write(text + b"\n")
    process.stdin.flush()
    process.wait_for("message received", answers, stream="stdout")


def test_a_list_loaded_again_lets_in_and_cuts_off():
    with IdentitySite() as site:
        site.init()
        cam1, cam2, cam3 = (new_key(site, f"cam{i}") for i in (1, 2, 3))
        allow(site, line_of(cam1), line_of(cam2), line_of(cam3, "--scope", "message", "--scope", "files:ro"))
        server = site.start()
        psk = site.add_client("cam9")
        chats = [chat(site, cam) for cam in (cam1, cam2, cam3)]
        # cam2 is gone, cam3 has fewer rights, cam1 has more
        allow(site, line_of(cam1, "--scope", "message", "--scope", "files:rw"), line_of(cam3))
        reload(site)
        server.wait_for("client 'cam2': refused 403: this identity key is not in allowed-keys any more")
        server.wait_for("client 'cam3': refused 403: the allow-list has less rights for this identity key now")
        for process in chats[1:]:
            process.wait(code=NOPERM)
            chv.check_in("allow", process.stderr, "what they were told")
        say(chats[0], b"second", 2)
        send(site, cam2, code=NOPERM)
        send(site, cam3)
        chv.check_equal(site.client(psk, "send", "x").stdout, b"message received: 'x'\n", "profile psk beside it")
        # a bad list changes nothing
        for bad, said in ((line_of(cam2) + "\nx25519 AAAA cam4 message", "allowed_keys:2: the x25519 key is none"),
                          (line_of(cam2) + "\n" + line_of(cam2, "cam5"), "allowed_keys:2: the key of 'cam5' stands in line 1")):
            allow(site, bad)
            os.kill(server.pid, signal.SIGHUP)
            server.wait_for("allowed-keys stay as they were: .*" + said)
            send(site, cam2, code=NOPERM)
        os.chmod(os.path.join(site.store, "allowed_keys"), 0o666)
        os.kill(server.pid, signal.SIGHUP)
        server.wait_for("allowed-keys stay as they were: .*others can write it")
        say(chats[0], b"third", 3)
        chats[0].stdin.close()
        chats[0].wait(code=0)
        # a net process that is started again has it too
        os.kill(chv.process_named(server.pid, "chv-net"), signal.SIGKILL)
        server.wait_for("the net process serves again")
        send(site, cam1)
        send(site, cam2, code=NOPERM)


def test_a_bad_list_does_not_start():
    with IdentitySite() as site:
        site.init()
        start = ["chaveirod", "-c", site.config, "--passphrase-file", site.passphrase_file]
        for text, said in ((b"ssh-ed25519 AAAA root message\n", b"allowed_keys:1: 'ssh-ed25519' is no kind of key"),
                           (b"# x\r\n", b"allowed_keys:1: a control character (0x0d)")):
            chv.write(os.path.join(site.store, "allowed_keys"), text)
            for more in ([], ["-t"]):
                chv.check_in(said, chv.run(*start, *more, code=CONFIG).stderr, f"{more}")
        os.unlink(os.path.join(site.store, "allowed_keys"))
        chv.check_in(b"allowed_keys: No such file", chv.run(*start, "-t", code=CONFIG).stderr, "without the file")
        chv.run(*start, code=CONFIG)
        site.configure(profiles="psk, key+psk")
        chv.write(os.path.join(site.store, "allowed_keys"), "")
        chv.run(*start, "-t")


def change_server_key(site):
    """As after a new installation: the keystore has another identity key."""
    file = os.path.join(site.store, "server.keys")
    store.Store(file, store.passphrase_of(site.passphrase_file)).write(file)
    old = site.path("old-server.pub")
    os.rename(server_pub(site), old)
    site.keyadmin("identity", "new", "--server", "-c", site.config, "--passphrase-file", site.passphrase_file)
    return old


def test_a_changed_server_key_is_refused_loudly():
    with IdentitySite() as site:
        site.init()
        cam1 = new_key(site, "cam1")
        allow(site, line_of(cam1))
        server = site.start()
        key = add_client(site, "cam2", "--address", site.address)
        site.client(key, "send", "ola")
        site.stop()
        old = change_server_key(site)
        server = site.start()
        for done in (chv.run("chaveiro", "--identity", cam1, "--server-key", old, "--server", site.address, "send", "x",
                             code=NOPERM),
                     site.client(key, "send", "x", code=NOPERM)):
            for part in ("does not have the identity key that is expected of it", fingerprint(old),
                         "somebody else is in between", "fingerprint", "--server-key"):
                chv.check_in(part, done.stderr, "what the client says")
            chv.check_equal(done.stdout, b"", "an answer")
        server.wait_for("refused 400: hello: message 1 does not open", 2)
        send(site, cam1)
        site.client(key, "--server-key", server_pub(site), "send", "ola")


def test_an_impostor_cannot_answer():
    """Who took the address, and has another key: its refusal is no reason to go on without."""
    with IdentitySite() as site, IdentitySite() as impostor:
        site.init()
        impostor.init()
        cam1 = new_key(site, "cam1")
        allow(impostor, line_of(cam1))
        impostor.start()
        done = chv.run("chaveiro", "--identity", cam1, "--server-key", server_pub(site), "--server", impostor.address,
                       "send", "secret", code=NOPERM)
        chv.check_in("somebody else is in between", done.stderr, "client")
        chv.check_equal(impostor.server.stdout, b"", "what the impostor could read")


def test_one_line_of_the_configuration_chooses():
    with IdentitySite() as site:
        site.init()
        cam1 = new_key(site, "cam1")
        allow(site, line_of(cam1))
        site.start()
        key = add_client(site, "cam1", "--identity", cam1 + ".pub", "--address", site.address)
        plain = site.add_client("cam7")
        conf = site.path("chaveiro.conf")

        def client(profile, keystore, code=0):
            chv.write(conf, "[client]\n" + profile + f"keystore = {os.path.basename(keystore.path)}\n"
                      f"passphrase-file = {os.path.basename(keystore.passphrase_file)}\n"
                      f"identity = cam1\nserver-key = {server_pub(site)}\naddress = {site.address}\n")
            return chv.run("chaveiro", "--config", conf, "ping", "--json", code=code)

        for profile, line in (("key+psk", ""), ("key+psk", "profile = key+psk\n"), ("key", "profile = key\n")):
            chv.check_equal(json.loads(client(line, key).stdout)["profile"], profile, line)
        chv.check_equal(json.loads(client("profile = psk\n", plain).stdout)["profile"], "psk", "cam7")
        # never another one than that
        done = client("profile = psk\n", key, code=CONFIG)
        chv.check_in("profile psk is wanted, but the keystore's credential is for profile key+psk", done.stderr, "psk")
        chv.check_in("chaveiro.conf", done.stderr, "who wants it")
        chv.check_in("profile key+psk is wanted", client("profile = key+psk\n", plain, code=CONFIG).stderr, "key+psk")
        site.configure(profiles="psk")
        site.configure(allowed_keys="")
        lines = [line for line in chv.read(site.config).decode().splitlines() if not line.startswith("allowed-keys")]
        chv.write(site.config, "\n".join(lines) + "\n")
        site.stop()
        address = site.address
        site.start("--listen", address)
        done = client("profile = key\n", key, code=PROTOCOL)
        chv.check_in("426", done.stderr, "a server that does not serve it")
        chv.check_equal(site.log().count("opened service"), 0, "services")


def test_the_users_own_configuration():
    with IdentitySite() as site:
        site.init()
        cam1 = new_key(site, "cam1")
        allow(site, line_of(cam1))
        site.start()
        os.makedirs(site.path("home/.config/chaveiro"))
        os.makedirs(site.path("xdg/chaveiro"))
        text = (f"[client]\nprofile = key\nidentity = {cam1}\nserver-key = {line_of(cam1, 'x').rsplit(' ', 2)[0]}\n"
                f"address = {site.address}\n")
        good = text.replace(line_of(cam1, "x").rsplit(" ", 2)[0], server_pub(site))
        chv.write(site.path("home/.config/chaveiro/chaveiro.conf"), good)
        env = {"HOME": site.path("home"), "XDG_CONFIG_HOME": ""}
        chv.check_equal(chv.run("chaveiro", "send", "ola", env=env).stdout, b"message received: 'ola'\n", "~/.config")
        chv.write(site.path("xdg/chaveiro/chaveiro.conf"), text)  # the client's own key in place of the server's
        env["XDG_CONFIG_HOME"] = site.path("xdg")
        done = chv.run("chaveiro", "send", "ola", env=env, code=NOPERM)
        chv.check_in(fingerprint(cam1), done.stderr, "$XDG_CONFIG_HOME goes first; a key given as it is")
        chv.run("chaveiro", "--server-key", server_pub(site), "send", "ola", env=env)
        for bad, said in (("[client]\nfrob = 1\n", "chaveiro.conf:2: unknown key 'frob'"),
                          ("[client]\nprofile = tls\n", "allowed: psk, key or key+psk"),
                          ("[client]\nprofile = key\nprofile = key\n", ":3: key 'profile' is given twice"),
                          ("[server]\nname = x\n", "there are only [client]"),
                          ("keystore = x\n", "key 'keystore' stands before the line [client]"),
                          ("[client]\naddress = here\n", "allowed: HOST:PORT"),
                          ("[client]\nx25519\n", ":2: not a 'key = value' line")):
            chv.write(site.path("xdg/chaveiro/chaveiro.conf"), bad)
            chv.check_in(said, chv.run("chaveiro", "send", "ola", env=env, code=CONFIG).stderr, bad)
        os.unlink(site.path("xdg/chaveiro/chaveiro.conf"))
        chv.check_in("which key?", chv.run("chaveiro", "send", "ola", env=env, code=64).stderr, "none at all")
        chv.run("chaveiro", "--config", site.path("nowhere"), "send", "ola", code=66)


def test_a_passphrase_of_the_identity_key():
    with IdentitySite() as site:
        site.init()
        secret = site.new_passphrase("cam1.secret")
        cam1 = site.path("cam1")
        chv.run("keyadmin", "identity", "new", "--out", cam1, "--passphrase-file", secret)
        allow(site, line_of(cam1))
        site.start()
        send(site, cam1, "--passphrase-file", secret)
        send(site, cam1, "--identity-passphrase-file", secret)
        wrong = site.new_passphrase("wrong")
        chv.check_in("wrong passphrase", send(site, cam1, "--passphrase-file", wrong, code=NOPERM).stderr, "wrong one")


def token(site, name):
    """A client's token: its URI."""
    pin = site.path(f"{name}.pin")
    site.keyadmin("token", "init", f"pkcs11:token={name}", "--pin-file", pin, "--so-pin-file", site.path(f"{name}.so"))
    return site.tokens.uri(name, pin)


def test_tokens_on_both_sides():
    for curve in CURVES:
        with softhsm.TokenSite() as site:
            site.init("--curve", curve)
            serve_all(site)
            cam1 = token(site, "cam1")
            site.keyadmin("identity", "new", "--to", cam1, "--curve", curve)
            cam2 = new_key(site, "cam2", curve)
            allow(site, site.keyadmin("identity", "show", cam1, "cam1").stdout.decode().strip(), line_of(cam2))
            site.start()
            send(site, cam1, env=site.env)
            send(site, cam2)
            stranger = token(site, "cam3")
            site.keyadmin("identity", "new", "--to", stranger, "--curve", curve)
            send(site, stranger, code=NOPERM, env=site.env)
            # key+psk: credential and key pair in the client's token, or in a file
            cam4 = site.add_token_client("cam4", extra=("--profile", "key+psk"))
            site.send(cam4, "from a token")
            cam5 = site.add_client("cam5", extra=("--profile", "key+psk"))
            site.send(cam5, "from a file")
            told = json.loads(site.keyadmin("client", "show", cam4, "--json").stdout)
            chv.check_equal(told["identity"], told["bound_to"], "the credential is bound to the token's key")


def test_calls_of_the_token_per_handshake():
    """doc/architecture.md, budgets: psk 1, key 2, key+psk 3."""
    with faulty.FaultySite() as site:
        site.init()
        serve_all(site)
        site.configure(workers="1")
        cam1 = new_key(site, "cam1")
        allow(site, line_of(cam1))
        site.start()
        psk = site.add_client("cam7")
        both = site.add_client("cam8", extra=("--profile", "key+psk"))
        calls = ("C_Sign", "C_DeriveKey")
        for wanted, run in (((1, 0), lambda: site.send(psk, "x", env={"SOFTHSM2_CONF": os.devnull})),
                            ((0, 2), lambda: send(site, cam1)),
                            ((1, 2), lambda: site.send(both, "x", env={"SOFTHSM2_CONF": os.devnull}))):
            for call in calls:
                site.tokens.fail(call, first=1 << 30)  # counted from now on
            start = time.monotonic()
            for times in (1, 2):
                run()
                signs, derived = (site.tokens.calls(call) for call in calls)
                # beside them the original of a session copy signs, when it is used and a second has gone by
                looks = int(time.monotonic() - start) + 1 if wanted[0] > 0 else 0
                chv.check(times * wanted[0] <= signs <= times * wanted[0] + looks, f"{signs} C_Sign, {looks} looks")
                chv.check_equal(derived, times * wanted[1], "C_DeriveKey")


def test_a_client_of_profile_key_by_keyadmin():
    with IdentitySite() as site:
        site.init()
        site.start()
        out, secret = site.path("cam1.key"), site.new_passphrase("cam1.pass")
        told = json.loads(site.keyadmin("client", "add", "cam1", "--profile", "key", "--config", site.config,
                                        "--passphrase-file", site.passphrase_file, "--client-passphrase-file", secret,
                                        "--scrypt-cost", chv.SCRYPT_COST, "--out", out, "--address", site.address,
                                        "--json").stdout)
        key = chv.Key("cam1", out, secret)
        site.client(key, "send", "ola", code=NOPERM)
        allow(site, told["allowed_key"])
        reload(site)
        site.client(key, "send", "ola")
        shown = json.loads(site.keyadmin("client", "show", out, "--passphrase-file", secret, "--json").stdout)
        chv.check_equal((shown["profile"], shown["identity"]), ("key", told["identity"]), "client show")
        # who has a key pair gets a line and no keystore
        cam2 = new_key(site, "cam2")
        add = ["client", "add", "cam2", "--profile", "key", "--config", site.config, "--passphrase-file",
               site.passphrase_file]
        told = json.loads(site.keyadmin(*add, "--identity", cam2 + ".pub", "--json").stdout)
        chv.check_equal(told["allowed_key"], line_of(cam2), "its line")
        site.keyadmin(*add, "--identity", cam2 + ".pub", "--out", out, code=64)
        site.keyadmin(*add, "--serial", "2", "--out", site.path("x"), code=64)
        p256 = new_key(site, "cam3", "p256")
        chv.check_in("both must be the same",
                     site.keyadmin(*add, "--identity", p256 + ".pub", code=64).stderr, "another curve")
        site.keyadmin("client", "add", "x", "--identity", cam2 + ".pub", "--config", site.config, "--out",
                      site.path("x"), code=64)


def test_a_server_without_an_identity_key_says_so():
    with IdentitySite() as site:
        site.init()
        file = os.path.join(site.store, "server.keys")
        store.Store(file, store.passphrase_of(site.passphrase_file)).write(file)
        done = chv.run("chaveirod", "-c", site.config, "--passphrase-file", site.passphrase_file, code=CONFIG)
        chv.check_in("keyadmin identity new --server", done.stderr, "what to do")


if __name__ == "__main__":
    chv.main()
