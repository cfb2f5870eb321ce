# SPDX-License-Identifier: Apache-2.0
"""The service files from end to end: what goes in comes out, by whom it may, nothing out of the home, nothing partial under
the final name, whatever fails meanwhile."""
import ctypes
import hashlib
import json
import os
import signal
import stat
import time

import chv
import terminal
from filesite import (ANSWER, DATA, END, MIB, PART, REQUEST, FilesSite, Raw, big, cbor, content, refused, wait_until)

USAGE, DATAERR, NOINPUT, UNAVAILABLE, CANTCREAT, IOERR, PROTOCOL, NOPERM = 64, 65, 66, 69, 73, 74, 76, 77


# --- what goes in comes out ---------------------------------------------------------------------------------------------


def test_round_trips():
    with FilesSite() as site:
        site.init(durability="none")
        for size in (0, 1, 65279, 65280, 65281, 65517, 65518, 65519, MIB + 1):
            local, back = site.path("in"), site.path("out")
            chv.write(local, content(size))
            os.chmod(local, 0o640)
            os.utime(local, ns=(1, 1234567890123456789))
            done = site.client(site.rw, "put", local, f"f{size}")
            chv.check_equal((done.stdout, done.stderr), (b"", b""), "a put is silent")
            done = site.client(site.rw, "get", f"f{size}", back)
            chv.check_equal((done.stdout, done.stderr), (b"", b""), "a get is silent")
            for path in (site.home(f"f{size}"), back):
                chv.check(chv.read(path) == content(size), f"{size} bytes came back changed: {path}")
                st = os.stat(path)
                chv.check_equal((stat.S_IMODE(st.st_mode), st.st_mtime_ns), (0o640, 1234567890123456789), "mode, time")
            os.unlink(back)
        chv.check_equal(stat.S_IMODE(os.stat(site.home()).st_mode), 0o700, "mode of a new home")
        chv.check_equal(site.parts(), [], "unfinished files")


def test_a_sparse_file_of_100_mib():
    with FilesSite() as site:
        site.init(durability="none")
        with open(site.path("sparse"), "wb") as f:
            f.truncate(100 * MIB)
            f.seek(50 * MIB)
            f.write(b"middle")
        digest = hashlib.sha256(chv.read(site.path("sparse"))).hexdigest()
        told = json.loads(site.client(site.rw, "--json", "put", site.path("sparse")).stdout)
        chv.check_equal((told["sha256"], told["size"], told["remote"]), (digest, 100 * MIB, "sparse"), "put tells")
        told = json.loads(site.client(site.rw, "--json", "get", "sparse", site.path("back")).stdout)
        chv.check_equal(told["sha256"], digest, "get tells")
        chv.check_equal(hashlib.sha256(chv.read(site.path("back"))).hexdigest(), digest, "what came back")
        chv.check_equal(site.client(site.rw, "checksum", "sparse").stdout.decode(), f"{digest}  sparse\n", "checksum")


def test_names_of_put_and_get():
    with FilesSite() as site:
        site.init()
        chv.write(site.path("a b"), "one")
        site.client(site.rw, "mkdir", "sub", "/sub/deep/")
        site.client(site.rw, "put", site.path("a b"), "sub/deep/")
        site.client(site.rw, "put", site.path("a b"), "/\u00e9")
        chv.check_equal(chv.read(site.home("sub/deep/a b")), b"one", "into a folder")
        chv.check_equal(chv.read(site.home("\u00e9")), b"one", "another name")
        os.mkdir(site.path("here"))
        site.client(site.rw, "get", "sub/deep/a b", site.path("here"))
        site.client(site.rw, "get", "\u00e9", cwd=site.path("here"))
        chv.check_equal(sorted(os.listdir(site.path("here"))), ["a b", "\u00e9"], "got")
        chv.write(site.path("a b"), "another")
        site.client(site.rw, "put", site.path("a b"), "sub/deep/a b")
        chv.check_equal(chv.read(site.home("sub/deep/a b")), b"another", "replaced")


