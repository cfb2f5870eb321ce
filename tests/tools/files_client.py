# SPDX-License-Identifier: Apache-2.0
"""chaveiro get and put: folders, patterns, many at once, resumed, and whatever stands in the way on this side."""
import ctypes
import hashlib
import json
import os
import signal
import stat

import chv
import fakeserver
import store
import terminal
from filesite import MIB, FilesSite, big, cbor, content, decode, refused, wait_until

USAGE, DATAERR, NOINPUT, CANTCREAT, PROTOCOL = 64, 65, 66, 73, 76

PART = ".chv-get-"


class ClientSite(FilesSite):
    def init(self, *extra, **settings):
        settings.setdefault("durability", "none")
        super().init(*extra, **settings)
        os.makedirs(self.home(), mode=0o700, exist_ok=True)
        os.mkdir(self.path("local"))
        return self.server

    def local(self, name=""):
        return os.path.join(self.path("local"), name)

    def run(self, *arguments, **options):
        return self.client(self.rw, *arguments, cwd=self.path("local"), **options)

    def told(self, *arguments, **options):
        return [json.loads(line) for line in self.run("--json", *arguments, **options).stdout.splitlines()]


def tree(top):
    """{name: content or None for a folder} of all beneath."""
    found = {}
    for folder, folders, names in os.walk(top):
        for name in folders:
            found[os.path.relpath(os.path.join(folder, name), top)] = None
        for name in names:
            found[os.path.relpath(os.path.join(folder, name), top)] = chv.read(os.path.join(folder, name))
    return found


def make_tree(top):
    for name in ("a/b/c", "a/empty", "a/x"):
        os.makedirs(os.path.join(top, name))
    for i in range(40):
        chv.write(os.path.join(top, f"a/b/f{i}"), content(i * 1000))
    for name, size in (("a/b/c/deep", MIB), ("a/zero", 0), ("a/x/\u00e9 1", 3), ("a/.hidden", 9)):
        chv.write(os.path.join(top, name), content(size))


# --- folders ------------------------------------------------------------------------------------------------------------


def test_folders_both_ways():
    with ClientSite() as site:
        site.init()
        make_tree(site.local())
        done = site.run("put", "-r", "a")
        chv.check_equal((done.stdout, done.stderr), (b"", b""), "silence")
        chv.check_equal(tree(site.home("a")), tree(site.local("a")), "what was stored")
        site.run("put", "-r", "a")  # into what is there
        site.run("put", "-r", "a", "other")  # under another name
        site.run("put", "-r", "a", "a/x")  # into a folder that is there
        site.run("put", "-r", "a/.", "flat")
        for name in ("other", "a/x/a", "flat"):
            chv.check_equal(tree(site.home(name)), tree(site.local("a")), name)
        os.mkdir(site.local("into"))
        site.run("get", "-r", "other")
        site.run("get", "-r", "other", "into")
        site.run("get", "-r", "other/", "renamed")
        for name in ("other", "into/other", "renamed"):
            chv.check_equal(tree(site.local(name)), tree(site.local("a")), name)
        site.run("get", "-r", "/", "all")
        chv.check_equal(tree(site.local("all")), tree(site.home()), "the whole home")
        refused(site.run("get", "other", code=CANTCREAT), "other: is a folder (409)")
        refused(site.run("put", "a", code=NOINPUT), "a: is no regular file: -r sends folders")


def test_a_thousand_small_files():
    with ClientSite() as site:
        site.init()
        os.mkdir(site.local("many"))
        for i in range(1000):
            chv.write(site.local(f"many/{i}"), content(i % 97 + 1))
        told = site.told("put", "-r", "many")
        chv.check_equal((len(told), told[-1]["files"], told[-1]["failed"]), (1001, 1000, 0), "put tells")
        told = site.told("get", "-r", "many", "back")
        chv.check_equal((len(told), told[-1]["files"], told[-1]["bytes"]), (1001, 1000, told[-1]["bytes"]), "get tells")
        chv.check_equal(tree(site.local("back")), tree(site.local("many")), "what came back")


