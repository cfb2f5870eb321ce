# SPDX-License-Identifier: Apache-2.0
"""The server of the service files, by a client of its own: transfers that go on where they were cut, shared folders, many
files at once, what a disk, a kill and other programs do meanwhile."""
import contextlib
import hashlib
import os
import signal
import stat
import time

import chv
import softhsm
from filesite import (ANSWER, DATA, END, MIB, PART, RECORD, FilesSite, Raw, big, content, decode, refused, wait_until)

DISK = os.path.join(chv.TOP_BUILDDIR, "tests/support/.libs/disk.so")
UNAVAILABLE, CANTCREAT, CONFIG = 69, 73, 78


def digest(data):
    return hashlib.sha256(data).digest()


def prefix(data, offset):
    return {"offset": offset, "sha256": digest(data[:offset])}


def sizes(site, key="cam1"):
    """Of the parts in a client's home, without what is below it."""
    if not os.path.exists(site.home("", key)):
        return []
    return [os.path.getsize(site.home(n, key)) for n in os.listdir(site.home("", key)) if n.startswith(PART)]


def interrupt(site, path, data, records, **more):
    """A put whose connection is cut behind so many records, all of which the server has."""
    with Raw(site) as raw:
        raw.send_file(path, data, records=records, end=False, **more)
        there = min(len(data), more.get("offset", 0) + records * RECORD)
        wait_until("all of it is there", lambda: there in [os.path.getsize(os.path.join(d, n))
                                                           for d, _, names in os.walk(site.folder) for n in names
                                                           if n.startswith(PART)])
    return there


def unlocked(site):
    """Waits until the connections that were cut are no more: their locks are gone."""
    net = chv.process_named(site.server.pid, "chv-net")

    def parts_open():
        found = []
        for fd in os.listdir(f"/proc/{net}/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/{net}/fd/{fd}"))
        return any(PART in name for name in found)

    wait_until("nobody writes a part", lambda: not parts_open())


# --- resumed -----------------------------------------------------------------------------------------------------------


def test_a_get_goes_on():
    with FilesSite() as site:
        site.init(durability="none")
        data = content(3 * RECORD + 17)
        with Raw(site) as raw:
            raw.store("f", data)
            for number, offset in enumerate((0, 1, RECORD - 1, RECORD, RECORD + 1, len(data) - 1, len(data))):
                size, got, whole = raw.get(number, "f", **prefix(data, offset))
                chv.check_equal((size, got == data[offset:], whole), (len(data), True, digest(data)), f"from {offset}")
            raw.ask(7, "get", "f", offset=RECORD, sha256=digest(data[:RECORD - 1]))
            raw.check_answer(7, 412, "f")
            raw.ask(8, "get", "f", offset=len(data) + 1, sha256=digest(data))
            raw.check_answer(8, 416, "f")
            # without a digest nothing is compared, and END is of what comes
            size, got, sent = raw.get(9, "f", offset=RECORD)
            chv.check_equal((size, got == data[RECORD:], sent), (len(data), True, digest(data[RECORD:])), "not compared")
            raw.ask(9, "get", "f", offset=len(data) + 1)
            raw.check_answer(9, 416, "f")
            chv.check_equal(raw.get(10, "f")[1] == data, True, "the connection goes on")
            raw.close()


def test_a_get_that_is_cut_behind_each_record_goes_on():
    with FilesSite() as site:
        site.init(durability="none")
        data = content(4 * RECORD + 1)
        with Raw(site) as raw:
            raw.store("f", data)
        have = b""
        for _ in range(5):
            with Raw(site) as raw:
                raw.ask(1, "get", "f", **prefix(data, len(have)))
                raw.check_answer(1, 206, "f")
                kind, body = raw.part()
                chv.check_equal(kind, DATA, "a record of content")
                have += body
        with Raw(site) as raw:
            chv.check_equal(raw.get(1, "f", **prefix(data, len(have)))[1:], (b"", digest(data)), "nothing is left")
        chv.check(have == data, "what came is another file")


def test_checksum_of_a_beginning():
    with FilesSite() as site:
        site.init(durability="none")
        data = content(MIB)
        with Raw(site) as raw:
            raw.store("f", data)
            for number, size in enumerate((0, 1, 4096, MIB)):
                raw.ask(number, "checksum", "f", size=size)
                chv.check_equal(raw.check_answer(number, 200, "f")["sha256"], digest(data[:size]), f"of {size} bytes")
            raw.ask(5, "checksum", "f", size=MIB + 1)
            raw.check_answer(5, 416, "f")


def test_a_put_that_is_cut_behind_each_record_goes_on():
    with FilesSite() as site:
        site.init()
        data = content(3 * RECORD + 5)
        for cut in range(1, 5):
            there = interrupt(site, f"f{cut}", data, cut, resume=True)
            unlocked(site)
            with Raw(site) as raw:
                raw.ask(1, "part", f"f{cut}")
                chv.check_equal(raw.check_answer(1, 200, f"f{cut}")["size"], there, "size of the part")
                raw.ask(2, "stat", f"f{cut}")
                raw.check_answer(2, 404)
                raw.store(f"f{cut}", data, 3, **prefix(data, there))
                raw.ask(4, "part", f"f{cut}")
                raw.check_answer(4, 404)
                raw.close()
            chv.check(chv.read(site.home(f"f{cut}")) == data, "what was stored is another file")
        chv.check_equal(site.parts(), [], "unfinished files")