def test_folders_and_names():
    with FilesSite() as site:
        site.init()
        chv.write(site.path("f"), "data")
        site.client(site.rw, "mkdir", "d", "d/e")
        site.client(site.rw, "put", site.path("f"), "d/f")
        listing = json.loads(site.client(site.rw, "--json", "ls", "/", "d").stdout)["results"]
        chv.check_equal([(r["path"], [(e["name"], e["type"], e["size"]) for e in r["entries"]]) for r in listing],
                        [("", [("d", "folder", 0)]), ("d", [("e", "folder", 0), ("f", "file", 4)])], "listing")
        people = site.client(site.rw, "ls", "d").stdout.decode()
        chv.check(people.splitlines()[0].startswith("drwx") and people.splitlines()[1].endswith(" f"), people)
        told = json.loads(site.client(site.rw, "--json", "stat", "d/f").stdout)["results"][0]
        chv.check_equal((told["type"], told["size"], told["mode"]), ("file", 4, "0600"), "stat")
        chv.check_in("size:           4\n", site.client(site.rw, "stat", "d/f").stdout, "stat for people")
        space = json.loads(site.client(site.rw, "--json", "df").stdout)["results"][0]
        chv.check(space["total"] >= space["free"] > 0, f"df: {space}")
        site.client(site.rw, "mv", "d/f", "g")
        chv.check_equal(chv.read(site.home("g")), b"data", "renamed from folder to folder")
        refused(site.client(site.rw, "rmdir", "d", code=CANTCREAT), "d: the folder is not empty (409)")
        refused(site.client(site.rw, "mkdir", "d", code=CANTCREAT), "d: exists already (409)")
        refused(site.client(site.rw, "mv", "g", "d", code=CANTCREAT), "g: the new name exists already (409)")
        refused(site.client(site.rw, "mv", "d", "d/e/x", code=CANTCREAT), "(409)")
        refused(site.client(site.rw, "rm", "d", code=CANTCREAT), "d: is a folder (409)")
        site.client(site.rw, "put", site.path("f"), "d")  # into the folder
        site.client(site.rw, "rm", "d/f")
        refused(site.client(site.rw, "get", "d", site.path("x"), code=CANTCREAT), "d: is a folder (409)")
        for command in ("get", "rm", "rmdir", "stat", "ls", "checksum"):
            refused(site.client(site.rw, command, "no/where", code=NOINPUT), "no/where: there is no such", "(404)")
        refused(site.client(site.rw, "put", site.path("f"), "no/where", code=NOINPUT), "no/where: there is no such", "(404)")
        chv.check(not os.path.exists(site.path("x")), "a file was made for what is not there")
        site.client(site.rw, "rmdir", "d/e", "d")
        site.client(site.rw, "rm", "g")
        chv.check_equal(os.listdir(site.home()), [], "what is left")


def test_many_requests_at_once():
    with FilesSite() as site:
        site.init()
        names = [f"n{i:03}" for i in range(300)]
        site.client(site.rw, "mkdir", *names)
        chv.check_equal(sorted(os.listdir(site.home())), names, "folders")
        done = site.client(site.rw, "rmdir", *names[:100], "missing", *names[100:], code=NOINPUT)
        chv.check_equal(done.stderr.count(b"\n"), 1, "lines")
        chv.check_equal(os.listdir(site.home()), [], "the others went all the same")


def test_a_listing_of_10000():
    with FilesSite() as site:
        site.init()
        site.client(site.rw, "mkdir", "many")
        names = {f"file with a rather long name {i:05}" for i in range(10000)}
        for name in names:
            os.close(os.open(site.home(f"many/{name}"), os.O_CREAT, 0o600))
        listed = json.loads(site.client(site.rw, "--json", "ls", "many").stdout)["results"][0]["entries"]
        chv.check_equal({e["name"] for e in listed}, names, "names")
        chv.check_equal(len(listed), 10000, "entries")


# --- who may what -------------------------------------------------------------------------------------------------------


