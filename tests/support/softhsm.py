# SPDX-License-Identifier: Apache-2.0
"""SoftHSM for the end-to-end tests: a folder of tokens of its own, and a site whose master is in one of them."""
import ctypes
import os
import shutil
import traceback

import chv

MODULES = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"]


def module():
    for path in MODULES:
        if os.access(path, os.R_OK):
            return path
    raise chv.Skip("softhsm2 is not installed")


class Tokens:
    """A folder with SoftHSM's configuration and tokens; `env` is for the programs that use them."""

    def __init__(self, folder):
        self.module = module()
        self.folder = os.path.join(folder, "tokens")
        self.config = os.path.join(folder, "softhsm2.conf")
        os.mkdir(self.folder, 0o700)
        chv.write(self.config, f"directories.tokendir = {self.folder}\nobjectstore.backend = file\nlog.level = ERROR\n")
        # Modules keep memory for ever, and are unloaded by the time that leaks are looked for: whose it was cannot be told.
        # (tests/p11 and tests/keystore look for ours, with the modules kept.)
        asan = [os.environ["ASAN_OPTIONS"]] if "ASAN_OPTIONS" in os.environ else []
        self.env = {"SOFTHSM2_CONF": self.config, "ASAN_OPTIONS": ":".join([*asan, "detect_leaks=0"])}

    def uri(self, label, pin_file=None, more=""):
        """The whole URI of a token; `more` is added to the query."""
        pin = f"&pin-source=file:{pin_file}" if pin_file else ""
        return f"pkcs11:token={label}?module-path={self.module}{pin}{more}"

    def labels(self):
        """The names of SoftHSM's own files: one folder a token."""
        return sorted(os.listdir(self.folder))

    def hide(self):
        os.rename(self.folder, self.folder + ".hidden")

    def show(self):
        os.rename(self.folder + ".hidden", self.folder)


class TokenSite(chv.Site):
    """A site whose keystore is a SoftHSM token, made by `keyadmin init`."""

    def __init__(self, name="test-server", label="chaveiro"):
        super().__init__(name)
        self.tokens = Tokens(self.folder)
        self.env = self.tokens.env
        self.label = label
        self.pin_file = os.path.join(self.store, f"{label}.pin")

    def keyadmin(self, *arguments, **options):
        options["env"] = {**self.env, **(options.get("env") or {})}
        return super().keyadmin(*arguments, **options)

    def init(self, *extra, listen="127.0.0.1:0", code=0, uri=None):
        done = self.keyadmin("init", "--dir", self.store, "--name", self.name, "--listen", listen, "--keystore",
                             uri or f"pkcs11:token={self.label}", *extra, code=code)
        if code == 0:
            self.configure(registry="none")
        return done

    @property
    def uri(self):
        """As `keyadmin init` writes it into the configuration."""
        return self.tokens.uri(self.label, self.pin_file, "&chaveiro-session-copy=yes")

    def add_client(self, client_id, scopes=("message",), expires="90d", extra=(), out=None):
        """A client with a keystore file of its own."""
        out = out or self.path(f"{client_id}.key")
        passphrase = self.new_passphrase(f"{os.path.basename(out)}.pass")
        self.keyadmin("client", "add", client_id, "--config", self.config, "--client-passphrase-file", passphrase,
                      "--scrypt-cost", chv.SCRYPT_COST, "--expires", expires, "--out", out, "--address",
                      self.address or "127.0.0.1:1", *extra)
        return chv.Key(client_id, out, passphrase)

    def add_token_client(self, client_id, extra=()):
        """A client with a token of its own: its URI."""
        pin = self.path(f"{client_id}.pin")
        self.keyadmin("token", "init", f"pkcs11:token={client_id}", "--pin-file", pin, "--so-pin-file",
                      self.path(f"{client_id}.so-pin"))
        uri = self.tokens.uri(client_id, pin)
        self.keyadmin("client", "add", client_id, "--config", self.config, "--to", uri, "--address",
                      self.address or "127.0.0.1:1", *extra)
        return uri

    def start(self, *extra, listening=1, env=None, pin=None):
        chv.check(self.server is None, "the server of this site runs already")
        self.server = self.spawn("chaveirod", "-c", self.config, *extra, env={**self.env, **(env or {})}, **(pin or {}))
        for match in self.server.wait_for(r"listening on (\S+)", listening):
            self.address = match.group(1).decode()
        return self.server

    def send(self, key, text, *extra, code=0, env=None):
        """A message by a client: a chv.Key, or the URI of a token."""
        where = ["-k", key] if isinstance(key, str) else ["-k", key.path, "--passphrase-file", key.passphrase_file]
        done = chv.run("chaveiro", *where, "--server", self.address, *extra, "send", text, code=code,
                       env={**self.env, **(env or {})})
        if code == 0:
            chv.check_equal(done.stdout, f"message received: '{text}'\n".encode(), "what the server answered")
        return done

    def send_until_served(self, key, text):
        """Again and again until the server has its keystore back: the client's own retries count on it too."""
        while True:
            done = self.send(key, text, "--retries", "2", code=None)
            if done.code == 0:
                return done
            chv.check_equal(done.code, 69, f"the server is away for a while, nothing else: {done.stderr}")
            chv.check(self.server.running(), "the server ended")

    def send_until_refused(self, key):
        """Again and again until it is told 503: a copy of the key in the session serves until its original is missed."""
        while True:
            done = self.send(key, "x", "--retries", "0", code=None)
            if done.code != 0:
                chv.check_equal(done.code, 69, f"exit code; {done.stderr}")
                return done

    def keeper(self):
        """The id of the process that has the token open."""
        for pid in chv.processes_under(self.server.pid):
            with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                if f.read().strip() == "chv-keeper":
                    return pid
        raise chv.Failure("there is no keeper")