def test_a_put_that_is_cut_again_and_again():
    with FilesSite() as site:
        site.init()
        data = content(5 * RECORD)
        there = interrupt(site, "f", data, 1, resume=True)
        for _ in range(3):
            unlocked(site)
            there = interrupt(site, "f", data, 1, resume=True, **prefix(data, there))
        chv.check_equal(there, 4 * RECORD, "bytes that came")
        unlocked(site)
        with Raw(site) as raw:
            raw.store("f", data, **prefix(data, RECORD))  # less than there is: the rest is cut off
        chv.check(chv.read(site.home("f")) == data, "what was stored is another file")


def test_a_part_that_is_not_the_clients():
    with FilesSite() as site:
        site.init()
        data, other = content(2 * RECORD), content(2 * RECORD + 1)
        there = interrupt(site, "f", data, 1, resume=True)
        unlocked(site)
        with Raw(site) as raw:
            for number, (offset, sum_, code) in enumerate((
                    (there, digest(other[:there]), 412), (there - 1, digest(data[:there]), 412),
                    (there + 1, digest(data[:there + 1]), 416))):
                raw.ask(number, "put", "f", size=len(data), mode=0o600, mtime=0, offset=offset, sha256=sum_)
                raw.check_answer(number, code, "f")
                raw.send_record(END)
                chv.check_equal(sizes(site), [there], "the part stays")
            raw.ask(5, "put", "none", size=5, mode=0o600, mtime=0, offset=1, sha256=digest(b"x"))
            raw.check_answer(5, 416, "none")
            raw.send_record(END)
            chv.check_equal(len(site.parts()), 1, "parts")
            raw.send_file("f", data, 6, end=False, **prefix(data, there))
            raw.send_record(END, digest(other))  # what comes behind is not what was meant
            raw.check_answer(6, 400, "f")
            chv.check_equal(os.listdir(site.home()), [], "what is stored")
            raw.store("f", data, 7, offset=0, sha256=digest(b""))
            raw.close()
        chv.check(chv.read(site.home("f")) == data, "what was stored is another file")


def test_what_is_kept_and_what_is_not():
    with FilesSite() as site:
        site.init()
        data = content(2 * RECORD)
        with Raw(site) as raw:
            raw.ask(1, "mkdir", "d")
            raw.check_answer(1, 200)
        interrupt(site, "f", data, 1)
        wait_until("the unfinished file is gone", lambda: not site.parts())
        with Raw(site) as raw:  # nothing came
            raw.send_file("f", data, records=0, end=False, resume=True)
            wait_until("the put has begun", site.parts)
        wait_until("the unfinished file is gone", lambda: not site.parts())
        with Raw(site) as raw:  # the client gave it up
            raw.send_file("f", data, records=1, end=False, resume=True)
            raw.send_record(END)
            raw.check_answer(1, 400, "f")
            chv.check_equal(site.parts(), [], "unfinished files")
        interrupt(site, "f", data, 1, resume=True)
        unlocked(site)
        with Raw(site) as raw:
            chv.check_equal(list(raw.entries(1, "")), ["d"], "what a client sees")
            raw.ask(2, "discard", "f")
            raw.check_answer(2, 200, "f")
            raw.ask(3, "discard", "f")
            raw.check_answer(3, 404, "f")
            raw.ask(4, "discard", "")
            raw.check_answer(4, 404)
            raw.ask(5, "part", "no/where")
            raw.check_answer(5, 404)
        chv.check_equal(site.parts(), [], "unfinished files")
        interrupt(site, "f", data, 2, resume=True)
        unlocked(site)
        with Raw(site) as raw:  # anew, and shorter
            raw.store("f", b"short")
        chv.check_equal((chv.read(site.home("f")), site.parts()), (b"short", []), "begun anew")
        interrupt(site, "d/f", data, 1, resume=True)
        unlocked(site)
        with Raw(site) as raw:  # nobody sees what keeps the folder
            raw.ask(1, "rmdir", "d")
            raw.check_answer(1, 200)
        chv.check_equal(os.listdir(site.home()), ["f"], "what is left")