def test_modes_and_times():
    with ClientSite() as site:
        site.init()
        os.makedirs(site.local("d/e"))
        chv.write(site.local("d/e/f"), "x")
        os.chmod(site.local("d/e/f"), 0o666)
        os.utime(site.local("d/e/f"), ns=(1, 1234567890123456789))
        site.run("put", "-r", "d")
        st = os.stat(site.home("d/e/f"))
        chv.check_equal((stat.S_IMODE(st.st_mode), st.st_mtime_ns), (0o666 & ~os.umask(0o022), 1234567890123456789), "put")
        shown = [json.loads(site.run("--json", *command).stdout)["results"][0] for command in (["stat", "d/e/f"], ["ls", "d/e"])]
        chv.check_equal([shown[0]["mtime"], shown[1]["entries"][0]["mtime"]], ["2009-02-13T23:31:30Z"] * 2, "--json")
        os.umask(0o022)
        os.mkdir(site.local("d/e/g"))
        os.chmod(site.local("d/e"), 0o500)
        for folder, ns in (("d/e/g", 3), ("d/e", 2), ("d", 1)):
            os.utime(site.local(folder), ns=(1, ns * 1234567890))
        site.run("put", "-rp", "d")
        chv.check_equal(stat.S_IMODE(os.stat(site.home("d/e/f")).st_mode), 0o666, "put -p")
        chv.check_equal([os.stat(site.home(folder)).st_mtime_ns for folder in ("d", "d/e", "d/e/g")],
                        [1234567890, 2469135780, 3703703670], "put -rp: folders' times")
        chv.check_equal(stat.S_IMODE(os.stat(site.home("d/e")).st_mode), 0o700, "a folder's mode")
        os.chmod(site.local("d/e"), 0o700)
        os.chmod(site.home("d/e"), 0o2550)
        os.utime(site.home("d/e"), ns=(1, 1111111111000000000))
        site.run("get", "-r", "d", "plain")
        site.run("get", "-r", "-p", "d", "kept")
        chv.check_equal([stat.S_IMODE(os.stat(site.local(n)).st_mode) for n in ("plain/e", "plain/e/f", "kept/e", "kept/e/f")],
                        [0o755, 0o644, 0o550, 0o666], "modes")
        chv.check_equal(os.stat(site.local("kept/e")).st_mtime_ns, 1111111111000000000, "a folder's time")
        chv.check_equal(os.stat(site.local("plain/e/f")).st_mtime_ns, 1234567890123456789, "a file's time")


def test_what_is_neither_file_nor_folder_is_left_out():
    with ClientSite() as site:
        site.init()
        for top in (site.local("d"), site.home("e")):
            os.mkdir(top)
            chv.write(os.path.join(top, "f"), "x")
            os.symlink("/etc/passwd", os.path.join(top, "link"))
            os.mkfifo(os.path.join(top, "fifo"))
        done = site.run("put", "-r", "d")
        chv.check_in("d/link: left out: is a symbolic link", done.stderr, "put")
        chv.check_in("d/fifo: left out: is no regular file", done.stderr, "put")
        done = site.run("get", "-r", "e")
        chv.check_in("e/link: left out: is a symbolic link", done.stderr, "get")
        chv.check_equal((os.listdir(site.home("d")), os.listdir(site.local("e"))), (["f"], ["f"]), "what moved")
        os.symlink("d/f", site.local("mine"))  # an operand is what the user named
        site.run("put", "mine")
        chv.check_equal(chv.read(site.home("mine")), b"x", "a link as operand")


