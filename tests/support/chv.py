# SPDX-License-Identifier: Apache-2.0
"""Harness of the end-to-end tests: throw-away folders, the programs, a site with its server, and a runner.

A test file:

    import chv

    def test_a_message_arrives():
        with chv.Site() as site:
            site.init()
            key = site.add_client("cam1", scopes=["message"])
            site.start()
            done = site.client(key, "send", "ola")
            chv.check_equal(done.stdout, b"message received: 'ola'\n", "what the server answered")

    if __name__ == "__main__":
        chv.main()

Everything a test makes is under one folder that is removed at the end, also after a failure; every process it starts is
ended by its id.  Ports are picked by the kernel.  Waits end at an event or, after DEADLINE seconds, as a failure: no test
depends on how fast something is.
"""
import atexit
import contextlib
import ctypes
import os
import pwd
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

# Generous, for sanitizer builds on a busy machine: reaching it is a failure, never a measurement.
DEADLINE = float(os.environ.get("CHV_TEST_DEADLINE", "120"))
SCRYPT_COST = "16384"
SKIPPED = 77
EXISTS = 73

_HERE = os.path.dirname(os.path.abspath(__file__))
TOP_SRCDIR = os.path.abspath(os.environ.get("top_srcdir") or os.path.join(_HERE, "..", ".."))
TOP_BUILDDIR = os.path.abspath(os.environ.get("top_builddir") or os.path.join(TOP_SRCDIR, "build"))


class Failure(Exception):
    """A check that did not hold: its text is what the runner prints."""


class Skip(Exception):
    """What the test needs is not here: its text says what."""


# --- checks -------------------------------------------------------------------------------------------------------------


def check(condition, message):
    if not condition:
        raise Failure(message)


def check_equal(got, wanted, what):
    if got != wanted:
        raise Failure(f"{what}: wanted {_short(wanted)}, got {_short(got)}")


def check_in(part, whole, what):
    if isinstance(whole, bytes) and isinstance(part, str):
        part = part.encode()
    if part not in whole:
        raise Failure(f"{what}: no {_short(part)} in {_short(whole)}")


def check_not_in(part, whole, what):
    if isinstance(whole, bytes) and isinstance(part, str):
        part = part.encode()
    if part in whole:
        raise Failure(f"{what}: {_short(part)} must not be in {_short(whole)}")


def _short(value, limit=1500):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


# --- processes ----------------------------------------------------------------------------------------------------------


