# SPDX-License-Identifier: Apache-2.0
"""Pushes: the client, the server's net process and keyadmin killed before and after each call of theirs that changes
something outside of them. Each file arrives exactly once, whole, under its name, also where it is taken away at once."""
import ctypes
import os
import re

import chv
from pushes import PushSite, content, wait_until

LIBRARY = os.path.join(chv.TOP_BUILDDIR, "tests/support/.libs/kill_at.so")
KILL_SIGNAL = 34 + 3  # SIGRTMIN + 3, as C libraries on Linux number it
KILLED = -9
MOST = 400  # calls of one run: more than there are


class Value(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("pointer", ctypes.c_void_p)]


def killing(**extra):
    asan = [os.environ["ASAN_OPTIONS"]] if "ASAN_OPTIONS" in os.environ else []
    return {"LD_PRELOAD": LIBRARY, "ASAN_OPTIONS": ":".join([*asan, "verify_asan_link_order=0"]), **extra}


def killing_at(n):
    """Odd ones before, even ones after a call."""
    return killing(CHV_TEST_KILL_MORE="1", CHV_TEST_KILL_AT=str((n + 1) // 2 if n % 2 else -(n // 2)))


def arm(pid, n):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, Value]
    done = libc.sigqueue(pid, KILL_SIGNAL, Value(number=n))
    chv.check(done == 0 or n == 0, "sigqueue failed")


class Consumer:
    """Takes files away as they come; fails if one comes again."""

    def __init__(self, site, client):
        self.site, self.client, self.got = site, client, {}

    def take(self):
        for name in self.site.files(self.client):
            if name.startswith(".chv-part-"):
                continue
            chv.check(name not in self.got, f"{name} came again")
            path = self.site.incoming(self.client, name)
            self.got[name] = chv.read(path)
            os.unlink(path)

    def drain(self, what):
        """Watches, as often as it takes for an earlier connection to be noticed as dead."""
        def empty():
            self.site.watch(self.client, code=None)
            self.take()
            return self.site.entries(self.client) == []
        wait_until(what, empty)
        left = self.site.files(self.client)
        chv.check_equal(left, [], f"{what}: what is left")


def files_of(site, n):
    """Three files of that round, and what is in them."""
    wanted = {f"r{n}-{size}": content(size) + b"%d" % n for size in (0, 17, 70000)}
    return wanted, [site.source(name, data) for name, data in wanted.items()]


def test_watch_killed_anywhere():
    with PushSite() as site:
        site.init(clients=("cam1",))
        consumer, wanted = Consumer(site, "cam1"), {}
        for n in range(1, 2 * MOST):
            mine, files = files_of(site, n)
            wanted.update(mine)
            site.push(*files, "--to", "cam1")
            done = site.watch("cam1", code=None, env=killing_at(n))
            chv.check(done.code in (0, KILLED), f"killed at {n}: exit code {done.code}: {done.stderr}")
            for name in site.files("cam1"):
                chv.check(name.startswith(".chv-part-") or chv.read(site.incoming("cam1", name)) == mine[name],
                          f"killed at {n}: {name} is not whole")
            consumer.take()
            consumer.drain(f"killed at {n}")
            chv.check(consumer.got == wanted, f"killed at {n}: {sorted(set(wanted) ^ set(consumer.got))}")
            if done.code == 0:
                break
        chv.check(30 < n < 2 * MOST - 1, f"killed {n - 1} times")
        print(f"# watch: killed {n - 1} times", flush=True)


def test_a_name_that_is_taken_killed_anywhere():
    """The file that has the name is never touched, and the other one comes once that is gone."""
    with PushSite() as site:
        site.init(clients=("cam1",))
        consumer = Consumer(site, "cam1")
        for n in range(1, 2 * MOST):
            path = site.incoming("cam1", f"t{n}")
            chv.write(path, "mine")
            site.push(site.source(f"t{n}", b"theirs"), "--to", "cam1")
            done = site.watch("cam1", code=None, env=killing_at(n))
            chv.check(done.code in (73, KILLED), f"killed at {n}: exit code {done.code}: {done.stderr}")
            chv.check_equal(chv.read(path), b"mine", f"killed at {n}")
            os.unlink(path)
            consumer.drain(f"killed at {n}")
            chv.check_equal(consumer.got[f"t{n}"], b"theirs", f"killed at {n}")
            if done.code == 73:
                break
        chv.check(3 < n < 2 * MOST - 1, f"killed {n - 1} times")


def test_server_killed_anywhere():
    with PushSite() as site:
        site.init(clients=("cam1", "cam2"), start=False, workers="1")
        consumers, wanted, n, over = [Consumer(site, c) for c in ("cam1", "cam2")], {}, 0, False
        while not over:
            n += 1
            mine, files = files_of(site, n)
            wanted.update(mine)
            site.push(*files, "--to", "cam1", "--to", "cam2")
            site.start(env=killing(CHV_TEST_KILL_ARMED="1"))
            pid = chv.process_named(site.server.pid, "chv-net")
            arm(pid, n)
            for consumer in consumers:
                site.watch(consumer.client, code=None)
                consumer.take()
            over = pid in chv.processes_under(site.server.pid)
            if over:
                arm(pid, 0)
            for consumer in consumers:
                consumer.drain(f"killed at {n}")
                chv.check(consumer.got == wanted, f"killed at {n}: {sorted(set(wanted) ^ set(consumer.got))}")
                chv.check_equal(site.status(consumer.client)["delivered"], len(wanted), f"killed at {n}: delivered")
            server, site.server = site.server, None
            server.kill()
            chv.check(n < MOST, "it never ends")
        chv.check(n > 20, f"killed {n - 1} times")
        print(f"# net: killed {n - 1} times", flush=True)


def test_keyadmin_killed_anywhere():
    with PushSite() as site:
        site.init(clients=("cam1", "cam2"))
        consumers, wanted = [Consumer(site, c) for c in ("cam1", "cam2")], {}
        for n in range(1, 2 * MOST):
            mine, files = files_of(site, n)
            wanted.update(mine)
            words = [*files, "--to", "cam1", "--to", "cam2"]
            done = site.push(*words, code=None, env=killing_at(n))
            chv.check(done.code in (0, KILLED), f"killed at {n}: exit code {done.code}: {done.stderr}")
            for entry, client in re.findall(r"^([0-9a-f]{32})  (\S+)  \S+$", done.stdout.decode(), re.M):
                chv.check(entry in site.entries(client), f"killed at {n}: {entry} was told, and does not wait for {client}")
            if done.code == KILLED:
                site.push(*words)
            for consumer in consumers:
                chv.check_equal(len(site.entries(consumer.client)), len(mine), f"killed at {n}: entries")
                consumer.drain(f"killed at {n}")
                chv.check(consumer.got == wanted, f"killed at {n}: {sorted(set(wanted) ^ set(consumer.got))}")
            chv.check_equal(os.listdir(os.path.join(site.outbox, ".spool")), [], f"killed at {n}: the spool")
            if done.code == 0:
                break
        chv.check(20 < n < 2 * MOST - 1, f"killed {n - 1} times")
        print(f"# keyadmin: killed {n - 1} times", flush=True)


if __name__ == "__main__":
    chv.main()
