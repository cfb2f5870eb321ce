# SPDX-License-Identifier: Apache-2.0
"""Real software through tunnels: PostgreSQL, Redis, nginx, OpenSSH, vsftpd, each with its own clients."""
import contextlib
import getpass
import hashlib
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import time

import chv
import postgres
from tunnelsite import TunnelSite

MIB = 1 << 20
PASSIVE = 8  # ports for data connections
SEARCH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


def need(*names):
    """Paths of programs, also of those for administrators."""
    found = [shutil.which(name, path=SEARCH) for name in names]
    for name, where in zip(names, found):
        if where is None:
            raise chv.Skip(f"{name} is not installed: scripts/install-packages test")
    return found if len(found) > 1 else found[0]


def run(*command, code=0, cwd=None, stdin=subprocess.DEVNULL):
    done = subprocess.run(command, capture_output=True, timeout=chv.DEADLINE, check=False, cwd=cwd, stdin=stdin,
                          env={"PATH": SEARCH, "LC_ALL": "C.UTF-8", "HOME": cwd or "/nonexistent"})
    if done.returncode != code:
        raise chv.Failure(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout.decode(errors="replace")


@contextlib.contextmanager
def daemon(*command, answers, **options):
    """A program that runs while the block does; `answers()` says whether it is there, without raising OSError."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          **options) as process:
        try:
            end = time.monotonic() + chv.DEADLINE
            while not _there(answers):
                if process.poll() is not None:
                    raise chv.Failure(f"{command[0]} ended: {process.stdout.read().decode(errors='replace')[-2000:]}")
                chv.check(time.monotonic() < end, f"{command[0]} does not listen")
                time.sleep(0.05)
            yield process
        finally:
            children = chv.processes_under(process.pid)
            process.terminate()
            try:
                process.communicate(timeout=chv.DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
            chv.wait_gone(children)


def _there(answers):
    try:
        return answers()
    except OSError:
        return False


def connects(where):
    """To a path or to a (host, port)."""
    with socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET) as s:
        s.connect(where)
    return True


def free_ports(count, *hosts):
    """Ports one behind the other that are free on all of these hosts, just now."""
    for _ in range(200):
        first = random.randrange(10000, 30000)  # below what the kernel picks from
        held = []
        try:
            for port in range(first, first + count):
                for host in hosts:
                    held.append(socket.create_server((host, port)))
            return list(range(first, first + count))
        except OSError:
            continue
        finally:
            for s in held:
                s.close()
    raise chv.Failure("there are no free ports")


def port_of(process, name):
    return process.by_name[name].rpartition(":")[2]


def reachable(folder):
    """For a server that is another user's."""
    os.chmod(folder, 0o755)


def fill(path, size):
    with open(path, "wb") as f:
        for _ in range(size // MIB):
            f.write(os.urandom(MIB))


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


# --- PostgreSQL ---------------------------------------------------------------------------------------------------------


def test_pgbench():
    with postgres.Cluster() as pg, TunnelSite() as site:
        os.chmod(pg.folder, 0o711)
        pgbench, psql = os.path.join(pg.programs, "pgbench"), os.path.join(pg.programs, "psql")
        if not os.access(pgbench, os.X_OK):
            raise chv.Skip("pgbench is not installed: scripts/install-packages test")
        pg.uri("bench")
        site.init({"db": f"unix:{pg.folder}/.s.PGSQL.5432"})
        process = site.tunnel("db", "-v")
        where = ["-h", "127.0.0.1", "-p", port_of(process, "db"), "-U", postgres.OWNER]
        run(pgbench, *where, "-i", "-s", "2", "-q", "bench")
        out = run(pgbench, *where, "-c", "8", "-j", "2", "-t", "50", "bench")
        chv.check_in("number of transactions actually processed: 400/400", out, "pgbench")
        out = run(pgbench, *where, "-c", "4", "-j", "2", "-t", "25", "-C", "-S", "bench")  # a connection each time
        chv.check_in("number of transactions actually processed: 100/100", out, "pgbench -C")
        chv.check(len(process.wait_for(r"\(resumed\)")) >= 100, "resumed sessions")
        rows = run(psql, *where, "-X", "-A", "-t", "-c", "SELECT COUNT(*) FROM pgbench_accounts", "bench")
        chv.check_equal(rows.strip(), "200000", "rows")
        wide = run(psql, *where, "-X", "-A", "-t", "-c", "SELECT repeat('x', 20000000)", "bench")
        chv.check(wide.strip() == "x" * 20000000, "a wide row")
        process.stop(0)


# --- Redis --------------------------------------------------------------------------------------------------------------


def test_redis_benchmark():
    server, cli, bench = need("redis-server", "redis-cli", "redis-benchmark")
    with TunnelSite() as site:
        reachable(site.folder)
        path = site.path("redis")
        with daemon(server, "--port", "0", "--unixsocket", path, "--unixsocketperm", "777", "--save", "", "--dir",
                    site.folder, "--daemonize", "no", answers=lambda: connects(path)):
            site.init({"redis": f"unix:{path}"})
            process = site.tunnel("redis")
            where = ["-h", "127.0.0.1", "-p", port_of(process, "redis")]
            out = run(bench, *where, "-n", "2000", "-c", "20", "-q", "-t", "ping,set,get,lpush,lrange_100")
            chv.check_equal(len(re.findall(r"requests per second", out)), 7, f"what was measured: {out}")
            out = run(bench, *where, "-n", "20000", "-c", "8", "-P", "50", "-d", "2048", "-q", "-t", "set,get")
            chv.check_equal(len(re.findall(r"requests per second", out)), 2, "pipelined")
            value = "v" * (4 * MIB)
            pathlib.Path(site.path("value")).write_text(value, encoding="ascii")
            with open(site.path("value"), "rb") as f:
                chv.check_equal(run(cli, *where, "-x", "SET", "big", stdin=f).strip(), "OK", "a large value")
            chv.check(run(cli, *where, "GET", "big").strip() == value, "the large value came back changed")
            process.stop(0)


# --- nginx and curl -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def nginx(folder, path, store):
    program = need("nginx")
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    config = pathlib.Path(folder, "nginx.conf")
    config.write_text(f"""{user} daemon off; pid {folder}/nginx.pid; error_log stderr crit; worker_processes 1;
events {{ worker_connections 256; }}
http {{ access_log off; keepalive_requests 100000; client_max_body_size 0; {temporary}
  client_body_temp_path {folder}/body;
  server {{ listen unix:{path}; root {store}; location / {{ dav_methods PUT; }} }} }}
""", encoding="ascii")
    with daemon(program, "-p", folder, "-e", "stderr", "-c", str(config), answers=lambda: connects(path)):
        os.chmod(path, 0o777)
        yield


def test_curl_and_nginx():
    curl = need("curl")
    with TunnelSite() as site:
        reachable(site.folder)
        store, path, source = site.path("store"), site.path("http"), site.path("source")
        os.mkdir(store)
        fill(source, 64 * MIB)
        with nginx(site.folder, path, store):
            site.init({"web": f"unix:{path}"})
            process = site.tunnel("web", "-v")
            url = f"http://127.0.0.1:{port_of(process, 'web')}/"
            get = (curl, "-q", "-s", "-S", "-f")
            run(*get, "-T", source, url + "large")
            chv.check_equal(sha256(os.path.join(store, "large")), sha256(source), "64 MiB to nginx")
            run(*get, "-o", site.path("back"), url + "large")
            chv.check_equal(sha256(site.path("back")), sha256(source), "64 MiB from nginx")
            count = 300
            for i in range(count):
                pathlib.Path(store, f"small{i}").write_text(f"{i}\n" * 10, encoding="ascii")
            before = len(process.wait_for("connected to"))
            out = run(*get, "-w", "%{stderr}%{num_connects}\n", url + f"small[0-{count - 1}]")
            chv.check_equal(out, "".join(f"{i}\n" * 10 for i in range(count)), "many by keep-alive")
            process.wait_for("connected to", before + 1)
            chv.check_equal(len(process.wait_for("connected to")), before + 1, "connections of one that is kept alive")
            folder = site.path("many")
            os.mkdir(folder)
            run(*get, "-Z", "--parallel-max", "20", "-H", "Connection: close", "-o", os.path.join(folder, "#1"),
                url + f"small[0-{count - 1}]")
            for i in range(count):
                chv.check_equal(pathlib.Path(folder, str(i)).read_text(encoding="ascii"), f"{i}\n" * 10, "many at once")
            process.stop(0)


# --- OpenSSH ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def privilege_separation():
    """Where sshd goes to give its rights up."""
    folder = "/run/sshd"
    made = False
    if not os.path.isdir(folder):
        if os.geteuid() != 0:
            raise chv.Skip(f"{folder} is not there, and only root can make it")
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755)
            made = True
    try:
        yield
    finally:
        if made:
            with contextlib.suppress(OSError):
                os.rmdir(folder)


@contextlib.contextmanager
def sshd(folder):
    """With throw-away keys, for who runs the test; gives its address."""
    program, keygen = need("sshd", "ssh-keygen")
    at = pathlib.Path(folder)
    for name in ("host", "user"):
        run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(at / name))
    shutil.copy(at / "user.pub", at / "authorized")
    with privilege_separation():
        port, = free_ports(1, "127.0.0.1")
        (at / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized\nPidFile none\n"
            "UsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\nLogLevel ERROR\n"
            "Subsystem sftp internal-sftp\n", encoding="ascii")
        with daemon(program, "-D", "-e", "-f", str(at / "sshd_config"), answers=lambda: connects(("127.0.0.1", port))):
            yield f"127.0.0.1:{port}"