def test_one_that_fails_does_not_stop_the_others():
    with ClientSite() as site:
        site.init()
        os.mkdir(site.local("d"))
        for name in ("a", "b", "z"):
            chv.write(site.local(f"d/{name}"), name)
        os.mkdir(site.local(b"d/caf\xe9".decode("utf-8", "surrogateescape")))
        os.mkdir(site.home("d"))
        os.mkdir(site.home("d/b"))
        done = site.run("--json", "put", "-r", "d", code=DATAERR)  # of the first that failed
        chv.check_in("d/b: is a folder (409)", done.stderr, "error")
        chv.check_in("cannot be a name on the server: the name is not UTF-8", done.stderr, "error")
        chv.check_equal(json.loads(done.stdout.splitlines()[-1])["failed"], 2, "the sum")
        chv.check_equal(sorted(os.listdir(site.home("d"))), ["a", "b", "z"], "the others")
        os.mkdir(site.local("back"))
        os.makedirs(site.local("back/d/a"))
        done = site.run("get", "-r", "d", "back", code=CANTCREAT)
        chv.check_in("back/d/a: Is a directory", done.stderr, "error")
        chv.check_equal(sorted(os.listdir(site.local("back/d"))), ["a", "b", "z"], "the others")
        done = site.run("get", "d/a", "nosuch", "d/z", "back", code=NOINPUT)
        chv.check_equal((done.stderr.count(b"\n"), sorted(os.listdir(site.local("back")))), (1, ["a", "d", "z"]), "several")


# --- names --------------------------------------------------------------------------------------------------------------


def test_patterns():
    with ClientSite() as site:
        site.init()
        names = ["a.log", "b.log", "c.txt", ".d.log", "[x].log", "s p.log", "\u00e9.log"]
        os.makedirs(site.home("d1/sub"))
        os.makedirs(site.home("d2/sub"))
        for folder in ("", "d1/", "d2/sub/"):
            for name in names:
                chv.write(site.home(folder + name), folder + name)
        os.mkdir(site.local("into"))

        def got(*operands, code=0):
            site.run("get", *operands, "into/", code=code)
            found = tree(site.local("into"))
            for name in found:
                os.unlink(site.local("into/" + name))
            return sorted(found)

        chv.check_equal(got("*.log"), sorted(["a.log", "b.log", "[x].log", "s p.log", "\u00e9.log"]), "*.log")
        chv.check_equal(got("?.log"), ["a.log", "b.log", "\u00e9.log"], "?.log: a character, not a byte")
        chv.check_equal(got("[ab].log"), ["a.log", "b.log"], "[ab]")
        chv.check_equal(got("[!ab].log"), ["\u00e9.log"], "[!ab]")
        chv.check_equal(got("\\[x\\].log"), ["[x].log"], "escaped")
        chv.check_equal(got("[x].log"), ["[x].log"], "one that nothing matches stands for itself")
        chv.check_equal(got(".*.log"), [".d.log"], "a dot")
        chv.check_equal(got("d?/a.log", "d2/*/c*"), ["a.log", "c.txt"], "folders in between")
        refused(site.run("get", "*.nosuch", code=NOINPUT), "*.nosuch: there is no such file")
        refused(site.run("get", "nosuch/*", code=NOINPUT), "nosuch: there is no such file")
        refused(site.run("get", "*.log", "no-folder", code=CANTCREAT), "no-folder: is no folder: several files need one")
        refused(site.run("get", "../*", code=USAGE), "'.' and '..' are not for names here")
        chv.check_equal(site.run("ls", "d1/[ab]*").stdout.decode().count("d1/"), 2, "ls")
        chv.check_equal(len(site.run("checksum", "*.log").stdout.splitlines()), 5, "checksum")
        site.run("rm", "d1/*.log")
        chv.check_equal(sorted(os.listdir(site.home("d1"))), [".d.log", "c.txt", "sub"], "rm")
        site.run("get", "-r", "d*", "into")
        chv.check_equal(sorted(os.listdir(site.local("into"))), ["d1", "d2"], "folders")