def test_a_put_whose_size_is_not_known():
    with FilesSite() as site:
        site.init(quota="1M", max_size="400K")
        data = content(3 * RECORD)

        def begin(raw, number, path, pieces, **more):
            raw.ask(number, "put", path, mode=0o600, mtime=0, **more)
            raw.check_answer(number, 100, path)
            for piece in pieces:
                raw.send_record(DATA, piece)

        with Raw(site) as raw:
            begin(raw, 1, "f", [data[:RECORD], data[RECORD:RECORD + 1], data[RECORD + 1:2 * RECORD], data[2 * RECORD:]])
            raw.send_record(END, digest(data))
            raw.check_answer(1, 200, "f")
            begin(raw, 2, "empty", [])
            raw.send_record(END, digest(b""))
            raw.check_answer(2, 200, "empty")
            begin(raw, 3, "large", [data[:RECORD]] * 7)
            raw.check_answer(3, 413, "large")
            raw.send_record(END)
            for number in range(3):
                raw.store(f"g{number}", data, 4)
            begin(raw, 5, "full", [data[:RECORD]] * 5)
            raw.check_answer(5, 507, "full")
            raw.send_record(END)
            raw.ask(6, "rm", "g0")
            raw.check_answer(6, 200)
            begin(raw, 7, "h", [data[:RECORD]], resume=True)
            wait_until("it is there", lambda: sizes(site) == [RECORD])
        unlocked(site)
        with Raw(site) as raw:
            begin(raw, 1, "h", [data[RECORD:2 * RECORD], data[2 * RECORD:]], **prefix(data, RECORD))
            raw.send_record(END, digest(data))
            raw.check_answer(1, 200, "h")
        for name in ("f", "g1", "h"):
            chv.check(chv.read(site.home(name)) == data, f"what was stored as {name} is another file")
        chv.check_equal((sorted(os.listdir(site.home())), chv.read(site.home("empty"))),
                        (["empty", "f", "g1", "g2", "h"], b""), "what is stored")


def test_rmdir_of_a_folder_with_files_keeps_its_parts():
    with FilesSite() as site:
        site.init()
        with Raw(site) as raw:
            raw.ask(1, "mkdir", "d")
            raw.check_answer(1, 200)
            raw.store("d/g", b"x", 2)
        there = interrupt(site, "d/f", content(RECORD), 1, resume=True)
        unlocked(site)
        with Raw(site) as raw:
            raw.ask(1, "rmdir", "d")
            raw.check_answer(1, 409)
            raw.ask(2, "part", "d/f")
            chv.check_equal(raw.check_answer(2, 200)["size"], there, "the part stays")


def test_only_one_writes_a_part():
    with FilesSite() as site:
        site.init()
        data = content(2 * RECORD)
        with Raw(site) as first, Raw(site) as second:
            first.send_file("f", data, records=1, end=False, resume=True)
            wait_until("it is there", lambda: sizes(site) == [RECORD])
            for number, more in enumerate(({}, prefix(data, RECORD), {"resume": True})):
                second.ask(number, "put", "f", size=len(data), mode=0o600, mtime=0, **more)
                second.check_answer(number, 409, "f")
                second.send_record(END)
            second.ask(5, "discard", "f")
            second.check_answer(5, 409, "f")
            first.send_record(DATA, data[RECORD:])
            first.send_record(END, digest(data))
            first.check_answer(1, 200, "f")
        chv.check(chv.read(site.home("f")) == data, "what was stored is another file")


def test_parts_count_in_the_quota():
    with FilesSite() as site:
        site.init(quota="1M")
        data = content(900000)
        there = interrupt(site, "f", data, 10, resume=True)
        unlocked(site)

        def left(raw, number):
            raw.ask(number, "df", "")
            return raw.check_answer(number, 200)["free"]

        for again in range(2):  # as it was counted, and as it is counted anew
            with Raw(site) as raw:
                chv.check_equal(left(raw, 1), MIB - there, "df")
                raw.put("g", MIB - there + 1, 2)
                raw.check_answer(2, 507)
                raw.send_record(END)
                raw.ask(3, "put", "f", size=MIB + 1, mode=0o600, mtime=0, **prefix(data, there))
                raw.check_answer(3, 507)
                raw.send_record(END)
                chv.check_equal((left(raw, 4), sizes(site)), (MIB - there, [there]), "the part stays")
            if again == 0:
                site.stop()
                site.start()
        with Raw(site) as raw:  # it has room where it is
            raw.store("f", data, **prefix(data, RECORD))
            chv.check_equal(left(raw, 2), MIB - len(data), "df")
            raw.ask(3, "rm", "f")
            raw.check_answer(3, 200)
            raw.send_file("f", data, 4, records=3, end=False)
            raw.send_record(END)
            raw.check_answer(4, 400)
            chv.check_equal(left(raw, 5), MIB, "df")
        interrupt(site, "f", data, 2, resume=True)
        unlocked(site)
        with Raw(site) as raw:
            raw.store("f", data)  # anew: the part's room is its own
            chv.check_equal(left(raw, 2), MIB - len(data), "df")
        interrupt(site, "g", content(70000), 1, resume=True)
        unlocked(site)
        with Raw(site) as raw:
            raw.ask(1, "discard", "g")
            raw.check_answer(1, 200)
            chv.check_equal(left(raw, 2), MIB - len(data), "df")