def test_ssh_by_proxy_command():
    ssh, scp = need("ssh", "scp")
    with TunnelSite() as site, sshd(site.folder) as address:
        site.init({"ssh": address})
        at = pathlib.Path(site.folder)
        (at / "known").write_text("gate " + (at / "host.pub").read_text(encoding="ascii"), encoding="ascii")
        proxy = " ".join([chv.program("chaveiro"), *site.client_argv(site.key, "--tickets", str(at / "tickets"), "connect",
                                                                     "ssh")])
        (at / "ssh_config").write_text(
            f"Host gate\n  User {getpass.getuser()}\n  ProxyCommand {proxy}\n  IdentityFile {at}/user\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {at}/known\n  StrictHostKeyChecking yes\n  BatchMode yes\n"
            "  HashKnownHosts no\n", encoding="ascii")
        config = ["-F", str(at / "ssh_config")]
        chv.check_equal(run(ssh, *config, "gate", "echo ola; exit 0"), "ola\n", "a command")
        run(ssh, *config, "gate", "exit 7", code=7)
        fill(at / "source", 16 * MIB)
        run(scp, *config, str(at / "source"), f"gate:{at}/there")
        chv.check_equal(sha256(at / "there"), sha256(at / "source"), "a file that was sent")
        run(scp, *config, f"gate:{at}/there", str(at / "back"))
        chv.check_equal(sha256(at / "back"), sha256(at / "source"), "a file that was fetched")
        with open(at / "source", "rb") as f:
            out = run(ssh, *config, "gate", "sha256sum", stdin=f)
        chv.check_equal(out.split()[0], sha256(at / "source"), "standard input")
        chv.check(site.log_count(r"\(resumed\)") >= 3, "sessions by ticket")