def test_several_into_a_folder():
    with ClientSite() as site:
        site.init()
        for name in ("a", "b", "c"):
            chv.write(site.local(name), name)
        os.mkdir(site.home("d"))
        site.run("put", "a", "b", "c", "d")
        site.run("put", "a", "b", "/")
        refused(site.run("put", "a", "b", "a", code=CANTCREAT), "a: is no folder on the server: several files need one")
        refused(site.run("put", "nosuch", "d", code=NOINPUT), "nosuch: No such file")
        chv.check_equal((sorted(os.listdir(site.home())), sorted(os.listdir(site.home("d")))), (["a", "b", "d"], ["a", "b", "c"]),
                        "what is there")
        refused(site.run("put", "nosuch", code=NOINPUT, to="127.0.0.1:1"), "nosuch: No such file")  # without a server
        odd = site.local(b"caf\xe9".decode("utf-8", "surrogateescape"))
        chv.write(odd, "odd")  # no UTF-8: a name for this side only
        told = site.told("put", odd, "plain")[0]
        chv.check(told["local"].endswith("caf\\xe9"), f"what JSON tells: {told}")
        chv.check_equal(chv.read(site.home("plain")), b"odd", "stored")


# --- this side ----------------------------------------------------------------------------------------------------------


def test_what_is_replaced_and_what_not():
    with ClientSite() as site:
        site.init()
        chv.write(site.home("f"), "new")
        chv.write(site.path("outside"), "old")
        os.symlink(site.path("outside"), site.local("f"))
        site.run("get", "f")
        chv.check(not os.path.islink(site.local("f")), "the link is replaced")
        chv.check_equal((chv.read(site.local("f")), chv.read(site.path("outside"))), (b"new", b"old"), "not what it points to")
        os.unlink(site.local("f"))
        os.mkfifo(site.local("f"))
        refused(site.run("get", "f", code=CANTCREAT), "f: what has this name is no regular file")
        os.unlink(site.local("f"))
        os.mkdir(site.home("d"))
        chv.write(site.home("d/f"), "new")
        os.mkdir(site.path("elsewhere"))
        os.symlink(site.path("elsewhere"), site.local("d"))
        refused(site.run("get", "-r", "d", code=CANTCREAT), "d: a symbolic link stands in the way")
        chv.check_equal(os.listdir(site.path("elsewhere")), [], "written through a link")


def test_a_link_in_the_way_is_an_error():
    with ClientSite() as site:
        site.init()
        os.makedirs(site.home("d/e"))
        chv.write(site.home("d/e/f"), "new")
        os.mkdir(site.path("elsewhere"))
        os.mkdir(site.local("d"))
        os.symlink(site.path("elsewhere"), site.local("d/e"))
        done = site.run("get", "-r", "d", code=CANTCREAT)
        chv.check_in("d/e: a symbolic link stands in the way", done.stderr, "error")
        chv.check_equal(os.listdir(site.path("elsewhere")), [], "written through a link")


def test_a_file_that_may_not_be_written_to():
    user, words = chv.as_other_user("nobody")
    if user is None:
        raise chv.Skip("another user than root is asked for, and this one is not root")
    with ClientSite() as site:
        site.init()
        chv.write(site.home("f"), "new")
        chv.write(site.local("f"), "old", 0o644)
        for path in (site.folder, site.local(), site.rw.path, site.rw.passphrase_file):
            os.chown(path, user.pw_uid, -1)
        done = chv.run(words[0], *words[1:], chv.program("chaveiro"), *site.client_argv(site.rw, "get", "f"),
                       cwd=site.local(), code=CANTCREAT)
        chv.check_in("f: Permission denied", done.stderr, "error")
        chv.check_equal((chv.read(site.local("f")), os.listdir(site.local())), (b"old", ["f"]), "what is there")


