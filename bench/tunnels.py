# SPDX-License-Identifier: Apache-2.0
"""Two hops from a port to the target and back: ours, relays that only copy, and the peers."""
import os
import pathlib
import re
import subprocess

import chv
import common

SECRET = "benchmark:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"


def start_quiet(site):
    """chaveirod as the peers are started: no line in the log for each connection. Its port."""
    port = common.free_port()
    site.configure(level="warning", listen=f"127.0.0.1:{port}")
    secret = [] if hasattr(site, "tokens") else ["--passphrase-file", site.passphrase_file]
    site.server = site.spawn("chaveirod", "-c", site.config, *secret, env=getattr(site, "env", None))
    common.wait_port(port, site.server.process)
    return port


class Tunnel:
    """`port` is where it begins; `pids`: the processes of both ends; `server_pids`: those of the far one."""

    def __init__(self, work, target):
        self.folder = os.path.join(work, type(self).__name__)
        os.makedirs(self.folder)
        self.processes, self.port, self.server_port = [], None, None
        self.target = target
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self):
        raise NotImplementedError

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        chv.write(self.path(name), text)
        return self.path(name)

    def spawn(self, port, *command):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   cwd=self.folder)
        self.processes.append(process)
        common.wait_port(port, process)

    def make_certificate(self):
        openssl, = common.need("openssl")
        common.run(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                   self.path("key.pem"), "-out", self.path("cert.pem"), "-days", "2", "-subj", "/CN=localhost", "-addext",
                   "subjectAltName=IP:127.0.0.1")
        both = pathlib.Path(self.path("cert.pem")).read_text("ascii") + pathlib.Path(self.path("key.pem")).read_text("ascii")
        return self.write("both.pem", both)

    @property
    def pids(self):
        return [process.pid for process in self.processes]

    @property
    def server_pids(self):
        """The server is started first."""
        return self.pids[:1]

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(chv.DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stderr.close()
        self.processes = []


class Chaveiro(Tunnel):
    name = "chaveiro"

    def start(self):
        self.site = site = chv.Site()
        site.init()
        site.configure(workers="0", rate="0", client_connections="10000")
        chv.write(site.config, chv.read(site.config) +
                  f'[tunnel "bench"]\ntarget = 127.0.0.1:{self.target}\nconnections = 10000\n'.encode())
        key = site.add_client("bench", scopes=["tunnel:bench"])
        self.server_port = start_quiet(site)
        client = site.client_start(key, "tunnel", "bench", "--listen", "127.0.0.1:0", to=f"127.0.0.1:{self.server_port}")
        self.ends = [site.server, client]
        self.port = int(re.search(rb":(\d+)", client.wait_for(r"listening on \S*:\d+", stream="stdout")[0].group(0)).group(1))

    @property
    def pids(self):
        return [end.pid for end in self.ends]

    def stop(self):
        if hasattr(self, "site"):
            self.site.__exit__(OSError, None, None) if not hasattr(self, "ends") else self.end()

    def end(self):
        self.ends[1].kill()
        self.site.stop()
        chv.remove_folder(self.site.folder)


class Relay(Tunnel):
    name, size = "plain relay, reads of 64 KiB", 64 * 1024

    def start(self):
        self.helpers = []
        for _ in range(2):
            to = self.helpers[-1].port if self.helpers else self.target
            self.helpers.append(common.Helper("relay", str(to), str(self.size)).with_port())
        self.port = self.helpers[-1].port

    @property
    def pids(self):
        return [helper.pid for helper in self.helpers]

    def stop(self):
        for helper in self.helpers:
            helper.stop()


class RelayLarge(Relay):
    name, size = "plain relay, reads of 256 KiB", 256 * 1024


class Stunnel(Tunnel):
    """A pre-shared key in TLS 1.3, whose hash is SHA-256 in stunnel."""

    name, cipher = "stunnel, TLS 1.3 PSK, AES-128-GCM", "TLS_AES_128_GCM_SHA256"

    def authenticate(self):
        secret = self.write("psk", SECRET + "\n")
        return f"PSKsecrets = {secret}\n", f"PSKsecrets = {secret}\n"

    def start(self):
        stunnel, = common.need("stunnel4")
        server, client = self.authenticate()
        self.server_port, self.port = common.free_port(), common.free_port()
        both = f"foreground = yes\npid =\ndebug = 3\nsyslog = no\n[bench]\nsslVersion = TLSv1.3\nciphersuites = {self.cipher}\n"
        low_delay = "socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n"
        at = self.write("server.conf", low_delay + both + server +
                        f"accept = 127.0.0.1:{self.server_port}\nconnect = 127.0.0.1:{self.target}\n")
        self.spawn(self.server_port, stunnel, at)
        at = self.write("client.conf", low_delay + both + client +
                        f"client = yes\naccept = 127.0.0.1:{self.port}\nconnect = 127.0.0.1:{self.server_port}\n")
        self.spawn(self.port, stunnel, at)


class Stunnel256(Stunnel):
    """By a certificate: stunnel's pre-shared keys do not go with SHA-384. For bulk that is the same."""

    name, cipher = "stunnel, TLS 1.3 certificate, AES-256-GCM", "TLS_AES_256_GCM_SHA384"

    def authenticate(self):
        return f"cert = {self.make_certificate()}\n", f"CAfile = {self.path('cert.pem')}\nverifyPeer = yes\n"


class Spiped(Tunnel):
    name = "spiped"

    def start(self):
        spiped, = common.need("spiped")
        key = self.path("key")
        chv.write(key, os.urandom(32))
        self.server_port, self.port = common.free_port(), common.free_port()
        both = ["-k", key, "-F", "-n", "20000"]
        self.spawn(self.server_port, spiped, "-d", "-s", f"[127.0.0.1]:{self.server_port}", "-t", f"[127.0.0.1]:{self.target}",
                   "-p", self.path("server.pid"), *both)
        self.spawn(self.port, spiped, "-e", "-s", f"[127.0.0.1]:{self.port}", "-t", f"[127.0.0.1]:{self.server_port}",
                   "-p", self.path("client.pid"), *both)


class Ssh(Tunnel):
    name = "ssh -L, aes256-gcm"

    def start(self):
        sshd, keygen, self.ssh = common.need("sshd", "ssh-keygen", "ssh")
        self.made = os.geteuid() == 0 and not os.path.exists("/run/sshd")
        if self.made:  # where sshd goes to give its rights up
            os.mkdir("/run/sshd", 0o755)
        for name in ("id", "host"):
            common.run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", self.path(name))
        self.server_port, self.port = common.free_port(), common.free_port()
        config = self.write("sshd_config", f"ListenAddress 127.0.0.1\nPort {self.server_port}\nHostKey {self.path('host')}\n"
                            f"PidFile none\nUsePAM no\nAuthorizedKeysFile {self.path('id.pub')}\nStrictModes no\n"
                            "PermitRootLogin prohibit-password\nCiphers aes256-gcm@openssh.com\nMaxStartups 1000\n")
        self.spawn(self.server_port, sshd, "-D", "-e", "-f", config)
        self.spawn(self.port, *self.argv(), "-N", "-L", f"127.0.0.1:{self.port}:127.0.0.1:{self.target}", "127.0.0.1")

    def argv(self):
        return [self.ssh, "-q", "-F", "/dev/null", "-i", self.path("id"), "-p", str(self.server_port), "-o",
                "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.path('known')}", "-o", "BatchMode=yes", "-o",
                "IdentitiesOnly=yes", "-o", "Ciphers=aes256-gcm@openssh.com", "-o", "IPQoS=none"]

    def stop(self):
        super().stop()
        if getattr(self, "made", False):
            os.rmdir("/run/sshd")
            self.made = False


class Haproxy(Tunnel):
    name = "haproxy, TLS 1.3, AES-256-GCM"

    def start(self):
        haproxy, = common.need("haproxy")
        pem = self.make_certificate()
        self.server_port, self.port = common.free_port(), common.free_port()
        both = ("global\n  maxconn 4096\n  ssl-default-bind-ciphersuites TLS_AES_256_GCM_SHA384\n"
                "  ssl-default-server-ciphersuites TLS_AES_256_GCM_SHA384\n"
                "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\nlisten bench\n")
        at = self.write("server.cfg", both + f"  bind 127.0.0.1:{self.server_port} ssl crt {pem} ssl-min-ver TLSv1.3\n"
                        f"  server target 127.0.0.1:{self.target}\n")
        self.spawn(self.server_port, haproxy, "-db", "-f", at)
        at = self.write("client.cfg", both + f"  bind 127.0.0.1:{self.port}\n  server far 127.0.0.1:{self.server_port} ssl "
                        f"verify required ca-file {self.path('cert.pem')}\n")
        self.spawn(self.port, haproxy, "-db", "-f", at)


RELAYS = [Relay, RelayLarge]
PEERS = [Stunnel, Stunnel256, Spiped, Ssh, Haproxy]