def test_scopes():
    with FilesSite() as site:
        site.init()
        reader = site.add_client("reader", scopes=["files:ro"])
        none = site.add_client("none", scopes=["message"])
        os.mkdir(site.home("", "reader"))
        chv.write(site.home("f", "reader"), "data")
        chv.write(site.path("f"), "mine")
        site.client(reader, "get", "f", site.path("got"))
        chv.check_equal(chv.read(site.path("got")), b"data", "a reader reads")
        for command in (["put", site.path("f"), "f"], ["put", site.path("f"), "g"], ["mkdir", "d"], ["rmdir", "d"],
                        ["rm", "f"], ["mv", "f", "g"]):
            refused(site.client(reader, *command, code=NOPERM), "this client may only read", "(403)")
        chv.check_equal(os.listdir(site.home("", "reader")), ["f"], "what a reader changed")
        chv.check_equal(chv.read(site.home("f", "reader")), b"data", "what a reader changed")
        refused(site.client(none, "ls", code=NOPERM), "no scope 'files:ro' or 'files:rw'")
        site.server.wait_for("did not open: 403 this client has no scope")
        chv.check(not os.path.exists(site.home("", "none")), "a home for who has no rights")
        refused(site.client(site.rw, "get", "f", code=NOINPUT), "(404)")  # homes are apart


def test_without_a_home():
    with chv.Site() as site:
        site.init()
        key = site.add_client("cam1", scopes=["files:rw"])
        site.start()
        refused(site.client(key, "ls", code=78), "this server has no files")


def test_a_home_that_is_not_there():
    with chv.Site() as site:
        site.init()
        site.configure(home=site.path("nowhere") + "/%i")
        done = chv.run("chaveirod", "-t", "-c", site.config, code=78)
        chv.check_in("[files] home: " + site.path("nowhere") + ": No such file", done.stderr, "check")
        done = chv.run("chaveirod", "-c", site.config, "--passphrase-file", site.passphrase_file, code=78)
        chv.check_in("[files] home: " + site.path("nowhere") + ": No such file", done.stderr, "start")


# --- nothing out of the home --------------------------------------------------------------------------------------------


def test_names_that_are_refused_before_they_are_sent():
    with FilesSite() as site:
        site.init()
        for name in ("..", "../x", "a/../b", "./a", "a//b", "//a", "a\nb", "a/" + "x" * 256, "x/" * 513 + "x",
                     PART + "0"):
            done = site.client(site.rw, "stat", name, code=USAGE)
            chv.check_equal(done.stdout, b"", name)


def test_symbolic_links_are_not_followed():
    with FilesSite() as site:
        site.init()
        chv.write(site.path("secret"), "secret")
        os.mkdir(site.path("outside"))
        site.client(site.rw, "mkdir", "d")
        chv.write(site.home("d/f"), "inside")
        for name, target in (("out", site.path("secret")), ("up", "../../secret"), ("folder", site.path("outside")),
                             ("in", "d"), ("file", "d/f"), ("root", "/"), ("proc", "/proc/self/root")):
            os.symlink(target, site.home(name))
        for name in ("out", "up", "root", "proc", "file", "in"):
            refused(site.client(site.rw, "get", name, site.path("x"), code=NOPERM), "symbolic links are not followed (403)")
        for name in ("root/etc/passwd", "proc/etc/passwd", "in/f", "folder/x"):
            refused(site.client(site.rw, "get", name, site.path("x"), code=NOPERM), "(403)")
            refused(site.client(site.rw, "put", site.path("secret"), name, code=NOPERM), "(403)")
            refused(site.client(site.rw, "rm", name, code=NOPERM), "(403)")
            refused(site.client(site.rw, "mkdir", name, code=NOPERM), "(403)")
            refused(site.client(site.rw, "mv", "d/f", name, code=NOPERM), "(403)")
        chv.check_equal(json.loads(site.client(site.rw, "--json", "stat", "out").stdout)["results"][0]["type"], "link", "stat")
        site.client(site.rw, "put", site.path("secret"), "out")  # takes the link's place
        chv.check(not os.path.islink(site.home("out")), "still a link")
        site.client(site.rw, "rm", "up")
        chv.check_equal(chv.read(site.path("secret")), b"secret", "what the links pointed at")
        chv.check_equal(os.listdir(site.path("outside")), [], "what was written outside")
        chv.check(not os.path.exists(site.path("x")), "something was fetched")