def test_a_full_disk_here():
    if os.geteuid() != 0:
        raise chv.Skip("mounting a small file system takes root")
    with ClientSite() as site:
        site.init()
        libc = ctypes.CDLL(None, use_errno=True)
        os.mkdir(site.path("small"))
        if libc.mount(b"none", site.path("small").encode(), b"tmpfs", 0, b"size=1m") != 0:
            raise chv.Skip(f"cannot mount a tmpfs: {os.strerror(ctypes.get_errno())}")
        try:
            os.mkdir(site.home("d"))
            chv.write(site.home("d/big"), content(2 * MIB))
            chv.write(site.home("d/late"), "x")
            chv.write(site.path("small/big"), "old")
            done = site.run("get", "d/big", site.path("small"), code=CANTCREAT)
            chv.check_in("small/big: No space left on device", done.stderr, "error")
            chv.check_in("kept for 'get --resume'", done.stderr, "error")
            chv.check_equal(chv.read(site.path("small/big")), b"old", "the file that was there")
            site.run("get", "-r", "d", site.path("small"), code=CANTCREAT)
            chv.check_not_in("big", os.listdir(site.path("small/d")), "a part under the final name")
            for name in os.listdir(site.path("small/d")):
                os.unlink(site.path(f"small/d/{name}"))
            os.unlink(site.path("small/big"))
            libc.mount(b"none", site.path("small").encode(), b"tmpfs", 32, b"size=8m")  # MS_REMOUNT: there is room now
            site.run("get", "-a", "d/big", site.path("small"))
            chv.check_equal(chv.read(site.path("small/big")), content(2 * MIB), "resumed")
        finally:
            chv.check_equal(libc.umount2(site.path("small").encode(), 2), 0, "umount")


# --- resumed ------------------------------------------------------------------------------------------------------------


def parts(folder, prefix=PART):
    return [n for n in os.listdir(folder) if n.startswith(prefix)]


def moved(part):
    try:
        return os.path.getsize(part)
    except FileNotFoundError:  # it was finished meanwhile
        return 0


def cut(site, *command, folder, prefix=PART, least=MIB):
    """Kills the client when so much of the file has moved."""
    client = site.spawn("chaveiro", *site.client_argv(site.rw, *command), cwd=site.local())
    wait_until("it is under way", lambda: any(moved(os.path.join(folder, n)) >= least for n in parts(folder, prefix)))
    os.kill(client.pid, signal.SIGKILL)
    client.wait(-signal.SIGKILL)


def test_a_get_that_goes_on():
    with ClientSite() as site:
        site.init()
        big(site.home("f"), 512 * MIB)
        with open(site.home("f"), "r+b") as f:
            f.seek(511 * MIB)
            f.write(b"the end")
        digest = hashlib.sha256(chv.read(site.home("f"))).hexdigest()
        cut(site, "get", "f", folder=site.local())
        chv.check(not os.path.exists(site.local("f")), "a part under the final name")
        kept = os.path.getsize(site.local(parts(site.local())[0]))
        told = site.told("get", "-a", "f")
        chv.check_equal((told[0]["sha256"], told[0]["size"]), (digest, 512 * MIB), "told")
        chv.check_equal(hashlib.sha256(chv.read(site.local("f"))).hexdigest(), digest, "whole")
        chv.check_equal(parts(site.local()), [], "parts")
        chv.check(kept >= MIB, f"{kept} bytes were kept")
        chv.check(site.told("get", "--resume", "f")[0]["unchanged"], "it is there")
        # what is here is not its beginning
        cut(site, "get", "f", folder=site.local())
        with open(site.local(parts(site.local())[0]), "r+b") as f:
            f.write(b"other")
        done = site.run("get", "-a", "f")
        chv.check_in("f: what is here is not the beginning of the server's file (412): it is fetched anew", done.stderr, "told")
        chv.check_equal(hashlib.sha256(chv.read(site.local("f"))).hexdigest(), digest, "whole")
        # a file that has grown since
        with open(site.home("f"), "ab") as f:
            f.write(b"and more")
        site.run("get", "-a", "f")
        chv.check_equal(chv.read(site.local("f"))[-15:], b"\0" * 7 + b"and more", "the rest")
        os.truncate(site.home("f"), 5)
        done = site.run("get", "-a", "f")
        chv.check_in("(416): it is fetched anew", done.stderr, "a shorter one")
        chv.check_equal(chv.read(site.local("f")), b"\0" * 5, "a shorter one")


