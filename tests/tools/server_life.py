# SPDX-License-Identifier: Apache-2.0
"""chaveirod from start to end: configuration, signals, addresses, draining."""
import contextlib
import os
import pwd
import signal
import socket
import stat
import time

import chv
import rawclient
from fakeserver import CLOSE

OSERR, UNAVAILABLE, USAGE, NOINPUT, NOPERM, CONFIG = 71, 69, 64, 66, 77, 78


def soon():
    return int(time.time()) + 86400


def chaveirod(site, *arguments, code):
    done = chv.run("chaveirod", "-c", site.config, *arguments, code=code)
    return done


def test_starts_serves_ends():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        server = site.start()
        done = site.client(key, "send", "ola")
        chv.check_equal(done.stdout, b"message received: 'ola'\n", "reply")
        server.wait_for(r"client 'cam1': 'ola'", stream="stdout")
        server.wait_for(r"client 'cam1': closed")
        site.stop()


def test_each_line_has_time_level_process():
    with chv.Site() as site:
        site.init()
        server = site.start("-v")
        server.wait_for(r"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ info supervisor\[\d+\]: listening on 127\.0\.0\.1:\d+$")


def test_check():
    with chv.Site() as site:
        site.init()
        done = chaveirod(site, "-t", code=0)
        chv.check_equal(done.stderr + done.stdout, b"", "output of a good check")
        site.configure(workers="many")
        done = chaveirod(site, "-t", code=CONFIG)
        chv.check_in("chaveirod.conf:", done.stderr, "error")
        chv.check_in("allowed: 0 (one per processor) to 64", done.stderr, "error")
        chv.check_equal(done.stderr.count(b"\n"), 1, "lines")
        site.configure(workers="1", keystore="nowhere.keys")
        chv.check_in("nowhere.keys", chaveirod(site, "-t", code=CONFIG).stderr, "error")
        chv.check_in("/nonexistent", chv.run("chaveirod", "-t", "-c", "/nonexistent", code=CONFIG).stderr, "error")


def test_bad_starts():
    with chv.Site() as site:
        site.init()
        wrong = site.new_passphrase("wrong.pass")
        done = chaveirod(site, "--passphrase-file", wrong, code=NOPERM)
        chv.check_in("passphrase", done.stderr, "error")
        done = chaveirod(site, "--backend", "gnutls", code=CONFIG)
        chv.check_in("known are: openssl", done.stderr, "error")
        done = chaveirod(site, "--listen", "nowhere", code=CONFIG)
        chv.check_in("'nowhere' is not allowed", done.stderr, "error")
        done = chaveirod(site, "--passphrase-file", site.passphrase_file, "--listen", "unix:/nonexistent/s",
                         code=UNAVAILABLE)
        chv.check_in("unix:/nonexistent/s", done.stderr, "error")
        site.configure(epochs="1, 2")
        done = chaveirod(site, "--passphrase-file", site.passphrase_file, code=CONFIG)
        chv.check_in("no master secret of epoch 2", done.stderr, "error")
        site.configure(epochs="1", keystore="nowhere.keys")
        chaveirod(site, "--passphrase-file", site.passphrase_file, code=NOINPUT)
        site.configure(keystore="server.keys", state="/nonexistent")
        done = chaveirod(site, "--passphrase-file", site.passphrase_file, code=CONFIG)
        chv.check_in("/nonexistent", done.stderr, "error")
        chaveirod(site, "--frob", code=USAGE)


def test_port_in_use():
    with chv.Site() as site:
        site.init()
        site.start()
        done = chaveirod(site, "--passphrase-file", site.passphrase_file, "--listen", site.address, code=UNAVAILABLE)
        chv.check_in("ddress already in use", done.stderr, "error")


def test_unix_socket():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        address = "unix:" + site.socket
        server = site.start("--listen", address)
        mode = os.stat(site.socket).st_mode
        chv.check(stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o660, f"mode {mode:o}")
        site.client(key, "send", "ola", to=address)

        done = chaveirod(site, "--passphrase-file", site.passphrase_file, "--listen", address, code=UNAVAILABLE)
        chv.check_in("another server answers there", done.stderr, "error of the second server")
        site.client(key, "send", "ola", to=address)
        site.stop()
        chv.check(not os.path.exists(site.socket), "the socket file is still there")

        stale = socket.socket(socket.AF_UNIX)
        stale.bind(site.socket)
        stale.close()
        site.start("--listen", address)
        site.client(key, "send", "ola", to=address)
        site.stop()

        chv.write(site.socket, "precious")
        done = chaveirod(site, "--passphrase-file", site.passphrase_file, "--listen", address, code=UNAVAILABLE)
        chv.check_in("no socket", done.stderr, "error")
        chv.check_equal(chv.read(site.socket), b"precious", "the file in the way")