def test_a_home_that_is_a_link():
    with FilesSite() as site:
        site.init()
        os.mkdir(site.path("outside"))
        os.symlink(site.path("outside"), site.home().rstrip("/"))
        refused(site.client(site.rw, "mkdir", "d", code=NOPERM), "(403)")
        chv.check_equal(os.listdir(site.path("outside")), [], "what was written outside")


def test_no_fifo_or_device_is_opened():
    with FilesSite() as site:
        site.init()
        site.client(site.rw, "mkdir", "d")
        os.mkfifo(site.home("fifo"))
        refused(site.client(site.rw, "get", "fifo", site.path("x"), code=CANTCREAT), "is no regular file (409)")
        refused(site.client(site.rw, "put", site.config, "fifo", code=CANTCREAT), "(409)")


# --- hostile records ----------------------------------------------------------------------------------------------------


def test_names_are_refused_by_the_server_too():
    with FilesSite() as site:
        site.init()
        chv.write(site.path("secret"), "secret")
        names = ["..", ".", "../secret", "a/..", "a/../../secret", "/etc/passwd", "//x", "a//b", "a/", "/", "a\nb", "a\x7f",
                 "a\0b", PART + "1", "a/" + PART, "x" * 256, "a/" * 600 + "b"]
        with Raw(site) as raw:
            for number, name in enumerate(names):
                for op in ("get", "ls", "stat", "checksum", "mkdir", "rmdir", "rm"):
                    raw.ask(number, op, name)
                    raw.check_answer(number, 400, name if "\0" not in name and len(name) <= 1024 else None)
                raw.ask(number, "rename", "a", to=name)
                raw.check_answer(number, 400, "a")
                raw.ask(number, "rename", name, to="b")
                raw.check_answer(number, 400)
                raw.put(name, 1, number)
                raw.send_record(DATA, b"x")
                raw.send_record(END, hashlib.sha256(b"x").digest())
                raw.check_answer(number, 400)
            for op in ("mkdir", "rmdir", "rm"):
                raw.ask(1, op, "")
                raw.check_answer(1, 400, "")
            raw.close()
        chv.check_equal(os.listdir(site.home()) if os.path.exists(site.home()) else [], [], "what was made")
        chv.check_equal(sorted(os.listdir(site.root)), sorted(set(os.listdir(site.root)) & {"cam1"}), "what was made")


def test_records_that_end_the_connection():
    with FilesSite() as site:
        site.init()
        hello = cbor({"id": 1, "op": "stat", "path": ""})
        for kind, body in ((REQUEST, b""), (REQUEST, b"\xff"), (REQUEST, hello + b"\0"), (REQUEST, hello[:-1]),
                           (REQUEST, b"\xa0"), (REQUEST, cbor({"id": 1, "op": "fly", "path": ""})),
                           (REQUEST, cbor({"id": 1, "path": ""})), (REQUEST, cbor({"op": "stat", "path": ""})),
                           (REQUEST, cbor({"id": "1", "op": "stat", "path": ""})),
                           (REQUEST, cbor({"id": 1, "op": "stat", "path": "\udcff"})),
                           (REQUEST, os.urandom(4096)), (DATA, b"x"), (END, b""), (ANSWER, hello), (255, hello)):
            with Raw(site) as raw:
                raw.send_record(kind, body)
                raw.check_ended()
        with Raw(site) as raw:
            raw.put("f", 5)
            raw.send_record(REQUEST, hello)
            raw.check_ended()
        with Raw(site) as raw:
            raw.put("f", 5)
            raw.send_record(END, b"short")
            raw.check_ended()
        wait_until("the unfinished file is gone", lambda: not site.parts())
        chv.check_equal(os.listdir(site.home()), [], "what is left")


