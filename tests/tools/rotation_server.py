# SPDX-License-Identifier: Apache-2.0
"""Rotation: each process of the server killed before each call of its that changes something outside of it (also a line of
its log), while a client takes its next key and comes with it; some key always works, and in the end it is the new one."""
import ctypes
import os

import chv
from rotate import RotationSite, labels

LIBRARY = os.path.join(chv.TOP_BUILDDIR, "tests/support/.libs/kill_at.so")
KILL_SIGNAL = 34 + 3  # SIGRTMIN + 3, as C libraries on Linux number it
MOST = 40  # more than any process has such calls in that time


class Value(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("pointer", ctypes.c_void_p)]


def arm(pid, n):
    """The process is killed before its call `n` from now; 0: never."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, Value]
    done = libc.sigqueue(pid, KILL_SIGNAL, Value(number=n))
    chv.check(done == 0 or n == 0, "sigqueue failed")  # it may have been killed just before it was to be spared


def killed_everywhere(name):
    """How often the process of this name was killed: before its first such call, its second, ..."""
    asan = [os.environ["ASAN_OPTIONS"]] if "ASAN_OPTIONS" in os.environ else []
    killing = {"LD_PRELOAD": LIBRARY, "CHV_TEST_KILL_ARMED": "1",
               "ASAN_OPTIONS": ":".join([*asan, "verify_asan_link_order=0"])}
    with RotationSite() as site:
        site.init()
        site.configure(registry=f"sqlite:{site.path('clients.db')}", workers="1")
        keys = [site.add_client(f"cam{i}") for i in range(MOST)]
        site.epoch_new()
        for killed, key in enumerate(keys):
            n = killed + 1
            site.start(env=killing)
            pid = chv.process_named(site.server.pid, name)
            arm(pid, n)
            for _ in range(2):  # the update, and the new key's first use
                site.client(key, "send", "ola", code=None)
                chv.check(labels(key) in (["1.1"], ["1.1", "2.1"], ["2.1"]), f"{name}, {n}: {labels(key)}")
            over = pid in chv.processes_under(site.server.pid)
            if over:
                arm(pid, 0)
            site.send_until(key, ["2.1"])
            server, site.server = site.server, None
            server.kill()
            if over:
                break
        site.keyadmin("audit", "verify", "-c", site.config, "--passphrase-file", site.passphrase_file)
    print(f"# {name}: killed {killed} times", flush=True)
    return killed


def test_net():
    killed = killed_everywhere("chv-net")
    chv.check(10 <= killed < MOST - 1, f"killed {killed} times")


def test_keeper():
    killed = killed_everywhere("chv-keeper")
    chv.check(3 <= killed < MOST - 1, f"killed {killed} times")


def test_registrar():
    killed = killed_everywhere("chv-registrar")
    chv.check(10 <= killed < MOST - 1, f"killed {killed} times")


if __name__ == "__main__":
    chv.main()