def test_old_parts_go():
    with FilesSite() as site:
        shared = site.path("shared")
        os.makedirs(os.path.join(shared, "deep/er"))
        site.section(f'[share "s"]\npath = {shared}\naccess = rw\n')
        site.init(quota="1M", part_keep="1s")
        data = content(RECORD)
        interrupt(site, "f", data, 1, resume=True)
        chv.write(os.path.join(shared, "deep/er", PART + "0123456789abcdef"), "old")
        chv.write(os.path.join(shared, "deep/er/f"), "stays")

        def swept():
            with Raw(site) as raw:
                raw.ask(1, "df", "")
                left = raw.check_answer(1, 200)["free"]
            return not site.parts() and os.listdir(os.path.join(shared, "deep/er")) == ["f"] and left == MIB

        wait_until("old parts are gone", swept)


def test_young_parts_stay_and_none_is_kept_without_time():
    with FilesSite() as site:
        site.init(part_keep="1h")
        interrupt(site, "f", content(RECORD), 1, resume=True)
        site.stop()
        site.start()
        with Raw(site) as raw:
            raw.ask(1, "part", "f")
            chv.check_equal(raw.check_answer(1, 200)["size"], RECORD, "size of the part")
        site.stop()
        site.configure(part_keep="0")
        site.start()
        interrupt(site, "g", content(2 * RECORD), 2, resume=True)

        def gone():
            with Raw(site) as raw:
                raw.ask(1, "stat", "")
                raw.check_answer(1, 200)
            return not site.parts()

        wait_until("parts are gone", gone)


def test_a_server_that_is_killed_leaves_a_part():
    with FilesSite() as site:
        site.init()
        data = content(4 * RECORD)
        for path, more in (("f", {}), ("g", {"resume": True})):
            with connected(site) as raw:
                raw.send_file(path, data, records=3, end=False, **more)
                wait_until("it is there", lambda: sizes(site) == [3 * RECORD])
                os.kill(chv.process_named(site.server.pid, "chv-net"), signal.SIGKILL)
                site.server.wait_for("the net process ended: signal 9", 1 if path == "f" else 2)
            with connected(site) as raw:
                raw.ask(1, "part", path)
                chv.check_equal(raw.check_answer(1, 200)["size"], 3 * RECORD, "size of the part")
                raw.store(path, data, 2, **prefix(data, 3 * RECORD))
            chv.check(chv.read(site.home(path)) == data, "what was stored is another file")
        chv.check_equal(sorted(os.listdir(site.home())), ["f", "g"], "what is left")


@contextlib.contextmanager
def connected(site):
    """A connection, once the next net process serves."""
    end = time.monotonic() + chv.DEADLINE
    while True:
        with contextlib.ExitStack() as stack:
            try:
                raw = stack.enter_context(Raw(site))
            except (OSError, EOFError, chv.Failure):
                chv.check(time.monotonic() < end, "the server serves again")
                time.sleep(0.05)
                continue
            yield raw
            return


def test_a_put_without_a_digest_of_its_beginning():
    with FilesSite() as site:
        site.init()
        with Raw(site) as raw:
            for number, more in enumerate(({"offset": 1}, {"sha256": digest(b"")}, {"offset": 6, "sha256": digest(b"")},
                                           {"offset": 1, "sha256": b"short"}, {"resume": 1})):
                raw.ask(number, "put", "f", **{"size": 5, "mode": 0o600, "mtime": 0, **more})
                raw.check_answer(number, 400, "f")
                raw.send_record(END)
            raw.store("f", b"hello", 9)


# --- shared folders ----------------------------------------------------------------------------------------------------


class SharedSite(FilesSite):
    def init(self, **settings):
        for name, rest in (("pub", ""), ("work", "access = rw\n"), ("team", "access = rw\nscope = share:team\n")):
            path = self.path(name)
            os.makedirs(os.path.join(path, "d"))
            chv.write(os.path.join(path, "d/f"), f"in {name}")
            self.section(f'[share "{name}"]\npath = {path}\n{rest}')
        return super().init(**settings)


def test_shared_folders_are_seen_by_whom_they_are_for():
    with SharedSite() as site:
        site.init()
        for scopes, names in ((["files:rw"], ["@pub", "@work"]), (["files:ro"], ["@pub", "@work"]),
                              (["files:ro", "share:team"], ["@pub", "@team", "@work"])):
            with Raw(site, scopes=scopes) as raw:
                found = raw.entries(1, "")
                chv.check_equal(sorted(found), names, "the home's listing")
                chv.check_equal({e["type"] for e in found.values()}, {"folder"}, "types")
                for number, name in enumerate(("@pub", "@work", "@team", "@none", "@", "@pub2", "@pu")):
                    there = name in names
                    raw.ask(number, "stat", name)
                    raw.check_answer(number, 200 if there else 404, name)
                    raw.ask(number, "get", name + "/d/f")
                    raw.check_answer(number, 206 if there else 404, name + "/d/f")
                    if there:
                        chv.check_equal(raw.stream(number, name + "/d/f")[0], f"in {name[1:]}".encode(), "content")
                        chv.check_equal(list(raw.entries(number, name)), ["d"], "listing")
                        chv.check_equal(list(raw.entries(number, name + "/d/f")), ["f"], "listing of a file")
                raw.close()


