# SPDX-License-Identifier: Apache-2.0
"""A TPM 2.0 of software (swtpm) with a resource manager on a bus of its own, and a token of tpm2-pkcs11 in it."""
import contextlib
import glob
import os
import re
import shutil
import subprocess
import time

import chv


def need(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin")
    if path is None:
        raise chv.Skip(f"{name} is not installed: scripts/install-packages tpm")
    return path


def module():
    found = sorted(glob.glob("/usr/lib/*/libtpm2_pkcs11.so.1") + glob.glob("/usr/lib*/libtpm2_pkcs11.so.1"))
    if not found:
        raise chv.Skip("libtpm2-pkcs11-1 is not installed: scripts/install-packages tpm")
    return found[0]


class TpmSite(chv.Site):
    """A site with a TPM: swtpm, dbus-daemon and tpm2-abrmd, ended by their ids; everything is in the site's folder."""

    def __init__(self, name="test-server"):
        self.module = module()
        self.dbus_send = need("dbus-send")
        commands = {p: need(p) for p in ("swtpm", "dbus-daemon", "tpm2-abrmd", "tpm2_ptool", "tpm2_load")}
        self.ptool = commands["tpm2_ptool"]
        super().__init__(name)
        try:
            self._start(commands)
        except BaseException:
            self.__exit__(RuntimeError, None, None)
            raise

    def _start(self, commands):
        state, store, sock = self.path("state"), self.path("store"), self.path("tpm")
        os.mkdir(state, 0o700)
        os.mkdir(store, 0o700)
        # the control socket's name is fixed: the data socket's with ".ctrl"
        swtpm = self.spawn(commands["swtpm"], "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl",
                           f"type=unixio,path={sock}.ctrl", "--server", f"type=unixio,path={sock}", "--flags",
                           "not-need-init,startup-clear")
        bus = self.spawn(commands["dbus-daemon"], "--session", "--nofork", "--nosyslog", "--nopidfile", "--print-address",
                         f"--address=unix:path={self.path('bus')}")
        address = bus.wait_for(r"(unix:\S+)\n", stream="stdout")[0].group(1).decode()
        # the module and the tools of tpm2-tools, which tpm2_ptool runs, read different names
        tcti = "tabrmd:bus_type=session"
        self.env = {"DBUS_SESSION_BUS_ADDRESS": address, "TPM2_PKCS11_TCTI": tcti, "TPM2TOOLS_TCTI": tcti,
                    "TPM2_PKCS11_STORE": store}
        self._until(lambda: os.path.exists(sock) and os.path.exists(f"{sock}.ctrl"), swtpm)
        manager = self.spawn(commands["tpm2-abrmd"], "--session", "--allow-root", f"--tcti=swtpm:path={sock}",
                             "--flush-all", env=self.env)
        self._until(self._manager_serves, manager)
        self.services = [manager, bus, swtpm]
        self.pin_file = self.path("pin")
        self.keyadmin("token", "init", f"pkcs11:token=tpm?module-path={self.module}", "--pin-file", self.pin_file,
                      "--so-pin-file", self.path("so-pin"))
        self.pin = chv.read(self.pin_file).decode().strip()

    def __exit__(self, kind, value, trace):
        try:
            if self.server is not None and kind is None:
                self.stop()
        finally:
            for service in getattr(self, "services", []):  # the manager before its bus and its TPM
                with contextlib.suppress(ProcessLookupError):
                    service.process.terminate()
                with contextlib.suppress(chv.Failure):
                    service.wait()
            super().__exit__(kind, value, trace)

    def _manager_serves(self):
        asked = subprocess.run([self.dbus_send, f"--bus={self.env['DBUS_SESSION_BUS_ADDRESS']}", "--print-reply=literal",
                                "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.NameHasOwner",
                                "string:com.intel.tss2.Tabrmd"], capture_output=True, check=False)
        return b"true" in asked.stdout

    @staticmethod
    def _until(true, process):
        end = time.monotonic() + chv.DEADLINE
        while not true():
            name = os.path.basename(process.command[0])
            chv.check(process.running(), f"{name} ended: {process.stderr.decode(errors='replace')}")
            chv.check(time.monotonic() < end, f"{name} is not ready after {chv.DEADLINE:.0f} s")
            time.sleep(0.02)

    def tool(self, *arguments):
        return chv.run(*arguments, env=self.env).stdout.decode()

    def make_key(self, label):
        """The TPM makes it, as an administrator does."""
        return self.tool(self.ptool, "addkey", "--algorithm=hmac:sha256", "--label=tpm", f"--userpin={self.pin}",
                         f"--key-label={label}")

    def import_key(self, label, value):
        return self.tool(self.ptool, "import", "--algorithm=hmac:sha256", "--label=tpm", f"--userpin={self.pin}",
                         f"--key-label={label}", "--privkey", chv.write(self.path("raw"), value))

    def deny_extraction(self):
        """Of an imported key the tool writes CKA_EXTRACTABLE = true; an attribute is a line of the database."""
        ids = re.findall(r"^\s+id: (\d+)$", self.tool(self.ptool, "listobjects", "--label=tpm"), re.M)
        chv.check_equal(len(ids), 1, "objects in the token")
        self.tool(self.ptool, "objmod", "--id", ids[0], "--key", "CKA_EXTRACTABLE", "--type", "bool", "--value", "False")

    @property
    def uri(self):
        return f"pkcs11:token=tpm?module-path={self.module}&pin-source=file:{self.pin_file}"

    def keyadmin(self, *arguments, **options):
        return super().keyadmin(*arguments, env=self.env, **options)

    def write_config(self):
        """By hand: `keyadmin init` makes its master itself, which this token cannot."""
        os.mkdir(self.store, 0o700)
        chv.write(self.config, f"[server]\nname = {self.name}\nkeystore = {self.uri}\nlisten = 127.0.0.1:0\n")

    def add_client(self, client_id):
        out, passphrase = self.path(f"{client_id}.key"), self.new_passphrase(f"{client_id}.pass")
        self.keyadmin("client", "add", client_id, "--config", self.config, "--client-passphrase-file", passphrase,
                      "--scrypt-cost", chv.SCRYPT_COST, "--out", out, "--address", self.address or "127.0.0.1:1")
        return chv.Key(client_id, out, passphrase)

    def start(self):
        self.server = self.spawn("chaveirod", "-c", self.config, env=self.env)
        self.address = self.server.wait_for(r"listening on (\S+)")[0].group(1).decode()
