# SPDX-License-Identifier: Apache-2.0
"""Which module a token's URI means that names none: [pkcs11] module, --module, else whatever p11-kit knows."""
import ctypes
import glob
import os
import shutil
import signal

import chv
import softhsm

PROXY = "p11-kit-proxy.so"
HOST_MODULES = ["/etc/pkcs11/modules/*.module", "/usr/share/p11-kit/modules/*.module", "/usr/lib64/pkcs11/modules/*.module"]


class Site(softhsm.TokenSite):
    """A site with p11-kit's configuration of its own, which p11-kit reads for everybody but root (pkcs11.conf(5))."""

    def __init__(self):
        super().__init__()
        try:
            ctypes.CDLL(PROXY)
        except OSError:
            raise chv.Skip("p11-kit-proxy.so is not installed") from None
        self.modules = self.path("p11-kit/pkcs11/modules")
        os.makedirs(self.modules)
        self.env["XDG_CONFIG_HOME"] = self.path("p11-kit")
        self.own = os.geteuid() != 0
        self.offer(True)

    def offer(self, on):
        """Whether p11-kit shall have SoftHSM, whatever the host's own files say."""
        chv.write(os.path.join(self.modules, "softhsm2.module"),
                  f"module: {self.tokens.module}\n" + ("" if on else "enable-in: nobody\n"))

    def need_proxy(self):
        """Root gets what the host has configured."""
        files = [name for pattern in HOST_MODULES for name in glob.glob(pattern)]
        if not self.own and not any(b"libsofthsm2.so" in chv.read(name) for name in files):
            raise chv.Skip("p11-kit reads no configuration of root's own, and this host's does not name SoftHSM")

    def without_module(self):
        """Takes the module out of what `keyadmin init` wrote."""
        text = chv.read(self.config).decode()
        chv.check_in(f"?module-path={self.tokens.module}&", text, "the configuration")
        chv.write(self.config, text.replace(f"module-path={self.tokens.module}&", ""))

    def token_client(self, client_id):
        """A client's token that is named without its module."""
        self.add_token_client(client_id)
        return f"pkcs11:token={client_id}?pin-source=file:{self.path(client_id)}.pin"

    def hung_up(self, what):
        os.kill(self.server.pid, signal.SIGHUP)
        self.server.wait_for(what)


def test_the_default_is_everything_that_p11_kit_knows():
    with Site() as site:
        site.need_proxy()
        site.init()
        site.without_module()
        chv.check_in("pkcs11:token=chaveiro?pin-source=", chv.read(site.config).decode(), "the configuration")
        chv.check_in("chaveiro ", site.keyadmin("token", "list").stdout.decode(), "tokens of all modules")
        checked = site.keyadmin("token", "check", f"pkcs11:token=chaveiro?pin-source=file:{site.pin_file}", "--json")
        chv.check_in(PROXY, checked.stdout.decode(), "the module that was checked")
        site.start()
        file_client, uri = site.add_client("cam1"), site.token_client("cam2")
        site.send(file_client, "from a file")
        site.send(uri, "from a token")
        site.send(uri, "all of it in the token", "--backend", uri)
        site.stop()
        site.start("--backend", uri)
        site.send(file_client, "to a server that computes in a token")
        site.stop()


def test_a_keystore_made_through_p11_kit():
    """init by the proxy, which has no absolute path that is the same everywhere: it is found as the loader found it."""
    with Site() as site:
        site.need_proxy()
        with open("/proc/self/maps", encoding="utf-8") as f:
            loaded = [line.split()[-1] for line in f if "libp11-kit.so" in line]
        chv.check(loaded, "the proxy is loaded here")
        site.init("--module", loaded[0])
        chv.check_in(f"module-path={loaded[0]}&", chv.read(site.config).decode(), "the configuration")
        site.start()
        site.send(site.add_client("cam1"), "x")
        site.stop()


def test_without_a_module_in_p11_kit_the_default_finds_nothing():
    with Site() as site:
        site.init()
        site.without_module()
        site.offer(False)
        user, switch = chv.as_other_user("nobody")
        programs = {name: chv.program(name) for name in ("keyadmin", "chaveirod")}
        if user is not None:  # who has neither the build's folder nor what root made
            for name, path in programs.items():
                programs[name] = shutil.copy(path, site.path(name))
            for folder, _, files in os.walk(site.folder):
                for path in [folder, *(os.path.join(folder, name) for name in files)]:
                    os.chown(path, user.pw_uid, user.pw_gid)
        done = chv.run(*switch, programs["keyadmin"], "token", "list", env=site.env)
        chv.check_equal(done.stdout, b"", "tokens")
        chv.check_in("its modules have no tokens", done.stderr, "what is said instead")
        done = chv.run(*switch, programs["chaveirod"], "-t", "-c", site.config, env=site.env, code=78)
        chv.check_in(PROXY + ": no token matches", done.stderr, "which module was asked")


def test_the_configuration_names_the_module():
    with Site() as site:
        site.init()
        site.without_module()
        site.offer(False)
        missing = site.path("missing.so")
        site.configure(module=missing)
        done = chv.run("chaveirod", "-t", "-c", site.config, env=site.env, code=78)
        chv.check_in(missing, done.stderr, "chaveirod asks the module of the file")
        done = site.keyadmin("derive", "--explain", "cam1", "--config", site.config, code=None)
        chv.check(done.code != 0, "keyadmin asks the module of the file")
        chv.check_in(missing, done.stderr, "keyadmin asks the module of the file")
        site.keyadmin("derive", "--explain", "cam1", "--config", site.config, "--module", site.tokens.module)  # the option wins

        site.configure(module=site.tokens.module)
        chv.run("chaveirod", "-t", "-c", site.config, env=site.env)
        uri = site.token_client("cam2")  # --to has its own module, and the server's comes from the file
        site.keyadmin("token", "init", "pkcs11:token=crypto", "--pin-file", site.path("crypto.pin"), "--so-pin-file",
                      site.path("crypto.so-pin"))
        site.configure(backend=f"pkcs11:token=crypto?pin-source=file:{site.path('crypto.pin')}")
        site.start()
        site.send(site.add_client("cam1"), "the backend's module comes from the file too")
        done = site.send(uri, "x", "--module", missing, code=None)
        chv.check_in(missing, done.stderr, "chaveiro --module")
        site.send(uri, "x", "--module", site.tokens.module)
        site.send(uri, "x", "--module", site.tokens.module, "--backend", uri)
        site.configure(module=missing)
        site.hung_up(r"configuration loaded; these take a restart: .*module")
        site.stop()


def test_module_needs_a_token_without_one():
    with Site() as site:
        site.init()
        site.start()
        key = site.add_client("cam1")
        done = site.send(key, "x", "--module", site.tokens.module, code=64)
        chv.check_in("--module", done.stderr, "a key in a file and openssl have no module")
        site.stop()


if __name__ == "__main__":
    chv.main()