def test_puts_that_do_not_add_up():
    with FilesSite() as site:
        site.init()
        with Raw(site) as raw:
            good = hashlib.sha256(b"hello").digest()
            for number, (size, pieces, digest) in enumerate((
                    (5, [b"hello"], hashlib.sha256(b"hellp").digest()), (5, [b"hell"], hashlib.sha256(b"hell").digest()),
                    (5, [b"hello", b"!"], good), (5, [b"hello"], b""), (0, [b"x"], good), (1, [], good))):
                raw.put("f", size, number)
                for piece in pieces:
                    raw.send_record(DATA, piece)
                raw.send_record(END, digest)
                raw.check_answer(number, 400, "f")
                chv.check_equal(os.listdir(site.home()), [], "what was stored")
            for more in ({"size": 1 << 63}, {"mode": 0o1000}, {"mtime": 1 << 63}, {"mode": "x"}):
                raw.ask(7, "put", "f", **{"size": 5, "mode": 0o644, "mtime": 0, **more})
                raw.check_answer(7, 400, "f")
                raw.send_record(END)
            raw.put("f", 5 << 30, 8)  # more than 4 GiB is a size like any other
            raw.send_record(DATA, b"x")
            raw.send_record(END)
            raw.check_answer(8, 400, "f")
            raw.put("f", 5, 9, mode=0o777)
            raw.send_record(DATA, b"hello")
            raw.send_record(END, good)
            chv.check_equal(raw.check_answer(9, 200, "f")["sha256"], good, "digest")
            raw.close()
        chv.check_equal((os.listdir(site.home()), chv.read(site.home("f"))), (["f"], b"hello"), "what was stored")


def test_two_puts_of_one_name():
    with FilesSite() as site:
        site.init()
        with Raw(site) as first, Raw(site) as second:
            first.put("f", 5)
            first.send_record(DATA, b"hello")
            wait_until("the first put has begun", site.parts)
            second.put("f", 5)
            second.check_answer(1, 409, "f")
            second.send_record(END)
            second.close()


# --- limits -------------------------------------------------------------------------------------------------------------


def test_the_largest_file():
    with FilesSite() as site:
        site.init(max_size="1M")
        chv.write(site.path("f"), content(MIB))
        site.client(site.rw, "put", site.path("f"), "fits")
        chv.write(site.path("f"), content(MIB + 1))
        refused(site.client(site.rw, "put", site.path("f"), "large", code=CANTCREAT),
                "large: 1048577 bytes are more than the 1048576 that this server takes (413)")
        with open(site.path("f"), "wb") as f:
            f.truncate(200 * MIB)  # refused while the client is still sending
        refused(site.client(site.rw, "put", site.path("f"), "large", code=CANTCREAT), "(413)")
        chv.check_equal(os.listdir(site.home()), ["fits"], "what is stored")


def test_the_quota():
    with FilesSite() as site:
        os.makedirs(site.path("homes/cam1/old"))
        chv.write(site.path("homes/cam1/old/f"), content(300000))
        site.init(quota="1M")
        other = site.add_client("cam2", scopes=["files:rw"])
        chv.write(site.path("f"), content(400000))
        site.client(site.rw, "put", site.path("f"), "one")
        refused(site.client(site.rw, "put", site.path("f"), "two", code=CANTCREAT), "two: 400000 bytes", "quota", "(507)")
        chv.check_equal(sorted(os.listdir(site.home())), ["old", "one"], "what is stored")
        chv.check_equal(site.parts(), [], "unfinished files")
        space = json.loads(site.client(site.rw, "--json", "df").stdout)["results"][0]
        chv.check_equal((space["total"], space["free"]), (MIB, MIB - 700000), "df")
        site.client(other, "put", site.path("f"), "two")
        with Raw(site) as raw:  # two puts that fit one by one
            raw.put("a", 200000, 1)
            raw.send_record(DATA, b"x" * 60000)
            raw.put("b", 5, 2)
            raw.check_ended()
        with Raw(site) as first, Raw(site) as second:
            first.put("a", 340000, 1)
            for _ in range(5):
                first.send_record(DATA, b"x" * 60000)
            first.send_record(DATA, b"x" * 39999)
            wait_until("all of it is there", lambda: [os.path.getsize(site.home(n)) for n in site.parts()] == [339999])
            second.put("b", 10000, 1)
            second.check_answer(1, 507, "b")
            second.send_record(END)
            second.close()
        wait_until("the unfinished file is gone", lambda: not site.parts())
        site.client(site.rw, "rm", "one")
        site.client(site.rw, "put", site.path("f"), "two")


