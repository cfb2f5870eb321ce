# SPDX-License-Identifier: Apache-2.0
"""What the measuring scripts share: programs of others, processor time of theirs and ours, alternating rounds, tables."""
import atexit
import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

import chv

INSTALL = "scripts/install-packages bench"


def begin(args):
    """Once: tables as wanted; whatever ends this script, its programs end too."""
    Table.markdown = args.markdown
    chv.be_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    atexit.register(end_all)


def end_all():
    for pid in chv.processes_under(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


class Missing(Exception):
    """A peer that cannot be measured here."""


def need(*names):
    """Paths of programs, also of those for administrators."""
    path = os.environ["PATH"] + ":/usr/local/sbin:/usr/sbin:/sbin"
    found = [shutil.which(name, path=path) for name in names]
    for name, where in zip(names, found):
        if where is None:
            raise Missing(f"{name} is not installed: {INSTALL}")
    return found


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, check=False, **options)
    if done.returncode != 0:
        raise chv.Failure(f"{' '.join(command[:6])}...: exit code {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode()


# --- ports and processes --------------------------------------------------------------------------------------------------


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listens(port):
    """Whether there is a listener, without connecting to it: some peers serve one connection less for it."""
    wanted = f"0100007F:{port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as f:
        return any(line.split()[1] == wanted and line.split()[3] == "0A" for line in f.readlines()[1:])


def wait_port(port, process):
    end = time.monotonic() + chv.DEADLINE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Missing(f"{process.args[0]} ended: {process.stderr.read().decode(errors='replace').strip()}")
        if listens(port):
            return
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise Missing(f"{process.args[0]} does not listen")


class Helper:
    """A program of bench/ that prints its port first, then answers a line with a line."""

    def __init__(self, name, *arguments, env=None):
        self.process = subprocess.Popen(chv.argv(name, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        self.pid = self.process.pid
        self.port = None

    def with_port(self):
        self.port = int(self._line())
        return self

    def _line(self):
        line = self.process.stdout.readline().decode()
        if not line:
            raise chv.Failure(f"{self.process.args[0]}: ended with {self.process.wait()}")
        return line

    def ask(self, *words):
        """The numbers of the answer."""
        self.tell(*words)
        return [float(word) for word in self._line().split()]

    def tell(self, *words):
        self.process.stdin.write((" ".join(str(word) for word in words) + "\n").encode())
        self.process.stdin.flush()

    def stop(self):
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()


def start_all(kinds, *arguments):
    """Those that can be measured here; a note for each of the others."""
    started = []
    for kind in kinds:
        try:
            started.append(kind(*arguments))
        except (Missing, chv.Failure) as why:
            print(f"  ({kind.name} is left out: {why})", flush=True)
    return started


# --- processor time -------------------------------------------------------------------------------------------------------


def cpu_seconds(pids):
    """Of these processes, their descendants, and what those had that have ended and been waited for."""
    total = 0.0
    for pid in family(pids):
        with contextlib.suppress(OSError, ProcessLookupError):
            total += time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3): all threads, also ended ones, in ns
            with open(f"/proc/{pid}/stat", "rb") as f:
                user, system = f.read().rpartition(b")")[2].split()[13:15]
            total += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return total


def family(pids):
    every = []
    for pid in pids:
        every += [pid, *chv.processes_under(pid)]
    return every


def pin(pids, cpus):
    """Puts all threads of these processes and of their descendants on the given processors."""
    for pid in family(pids):
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(task), cpus)


# --- rounds and tables ----------------------------------------------------------------------------------------------------


def rounds(subjects, repetitions, measure):
    """{subject: [tuple of numbers, ...]}: all subjects in turn, `repetitions` times; one that fails is left out of the rest."""
    values = {subject: [] for subject in subjects}
    for _ in range(repetitions):
        for subject in list(values):
            try:
                values[subject].append(measure(subject))
            except (OSError, ValueError, Missing, chv.Failure) as why:
                print(f"  ({subject.name} is left out: {why})", flush=True)
                del values[subject]
    return values


def medians(values):
    return tuple(statistics.median(column) for column in zip(*values))


class Table:
    """Rows of text and numbers: for the eye, or as Markdown."""

    markdown = False

    def __init__(self, title, *columns):
        self.title, self.columns, self.rows = title, columns, []

    def add(self, name, *cells):
        self.rows.append([name, *[cell if isinstance(cell, str) else number(cell) for cell in cells]])

    def print(self):
        rows = [[*self.columns], *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.columns))]
        print(f"\n{self.title}\n")
        for n, row in enumerate(rows):
            cells = [cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))]
            print("| " + " | ".join(cells) + " |" if self.markdown else "  " + "  ".join(cells))
            if n == 0 and self.markdown:
                print("| --- |" + " ---: |" * (len(widths) - 1))
        sys.stdout.flush()


def number(value):
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 20 else 2
    return f"{value:.{digits}f}"


def aim(title, value, limit, at_least=False):
    """One line: what was reached, and what was to be."""
    met = value >= limit if at_least else value <= limit
    print(f"  {title}: {value:.2f} (aim: {'at least' if at_least else 'at most'} {limit:g}: {'met' if met else 'MISSED'})",
          flush=True)


def options(parser, repetitions=5):
    parser.add_argument("--repetitions", type=int, default=repetitions, help="of everything, alternating; the median counts")
    parser.add_argument("--only", action="append", metavar="WORD", help="subjects whose name has this word, and the first")
    parser.add_argument("--markdown", action="store_true", help="tables to be pasted")


def chosen(kinds, args):
    """The first is what the others are compared with: always there."""
    return [kind for n, kind in enumerate(kinds) if n == 0 or not args.only or any(w in kind.name for w in args.only)]
