#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A throw-away PostgreSQL server on a Unix socket in a folder of its own.

    with postgres.Cluster() as pg:
        pg.uri("one")         postgresql:///one?...; the database is made if it is not there
        pg.stop()             as for maintenance; pg.kill() as in a crash; pg.start() again
        pg.sql("one", "...")  runs SQL as the owner, gives its rows as text
        with pg.holding("one", "LOCK ..."):    another session has done that, and keeps its transaction open
        pg.env                CHV_TEST_POSTGRES (the socket's folder), CHV_TEST_POSTGRES_CTL (start, stop, kill)

The server refuses to run as root: it then runs as `postgres`, or `nobody`.
"""
import contextlib
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.parse

import chv

OWNER = "chaveiro"


def _programs():
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda f: float(f.split("/")[-2]), reverse=True)
    for folder in [*folders, *os.environ.get("PATH", "").split(":")]:
        if os.access(os.path.join(folder, "initdb"), os.X_OK) and os.access(os.path.join(folder, "pg_ctl"), os.X_OK):
            return folder
    raise chv.Skip("postgresql is not installed: scripts/install-packages test")


class Cluster:
    def __init__(self):
        self.programs = _programs()
        user, self.switch = chv.as_other_user("postgres", "nobody")
        # short: a socket's whole path has 107 bytes
        self.folder = tempfile.mkdtemp(prefix="chv-pg-", dir=os.environ.get("TMPDIR") or "/tmp")
        self.data = os.path.join(self.folder, "data")
        self.log = os.path.join(self.folder, "log")
        self.running = False
        try:
            if user is not None:
                os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._run("initdb", "-D", self.data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
            with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as f:
                f.write(f"listen_addresses = ''\nunix_socket_directories = '{self.folder}'\nfsync = off\n"
                        "shared_buffers = 16MB\nmax_connections = 20\nlogging_collector = off\n")
            self._write_control()
            self.start()
        except BaseException:
            self.close()
            raise

    def _argv(self, name, *arguments):
        return [*self.switch, os.path.join(self.programs, name), *arguments]

    def _run(self, name, *arguments, check=True):
        # no pipe: the server inherits what pg_ctl has, and would keep it open
        with open(os.path.join(self.folder, "out"), "w+b") as out:
            done = subprocess.run(self._argv(name, *arguments), stdin=subprocess.DEVNULL, stdout=out,
                                  stderr=subprocess.STDOUT, cwd=self.folder, timeout=chv.DEADLINE, check=False,
                                  env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"})
            out.seek(0)
            text = out.read().decode(errors="replace")
        if check and done.returncode != 0:
            raise chv.Failure(f"{name}: exit code {done.returncode}: {text}")
        return text

    def _write_control(self):
        """For tests in C, which may not know all this."""
        self.control = os.path.join(self.folder, "ctl")
        words = " ".join(self._argv("pg_ctl", "-s", "-w", "-D", self.data))
        chv.write(self.control, "#!/bin/sh\ncd /\ncase $1 in\n"
                  f"start) exec {words} -l {self.log} start >/dev/null 2>&1 ;;\n"
                  f"stop) exec {words} -m fast stop >/dev/null 2>&1 ;;\n"
                  f"kill) exec {words} -m immediate stop >/dev/null 2>&1 ;;\n"
                  "*) exit 64 ;;\nesac\n", 0o755)

    @property
    def env(self):
        return {"CHV_TEST_POSTGRES": self.folder, "CHV_TEST_POSTGRES_CTL": self.control}

    def start(self):
        self._run("pg_ctl", "-s", "-w", "-D", self.data, "-l", self.log, "start")
        self.running = True

    def stop(self, mode="fast"):
        self.running = False
        self._run("pg_ctl", "-s", "-w", "-D", self.data, "-m", mode, "stop")

    def kill(self):
        self.stop("immediate")

    @contextlib.contextmanager
    def standing_still(self):
        """Connections are made, and nothing is answered."""
        with open(os.path.join(self.data, "postmaster.pid"), encoding="utf-8") as f:
            first = int(f.readline())
        stopped = [first, *chv.processes_under(first)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def sql(self, database, text):
        return self._run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-U", OWNER, "-d",
                         database, "-c", text).strip()

    @contextlib.contextmanager
    def holding(self, database, sql):
        """Another session that has run `sql` in a transaction, and does not end it before the `with` block does."""
        command = self._argv("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-U", OWNER, "-d",
                             database)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=self.folder,
                              env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}) as session:
            session.stdin.write(f"BEGIN;\n{sql};\n\\echo held\n".encode())
            session.stdin.flush()
            try:
                for line in session.stdout:
                    if line == b"held\n":
                        break
                else:
                    raise chv.Failure(f"psql did not run {sql}")
                yield
            finally:
                session.stdin.close()

    def uri(self, database, make=True, user=OWNER):
        """Of a database, which is made if it is not there."""
        if make and self.sql("postgres", f"SELECT COUNT(*) FROM pg_database WHERE datname = '{database}'") == "0":
            self.sql("postgres", f'CREATE DATABASE "{database}"')
        return f"postgresql:///{database}?host={urllib.parse.quote(self.folder, safe='')}&user={user}"

    def close(self):
        if os.path.exists(os.path.join(self.data, "postmaster.pid")):  # also one that a test started by `ctl`
            self._run("pg_ctl", "-s", "-w", "-D", self.data, "-m", "immediate", "stop", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if value is not None and not isinstance(value, chv.Skip) and os.path.exists(self.log):
            with open(self.log, encoding="utf-8", errors="replace") as f:
                sys.stderr.write(f"--- log of PostgreSQL\n{f.read()[-4000:]}\n")
        self.close()