def pkcs11_tool():
    path = shutil.which("pkcs11-tool")
    if path is None:
        raise chv.Skip("opensc is not installed")
    return path


# Places of functions in CK_FUNCTION_LIST (PKCS #11 2.40, pkcs11f.h); not every module exports their names.
CALLS = {"C_Initialize": 0, "C_Finalize": 1, "C_GetSlotList": 4, "C_GetTokenInfo": 6, "C_InitToken": 9, "C_InitPIN": 10,
         "C_SetPIN": 11, "C_OpenSession": 12, "C_Login": 18}


def functions(path):
    """The module's functions by name."""
    library, table = ctypes.CDLL(path), ctypes.c_void_p()
    rv = library.C_GetFunctionList(ctypes.byref(table))
    chv.check(rv == 0, f"{path}: C_GetFunctionList: {rv:#x}")
    pointers = ctypes.cast(table.value + ctypes.sizeof(ctypes.c_void_p), ctypes.POINTER(ctypes.c_void_p))
    call = ctypes.CFUNCTYPE(ctypes.c_ulong)
    found = {name: call(pointers[place]) for name, place in CALLS.items()}
    found["library"] = library  # not to be unloaded
    return found


class Cryptoki:
    """A few calls of the module by ctypes, as another process would make them (in a child: a module is one process's)."""

    def __init__(self, tokens):
        os.environ.update(tokens.env)
        self.fn = functions(tokens.module)
        self._must("C_Initialize", None)

    def _must(self, call, *arguments):
        rv = self.fn[call](*arguments)
        chv.check(rv == 0, f"{call}: {rv:#x}")

    def slot(self, label):
        count = ctypes.c_ulong()
        self._must("C_GetSlotList", ctypes.c_ubyte(1), None, ctypes.byref(count))
        slots = (ctypes.c_ulong * count.value)()
        self._must("C_GetSlotList", ctypes.c_ubyte(1), slots, ctypes.byref(count))
        for slot in slots:
            info = ctypes.create_string_buffer(512)
            self._must("C_GetTokenInfo", ctypes.c_ulong(slot), info)
            if info.raw[:32].rstrip(b" ").decode() == label:
                return slot
        raise chv.Failure(f"no token {label}")

    def initialise(self, label, so_pin, pin):
        """Wipes the token and sets its PINs anew; the label stays."""
        slot = self.slot(label)
        padded = label.ljust(32).encode()
        self._must("C_InitToken", ctypes.c_ulong(slot), so_pin, ctypes.c_ulong(len(so_pin)), padded)
        session = self._session(slot, 0, so_pin)
        self._must("C_InitPIN", session, pin, ctypes.c_ulong(len(pin)))
        self._must("C_Finalize", None)

    def change_pin(self, label, old, new):
        session = self._session(self.slot(label), 1, old)
        self._must("C_SetPIN", session, old, ctypes.c_ulong(len(old)), new, ctypes.c_ulong(len(new)))
        self._must("C_Finalize", None)

    def _session(self, slot, user, pin):
        session = ctypes.c_ulong()
        self._must("C_OpenSession", ctypes.c_ulong(slot), ctypes.c_ulong(6), None, None, ctypes.byref(session))
        self._must("C_Login", session, ctypes.c_ulong(user), pin, ctypes.c_ulong(len(pin)))
        return session


def in_child(work):
    """Runs work() in a process of its own and fails if it does."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except Exception:  # the parent says that it failed, this says why
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    chv.check(status == 0, "another process's work on the token failed")


class InitArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS"""

    _fields_ = [("mutexes", ctypes.c_void_p * 4), ("flags", ctypes.c_ulong), ("reserved", ctypes.c_char_p)]


def nss_pin(path, arguments, pin):
    """Sets the PIN of a fresh NSS database, whose security officer has an empty one."""
    fn = functions(path)
    session, count, slots = ctypes.c_ulong(), ctypes.c_ulong(8), (ctypes.c_ulong * 8)()
    args = InitArgs((ctypes.c_void_p * 4)(), 2, arguments)
    for call, *values in (("C_Initialize", ctypes.byref(args)),
                          ("C_GetSlotList", ctypes.c_ubyte(1), slots, ctypes.byref(count)),
                          ("C_OpenSession", lambda: ctypes.c_ulong(slots[1]), ctypes.c_ulong(6), None, None,
                           ctypes.byref(session)),
                          ("C_Login", session, ctypes.c_ulong(0), b"", ctypes.c_ulong(0)),
                          ("C_InitPIN", session, pin, ctypes.c_ulong(len(pin)))):
        rv = fn[call](*[value() if callable(value) else value for value in values])
        chv.check(rv == 0, f"NSS: {call}: {rv:#x}")