def test_a_full_disk():
    if os.geteuid() != 0:
        raise chv.Skip("mounting a small file system takes root")
    with FilesSite() as site:
        os.mkdir(site.path("small"))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"none", site.path("small").encode(), b"tmpfs", 0, b"size=1m") != 0:
            raise chv.Skip(f"cannot mount a tmpfs: {os.strerror(ctypes.get_errno())}")
        try:
            site.init(root=site.path("small"))
            chv.write(site.path("f"), content(600000))
            site.client(site.rw, "put", site.path("f"), "one")
            before = chv.read(site.home("one"))
            chv.write(site.path("f"), content(700000))
            for name in ("two", "one"):
                refused(site.client(site.rw, "put", site.path("f"), name, code=CANTCREAT),
                        f"{name}: no space left on the server's disk (507)")
            chv.check_equal(os.listdir(site.home()), ["one"], "what is stored")
            chv.check(chv.read(site.home("one")) == before, "the old file has changed")
            site.client(site.rw, "rm", "one")
            site.client(site.rw, "put", site.path("f"), "two")
            site.stop()
        finally:
            chv.check_equal(libc.umount2(site.path("small").encode(), 2), 0, "umount")


# --- whatever fails -----------------------------------------------------------------------------------------------------


def test_a_client_that_is_killed_while_it_puts():
    with FilesSite() as site:
        site.init()
        chv.write(site.path("old"), "old")
        site.client(site.rw, "put", site.path("old"), "f")
        client = site.client_start(site.rw, "put", big(site.path("big")), "f")
        wait_until("a put is under way", lambda: any(os.path.getsize(site.home(n)) > 0 for n in site.parts()))
        os.kill(client.pid, signal.SIGKILL)
        client.wait(-signal.SIGKILL)
        wait_until("the connection has ended", lambda: "the stream ended without CLOSE" in site.log())
        listed = json.loads(site.client(site.rw, "--json", "ls").stdout)["results"][0]["entries"]
        chv.check_equal([(e["name"], e["size"]) for e in listed], [("f", 3)], "what a client sees")
        chv.check_equal(chv.read(site.home("f")), b"old", "what is stored")


def test_a_server_that_is_killed_while_it_is_put():
    with FilesSite() as site:
        site.init()
        with Raw(site) as raw:
            raw.put("sub", 5)
            raw.send_record(DATA, b"hel")
            wait_until("the put has begun", site.parts)
            os.kill(chv.process_named(site.server.pid, "chv-net"), signal.SIGKILL)
            site.server.wait_for("the net process ended: signal 9")
        chv.check_equal(len(site.parts()), 1, "unfinished files of the killed server")
        chv.write(site.path("f"), "hello")
        listed = None
        while listed is None:  # until the next net process serves
            done = site.client(site.rw, "--json", "ls", code=None)
            listed = json.loads(done.stdout)["results"][0]["entries"] if done.code == 0 else None
        chv.check_equal(listed, [], "what a client sees")
        site.client(site.rw, "put", site.path("f"), "sub")
        chv.check_equal((os.listdir(site.home()), chv.read(site.home("sub"))), (["sub"], b"hello"), "put again")


def test_rmdir_of_a_folder_with_a_leftover():
    with FilesSite() as site:
        site.init()
        site.client(site.rw, "mkdir", "d")
        chv.write(site.home("d/" + PART + "0123456789abcdef"), "half")
        site.client(site.rw, "rmdir", "d")
        chv.check_equal(os.listdir(site.home()), [], "what is left")


def test_a_connection_that_is_lost_while_it_gets():
    with FilesSite() as site:
        site.init()
        site.client(site.rw, "mkdir", "d")
        big(site.home("f"))
        os.mkdir(site.path("here"))
        for how, code in ((signal.SIGTERM, 128 + signal.SIGTERM), (None, None)):
            client = site.client_start(site.rw, "get", "f", site.path("here/"))
            wait_until("a get is under way", lambda: os.listdir(site.path("here")))
            chv.check_in(os.listdir(site.path("here"))[0][:9], ".chv-get-", "a hidden name")
            if how is not None:
                client.signal(how)
            else:
                os.kill(chv.process_named(site.server.pid, "chv-net"), signal.SIGKILL)
            done = client.wait(code)
            chv.check(done.code != 0, "a get that was cut is no success")
            chv.check_in("here/f: what has come of it is kept for 'get --resume'", done.stderr, "the error")
            chv.check_in(os.listdir(site.path("here"))[0][:9], ".chv-get-", "what is left of it")
            os.unlink(site.path("here/" + os.listdir(site.path("here"))[0]))


