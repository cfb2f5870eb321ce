# SPDX-License-Identifier: Apache-2.0
"""The keeper of a token killed, under each kind of PIN source: served again where the PIN can be had again, else said."""
import os
import signal

import chv
import softhsm
from terminal import Terminal

UNAVAILABLE = 69
SERVES = "the keeper process serves again"


class Pinless(softhsm.TokenSite):
    """A site whose configuration names no PIN source."""

    def __enter__(self):
        super().__enter__()
        self.init()
        config = chv.read(self.config).decode()
        bare = config.replace(f"&pin-source=file:{self.pin_file}", "")
        chv.check(bare != config, "the PIN file was in the configuration")
        chv.write(self.config, bare)
        self.key = self.add_client_by(config)
        return self

    def add_client_by(self, config):
        """keyadmin reads the PIN from a configuration of its own."""
        whole, bare = self.path("with-pin.conf"), self.config
        chv.write(whole, config)
        self.config = whole
        key = self.add_client("cam1")
        self.config = bare
        return key


def killed(site):
    """It serves, its keeper is killed, another one serves."""
    site.send(site.key, "one")
    first = site.keeper()
    os.kill(first, signal.SIGKILL)
    site.server.wait_for("the keeper process ended: signal 9")
    site.server.wait_for(SERVES)
    site.send_until_served(site.key, "two")
    chv.check(site.keeper() != first, "another keeper")
    site.stop()


def test_pin_source():
    with softhsm.TokenSite() as site:
        site.init()
        site.key = site.add_client("cam1")
        site.start()
        killed(site)


def test_passphrase_file():
    with Pinless() as site:
        site.start("--passphrase-file", site.pin_file)
        killed(site)


def test_pin_file():
    with Pinless() as site:
        site.start("--pin-file", site.pin_file)
        killed(site)


def test_credential():
    with Pinless() as site:
        credentials = site.path("credentials")
        os.mkdir(credentials, 0o700)
        chv.write(os.path.join(credentials, "chaveiro.pin"), chv.read(site.pin_file), 0o400)
        site.start(env={"CREDENTIALS_DIRECTORY": credentials})
        killed(site)


def test_descriptor_of_a_file():
    with Pinless() as site, open(site.pin_file, "rb") as f:
        site.start("--pin-fd", str(f.fileno()), pin={"pass_fds": [f.fileno()]})
        killed(site)


def by_pipe(site):
    reader, writer = os.pipe()
    os.write(writer, chv.read(site.pin_file))
    os.close(writer)
    site.start("--pin-fd", str(reader), pin={"pass_fds": [reader]})
    os.close(reader)


def test_descriptor_of_a_pipe_held():
    with Pinless() as site:
        site.configure(pin_hold="yes")
        by_pipe(site)
        killed(site)


def test_descriptor_of_a_pipe():
    with Pinless() as site:
        by_pipe(site)
        site.send(site.key, "one")
        os.kill(site.keeper(), signal.SIGKILL)
        site.server.wait_for(r"needs the PIN, which came by a descriptor once and is not kept \(pin-hold = no\): new clients "
                             "get 503 until chaveirod is restarted")
        chv.check_in("503", site.send(site.key, "two", "--retries", "0", code=UNAVAILABLE).stderr, "the client")


# --- typed --------------------------------------------------------------------------------------------------------------


class Typed:
    """A server on a terminal, where its PIN is typed; the log comes there too."""

    def __init__(self, site, hold):
        site.configure(pin_hold=hold)
        self.site, self.pin = site, chv.read(site.pin_file).strip().decode()
        self.terminal = Terminal("chaveirod", "-c", site.config, env=site.env)

    def __enter__(self):
        self.terminal.__enter__()
        self.terminal.expect(r"PIN of (the server's token|token chaveiro[^:\n]*): ")
        self.terminal.wait_echo(False)
        self.terminal.type(self.pin + "\n")
        self.terminal.expect("listening on ")
        self.terminal.expect(r"\r?\n")
        self.site.address = self.terminal.text.split(b"listening on ")[1].split()[0].decode()
        return self

    def __exit__(self, kind, value, trace):
        children = chv.processes_under(self.terminal.process.pid)
        try:
            if kind is None:
                self.terminal.signal(signal.SIGTERM)
                self.terminal.wait(0)
                chv.check_not_in(self.pin, self.terminal.text, "the terminal")
                chv.check(self.terminal.echoes(), "the echo is back")
        finally:
            self.terminal.__exit__(kind, value, trace)
            chv.wait_gone(children)

    def kill_keeper(self):
        os.kill(chv.process_named(self.terminal.process.pid, "chv-keeper"), signal.SIGKILL)


def test_typed_and_held():
    with Pinless() as site, Typed(site, "yes") as server:
        site.send(site.key, "one")
        server.kill_keeper()
        server.terminal.expect(SERVES)
        site.send(site.key, "two")
        server.kill_keeper()  # not once only
        server.terminal.expect(SERVES)
        site.send(site.key, "three")


def test_typed_and_not_held():
    with Pinless() as site, Typed(site, "no") as server:
        site.send(site.key, "one")
        server.kill_keeper()
        server.terminal.expect(r"needs the PIN, which was typed in and is not kept \(pin-hold = no\): new clients get 503 "
                               "until chaveirod is restarted")
        chv.check_in("503", site.send(site.key, "two", "--retries", "0", code=UNAVAILABLE).stderr, "the client")


def test_nobody_to_type_it():
    with Pinless() as site:
        done = chv.run("chaveirod", "-c", site.config, env=site.env, code=None)
        chv.check(done.code not in (0, None), "no PIN, no server")
        for part in ("PIN", "--pin-file", "chaveiro"):
            chv.check_in(part, done.stderr, "what to do")


if __name__ == "__main__":
    chv.main()