def test_who_writes_in_shared_folders():
    with SharedSite() as site:
        site.init()
        with Raw(site) as raw:
            raw.store("@work/d/g", b"new")
            raw.ask(2, "rename", "@work/d/g", to="@work/h")
            raw.check_answer(2, 200)
            raw.ask(3, "mkdir", "@work/e")
            raw.check_answer(3, 200)
            for number, (op, path, more) in enumerate((
                    ("mkdir", "@pub/e", {}), ("rm", "@pub/d/f", {}), ("rmdir", "@pub/d", {}), ("part", "@pub/d/f", {}),
                    ("rename", "@pub/d/f", {"to": "@pub/f"}), ("rename", "@work/h", {"to": "@pub/h"}))):
                raw.ask(number, op, path, **more)
                raw.check_answer(number, 403, path)
            raw.put("@pub/x", 1, 7)
            raw.check_answer(7, 403, "@pub/x")
            raw.send_record(END)
            for number, (path, to) in enumerate((("@work/h", "h"), ("@work/h", "d/h"))):
                raw.ask(number, "rename", path, to=to)
                raw.check_answer(number, 409, path)
            for number, (op, path, more) in enumerate((
                    ("mkdir", "@work", {}), ("rmdir", "@work", {}), ("rm", "@work", {}), ("rename", "@work", {"to": "w"}),
                    ("rename", "@work/h", {"to": "@work"}))):
                raw.ask(number, op, path, **more)
                raw.check_answer(number, 400, path)
            for number, (op, path) in enumerate((("mkdir", "@new"), ("mkdir", "@new/x"), ("rm", "@team/d/f"))):
                raw.ask(number, op, path)
                raw.check_answer(number, 404, path)
            raw.put("@new", 1, 8)
            raw.check_answer(8, 404, "@new")
            raw.send_record(END)
            raw.put("@work", 1, 9)
            raw.check_answer(9, 400, "@work")
            raw.send_record(END)
            raw.close()
        with Raw(site, scopes=["files:ro", "share:team"]) as raw:
            raw.put("@team/x", 1)
            raw.check_answer(1, 403)
            raw.send_record(END)
        with Raw(site, "cam2", scopes=["files:rw", "share:team"]) as raw:
            raw.store("@team/x", b"x")
            chv.check_equal(raw.get(2, "@work/h")[1], b"new", "what another client put there")
        chv.check_equal(sorted(os.listdir(site.path("work"))), ["d", "e", "h"], "in the shared folder")
        chv.check_equal(sorted(os.listdir(site.path("pub"))), ["d"], "in the one that is read")
        chv.check_equal(os.listdir(site.home()), [], "in the home")


def test_nothing_out_of_a_shared_folder():
    with SharedSite() as site:
        site.init()
        chv.write(site.path("secret"), "secret")
        os.symlink(site.path("secret"), site.path("work/out"))
        os.symlink("..", site.path("work/up"))
        with Raw(site) as raw:
            for number, path in enumerate(("@work/../secret", "@work/..", "@/secret", "@../secret", "@work//d")):
                raw.ask(number, "get", path)
                chv.check(raw.answer()["code"] in (400, 404), path)
            for number, path in enumerate(("@work/out", "@work/up/secret")):
                raw.ask(number, "get", path)
                raw.check_answer(number, 403, path)
            raw.close()


def test_an_interrupted_put_into_a_shared_folder():
    with SharedSite() as site:
        site.init()
        data = content(2 * RECORD)
        there = interrupt(site, "@work/f", data, 1, resume=True)
        unlocked(site)
        with Raw(site) as raw:
            chv.check_equal(sorted(raw.entries(1, "@work")), ["d"], "what clients see")
            raw.store("@work/f", data, **prefix(data, there))
        chv.check(chv.read(site.path("work/f")) == data, "what was stored is another file")


def test_names_with_the_sign_of_shares_in_a_home():
    with FilesSite() as site:
        site.init()
        os.makedirs(site.home("d"))
        chv.write(site.home("@f"), "hidden")
        chv.write(site.home("d/@f"), "seen")
        with Raw(site) as raw:
            chv.check_equal(list(raw.entries(1, "")), ["d"], "listing of the home")
            chv.check_equal(list(raw.entries(1, "d")), ["@f"], "listing below it")
            raw.ask(2, "get", "@f")
            raw.check_answer(2, 404)
            chv.check_equal(raw.get(3, "d/@f")[1], b"seen", "content")


def test_a_shared_folder_that_is_not_there():
    with chv.Site() as site:
        site.init()
        os.mkdir(site.path("homes"))
        site.configure(home=site.path("homes") + "/%i")
        chv.write(site.config, chv.read(site.config).decode() + f'[share "s"]\npath = {site.path("nowhere")}\n')
        done = chv.run("chaveirod", "-t", "-c", site.config, code=CONFIG)
        chv.check_in(f'[share "s"] path: {site.path("nowhere")}: No such file', done.stderr, "check")
        done = chv.run("chaveirod", "-c", site.config, "--passphrase-file", site.passphrase_file, code=CONFIG)
        chv.check_in(f'[share "s"] path: {site.path("nowhere")}: No such file', done.stderr, "start")


