# SPDX-License-Identifier: Apache-2.0
"""A program on a terminal of its own: what it prints is read until a pattern is seen, what is typed is sent."""
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time

import chv


class Terminal:
    """Use it in a `with` block. The program's standard streams and its controlling terminal are the pseudo terminal."""

    def __init__(self, name, *arguments, stdin=None, stdout=None, cwd=None, env=None):
        self.master, slave = pty.openpty()
        self.text = b""
        self._seen = 0

        def take_terminal():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        env = dict(os.environ, LC_ALL="C.UTF-8", TERM="vt100", **({"NO_COLOR": "1"} if env is None else env))
        env.pop("CREDENTIALS_DIRECTORY", None)
        self.process = subprocess.Popen(chv.argv(name, *arguments), stdin=slave if stdin is None else stdin,
                                        stdout=slave if stdout is None else stdout, stderr=slave, env=env, cwd=cwd,
                                        preexec_fn=take_terminal, close_fds=True)
        self._slave = slave  # kept open: its settings can still be read when the program is gone

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._slave)
        os.close(self.master)

    def _read(self, seconds):
        ready, _, _ = select.select([self.master], [], [], max(seconds, 0))
        if not ready:
            return False
        with contextlib.suppress(OSError):
            self.text += os.read(self.master, 65536)
        return True

    def expect(self, pattern):
        """Waits until the pattern is in what was printed since the last match; returns what stood before it."""
        expression = re.compile(pattern.encode() if isinstance(pattern, str) else pattern)
        end = time.monotonic() + chv.DEADLINE
        while True:
            match = expression.search(self.text, self._seen)
            if match:
                before = self.text[self._seen:match.start()]
                self._seen = match.end()
                return before
            if self.process.poll() is not None and not self._read(0):
                raise chv.Failure(f"{pattern!r} never came, the program ended with {self.process.returncode}: {self.text!r}")
            if time.monotonic() > end:
                raise chv.Failure(f"{pattern!r} never came: {self.text!r}")
            self._read(0.2)

    def type(self, text):
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def echoes(self):
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def wait_echo(self, wanted):
        """Waits until the echo is on or off: a prompt and the settings are two calls of the program."""
        end = time.monotonic() + chv.DEADLINE
        while self.echoes() != wanted:
            if time.monotonic() > end:
                raise chv.Failure(f"the terminal's echo never became {wanted}: {self.text!r}")
            self._read(0.05)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, code):
        end = time.monotonic() + chv.DEADLINE
        while self.process.poll() is None and time.monotonic() < end:
            self._read(0.1)
        while self._read(0):
            pass
        chv.check_equal(self.process.poll(), code, f"exit code; the terminal shows {self.text!r}")

    def interrupt(self):
        self.signal(signal.SIGINT)