def program(name):
    """Path of a program of the build (libtool's wrapper scripts serve); Skip if it was not built."""
    for folder in ("tools", "", "tests/tools", "tests/core", "tests", "bench"):
        path = os.path.join(TOP_BUILDDIR, folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise Failure(f"program {name} is not in {TOP_BUILDDIR}: run make there first")


def argv(name, *arguments):
    return [program(name) if os.sep not in name else name, *[os.fspath(a) for a in arguments]]


class Done:
    """A program that ended: code (negative: killed by that signal), stdout, stderr as bytes."""

    def __init__(self, command, code, stdout, stderr):
        self.command, self.code, self.stdout, self.stderr = command, code, stdout, stderr

    def check_code(self, wanted, what=""):
        if self.code != wanted:
            raise Failure(f"{what or ' '.join(self.command)}: exit code {self.code} instead of {wanted}; "
                          f"stderr: {_short(self.stderr)}; stdout: {_short(self.stdout)}")
        return self

    def check_sanitizers(self):
        for mark in (b"AddressSanitizer", b"LeakSanitizer", b"runtime error:"):
            if mark in self.stderr:
                raise Failure(f"{self.command[0]}: {self.stderr.decode(errors='replace')}")
        return self


def run(name, *arguments, code=0, stdin=b"", env=None, cwd=None, pass_fds=()):
    """Runs a program of the build to its end and checks its exit code (code=None: any)."""
    command = argv(name, *arguments)
    if isinstance(stdin, str):
        stdin = stdin.encode()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=_environment(env), cwd=cwd, pass_fds=pass_fds) as process:
        try:
            out, err = process.communicate(stdin, timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise Failure(f"{' '.join(command)}: still running after {DEADLINE:.0f} s; stderr: {_short(err)}") from None
    done = Done(command, process.returncode, out, err).check_sanitizers()
    if code is not None:
        done.check_code(code)
    return done


def as_other_user(*names):
    """For root: the first of these users that there is, and the words before a command that run it as them."""
    if os.geteuid() != 0:
        return None, []
    for name in names:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return user, [shutil.which("setpriv"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    raise Skip(f"there is no user {' or '.join(names)}")


def _environment(extra):
    env = dict(os.environ, LC_ALL="C", TZ="UTC")
    env.pop("CREDENTIALS_DIRECTORY", None)
    env.update(extra or {})
    return env


def processes_under(pid):
    """Ids of all living descendants of a process."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                with open(f"/proc/{entry}/stat", "rb") as f:
                    # the name in brackets may hold anything: fields are counted from the last bracket
                    state, parent = f.read().rpartition(b")")[2].split()[:2]
                if state not in (b"Z", b"X"):
                    parents.setdefault(int(parent), []).append(int(entry))
    found, queue = [], [pid]
    while queue:
        for child in parents.get(queue.pop(), []):
            found.append(child)
            queue.append(child)
    return found


def process_named(pid, name):
    """Id of the living descendant that calls itself `name`; waits for one that is being started."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        for child in processes_under(pid):
            with contextlib.suppress(OSError):  # it may have ended since
                with open(f"/proc/{child}/comm") as f:
                    if f.read().strip() == name:
                        return child
        time.sleep(0.02)
    raise Failure(f"there is no process {name}")


def wait_gone(pids):
    """Waits until none of these processes runs (an orphan that came to us is reaped)."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            fd = os.pidfd_open(pid)
            try:
                ready, _, _ = select.select([fd], [], [], DEADLINE)
                check(ready, f"process {pid} still runs after {DEADLINE:.0f} s")
                os.waitpid(pid, os.WNOHANG)
            finally:
                os.close(fd)


def be_subreaper():
    # PR_SET_CHILD_SUBREAPER: a process whose parent died comes to us, so that one left behind is seen and can be ended
    ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)


class Process:
    """A program in the background whose output is collected while it runs."""

    def __init__(self, name, *arguments, env=None, stdin=None, cwd=None, pass_fds=()):
        self.command = argv(name, *arguments)
        self.process = subprocess.Popen(self.command, stdin=stdin if stdin is not None else subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(env), cwd=cwd,
                                        pass_fds=pass_fds)
        self.pid = self.process.pid
        self.stdin = self.process.stdin
        self._grew = threading.Condition()
        self._text = {"stdout": bytearray(), "stderr": bytearray()}
        self._open = 2
        self._threads = [threading.Thread(target=self._collect, args=(n, getattr(self.process, n)), daemon=True)
                         for n in ("stdout", "stderr")]
        for thread in self._threads:
            thread.start()

    def _collect(self, name, stream):
        while True:
            piece = stream.read1(65536)
            with self._grew:
                if piece:
                    self._text[name] += piece
                else:
                    self._open -= 1
                self._grew.notify_all()
            if not piece:
                return

    @property
    def stdout(self):
        with self._grew:
            return bytes(self._text["stdout"])

    @property
    def stderr(self):
        with self._grew:
            return bytes(self._text["stderr"])

    def wait_for(self, pattern, count=1, stream="stderr"):
        """Waits until the regular expression was seen `count` times; returns the matches (match objects)."""
        if isinstance(pattern, str):
            pattern = pattern.encode()
        expression = re.compile(pattern)
        end = time.monotonic() + DEADLINE
        with self._grew:
            while True:
                found = list(expression.finditer(bytes(self._text[stream])))
                if len(found) >= count:
                    return found
                left = end - time.monotonic()
                if self._open == 0 or left <= 0:
                    why = "it ended" if self._open == 0 else f"{DEADLINE:.0f} s passed"
                    raise Failure(f"{os.path.basename(self.command[0])}: {why} without {_short(pattern)} on {stream}; "
                                  f"stderr: {_short(bytes(self._text['stderr']), 4000)}")
                self._grew.wait(left)

    def running(self):
        return self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, code=None):
        """Waits for the end and for the last byte of output."""
        self._wait_for_end()
        return self._finish(code)

    def _wait_for_end(self):
        try:
            self.process.wait(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{' '.join(self.command)}: still running after {DEADLINE:.0f} s; "
                          f"stderr: {_short(self.stderr, 4000)}") from None

    def _finish(self, code):
        for thread in self._threads:
            thread.join(DEADLINE)
        done = Done(self.command, self.process.returncode, self.stdout, self.stderr).check_sanitizers()
        if code is not None:
            done.check_code(code)
        return done

    def stop(self, code=0):
        """SIGTERM, then waits; fails if it has to be killed, if the exit code differs, or if a child outlives it."""
        children = processes_under(self.pid)
        if self.running():
            self.signal(signal.SIGTERM)
        self._wait_for_end()
        left = [pid for pid in children if _gone_or_kill(pid)]  # before the last byte: they may hold the pipe
        done = self._finish(code)
        check(not left, f"{os.path.basename(self.command[0])}: its processes {left} were still there after it had ended")
        return done

    def kill(self):
        """For clean-up: ends it and its descendants, whatever their state."""
        children = processes_under(self.pid) if self.running() else []
        if self.running():
            self.process.kill()
        self.process.wait()
        for pid in children:
            _gone_or_kill(pid)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and stream is self.process.stdin:
                with contextlib.suppress(OSError):
                    stream.close()


def _gone_or_kill(pid):
    """True if `pid` was still running (it is then killed).  Orphans are ours: this process is their reaper."""
    with contextlib.suppress(ChildProcessError, ProcessLookupError):
        if os.waitpid(pid, os.WNOHANG) == (0, 0):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return True
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    os.kill(pid, signal.SIGKILL)
    return True


# --- folders ------------------------------------------------------------------------------------------------------------

_folders = set()


def folder():
    """A new throw-away folder; removed when the test program ends, if not before."""
    path = tempfile.mkdtemp(prefix="chv-test-", dir=os.environ.get("TMPDIR") or "/tmp")
    _folders.add(path)
    return path


def remove_folder(path):
    for top, names, _ in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                if not os.path.islink(os.path.join(top, name)):  # what it points to is not ours
                    os.chmod(os.path.join(top, name), 0o700)
    shutil.rmtree(path, ignore_errors=True)
    _folders.discard(path)


@atexit.register
def _remove_folders():
    for path in list(_folders):
        remove_folder(path)


def write(path, data, mode=0o600):
    if isinstance(data, str):
        data = data.encode()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as f:
        f.write(data)
    return path


def read(path):
    with open(path, "rb") as f:
        return f.read()


# --- a site -------------------------------------------------------------------------------------------------------------


class Key:
    """A client's keystore file with the passphrase that opens it."""

    def __init__(self, client_id, path, passphrase_file):
        self.id, self.path, self.passphrase_file = client_id, path, passphrase_file


class Site:
    """A server of its own: folder, keystore, configuration, clients, chaveirod.  Use it in a `with` block."""

    def __init__(self, name="test-server"):
        self.name = name
        self.folder = folder()
        self.store = os.path.join(self.folder, "server")
        self.config = os.path.join(self.store, "chaveirod.conf")
        self.passphrase_file = self.new_passphrase("server.pass")
        self.server = None
        self.address = None  # TCP, once started: "127.0.0.1:PORT"
        self.socket = os.path.join(self.folder, "sock")
        self._processes = []

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None and self.server is not None:
                self.stop()
            elif kind is not None and self.server is not None:
                sys.stderr.write(f"--- log of chaveirod ---\n{self.log()}------------------------\n")
        finally:
            for process in self._processes:
                process.kill()
            remove_folder(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def new_passphrase(self, name):
        return write(os.path.join(self.folder, name), secrets.token_hex(16) + "\n")

    def keyadmin(self, *arguments, **options):
        return run("keyadmin", *arguments, **options)

    def init(self, *extra, listen="127.0.0.1:0", code=0, registry=False):
        """A server of its own; `registry`: with the one that keyadmin gives it, else its clients need not be registered."""
        done = self.keyadmin("init", "--dir", self.store, "--name", self.name, "--listen", listen, "--passphrase-file",
                             self.passphrase_file, "--scrypt-cost", SCRYPT_COST, *extra, code=code)
        if code == 0 and not registry:
            self.configure(registry="none")
        return done

    def add_client(self, client_id, scopes=("message",), expires="90d", extra=(), out=None):
        out = out or self.path(f"{client_id}.key")
        passphrase = self.new_passphrase(f"{os.path.basename(out)}.pass")
        arguments = ["client", "add", client_id]
        for scope in scopes:
            arguments += ["--scope", scope]
        self.keyadmin(*arguments, "--expires", expires, "--config", self.config, "--passphrase-file",
                      self.passphrase_file, "--client-passphrase-file", passphrase, "--scrypt-cost", SCRYPT_COST,
                      "--out", out, *extra)
        return Key(client_id, out, passphrase)

    def configure(self, *, make_registry=True, **settings):
        """Sets `name = value` lines in the configuration; an existing (or commented) line of that name is replaced.
        A registry that they name is made if it is missing."""
        lines = read(self.config).decode().splitlines()
        for name, value in settings.items():
            name = name.replace("_", "-")
            new = f"{name} = {value}"
            mine = [i for i, line in enumerate(lines) if re.match(rf"\s*[#;]?\s*{re.escape(name)}\s*=", line)]
            if mine:
                lines[mine[0]] = new
                lines = [line for i, line in enumerate(lines) if i not in mine[1:]]
            else:
                lines.append(new)
        write(self.config, "\n".join(lines) + "\n")
        if make_registry and settings.get("registry", "none").startswith(("sqlite:", "postgresql:")):
            done = self.keyadmin("registry", "new", "-c", self.config, code=None)
            check(done.code in (0, EXISTS), f"keyadmin registry new: {done.code}: {done.stderr}")

    def serve_as(self, name):
        """For root: chaveirod becomes that user, and has what keyadmin init made for it."""
        user = pwd.getpwnam(name)
        self.configure(user=name)
        os.chmod(self.folder, 0o711)
        os.chmod(self.store, 0o711)
        os.chown(os.path.join(self.store, "state"), user.pw_uid, user.pw_gid)
        return user

    def start(self, *extra, listening=1, env=None):
        """Starts chaveirod and returns once it has said `listening on ...` that many times."""
        check(self.server is None, "the server of this site runs already")
        self.server = self.spawn("chaveirod", "-c", self.config, "--passphrase-file", self.passphrase_file, *extra,
                                 env=env)
        for match in self.server.wait_for(r"listening on (\S+)", listening):
            address = match.group(1).decode().rstrip(",.;")
            if not address.startswith("unix:"):
                self.address = address
        return self.server

    def spawn(self, name, *arguments, **options):
        process = Process(name, *arguments, **options)
        self._processes.append(process)
        return process

    def stop(self, code=0):
        server, self.server = self.server, None
        return server.stop(code)

    def log(self):
        return self.server.stderr.decode(errors="replace") if self.server else ""

    def client_argv(self, key, *arguments, to=None):
        target = to or self.address
        where = ["--server", target] if target else []
        return ["-k", key.path, "--passphrase-file", key.passphrase_file, *where, *arguments]

    def client(self, key, *arguments, to=None, **options):
        """Runs `chaveiro` with that key against this site's server (to="unix:...": another address)."""
        return run("chaveiro", *self.client_argv(key, *arguments, to=to), **options)

    def client_start(self, key, *arguments, to=None, stdin=None):
        return self.spawn("chaveiro", *self.client_argv(key, *arguments, to=to), stdin=stdin)

    def connect(self, address=None):
        """A plain TCP or unix socket to the server, for tests that speak bytes of their own."""
        address = address or self.address
        if address.startswith("unix:"):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            target = address[5:]
        else:
            host, _, port = address.rpartition(":")
            s = socket.socket(socket.AF_INET6 if host.startswith("[") else socket.AF_INET, socket.SOCK_STREAM)
            target = (host.strip("[]"), int(port))
        s.settimeout(DEADLINE)
        s.connect(target)
        return s


# --- the runner ---------------------------------------------------------------------------------------------------------


def main(module="__main__"):
    """Runs every test_* function of the calling file (or those named on the command line) and exits."""
    be_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Whoever started us may ignore these (a shell's background job does), and what is ignored stays so in our programs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    tests = {n: f for n, f in vars(sys.modules[module]).items() if n.startswith("test_") and callable(f)}
    chosen = sys.argv[1:] or list(tests)
    passed = failed = skipped = 0
    for name in chosen:
        if name not in tests:
            print(f"not ok {name}: there is no such test", flush=True)
            failed += 1
            continue
        try:
            tests[name]()
            stray = processes_under(os.getpid())
            for pid in stray:
                _gone_or_kill(pid)
            check(not stray, f"left processes behind: {stray}")
        except Skip as why:
            print(f"skip {name}: {why}", flush=True)
            skipped += 1
        except Failure as why:
            print(f"not ok {name}: {why}", flush=True)
            failed += 1
        except Exception as why:  # a test's own mistake is a failed test, and the next one still runs
            traceback.print_exc()
            print(f"not ok {name}: {type(why).__name__}: {why}", flush=True)
            failed += 1
        else:
            print(f"ok {name}", flush=True)
            passed += 1
    _remove_folders()
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""), flush=True)
    sys.exit(1 if failed else SKIPPED if skipped and not passed else 0)