# --- many at once ------------------------------------------------------------------------------------------------------


def test_many_small_files_without_waiting():
    for durability in ("batch", "file", "none"):
        with FilesSite() as site:
            site.init(durability=durability)
            files = {f"d{i % 3}/f{i:03}": content(i * 40) for i in range(300)}
            with Raw(site) as raw:
                for number in range(3):
                    raw.ask(number, "mkdir", f"d{number}")
                for number, (path, data) in enumerate(files.items()):
                    raw.send_file(path, data, 10 + number, mode=0o640, mtime=1234567890123456789)
                for number in range(3):
                    raw.check_answer(number, 200)
                for number, (path, data) in enumerate(files.items()):
                    chv.check_equal(raw.check_answer(10 + number, 200, path)["sha256"], digest(data), "digest")
                for number, path in enumerate(files):
                    raw.ask(number, "get", path)
                for number, (path, data) in enumerate(files.items()):
                    raw.check_answer(number, 206, path)
                    chv.check_equal(raw.stream(number, path), (data, digest(data)), "content")
                raw.close()
            for path, data in files.items():
                st = os.stat(site.home(path))
                chv.check_equal((chv.read(site.home(path)), stat.S_IMODE(st.st_mode), st.st_mtime_ns),
                                (data, 0o640, 1234567890123456789), path)
            chv.check_equal(site.parts(), [], "unfinished files")


def test_answers_stay_in_order():
    """Requests of all kinds, good and bad, one behind the other: each sees what those before it have done."""
    with FilesSite() as site:
        site.init(quota="1M", max_size="900K")
        big_one = content(600000)
        with Raw(site) as raw:
            script = [("mkdir", "d", 200), ("put", "d/a", b"one", 200), ("put", "d/b", b"two", 200),
                      ("put", "d/a", b"three", 200),  # the same name, not yet confirmed
                      ("stat", "d/a", 200), ("put", "none/x", b"x", 404), ("put", "d", b"x", 409),
                      ("put", "d/c", big_one, 200), ("put", "d/c", b"small", 200),  # gives its room back
                      ("put", "d/e", big_one, 200), ("put", "d/f", big_one, 507), ("put", "d/g", content(1000000), 413),
                      ("rm", "d/b", 200), ("put", "d/b", b"again", 200), ("checksum", "d/b", 200),
                      ("rmdir", "d", 409), ("rm", "d/a", 200), ("put", "d/h", b"", 200)]
            for number, step in enumerate(script):
                if step[0] == "put":
                    raw.send_file(step[1], step[2], number)
                else:
                    raw.ask(number, step[0], step[1])
            for number, step in enumerate(script):
                told = raw.check_answer(number, step[-1], step[1])
                if step[:2] == ("stat", "d/a"):
                    chv.check_equal(told["size"], 5, "size behind the second put")
                if step[0] == "checksum":
                    chv.check_equal(told["sha256"], digest(b"again"), "what the put before it stored")
            raw.close()
        chv.check_equal(sorted(os.listdir(site.home("d"))), ["b", "c", "e", "h"], "what is stored")
        chv.check_equal(chv.read(site.home("d/c")), b"small", "the last of two")


def test_a_connection_that_is_cut_behind_many_puts():
    """Without CLOSE and without waiting: each file is whole or not there."""
    with FilesSite() as site:
        site.init()
        files = {f"f{i:03}": content(i * 100) for i in range(200)}
        with Raw(site) as raw:
            raw.ask(1, "mkdir", "d")
            for number, (path, data) in enumerate(files.items()):
                raw.send_file(path, data, number)
            raw.check_answer(1, 200)
        unlocked(site)
        wait_until("unfinished files are gone", lambda: not site.parts())
        for name in os.listdir(site.home()):
            chv.check(name == "d" or chv.read(site.home(name)) == files[name], f"{name} is not whole")


# --- long work ---------------------------------------------------------------------------------------------------------


def test_long_work_is_told():
    with FilesSite() as site:
        site.init()
        with Raw(site) as raw:
            raw.ask(1, "mkdir", "d")
            raw.check_answer(1, 200)
            big(site.home("f"), 256 << 30)
            for number, (op, more) in enumerate((("checksum", {}), ("get", {"offset": 256 << 30, "sha256": digest(b"")}))):
                with Raw(site) as other:
                    other.ask(7 + number, op, "f", **more)
                    other.ask(9, "stat", "f")
                    for _ in range(2):
                        kind, body = other.read_record()
                        told = decode(body)[0]
                        chv.check_equal((kind, told["id"], told["code"], told["path"]), (ANSWER, 7 + number, 102, ""),
                                        "record of the server")
            raw.ask(2, "stat", "f")
            raw.check_answer(2, 200)


# --- the disk, and other programs ---------------------------------------------------------------------------------------


