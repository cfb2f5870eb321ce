#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""files.py [--size MIB] [--files N] [--repetitions N] [--folder DIR]...: get and put of one large file and of many small ones
over loopback, beside sftp (aes256-gcm, OpenSSH) and curl (HTTPS, nginx), each on a tmpfs and on a disk.

All of them alternate, so that what the machine does otherwise falls on each alike; the times are those of the client's
command from its start to its end, medians. Only chaveiro compares the SHA-256 of what came, and only its first row waits for
the disk: sftp and nginx confirm what is in the page cache, as its second row does. Who is not installed is left out."""
import argparse
import contextlib
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import chv
import common

SMALL = 10 * 1024
OPENSSH_CIPHER = "aes256-gcm@openssh.com"
TLS_CIPHER = "TLS_AES_256_GCM_SHA384"  # of both ends' TLS 1.3: the one that OpenSSL takes first


def empty(folder):
    for entry in os.scandir(folder):
        shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)


class Peer:
    """A server and its client. `store` is the folder of what the server has; a put goes there, a get comes from there."""

    def __init__(self, work):
        self.folder = os.path.join(work, type(self).__name__)
        self.store = os.path.join(self.folder, "store")
        os.makedirs(self.store)
        self.process = None

    def spawn(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE)

    @property
    def pids(self):
        return [self.process.pid]

    def cpu(self):
        """Processor seconds so far: the server's processes, and all clients that have ended."""
        clients = resource.getrusage(resource.RUSAGE_CHILDREN)
        return common.cpu_seconds(self.pids) + clients.ru_utime + clients.ru_stime

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process.stderr.close()
            self.process = None


class Chaveiro(Peer):
    name, durability = "chaveiro, on the disk", "batch"

    def __init__(self, work):
        super().__init__(work)
        self.site = chv.Site()
        self.site.init()
        self.site.configure(home=self.store + "/%i", durability=self.durability)
        self.key = self.site.add_client("bench", scopes=["files:rw"])
        self.store = os.path.join(self.store, "bench")
        os.mkdir(self.store, 0o700)
        self.site.start()

    @property
    def pids(self):
        return [self.site.server.pid]

    def command(self, *words):
        common.run(chv.program("chaveiro"), *self.site.client_argv(self.key, *words))

    def put(self, path):
        self.command("put", path)

    def get(self, name, into):
        self.command("get", name, into)

    def put_all(self, folder, names):
        del names
        self.command("put", "-r", folder)

    def get_all(self, folder, names, into):
        del names
        self.command("get", "-r", folder, into)

    def stop(self):
        self.site.stop()
        chv.remove_folder(self.site.folder)


class ChaveiroAtOnce(Chaveiro):
    name, durability = "chaveiro, in the cache", "none"


class Sftp(Peer):
    name = "sftp, aes256-gcm"

    def __init__(self, work):
        sshd, keygen, self.sftp = common.need("sshd", "ssh-keygen", "sftp")
        super().__init__(work)
        at, self.port = self.folder, common.free_port()
        self.key = os.path.join(at, "key")
        self.made = os.geteuid() == 0 and not os.path.exists("/run/sshd")
        if self.made:  # where sshd goes to give its rights up
            os.mkdir("/run/sshd", 0o755)
        for name in ("key", "host"):
            common.run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(at, name))
        config = pathlib.Path(at, "sshd_config")
        config.write_text(f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {at}/host\nPidFile none\nUsePAM no\n"
                          f"AuthorizedKeysFile {at}/key.pub\nStrictModes no\nSubsystem sftp internal-sftp\n"
                          f"PermitRootLogin prohibit-password\nCiphers {OPENSSH_CIPHER}\n", encoding="ascii")
        self.spawn(sshd, "-D", "-e", "-f", str(config))
        common.wait_port(self.port, self.process)

    def batch(self, text):
        name = os.path.join(self.folder, "batch")
        pathlib.Path(name).write_text(text, encoding="ascii")
        common.run(self.sftp, "-q", "-F", "/dev/null", "-b", name, "-i", self.key, "-P", str(self.port),
            "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.folder}/known", "-o", "BatchMode=yes",
            "-o", "IdentitiesOnly=yes", "-o", f"Ciphers={OPENSSH_CIPHER}", "127.0.0.1")

    def put(self, path):
        self.batch(f"put {path} {self.store}/\n")

    def get(self, name, into):
        self.batch(f"get {self.store}/{name} {into}/\n")

    def put_all(self, folder, names):
        del names
        self.batch(f"put -r {folder} {self.store}/\n")

    def get_all(self, folder, names, into):
        del names
        self.batch(f"get -r {self.store}/{folder} {into}/\n")

    def stop(self):
        super().stop()
        if self.made:
            with contextlib.suppress(OSError):
                os.rmdir("/run/sshd")


