# SPDX-License-Identifier: Apache-2.0
"""Sites whose master is rotated, clients that never stop, programs that are killed at every step."""
import json
import os
import re
import shutil
import signal
import subprocess
import threading

import chv
import store


def contents(key):
    return store.Store(key.path, store.passphrase_of(key.passphrase_file))


def labels(key):
    """The credentials that a client's keystore holds, each with its key."""
    held = contents(key)
    access = {label.partition(":")[2] for label in held.keys if label.startswith("access:")}
    credentials = {label.partition(":")[2] for label in held.data if label.startswith("credential:")}
    chv.check(access <= credentials, f"a key without its credential: {access} {credentials}")
    return sorted(access)


class RotationSite(chv.Site):
    """A site whose keystore file is read again without a person."""

    def init(self, *extra, **options):
        done = super().init(*extra, **options)
        self.configure(passphrase_file=self.passphrase_file)
        return done

    def epoch(self, *arguments, code=0, **options):
        return self.keyadmin("epoch", *arguments, "-c", self.config, "--passphrase-file", self.passphrase_file, code=code,
                             **options)

    def epoch_new(self, *extra):
        return json.loads(self.epoch("new", "--json", *extra).stdout)

    def reload(self):
        """SIGHUP; returns once the keeper has the new epochs."""
        before = len(re.findall(rb"the keeper process serves again", self.server.stderr))
        self.server.signal(signal.SIGHUP)
        self.server.wait_for("the keeper process serves again", before + 1)

    def rotate(self, *extra):
        made = self.epoch_new(*extra)
        self.reload()
        return made

    def send(self, key, text="ola", **options):
        done = self.client(key, "-v", "send", text, **options)
        if options.get("code", 0) == 0:
            chv.check_equal(done.stdout, f"message received: '{text}'\n".encode(), "answer")
        return done

    def send_until(self, key, wanted):
        """Handing a key out may be put off: some time it comes."""
        for _ in range(50):
            done = self.send(key)
            if labels(key) == wanted:
                return done
        raise chv.Failure(f"{key.id} has {labels(key)} and not {wanted}")


# All that changes a file, locks one, or sends: one by one the last thing that a process does.
CALLS = ("write", "fsync", "rename,renameat,renameat2", "unlink,unlinkat", "flock", "fchmod", "fchown",
         "sendmsg,sendto,writev")


def killed_at_each_call(program, arguments, prepare, check_after, extra=None):
    """Runs the program again and again, killed before its Nth call of each kind; how often that was."""
    strace = shutil.which("strace")
    if strace is None:
        raise chv.Skip("strace is not installed")
    if subprocess.run([strace, "-qq", "-o", "/dev/null", "/bin/true"], check=False, capture_output=True).returncode != 0:
        raise chv.Skip("strace may not trace here")
    real = os.path.join(chv.TOP_BUILDDIR, f"tools/.libs/{program}")  # libtool's wrapper would be what is killed
    command = [real if os.path.isfile(real) else chv.program(program), *arguments]
    # a program that is traced already does not go on when it cannot forbid that
    environment = {**os.environ, "LC_ALL": "C", "LD_LIBRARY_PATH": os.path.join(chv.TOP_BUILDDIR, ".libs"),
                   "ASAN_OPTIONS": "detect_leaks=0", **(extra or {})}
    killed = 0
    for calls in CALLS:
        for n in range(1, 60):
            prepare()
            done = subprocess.run([strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e",
                                   f"inject={calls}:signal=SIGKILL:when={n}", *command], check=False,
                                  capture_output=True, timeout=chv.DEADLINE, env=environment)
            if done.returncode not in (-9, 137):
                break
            killed += 1
            check_after(f"{program} killed at {calls}, {n}")
    return killed


class Callers:
    """Clients that connect again and again, each in a thread; every one of their messages has to be answered."""

    def __init__(self, site, keys, environment=None):
        self.site, self.keys, self.environment = site, keys, environment
        self.over = threading.Event()
        self.failures, self.used = [], {}
        self.threads = [threading.Thread(target=self._call, args=(key,)) for key in keys]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *unused):
        self.over.set()
        for thread in self.threads:
            thread.join(chv.DEADLINE)

    def _call(self, key):
        token = isinstance(key, str)
        where = ["-k", key] if token else ["-k", key.path, "--passphrase-file", key.passphrase_file]
        while not self.over.is_set():
            try:
                done = chv.run("chaveiro", *where, "--server", self.site.address, "-v", "send", "ola", code=None,
                               env=self.environment)
            except chv.Failure as why:
                self.failures.append(str(why))
                return
            if done.code != 0 or done.stdout != b"message received: 'ola'\n":
                self.failures.append(f"{key if token else key.id}: {done.code} {done.stderr}")
                return
            used = re.search(rb"credential (\d+)\.\d+,", done.stderr)
            self.used.setdefault(key if token else key.id, []).append(int(used.group(1)))

    def wait_for(self, epoch):
        """Until each of them has been in with its key of that epoch."""
        for thread in self.threads:
            while thread.is_alive() and not all(epoch in self.used.get(k if isinstance(k, str) else k.id, [])
                                                for k in self.keys):
                thread.join(0.05)
        chv.check_equal(self.failures, [], "failures")