class FullSite(FilesSite):
    """A disk that can be full at any moment."""

    def init(self, **settings):
        self.state = chv.write(self.path("disk"), b"\0")
        env = {"LD_PRELOAD": DISK, "CHV_TEST_DISK": self.state, "CHV_TEST_DISK_FILE": "/nowhere",
               "ASAN_OPTIONS": "verify_asan_link_order=0"}
        return super().init(env=env, **settings)

    def set(self, state):
        with open(self.state, "r+b") as f:
            f.write(state)

    def full(self, now):
        self.set(b"\1" if now else b"\0")


def test_a_disk_that_gets_full():
    with FullSite() as site:
        site.init(quota="10M")
        data = content(4 * RECORD)
        with Raw(site) as raw:
            raw.store("f", b"old")
            for number, more in enumerate(({}, {"resume": True})):
                raw.send_file("f", data, number, records=2, end=False, **more)
                wait_until("it is there", lambda: sizes(site) == [2 * RECORD])
                site.full(True)
                raw.send_record(DATA, data[2 * RECORD:3 * RECORD])
                chv.check_in("no space left", raw.check_answer(number, 507, "f")["text"], "text")
                raw.send_record(END)
                chv.check_equal((sorted(os.listdir(site.home())), chv.read(site.home("f"))), (["f"], b"old"), "what is stored")
                raw.ask(9, "df", "")
                chv.check_equal(raw.check_answer(9, 200)["free"], 10 * MIB - 3, "room")
                raw.put("g", 5, 10)
                raw.send_record(DATA, b"hello")
                raw.check_answer(10, 507, "g")
                raw.send_record(END)
                site.full(False)
            raw.store("f", data)
            raw.close()
        there = interrupt(site, "g", data, 2, resume=True)
        unlocked(site)
        with Raw(site) as raw:
            site.full(True)
            raw.send_file("g", data, records=0, end=False, **prefix(data, there))
            raw.send_record(DATA, data[there:there + RECORD])
            raw.check_answer(1, 507, "g")
            raw.send_record(END)
            site.full(False)
            raw.store("g", data, 2)
        chv.check(chv.read(site.home("g")) == data, "what was stored is another file")


def test_a_disk_that_takes_nothing_any_more():
    """What cannot be made durable is not confirmed, and none of it is left; what was there stays."""
    for durability in ("batch", "file"):
        with FullSite() as site:
            site.init(quota="10M", durability=durability)
            with Raw(site) as raw:
                raw.store("b", b"old")
                site.set(b"\3")
                for number, name in enumerate("abc"):
                    raw.send_file(name, content(1000 + number), number)
                for number, name in enumerate("abc"):
                    chv.check_in("file system failed", raw.check_answer(number, 500, name)["text"], "text")
                chv.check_equal((os.listdir(site.home()), chv.read(site.home("b"))), (["b"], b"old"), "what is stored")
                raw.ask(5, "df", "")
                chv.check_equal(raw.check_answer(5, 200)["free"], 10 * MIB - 3, "room")
                site.set(b"\0")
                for number, name in enumerate("abc"):
                    raw.store(name, content(1000 + number), number)
                raw.close()
            chv.check_equal(sorted(os.listdir(site.home())), ["a", "b", "c"], "what is stored")


def test_memory_does_not_grow_with_a_put():
    with FilesSite() as site:
        site.init(durability="none")
        with open(os.path.join(chv.TOP_BUILDDIR, "tools", "chaveirod"), "rb") as f:
            sanitized = b"__asan" in f.read()  # it keeps what was freed
        net = chv.process_named(site.server.pid, "chv-net")

        def resident():
            return int(chv.read(f"/proc/{net}/status").decode().split("VmRSS:")[1].split()[0])

        before = resident()
        piece, sum_ = content(RECORD), hashlib.sha256()
        with Raw(site) as raw:
            raw.put("f", 1500 * RECORD)
            for _ in range(1500):
                raw.send_record(DATA, piece)
                sum_.update(piece)
            now = resident()
            raw.send_record(END, sum_.digest())
            raw.check_answer(1, 200, "f")
        chv.check(sanitized or now < before + 32 * 1024, f"{before} KiB before, {now} now")


def test_a_file_that_is_replaced_or_grows_while_it_is_read():
    with FilesSite() as site:
        site.init()
        with Raw(site) as raw:
            raw.ask(1, "mkdir", "d")
            raw.check_answer(1, 200)
            big(site.home("f"), 64 * MIB)
            chv.write(site.home("new"), "new")
            raw.ask(2, "get", "f")
            raw.check_answer(2, 206)
            os.rename(site.home("new"), site.home("f"))  # as a put does: the old one is read to its end
            chv.check_equal(len(raw.stream(2, "f")[0]), 64 * MIB, "bytes")
            big(site.home("f"), 64 * MIB)
            raw.ask(3, "get", "f")
            raw.check_answer(3, 206)
            with open(site.home("f"), "ab") as f:
                f.write(b"more")
            chv.check_equal(raw.stream(3, "f", code=409)[1], b"", "an END without a digest")
            raw.close()