def test_a_put_that_goes_on():
    with ClientSite() as site:
        site.init()
        big(site.local("f"), 512 * MIB)
        with open(site.local("f"), "r+b") as f:
            f.write(b"the beginning")
        digest = hashlib.sha256(chv.read(site.local("f"))).hexdigest()
        cut(site, "put", "f", folder=site.home(), prefix=".chv-part-")
        chv.check(not os.path.exists(site.home("f")), "a part under the final name")
        told = site.told("put", "-a", "f")
        chv.check_equal((told[0]["sha256"], told[0]["size"]), (digest, 512 * MIB), "told")
        chv.check_equal(hashlib.sha256(chv.read(site.home("f"))).hexdigest(), digest, "whole")
        chv.check_equal(site.parts(), [], "parts")
        chv.check(site.told("put", "--resume", "f")[0]["unchanged"], "it is there")
        cut(site, "put", "f", "g", folder=site.home(), prefix=".chv-part-")
        with open(site.local("f"), "r+b") as f:
            f.write(b"another thing")
        done = site.run("put", "-a", "f", "g")
        chv.check_in("f: what the server has of it is not its beginning (412): it is sent anew", done.stderr, "told")
        chv.check_equal(hashlib.sha256(chv.read(site.home("g"))).digest(), hashlib.sha256(chv.read(site.local("f"))).digest(), "g")


def test_a_tree_that_goes_on():
    with ClientSite() as site:
        site.init()
        make_tree(site.local())
        big(site.local("a/m-big"), 256 * MIB)
        os.mkdir(site.home("a"))
        cut(site, "put", "-r", "a", folder=site.home("a"), prefix=".chv-part-")
        told = site.told("put", "-ra", "a")
        chv.check(told[-1]["unchanged"] > 0 and told[-1]["failed"] == 0, f"told {told[-1]}")
        chv.check_equal(site.parts(), [], "parts")
        os.mkdir(site.local("back"))
        os.mkdir(site.local("back/a"))
        cut(site, "get", "-r", "a", "back", folder=site.local("back/a"))
        told = site.told("get", "-ra", "a", "back")
        chv.check(told[-1]["unchanged"] > 0 and told[-1]["failed"] == 0, f"told {told[-1]}")
        chv.check_equal(tree(site.local("back/a")), tree(site.local("a")), "what came back")


