# SPDX-License-Identifier: Apache-2.0
"""The token of the backend "pkcs11": lost and found while a server uses it; who has which module in its memory."""
import os

import chv
import faulty
import softhsm


class BackendSite(softhsm.TokenSite):
    """The master in a token of SoftHSM, sessions' cryptography in another one behind the module that fails."""

    def __init__(self):
        super().__init__()
        os.rmdir(self.tokens.folder)
        os.unlink(self.tokens.config)
        self.faulty = faulty.FaultyTokens(self.folder)
        self.tokens.env.update(self.faulty.env)

    def prepare(self):
        pin = self.path("crypto.pin")
        self.init(uri=f"pkcs11:token=chaveiro?module-path={self.tokens.module}")
        self.keyadmin("token", "init", f"pkcs11:token=crypto?module-path={self.tokens.module}", "--pin-file", pin,
                      "--so-pin-file", self.path("crypto.so-pin"))
        self.crypto = self.faulty.uri("crypto", pin)

    def serve(self):
        self.prepare()
        self.configure(workers="1")
        self.start("--backend", self.crypto)
        self.key = self.add_client("cam1")
        self.send(self.key, "before")
        self.net = chv.process_named(self.server.pid, "chv-net")


def chat(site):
    """A client that stays, with one message sent."""
    client = site.client_start(site.key, "chat", stdin=chv.subprocess.PIPE)
    client.stdin.write(b"one\n")
    client.stdin.flush()
    client.wait_for("message received: 'one'", stream="stdout")
    return client


def test_a_live_connection_ends_and_new_ones_come():
    for rv in ("CKR_DEVICE_REMOVED", "CKR_GENERAL_ERROR"):
        with BackendSite() as site:
            site.serve()
            client = chat(site)
            site.faulty.fail("any", rv)
            client.stdin.write(b"two\n")
            client.stdin.flush()
            client.stdin.close()
            done = client.wait()
            chv.check(done.code != 0, "the client's connection ended")
            chv.check_not_in("'two'", done.stdout, "what the client was answered")
            # which backend, which token, which call and answer, and whose connection it was
            site.server.wait_for(rf"error net\[{site.net}\]: conn \d+: 127\S+ client 'cam1': backend pkcs11: "
                                 rf"token \"crypto\" [^\n]*: C_\w+[^\n]*: {rv}")
            refused = site.send(site.key, "three", "--retries", "0", code=None)
            chv.check(refused.code != 0, "no token, no session")
            chv.check(site.server.running(), "the server ended")
            site.faulty.heal()
            site.send_until_served(site.key, "after")
            chv.check_equal(chv.process_named(site.server.pid, "chv-net"), site.net, "the net process")


def test_one_call_lost_in_a_handshake():
    """A session of the token that died between clients is nothing that they see."""
    with BackendSite() as site:
        site.serve()
        for call in ("C_GenerateRandom", "C_GenerateKeyPair", "C_SignInit"):
            site.faulty.fail(call, "CKR_SESSION_HANDLE_INVALID", times=1)
            done = site.send(site.key, call, "--retries", "0", code=None)
            chv.check(site.faulty.calls(call) > 0, f"{call} is used")
            site.faulty.heal()
            chv.check(site.server.running(), f"the server ended: {done.stderr}")
            site.send_until_served(site.key, "after")
        chv.check_equal(chv.process_named(site.server.pid, "chv-net"), site.net, "the net process")


def test_its_folder_deleted_and_restored():
    with BackendSite() as site:
        site.serve()
        site.tokens.hide()
        site.send_until_refused(site.key)  # the master's token is in it as well
        site.tokens.show()
        site.send_until_served(site.key, "after")


# --- who has which module ---------------------------------------------------------------------------------------------


def mapped(pid):
    """The PKCS #11 modules in a process's memory."""
    try:
        maps = chv.read(f"/proc/{pid}/maps").decode()
    except PermissionError:
        raise chv.Skip("only root may look into processes that protect themselves") from None
    chv.check_in("/libc.so", maps, "the maps")
    return {os.path.basename(line.split()[-1]) for line in maps.splitlines()
            if any(name in line for name in ("softhsm", "pkcs11_fault.so", "p11-kit-proxy", "p11-kit-client"))}


def modules(site):
    """Those of supervisor, net process and keeper."""
    return [mapped(site.server.pid), mapped(chv.process_named(site.server.pid, "chv-net")), mapped(site.keeper())]


def test_only_the_keeper_has_the_module():
    with softhsm.TokenSite() as site:
        site.init()
        site.start()
        site.send(site.add_client("cam1"), "ola")
        chv.check_equal(modules(site), [set(), set(), {"libsofthsm2.so"}], "modules of supervisor, net and keeper")


def test_each_has_its_own_module():
    """The keystore's module in the keeper, the backend's in the net process: neither sees the other's."""
    with BackendSite() as site:
        site.serve()
        chv.check_equal(modules(site), [set(), {"pkcs11_fault.so", "libsofthsm2.so"}, {"libsofthsm2.so"}],
                        "modules of supervisor, net and keeper")


def test_a_file_and_no_module():
    """No token is named: nobody loads a module."""
    with chv.Site() as site:
        site.init()
        site.start()
        keeper = chv.process_named(site.server.pid, "chv-keeper")
        found = [mapped(pid) for pid in (site.server.pid, chv.process_named(site.server.pid, "chv-net"), keeper)]
        chv.check_equal(found, [set(), set(), set()], "modules")


if __name__ == "__main__":
    chv.main()