def test_sparse_files_stay_sparse():
    with FilesSite() as site:
        site.init(durability="none")
        data = bytes(20 * RECORD) + b"middle" + bytes(20 * RECORD)
        there = interrupt(site, "f", data, 20, resume=True)
        unlocked(site)
        chv.check_equal(there, 20 * RECORD, "size of the part")
        with Raw(site) as raw:
            raw.store("f", data, **prefix(data, there))
            chv.check(raw.get(2, "f")[1] == data, "what comes back is another file")
        st = os.stat(site.home("f"))
        chv.check_equal(st.st_size, len(data), "size")
        chv.check(st.st_blocks * 512 <= 2 * RECORD, f"{st.st_blocks} blocks on the disk")


def test_what_lies_behind_4_gib():
    with FilesSite() as site:
        site.init()
        size = (4 << 30) + 5
        with Raw(site) as raw:
            raw.ask(1, "mkdir", "d")
            raw.check_answer(1, 200)
            big(site.home("f"), size - 1)
            with open(site.home("f"), "ab") as f:
                f.write(b"!")
            chv.check_equal(raw.entries(2, "")["f"]["size"], size, "size in a listing")
            for number, offset in enumerate((size - 1, size - RECORD - 7, size)):
                wanted = bytes(size - offset)[:-1] + b"!" if offset < size else b""
                chv.check_equal(raw.get(number, "f", offset=offset), (size, wanted, digest(wanted)), f"from {offset}")
            raw.ask(3, "checksum", "f", size=5)
            chv.check_equal(raw.check_answer(3, 200)["sha256"], digest(bytes(5)), "checksum")
            raw.ask(4, "checksum", "f", size=size + 1)
            raw.check_answer(4, 416)


def transfer_more_than_4_gib():
    """As sparse as it is, every byte of it is digested and encrypted several times."""
    zeros, size = bytes(RECORD), (4 << 30) + 5
    whole = hashlib.sha256()
    for _ in range(size // RECORD):
        whole.update(zeros)
    at = size // RECORD * RECORD
    before = whole.digest()
    tail = bytes(size - at - 1) + b"!"
    whole.update(tail)
    with FilesSite() as site:
        site.init(durability="none")
        with Raw(site) as raw:
            raw.keep = False
            raw.ask(1, "put", "f", size=size, mode=0o600, mtime=0, resume=True)
            for _ in range(size // RECORD):
                raw.send_record(DATA, zeros)
            wait_until("it is there", lambda: sizes(site) == [at])
        unlocked(site)
        with Raw(site) as raw:
            raw.sock.settimeout(600)
            raw.ask(1, "put", "f", size=size, mode=0o600, mtime=0, offset=at, sha256=before)
            raw.check_answer(1, 100)
            raw.send_record(DATA, tail)
            raw.send_record(END, whole.digest())
            chv.check_equal(raw.check_answer(1, 200)["sha256"], whole.digest(), "digest")
            chv.check_equal(raw.get(2, "f", offset=at, sha256=before), (size, tail, whole.digest()), "what is behind 4 GiB")
        chv.check(os.stat(site.home("f")).st_blocks * 512 < MIB, "blocks on the disk")


if os.environ.get("CHV_TEST_LONG"):  # make check-long
    test_more_than_4_gib = transfer_more_than_4_gib


# --- with the token's cryptography --------------------------------------------------------------------------------------


def test_sessions_computed_in_a_token():
    class TokenFiles(softhsm.TokenSite):
        parts, home = FilesSite.parts, FilesSite.home

    with TokenFiles() as site:
        pin = site.path("crypto.pin")
        site.init(uri=f"pkcs11:token=chaveiro?module-path={site.tokens.module}")
        site.keyadmin("token", "init", f"pkcs11:token=crypto?module-path={site.tokens.module}", "--pin-file", pin,
                      "--so-pin-file", site.path("crypto.so-pin"))
        site.root, shared = site.path("homes"), site.path("shared")
        os.mkdir(site.root)
        os.mkdir(shared)
        site.configure(home=site.root + "/%i")
        chv.write(site.config, chv.read(site.config).decode() + f'[share "s"]\npath = {shared}\naccess = rw\n')
        site.start("--backend", f"pkcs11:token=crypto?module-path={site.tokens.module}&pin-source=file:{pin}")
        key = site.add_client("cam1", extra=["--scope", "files:rw"])
        data = content(3 * MIB + 1)
        chv.write(site.path("f"), data)
        for path in ("f", "@s/f"):
            site.client(key, "put", site.path("f"), path)
            site.client(key, "get", path, site.path("back"))
            chv.check(chv.read(site.path("back")) == data, "what came back is another file")
        site.client(key, "mkdir", "d", "@s/d")
        site.client(key, "rm", "f")
        refused(site.client(key, "get", "../f", code=64), "..")
        chv.check_equal((os.listdir(site.home()), sorted(os.listdir(shared)), site.parts()), (["d"], ["d", "f"], []), "stored")


if __name__ == "__main__":
    chv.main()
