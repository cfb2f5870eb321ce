# SPDX-License-Identifier: Apache-2.0
"""chaveirod's processes when one of them dies, is told a bad configuration, or ends: what the others then do."""
import os
import signal

import chv


def kill(site, name, ended=1):
    os.kill(chv.process_named(site.server.pid, name), signal.SIGKILL)
    site.server.wait_for(rf"the {name.removeprefix('chv-')} process ended: signal 9", ended)


def test_epochs_without_a_master_do_not_outlive_the_keeper():
    """The keeper refuses them; one that is started again must be given those that it did serve."""
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        site.start()
        site.configure(epochs="1, 9")
        for n in range(1, 4):
            site.server.signal(signal.SIGHUP)
            site.server.wait_for("stay as they were: .* no master secret of epoch 9", n)
        kill(site, "chv-keeper")
        site.server.wait_for("the keeper process serves again")
        site.client(key, "send", "ola")
        site.configure(epochs="1")
        site.server.signal(signal.SIGHUP)
        site.server.wait_for("configuration loaded", 4)
        site.client(key, "send", "ola")


def test_without_a_keeper_a_new_net_process_says_503():
    """The keeper's passphrase came from a pipe: it is not started again; the net process is, and answers."""
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        site.server = site.spawn("chaveirod", "-c", site.config, "--passphrase-file", "-",
                                 stdin=open(site.passphrase_file, "rb"))
        site.address = site.server.wait_for(r"listening on (\S+)")[0].group(1).decode()
        kill(site, "chv-keeper")
        site.server.wait_for("until chaveirod is restarted")
        kill(site, "chv-net")
        done = site.client(key, "send", "ola", "--retries", "0", code=69)
        chv.check_in(b"503", done.stderr, "the refusal")


def test_no_listening_socket_stays_open_while_clients_go():
    """Each socket, the shared unix one too, refuses at once, rather than queue clients whom nobody will accept."""
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1")
        site.configure(workers="2")
        site.start("--listen", f"unix:{site.socket}", "--listen", "127.0.0.1:0", listening=2)
        with site.connect(site.address) as silent:
            chat = site.client_start(key, "chat", stdin=-1)
            site.server.wait_for("opened service")
            os.kill(chat.pid, signal.SIGSTOP)  # does not answer CLOSE: the server goes on waiting for it
            site.server.signal(signal.SIGTERM)
            chv.check_equal(silent.recv(100), b"\x00\x03\x01\x01\xf7", "what a client without a session is told: 503")
            for address in (f"unix:{site.socket}", site.address):
                try:
                    site.connect(address).close()
                    raise chv.Failure(f"{address} still takes clients")
                except ConnectionRefusedError:
                    pass
        os.kill(chat.pid, signal.SIGCONT)
        chat.stdin.close()
        site.server.wait(0)
        site.server = None
        chat.kill()


if __name__ == "__main__":
    chv.main()