def test_several_addresses():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        server = site.start("--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0", "--listen", "unix:" + site.socket,
                            listening=3)
        for match in server.wait_for(r"listening on (\S+)", 3):
            site.client(key, "send", "ola", to=match.group(1).decode())


def test_hangup_takes_over():
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        server = site.start()
        with keys.client(site, not_after=0) as client:
            chv.check_equal(client.handshake(), None, "handshake")
            code, text = client.open()
            chv.check_equal(code, 403, "STATUS")
            chv.check_in("lives longer than this server allows (90 days)", text, "STATUS")
        site.configure(max_lifetime="0", level="debug", workers="7")
        server.signal(signal.SIGHUP)
        server.wait_for(r"warning supervisor\[\d+\]: configuration loaded; these take a restart: workers")
        for _ in range(1000):  # the keeper has it, a loop of the net process may still be about to take it
            with keys.client(site, not_after=0) as client:
                client.handshake()
                chv.check_equal(client.open()[0], 200, "STATUS after the reload")
                client.close()
            if b"debug net[" in server.stderr:
                break
        server.wait_for(r"debug net\[")


def test_hangup_with_a_bad_file():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        server = site.start()
        good = chv.read(site.config)
        site.configure(rate="fast")
        server.signal(signal.SIGHUP)
        server.wait_for(r"error supervisor\[\d+\]: the configuration stays as it was: .*chaveirod.conf:\d+: rate = 'fast'")
        site.client(key, "send", "ola")
        chv.write(site.config, good)
        site.configure(epochs="1, 7")
        server.signal(signal.SIGHUP)
        server.wait_for(r"epochs and max-lifetime stay as they were: .*epoch 7")
        site.client(key, "send", "ola")
        os.unlink(site.config)
        server.signal(signal.SIGHUP)
        server.wait_for(r"the configuration stays as it was: .*No such file")
        site.client(key, "send", "ola")


def test_rate_is_said_in_clear():
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        site.configure(rate="1", burst="2")
        server = site.start()
        codes = []
        for _ in range(4):
            with keys.client(site, not_after=soon()) as client:
                codes.append(client.handshake())
        chv.check_equal(codes[:2], [None, None], "within the burst")
        chv.check_in(429, codes[2:], "beyond it")
        server.wait_for(r"refused 429: too many connections from this network per second")
        site.configure(rate="0")
        server.signal(signal.SIGHUP)
        server.wait_for("configuration loaded")
        deadline = time.monotonic() + chv.DEADLINE
        while time.monotonic() < deadline:  # the loops hear of it by themselves
            with contextlib.suppress(ConnectionError, EOFError), keys.client(site, not_after=soon()) as client:
                if client.handshake() is None:  # far over the limit connections are closed without a word
                    return
        raise chv.Failure("the rate limit is still there")


def test_connections_are_bounded():
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        site.configure(connections="2")
        site.start()
        with keys.client(site, not_after=soon()) as one, keys.client(site, not_after=soon()) as two:
            chv.check_equal([one.handshake(), two.handshake()], [None, None], "the first two")
            with keys.client(site, not_after=soon()) as three:
                chv.check_equal(three.handshake(), 429, "the third")
            one.open()
            chv.check_equal(one.message(b"a"), b"message received: 'a'", "an established one")


def test_connections_of_one_client_are_bounded():
    """In all loops together, and given back."""
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        site.configure(client_connections="2", workers="2")
        server = site.start()
        with contextlib.ExitStack() as stack:
            def connect(identity="cam1"):
                client = stack.enter_context(keys.client(site, identity, not_after=soon()))
                chv.check_equal(client.handshake(), None, "handshake")
                return client
            held = [connect() for _ in range(2)]
            chv.check_equal([client.open()[0] for client in held], [200, 200], "the first two")
            for _ in range(4):  # whichever loop takes it; refused ones hold nothing
                chv.check_equal(connect().open(), (429, "this client has 2 connections already: no more are allowed"),
                                "one more")
            server.wait_for(r"client 'cam1': refused 429: this client has 2 connections already", 4)
            chv.check_equal(connect("cam2").open()[0], 200, "another client")
            held[0].close()
            server.wait_for(r"client 'cam1': closed")
            chv.check_equal(connect().open()[0], 200, "after one has gone")
            chv.check_equal(connect().open()[0], 429, "and again one more")
            site.configure(client_connections="3")
            server.signal(signal.SIGHUP)
            server.wait_for("configuration loaded")
            deadline = time.monotonic() + chv.DEADLINE
            while connect().open()[0] != 200:  # the loops hear of it by themselves
                chv.check(time.monotonic() < deadline, "the limit stays")