def killed_at(site, number, *command):
    """The client, killed before its Nth (negative: after its Nth) call that changes something here; None: it was not."""
    env = {"LD_PRELOAD": os.path.join(chv.TOP_BUILDDIR, "tests/support/.libs/kill_at.so"), "CHV_TEST_KILL_AT": str(number),
           "CHV_TEST_KILL_MORE": "1",  # a sanitizer would have to come before the module
           "ASAN_OPTIONS": ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0"]))}
    return site.run(*command, code=None, env=env)


def test_a_client_that_is_killed_anywhere():
    """Nothing partial under a final name, whichever call it was, and the next run makes it whole."""
    with ClientSite() as site:
        site.init()
        os.mkdir(site.home("d"))
        wanted = {f"f{i}": content(i * 70000) for i in range(4)}
        for name, data in wanted.items():
            chv.write(site.home(f"d/{name}"), data)
        ended = 0
        for number in [n * sign for n in range(1, 60) for sign in (1, -1)]:
            done = killed_at(site, number, "get", "-rp", "d")
            found = tree(site.local("d")) if os.path.exists(site.local("d")) else {}
            for name, data in found.items():
                chv.check(name.startswith(PART) or data == wanted[name], f"call {number}: {name} is not whole")
            if done.code == 0:
                ended += 1
                if ended == 4:
                    break
            chv.check(done.code in (0, -signal.SIGKILL), f"call {number}: {done.code} {done.stderr}")
            site.run("get", "-rpa", "d")
            chv.check_equal(tree(site.local("d")), wanted, f"after call {number}")
            chv.remove_folder(site.local("d"))
        chv.check(ended > 0, "the client never got to its end")
        chv.remove_folder(site.local("d"))
        os.mkdir(site.local("d"))
        for name, data in wanted.items():
            chv.write(site.local(f"d/{name}"), data)
        chv.remove_folder(site.home("d"))
        for number in range(1, 40):
            done = killed_at(site, number, "put", "-r", "d")
            found = tree(site.home("d")) if os.path.exists(site.home("d")) else {}
            for name, data in found.items():
                chv.check(name.startswith(".chv-part-") or data == wanted[name], f"call {number}: {name} is not whole")
            if done.code == 0:
                break
            site.run("put", "-ra", "d")
            chv.check_equal(tree(site.home("d")), wanted, f"after call {number}")
            chv.remove_folder(site.home("d"))


# --- a server that lies -------------------------------------------------------------------------------------------------


class Liar:
    """A server of the service files: `serve(peer, request)` answers each request."""

    def __init__(self, serve):
        store.need()
        self.serve = serve

    def __enter__(self):
        self.site = chv.Site("gate")
        self.site.__enter__()
        self.site.init()
        self.key = self.site.add_client("cam1", scopes=["files:rw"])
        access = store.Store(self.key.path, store.passphrase_of(self.key.passphrase_file)).keys["access:1.1"]

        def handle(peer):
            peer.let_in(access, "gate")
            while True:
                kind, body = peer.read_record()
                if kind == fakeserver.CLOSE:
                    peer.send_record(fakeserver.CLOSE)
                    return
                self.serve(peer, decode(body)[0])

        self.server = fakeserver.FakeServer(handle)
        self.server.__enter__()
        os.mkdir(self.site.path("local"))
        return self

    def __exit__(self, *details):
        try:
            self.server.__exit__(*details)
        finally:
            self.site.__exit__(*details)

    def run(self, *arguments, **options):
        return self.site.client(self.key, *arguments, to=self.server.address, cwd=self.site.path("local"), **options)


def answer(peer, request, code=200, **more):
    peer.send_record(17, cbor({"id": request["id"], "code": code, "path": request["path"], "text": "", **more}))


def entry(name, kind="file", size=1):
    item = cbor({"name": name, "type": kind, "mode": 0o644, "size": size, "mtime": 0})
    return len(item).to_bytes(2, "big") + item


def stream(peer, request, data, digest=None, **more):
    answer(peer, request, 206, **more)
    peer.send_record(fakeserver.DATA, data)
    peer.send_record(fakeserver.END, hashlib.sha256(data).digest() if digest is None else digest)
    answer(peer, request, 200)


META = {"type": "file", "mode": 0o644, "mtime": 0}


def test_names_of_a_hostile_server():
    for name in ("..", "../evil", "/etc/evil", "a/b", "", ".", "x\0y", "x\ny", "\x1b[2J", "x" * 256):
        def serve(peer, request, name=name):
            if request["op"] == "stat":
                answer(peer, request, type="folder", mode=0o755, size=0, mtime=0)
            elif request["op"] == "ls" and request["path"] == "d":
                stream(peer, request, entry("good") + entry(name, "folder") + entry(name))
            elif request["op"] == "ls":
                stream(peer, request, entry("evil"))
            else:
                stream(peer, request, b"x", **META, size=1)

        with Liar(serve) as liar:
            done = liar.run("get", "-r", "d", code=None)
            chv.check(done.code != 0, f"{name!r} was taken")
            chv.check_in("the server's listing is damaged", done.stderr, f"{name!r}")
            for where, _, names in os.walk(liar.site.folder):
                chv.check_not_in("evil", names, f"{name!r} in {where}")
            chv.check_equal(os.listdir(liar.site.path("local")), [], "what was written")


def test_folders_without_an_end():
    def serve(peer, request):
        if request["op"] == "stat":
            answer(peer, request, type="folder", mode=0o755, size=0, mtime=0)
        else:
            stream(peer, request, entry("x" * 250, "folder"))

    with Liar(serve) as liar:
        done = liar.run("get", "-r", "d", code=PROTOCOL)
        chv.check_in("the server's listing has what it does not serve: the name is longer than 1024 bytes", done.stderr, "error")


def test_content_of_a_hostile_server():
    good = b"content"
    for size, data, digest in ((7, good, hashlib.sha256(b"another").digest()), (6, good, None), (8, good, None),
                               (7, good, b"")):
        def serve(peer, request, size=size, data=data, digest=digest):
            stream(peer, request, data, digest, **META, size=size)

        with Liar(serve) as liar:
            done = liar.run("get", "f", code=PROTOCOL)
            chv.check_in("f: what came is not what the server sent: nothing was stored", done.stderr, "error")
            chv.check_equal(os.listdir(liar.site.path("local")), [], "what was stored")


def test_a_resume_that_a_server_does_not_check():
    """It says that the prefix is right, and sends another rest: the digest of the whole tells."""
    def serve(peer, request):
        answer(peer, request, 206, **META, size=12)
        peer.send_record(fakeserver.DATA, b" world!")
        peer.send_record(fakeserver.END, hashlib.sha256(b"Hello world!").digest())
        answer(peer, request, 200)

    with Liar(serve) as liar:
        chv.write(liar.site.path("local/f"), "hello")
        liar.run("get", "-a", "f", code=PROTOCOL)
        chv.check_equal((os.listdir(liar.site.path("local")), chv.read(liar.site.path("local/f"))), (["f"], b"hello"), "kept")


def test_control_characters_from_a_server():
    """Texts of answers, and names, are shown escaped."""
    def serve(peer, request):
        if request["op"] == "ls":
            stream(peer, request, entry("x\u009b31m\u202ey"))
        else:
            peer.send_record(17, cbor({"id": request["id"], "code": 404, "path": request["path"], "text": "no\x1b[2Jthing"}))

    with Liar(serve) as liar:
        done = liar.run("get", "f", code=NOINPUT)
        chv.check_not_in(b"\x1b", done.stderr, "error")
        arguments = liar.site.client_argv(liar.key, "ls", to=liar.server.address)
        with terminal.Terminal("chaveiro", *arguments) as t:
            t.expect("-rw-r--r--")
            t.wait(0)
            chv.check_not_in("\u009b".encode(), t.text, "a name on the terminal")
            chv.check_not_in("\u202e".encode(), t.text, "a name on the terminal")


# --- the terminal -------------------------------------------------------------------------------------------------------


def test_progress_of_many():
    with ClientSite() as site:
        site.init()
        make_tree(site.local())
        with terminal.Terminal("chaveiro", *site.client_argv(site.rw, "put", "-r", "a"), cwd=site.local()) as t:
            t.expect(r"  \d+/\d+  \[[#.]{24}\] +\d+%  [0-9.]+ \w+  [0-9.]+ \w+/s  ETA ")
            t.wait(0)
        done = site.run("-v", "get", "-r", "a", "b")
        chv.check_in("get: 44 files, ", done.stderr, "-v")
        chv.check_not_in(b"ETA", done.stderr, "no bar without a terminal")


def test_a_client_that_is_interrupted():
    with ClientSite() as site:
        site.init()
        big(site.home("f"))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            client = site.spawn("chaveiro", *site.client_argv(site.rw, "get", "f"), cwd=site.local())
            wait_until("a get is under way", lambda: parts(site.local()))
            client.signal(number)
            client.wait(128 + number)
            chv.check(not os.path.exists(site.local("f")), "a part under the final name")
            for name in parts(site.local()):
                os.unlink(site.local(name))


if __name__ == "__main__":
    chv.main()