class Https(Peer):
    name = "curl, nginx, HTTPS"

    def __init__(self, work):
        nginx, openssl, self.curl = common.need("nginx", "openssl", "curl")
        super().__init__(work)
        at, self.port = self.folder, common.free_port()
        common.run(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            f"{at}/key.pem", "-out", f"{at}/cert.pem", "-days", "2", "-subj", "/CN=localhost", "-addext",
            "subjectAltName=IP:127.0.0.1")
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = " ".join(f"{kind}_temp_path {at}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
        config = pathlib.Path(at, "nginx.conf")
        config.write_text(f"""{user} daemon off; pid {at}/pid; error_log stderr crit; worker_processes 2;
events {{ worker_connections 64; }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; client_max_body_size 0; {temporary}
  client_body_temp_path {self.store}/.parts; client_body_buffer_size 1m;
  server {{ listen 127.0.0.1:{self.port} ssl; ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem;
    ssl_protocols TLSv1.3; root {self.store};
    location / {{ dav_methods PUT; create_full_put_path on; }} }} }}
""", encoding="ascii")
        self.spawn(nginx, "-p", at, "-e", "stderr", "-c", str(config))
        common.wait_port(self.port, self.process)
        self.url = f"https://127.0.0.1:{self.port}/"

    def command(self, *words):
        common.run(self.curl, "-q", "-s", "-S", "-f", "--tlsv1.3", "--tls13-ciphers", TLS_CIPHER, "--cacert",
            f"{self.folder}/cert.pem", *words)

    def many(self, lines):
        name = os.path.join(self.folder, "list")
        pathlib.Path(name).write_text("".join(lines), encoding="ascii")
        self.command("-K", name)

    def put(self, path):
        self.command("-T", path, self.url)

    def get(self, name, into):
        self.command("-o", os.path.join(into, name), self.url + name)

    def put_all(self, folder, names):
        base = os.path.basename(folder)
        self.many(f'upload-file = "{folder}/{n}"\nurl = "{self.url}{base}/{n}"\n' for n in names)

    def get_all(self, folder, names, into):
        os.mkdir(os.path.join(into, folder))
        self.many(f'url = "{self.url}{folder}/{n}"\noutput = "{into}/{folder}/{n}"\n' for n in names)


PEERS = [Chaveiro, ChaveiroAtOnce, Sftp, Https]


def same(folder, name, wanted):
    with open(os.path.join(folder, name), "rb") as f:
        f.seek(-16, os.SEEK_END)
        chv.check(os.path.getsize(f.name) == wanted[0] and f.read() == wanted[1], f"{f.name} is not what was sent")


def fill(name, size):
    """Random bytes: nothing is sparse. Size and last bytes."""
    block = os.urandom(1 << 20)
    with open(name, "wb") as f:
        for at in range(0, size, len(block)):
            f.write(block[:min(len(block), size - at)])
    return size, (block[:size % len(block)] or block)[-16:]


class Bench:
    def __init__(self, args, work):
        self.args = args
        self.source = os.path.join(work, "source")
        self.into = os.path.join(work, "into")
        os.makedirs(os.path.join(self.source, "many"))
        os.mkdir(self.into)
        self.large = fill(os.path.join(self.source, "large"), args.size << 20)
        self.names = [f"file-{i:04}" for i in range(args.files)]
        self.small = {n: fill(os.path.join(self.source, "many", n), SMALL) for n in self.names}
        self.work, self.peers = work, []

    def start(self):
        for kind in PEERS:
            try:
                self.peers.append(kind(self.work))
            except common.Missing as why:
                print(f"  ({kind.name} is left out: {why})")

    def stop(self):
        for peer in self.peers:
            peer.stop()

    def jobs(self):
        """(title, amount, unit, aim: rate of HTTPS's at least, what to do, what is made and checked)"""
        mib, files = self.args.size, self.args.files
        large, many = os.path.join(self.source, "large"), os.path.join(self.source, "many")
        return [
            (f"put of {mib} MiB", mib * 1.048576, "MB/s", 1.0, lambda peer: peer.put(large),
             lambda peer: same(peer.store, "large", self.large)),
            (f"get of {mib} MiB", mib * 1.048576, "MB/s", 1.0, lambda peer: peer.get("large", self.into),
             lambda peer: same(self.into, "large", self.large)),
            (f"put of {files} files of 10 KiB", files, "files/s", 2.0, lambda peer: peer.put_all(many, self.names),
             lambda peer: [same(os.path.join(peer.store, "many"), n, self.small[n]) for n in self.names]),
            (f"get of {files} files of 10 KiB", files, "files/s", 2.0,
             lambda peer: peer.get_all("many", self.names, self.into),
             lambda peer: [same(os.path.join(self.into, "many"), n, self.small[n]) for n in self.names]),
        ]

    def prepare(self, title, peer):
        """The same beginning for each: nothing there where it will be written, nothing of others on its way to the disk."""
        empty(self.into)
        if title.startswith("put"):
            for name in ("large", "many"):
                path = os.path.join(peer.store, name)
                if os.path.isdir(path):
                    shutil.rmtree(path)
                elif os.path.exists(path):
                    os.unlink(path)
        os.sync()

    def measure(self, kind):
        for title, amount, unit, aim, work, verify in self.jobs():
            times = {peer: [] for peer in self.peers}
            for _ in range(self.args.repetitions):
                for peer in self.peers:
                    self.prepare(title, peer)
                    cpu, start = peer.cpu(), time.monotonic()
                    work(peer)
                    times[peer].append((time.monotonic() - start, peer.cpu() - cpu))
                    verify(peer)
            found = {peer: common.medians(v) for peer, v in times.items()}
            own = found[self.peers[0]]
            table = common.Table(f"{kind}: {title}", "", "time, s", unit, "CPU, both ends, s", "time : first's", "CPU : first's")
            for peer, (seconds, cpu) in found.items():
                table.add(peer.name, seconds, amount / seconds, cpu, seconds / own[0], cpu / own[1])
            table.print()
            for https in (peer for peer in found if isinstance(peer, Https)):
                for peer in (peer for peer in found if isinstance(peer, Chaveiro)):
                    common.aim(f"{peer.name}: rate, of {https.name}", found[https][0] / found[peer][0], aim, at_least=True)
        empty(self.into)


def filesystem(folder):
    """"tmpfs", or another kind, of what a folder is on."""
    kind, longest = "?", ""
    with open("/proc/self/mounts", encoding="ascii") as mounts:
        for line in mounts:
            _, where, of, *_ = line.split()
            if os.path.join(folder, "").startswith(os.path.join(where, "")) and len(where) >= len(longest):
                kind, longest = of, where
    return kind


def folders(args):
    if args.folder:
        return args.folder
    return [folder for folder in ("/dev/shm", chv.TOP_BUILDDIR) if os.access(folder, os.W_OK)]


def main():
    parser = argparse.ArgumentParser(description="files over loopback, beside sftp and nginx with curl")
    parser.add_argument("--size", type=int, default=1024, help="of the large file, MiB")
    parser.add_argument("--files", type=int, default=4000, help="small ones; few measure the start of the programs")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--markdown", action="store_true", help="tables to be pasted")
    parser.add_argument("--folder", action="append", help="where to measure (default: /dev/shm and the build's folder)")
    args = parser.parse_args()
    common.begin(args)
    print(f"files: time of the client's command on loopback, median of {args.repetitions}, alternating")
    for folder in folders(args):
        kind = filesystem(os.path.realpath(folder))
        wanted = 8 * args.size << 20
        if shutil.disk_usage(folder).free < wanted:
            print(f"{kind}: left out: {folder} has not {wanted >> 20} MiB free")
            continue
        with tempfile.TemporaryDirectory(prefix="chv-bench-", dir=folder) as work:
            bench = Bench(args, work)
            try:
                bench.start()
                bench.measure(kind)
            finally:
                bench.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