def test_a_file_that_is_truncated_while_it_is_read():
    with FilesSite() as site:
        site.init()
        site.client(site.rw, "mkdir", "d")
        big(site.home("f"), 256 * MIB)
        with Raw(site) as raw:
            raw.ask(1, "get", "f")
            chv.check_equal(raw.check_answer(1, 206, "f")["size"], 256 * MIB, "size")
            os.truncate(site.home("f"), MIB)
            kind, body = raw.read_record()
            while kind == DATA:
                kind, body = raw.read_record()
            chv.check_equal((kind, body), (END, b""), "an END without a digest")
            chv.check_in("changed while it was read", raw.check_answer(1, 409, "f")["text"], "text")
            raw.ask(2, "stat", "f")
            chv.check_equal(raw.check_answer(2, 200, "f")["size"], MIB, "the connection goes on")
            raw.close()


def test_a_local_file_that_is_truncated_while_it_is_sent():
    with FilesSite() as site:
        site.init()
        client = site.client_start(site.rw, "put", big(site.path("f")))
        wait_until("a put is under way", lambda: any(os.path.getsize(site.home(n)) > 0 for n in site.parts()))
        os.truncate(site.path("f"), 10)
        done = client.wait(IOERR)
        chv.check_in("f: the file shrank while it was read: try again\n", done.stderr, "the error")
        chv.check_equal(done.stderr.count(b"\n"), 1, "lines")
        chv.check_equal(os.listdir(site.home()), [], "what is stored")


def test_a_connection_that_is_cut_after_each_record():
    with FilesSite() as site:
        site.init()
        site.client(site.rw, "mkdir", "d")
        pieces = [b"one", b"two", b"three"]
        whole = b"".join(pieces)
        for cut in range(len(pieces) + 1):
            with Raw(site) as raw:
                raw.put("f", len(whole))
                for piece in pieces[:cut]:
                    raw.send_record(DATA, piece)
                sent = sum(map(len, pieces[:cut]))
                wait_until("all of it is there", lambda: [os.path.getsize(site.home(n)) for n in site.parts()] == [sent])
            wait_until("the unfinished file is gone", lambda: not site.parts())
            chv.check_equal(os.listdir(site.home()), ["d"], f"cut after {cut} records")


def test_a_client_that_does_not_read():
    """Constant memory on the server: nobody reads, and the stream waits."""
    with FilesSite() as site:
        site.init()
        site.client(site.rw, "mkdir", "d")
        big(site.home("f"))
        net = chv.process_named(site.server.pid, "chv-net")

        def resident():
            text = chv.read(f"/proc/{net}/status").decode()
            return int(text.split("VmRSS:")[1].split()[0]) * 1024

        before = resident()
        with Raw(site) as raw:
            for number in range(50):
                raw.ask(number, "get", "f")
            raw.check_answer(0, 206, "f")
            taken = 0
            while taken < 128 * MIB:
                taken += len(raw.sock.recv(MIB))
            chv.check(resident() < before + 32 * MIB, f"{before} bytes before, {resident()} now")
        site.client(site.rw, "ls")


def test_progress_on_a_terminal_only():
    with FilesSite() as site:
        site.init()
        chv.write(site.path("f"), content(MIB))
        with terminal.Terminal("chaveiro", *site.client_argv(site.rw, "put", site.path("f"), "g")) as t:
            t.expect(r"g  \[[#.]{24}\] +\d+%  [0-9.]+ \w+  [0-9.]+ \w+/s  ETA ")
            t.wait(0)
        done = site.client(site.rw, "-v", "put", site.path("f"))
        chv.check_in("put: f: 1048576 bytes in", done.stderr, "-v")
        chv.check_not_in(b"ETA", done.stderr, "no bar without a terminal")


if __name__ == "__main__":
    chv.main()