def test_drain():
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        site.configure(workers="1")  # one queue of connections: both are accepted before the first is answered
        server = site.start()
        with keys.client(site, not_after=soon()) as client, keys.client(site, not_after=soon()) as early:
            client.handshake()
            client.open()
            early.sock.sendall(early.hello()[:20])
            server.signal(signal.SIGTERM)
            chv.check_equal(client.read_record()[0], CLOSE, "record when the server ends")
            chv.check_equal(early.read_reply(), 503, "answer to one without a session")
            try:
                site.connect().close()
                raise chv.Failure("a new connection was taken")
            except ConnectionRefusedError:
                pass
            chv.check(server.running(), "the server did not wait for its client")
            client.send_record(CLOSE)
            chv.check_equal(client.sock.recv(1), b"", "after CLOSE")
        server.wait(0)
        site.server = None


def test_second_signal_ends_at_once():
    with chv.Site() as site:
        site.init()
        keys = rawclient.Keys(site)
        server = site.start()
        with keys.client(site, not_after=soon()) as client:
            client.handshake()
            client.open()
            server.signal(signal.SIGTERM)
            chv.check_equal(client.read_record()[0], CLOSE, "record when the server ends")
            server.signal(signal.SIGINT)
            server.wait(0)
        site.server = None


def test_notifies_systemd():
    with chv.Site() as site:
        site.init()
        path = site.path("notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            notify.settimeout(chv.DEADLINE)
            site.start(env={"NOTIFY_SOCKET": path})
            chv.check_in(b"READY=1", notify.recv(4096), "first message")
            site.stop()
            chv.check_in(b"STOPPING=1", notify.recv(4096), "last message")


def test_credential_of_systemd():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        credentials = site.path("credentials")
        os.mkdir(credentials, 0o700)
        chv.write(os.path.join(credentials, "chaveiro.passphrase"), chv.read(site.passphrase_file), 0o400)
        server = site.spawn("chaveirod", "-c", site.config, env={"CREDENTIALS_DIRECTORY": credentials})
        address = server.wait_for(r"listening on (\S+)")[0].group(1).decode()
        site.client(key, "send", "ola", to=address)
        server.stop(0)


def test_another_user():
    if os.geteuid() != 0:
        raise chv.Skip("only root can become another user")
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        state = site.path("state")
        os.mkdir(state, 0o700)
        os.chmod(site.folder, 0o711)
        site.configure(user="nobody", state=state)
        done = chaveirod(site, "--passphrase-file", site.passphrase_file, code=CONFIG)
        chv.check_in("must belong to the server's user", done.stderr, "error")
        uid = pwd.getpwnam("nobody").pw_uid
        os.chown(state, uid, -1)
        server = site.start()
        site.client(key, "send", "ola")
        for pid in chv.processes_under(server.pid):
            with open(f"/proc/{pid}/status") as f:
                status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
            chv.check_equal(status["Uid"].split(), [str(uid)] * 4, "user")
            chv.check_equal(status["NoNewPrivs"], "1", "no new privileges")
        chv.check(os.path.exists(os.path.join(state, "clock-mark")), "the clock mark was not written")


def status_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def test_no_capabilities():
    if os.geteuid() != 0:
        raise chv.Skip("only root has capabilities to give up")
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        os.chmod(site.folder, 0o711)
        os.chmod(site.store, 0o711)
        for user in (None, "nobody"):
            if user:
                theirs = site.path("state")
                os.mkdir(theirs, 0o700)
                os.chown(theirs, pwd.getpwnam(user).pw_uid, -1)
                site.configure(user=user, state=theirs)
            site.configure(workers="2")
            server = site.start()
            site.client(key, "send", "ola")
            for pid in chv.processes_under(server.pid):
                for thread in os.listdir(f"/proc/{pid}/task"):
                    status = status_of(f"{pid}/task/{thread}")
                    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                        chv.check_equal(int(status[kind], 16), 0, f"{kind} of {status['Name']}, user {user}")
                    chv.check_equal(status["NoNewPrivs"], "1", "no new privileges")
            warned = b"runs as root: give it a user of its own with 'user = NAME'" in server.stderr
            chv.check_equal(warned, user is None, f"warning with user {user}")
            site.stop()


def test_a_net_process_that_does_not_drain_is_ended():
    with chv.Site() as site:
        site.init()
        site.configure(handshake_timeout="1s", stall_timeout="1s")
        server = site.start()
        children = chv.processes_under(server.pid)
        os.kill(chv.process_named(server.pid, "chv-net"), signal.SIGSTOP)
        server.signal(signal.SIGTERM)
        server.wait_for("the net process does not end: it is killed")
        server.wait(0)
        site.server = None
        chv.wait_gone(children)


if __name__ == "__main__":
    chv.main()
