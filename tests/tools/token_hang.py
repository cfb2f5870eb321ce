# SPDX-License-Identifier: Apache-2.0
"""Calls of the token's module that never return: clients are told 503 in time, and the keeper is replaced by itself."""
import contextlib
import os
import signal
import time

import chv
import faulty
import rawclient

UNAVAILABLE = 69
REPLACED = r'error supervisor\[\d+\]: the {who} process {how}: a call to pkcs11:token=chaveiro does not return: it is killed'


def serving(site):
    site.init()
    site.start()
    site.key = site.add_client("cam1")
    site.send(site.key, "before")
    return site


def refused(site):
    """One try: told 503 by the server before its own patience ends."""
    done = site.send(site.key, "x", "--retries", "0", code=UNAVAILABLE)
    chv.check_in("503", done.stderr, "what the client is told")


def replaced_while_serving(call, lost=False):
    """The first such call hangs; `lost`: the session is lost before, and the call is part of the way back."""
    with faulty.FaultySite() as site:
        serving(site)
        keeper, net = site.keeper(), chv.process_named(site.server.pid, "chv-net")
        if lost:
            site.tokens.fail("C_SignInit", "CKR_SESSION_HANDLE_INVALID", times=3)
        site.tokens.fail(call, "hang", times=1)
        refused(site)
        site.server.wait_for(r"warning net\[\d+\]: .*the keeper does not answer")
        site.server.wait_for(REPLACED.format(who="keeper", how="does not answer"))
        site.server.wait_for("the keeper process ended: signal 9")
        site.send_until_served(site.key, "after")
        chv.check(site.keeper() != keeper, "the same keeper")
        chv.check_equal(chv.process_named(site.server.pid, "chv-net"), net, "the net process")
        chv.check_equal(site.server.stderr.count(b"it is killed"), 1, "how often a keeper was killed")


def test_sign():
    replaced_while_serving("C_Sign")


def test_open_session():
    replaced_while_serving("C_OpenSession", lost=True)


def test_login():
    replaced_while_serving("C_Login", lost=True)


def test_initialize():
    replaced_while_serving("C_Initialize", lost=True)


def test_the_nth_sign_again_and_again():
    """Not the first one, and once more after the replacement."""
    with faulty.FaultySite() as site:
        serving(site)
        for count in (1, 2):
            site.tokens.fail("C_Sign", "hang", first=5, times=1)
            while site.tokens.calls("C_Sign") < 5:
                site.send(site.key, "x", "--retries", "0", code=None)
            site.server.wait_for(REPLACED.format(who="keeper", how="does not answer"), count)
            site.send_until_served(site.key, "after")


def test_new_epochs():
    """The keeper computes key checks when the configuration is loaded again: nobody has to ask it for a key."""
    with faulty.FaultySite() as site:
        serving(site)
        site.tokens.fail("C_Sign", "hang", times=1)
        site.server.signal(signal.SIGHUP)
        site.server.wait_for(REPLACED.format(who="keeper", how="does not answer"))
        site.send_until_served(site.key, "after")


def test_at_the_start_of_a_keeper():
    """Each call at which a keeper that is started again may hang; the first keeper of all is waited for."""
    with contextlib.ExitStack() as stack:
        patient = stack.enter_context(faulty.FaultySite())
        patient.init()
        patient.tokens.fail("C_Initialize", "hang", times=1)
        patient.server = patient.spawn("chaveirod", "-c", patient.config, env=patient.env)
        sites = []
        for call in ("C_Initialize", "C_OpenSession", "C_Login"):
            site = serving(stack.enter_context(faulty.FaultySite()))
            site.tokens.fail(call, "hang", times=1)
            os.kill(site.keeper(), signal.SIGKILL)
            site.server.wait_for("the keeper process ended: signal 9")
            refused(site)
            sites.append(site)
        computing = stack.enter_context(faulty.FaultySite())  # the net process has a module as well
        computing.init()
        computing.start("--backend", computing.tokens.uri("chaveiro"))
        computing.key = computing.add_client("cam1")
        computing.tokens.fail("C_Initialize", "hang", times=1)
        os.kill(chv.process_named(computing.server.pid, "chv-net"), signal.SIGKILL)
        for site, who in [(site, "keeper") for site in sites] + [(computing, "net")]:
            site.server.wait_for(REPLACED.format(who=who, how="does not come up"))
            site.server.wait_for(f"the {who} process serves again")
            site.send_until_served(site.key, "after")
        chv.check_not_in("it is killed", patient.server.stderr, "log of the server that was never ready")
        patient.tokens.heal()
        patient.server.wait_for("listening on")


def test_late_answers():
    """A keeper that another could not replace is left alone; what it says too late is nobody's, and then it serves."""
    with faulty.FaultySite() as site:
        serving(site)
        site.stop()
        pin = chv.read(site.pin_file)
        site.configure(keystore=site.tokens.uri("chaveiro"))
        reader, writer = os.pipe()
        os.write(writer, pin)
        os.close(writer)
        site.start("--pin-fd", str(reader), pin={"pass_fds": [reader]})
        os.close(reader)
        keeper = site.keeper()
        site.tokens.fail("C_Sign", "hang", times=1)
        refused(site)
        site.server.wait_for(r"does not answer: a call to pkcs11:token=chaveiro does not return; it is left alone")
        refused(site)
        site.tokens.heal()
        site.send_until_served(site.key, "after")
        chv.check_equal(site.keeper(), keeper, "the keeper")
        chv.check_equal(site.server.stderr.count(b"it is left alone"), 1, "how often it is said")


def test_slow_is_not_hanging():
    """Answers that take seconds are answers: nobody is killed as long as the keeper goes on between packets."""
    with chv.Site() as site:
        site.init()
        site.configure(workers="1", handshake_timeout="4s")
        site.start()
        keys = rawclient.Keys(site)
        keeper = chv.process_named(site.server.pid, "chv-keeper")
        for _ in range(3):
            os.kill(keeper, signal.SIGSTOP)
            with keys.client(site, not_after=int(time.time()) + 86400) as client:
                client.send_hello()
                chv.check_equal(client.read_reply(), 503, "a question that took too long")
            os.kill(keeper, signal.SIGCONT)
            with keys.client(site, not_after=int(time.time()) + 86400) as client:
                chv.check_equal(client.handshake(), None, "a keeper that goes on")
        chv.check_equal(chv.process_named(site.server.pid, "chv-keeper"), keeper, "the keeper")


def test_a_keystore_file_that_hangs():
    """On a dead network file system, say: here the process stands still."""
    with chv.Site() as site:
        site.init()
        site.start()
        key = site.add_client("cam1")
        os.kill(chv.process_named(site.server.pid, "chv-keeper"), signal.SIGSTOP)
        done = site.client(key, "--retries", "0", "send", "x", code=UNAVAILABLE)
        chv.check_in("503", done.stderr, "what the client is told")
        site.server.wait_for(r"the keeper process does not answer: a call to (file:)?/\S+ does not return: it is killed")
        site.server.wait_for("the keeper process serves again")
        site.client(key, "send", "after")


if __name__ == "__main__":
    chv.main()