# --- FTP ----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def vsftpd(folder, root, control, passive):
    """On 127.0.0.2; it tells its clients to come to 127.0.0.1, where the tunnels are."""
    program = need("vsftpd")
    user, switch = chv.as_other_user("nobody")
    empty = os.path.join(folder, "empty")
    os.mkdir(empty, 0o755)
    upload = os.path.join(root, "in")
    os.mkdir(upload)
    if user is not None:
        os.chown(upload, user.pw_uid, user.pw_gid)
    config = pathlib.Path(folder, "vsftpd.conf")
    config.write_text(
        f"listen=YES\nlisten_address=127.0.0.2\nlisten_port={control}\nbackground=NO\nrun_as_launching_user=YES\n"
        f"anonymous_enable=YES\nlocal_enable=NO\nwrite_enable=YES\nanon_upload_enable=YES\nanon_umask=022\n"
        f"anon_mkdir_write_enable=YES\nanon_other_write_enable=YES\nno_anon_password=YES\nanon_root={root}\n"
        f"pasv_enable=YES\npasv_address=127.0.0.1\npasv_min_port={passive[0]}\npasv_max_port={passive[-1]}\n"
        f"port_enable=NO\nsecure_chroot_dir={empty}\nseccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\nxferlog_enable=NO\n"
        "connect_from_port_20=NO\nuse_localtime=NO\n", encoding="ascii")
    if os.geteuid() == 0:
        os.chown(config, user.pw_uid, user.pw_gid)
    with daemon(*switch, program, str(config), answers=lambda: connects(("127.0.0.2", control))):
        yield upload


def test_passive_ftp():
    """The control connection and every port of data connections is a tunnel of its own, in one process."""
    curl, lftp = need("curl", "lftp")
    with TunnelSite() as site:
        reachable(site.folder)
        root = site.path("ftp")
        os.mkdir(root, 0o755)
        control, *passive = free_ports(1 + PASSIVE, "127.0.0.1", "127.0.0.2")
        fill(site.path("source"), 16 * MIB)
        with vsftpd(site.folder, root, control, passive) as upload:
            ports = {"ftp": control, **{f"data{i}": port for i, port in enumerate(passive)}}
            site.init({name: f"127.0.0.2:{port}" for name, port in ports.items()})
            config = site.path("tunnels.conf")
            chv.write(config, "".join(f'[tunnel "{name}"]\nlisten = 127.0.0.1:{port}\n' for name, port in ports.items()))
            process = site.tunnel("--config", config, listen=(), count=len(ports))
            url = f"ftp://127.0.0.1:{control}/in/"
            run(curl, "-q", "-s", "-S", "-T", site.path("source"), url + "a")
            chv.check_equal(sha256(os.path.join(upload, "a")), sha256(site.path("source")), "what was stored")
            run(curl, "-q", "-s", "-S", "--disable-epsv", "-o", site.path("back"), url + "a")
            chv.check_equal(sha256(site.path("back")), sha256(site.path("source")), "what was fetched")
            script = (f"set ftp:passive-mode on; set ftp:ssl-allow no; set net:max-retries 1; open 127.0.0.1:{control}; "
                      f"cd in; mkdir d; put {site.path('source')} -o d/b; cls -1 d; get d/b -o {site.path('b')}; rm a; bye")
            out = run(lftp, "-f", "/dev/stdin", stdin=_text(site.path("script"), script.replace("; ", "\n") + "\n"),
                      cwd=site.folder)
            chv.check_in("d/b", out.split(), "the listing")
            chv.check_equal(sha256(site.path("b")), sha256(site.path("source")), "lftp")
            chv.check_equal(sorted(os.listdir(upload)), ["d"], "what is there")
            process.stop(0)


def _text(path, text):
    return open(chv.write(path, text), "rb")


if __name__ == "__main__":
    chv.main()
