#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Batches of clients: a list becomes one sealed bundle, a bundle becomes keystores; wrong lists, kills, two at once."""
import json
import os
import pty
import shutil
import subprocess

import chv
import clock
import client_life
import postgres
from client_life import CANTCREAT, KILLED, NOINPUT, NOPERM, USAGE, Fleet

DATAERR, PROTOCOL = 65, 76


def write_list(fleet, lines, name="list.csv"):
    return chv.write(fleet.path(name), "id,scopes,expires\n" + "\n".join(lines) + "\n")


def devices(n, expires="90d"):
    return [f"dev{i:05d},message files:ro,{expires}" for i in range(n)]


def words_for(fleet, listed, bundle="bundle"):
    return ["client", "add", "--from", listed, *fleet.made(), "--out", fleet.path(bundle)]


def contents(fleet, bundle="bundle"):
    """id: (serial, expires) as the bundle has it."""
    listed = fleet.json("bundle", "list", fleet.path(bundle), "--passphrase-file", fleet.passphrase)
    return {c["client"]: (c["serial"], c["expires"]) for c in listed["clients"]}


def registered(fleet):
    return {c["client"]: (c["serial"], c["expires"]) for c in fleet.list()}


def unpack(fleet, client, *extra, bundle="bundle", **options):
    return fleet.json("bundle", "unpack", client, "--from", fleet.path(bundle), "--passphrase-file", fleet.passphrase,
                      "--client-passphrase-file", fleet.passphrase, "--scrypt-cost", chv.SCRYPT_COST, "--out",
                      fleet.path(f"{client}.key"), *extra, **options)


@client_life.every_registry
def test_a_batch(fleet):
    fleet.state("remove", fleet.add("dev00001", out=fleet.path("before.key"))["client"])
    listed = write_list(fleet, [*devices(5000), "", '"odd:one" , "message;tunnel:x", 2040-01-31', "plain,,never", "bare"])
    made = fleet.json(*words_for(fleet, listed))
    chv.check_equal((made["clients"], made["added"]), (5003, 5003), "made")
    inside = contents(fleet)
    chv.check_equal(inside, registered(fleet), "bundle and registry")
    chv.check_equal((inside["dev00001"][0], inside["dev00002"][0]), (2, 1), "serials go on")
    chv.check_equal((inside["odd:one"][1], inside["plain"][1]), ("2040-01-31T23:59:59Z", "never"), "expiries")
    chv.check_equal([c for c in fleet.list() if "pending" in c], [], "pending")
    chv.check_equal(fleet.verify()["not_sealed_yet"], 0, "sealed")
    chv.check_equal(os.stat(fleet.path("bundle")).st_mode & 0o777, 0o600, "mode")
    out = unpack(fleet, "dev00001")
    chv.check_equal((out["serial"], out["server"], out["address"]), (2, "test-server", "gate.example:7040"), "unpacked")
    again = fleet.add("dev00001", "--scope", "message", "--scope", "files:ro", out=fleet.path("same.key"))
    chv.check_equal((again["key_check"], fleet.key("same.key")[1]), (out["key_check"], fleet.key("dev00001.key")[1]),
                    "the key that the server derives, and all beside it")
    chv.check_equal(fleet.key("same.key")[0], fleet.key("dev00001.key")[0], "keys")
    fleet.fails(CANTCREAT, "is there already", *words_for(fleet, listed))
    fleet.fails(NOINPUT, "no client 'nobody'", "bundle", "unpack", "nobody", "--from", fleet.path("bundle"),
                "--passphrase-file", fleet.passphrase, "--client-passphrase-file", fleet.passphrase, "--out",
                fleet.path("no"))


def test_a_client_out_of_a_bundle_is_let_in():
    with Fleet() as fleet:
        fleet.json(*words_for(fleet, write_list(fleet, devices(3))))
        unpack(fleet, "dev00002")
        fleet.site.start()
        done = fleet.site.client(chv.Key("", fleet.path("dev00002.key"), fleet.passphrase), "send", "ola")
        chv.check_in("message received", done.stdout, "answer")


def syncs(fleet, n):
    """How often the making of a batch of n clients waits for the disk."""
    strace = shutil.which("strace")
    if strace is None:
        raise chv.Skip("strace is not installed")
    real = os.path.join(chv.TOP_BUILDDIR, "tools/.libs/keyadmin")
    trace = fleet.path(f"trace-{n}")
    listed = write_list(fleet, [line.replace("dev", f"d{n}-") for line in devices(n)], f"list-{n}.csv")
    done = subprocess.run([strace, "-f", "-qq", "-o", trace, "-e", "trace=fsync,fdatasync",
                           real if os.path.isfile(real) else chv.program("keyadmin"),
                           *words_for(fleet, listed, f"bundle-{n}")], check=False, capture_output=True, timeout=chv.DEADLINE,
                          env={**os.environ, "LC_ALL": "C", "LD_LIBRARY_PATH": os.path.join(chv.TOP_BUILDDIR, ".libs"),
                               "ASAN_OPTIONS": "detect_leaks=0"})
    if not os.path.exists(trace) or b"ptrace" in done.stderr:
        raise chv.Skip("strace may not trace here")
    chv.check_equal(done.returncode, 0, f"keyadmin: {done.stderr}")
    return chv.read(trace).count(b"sync(")


def test_the_disk_is_not_waited_for_at_each_client():
    """What makes 100 000 clients in a minute possible: a few waits for thousands of them."""
    with Fleet() as fleet:
        fleet.add("cam1")
        few, many = syncs(fleet, 500), syncs(fleet, 6500)
        chv.check(0 < few <= many <= few + 60, f"{few} waits for 500 clients, {many} for 6500")


def test_clients_with_identity_keys():
    """Profile key+psk in a bundle: bound to the public keys that the list has, of no use without the private ones."""
    with Fleet() as fleet:
        fleet.site.configure(profiles="psk, key+psk")
        keys = {}
        for name in ("a", "b", "p256"):
            chv.run("keyadmin", "identity", "new", "--curve", "p256" if name == "p256" else "x25519", "--out",
                    fleet.path(f"{name}.pem"))
            shown = chv.run("keyadmin", "identity", "show", fleet.path(f"{name}.pem.pub"), name).stdout.decode().split()
            keys[name] = " ".join(shown[:2])
        header = "id,scopes,expires,profile,identity\n"

        def listed(*lines):
            return chv.write(fleet.path("list.csv"), header + "\n".join(lines) + "\n")

        fleet.fails(USAGE, "list.csv:3: the identity key of client 'two' stands on line 2 already",
                    *words_for(fleet, listed(f"one,,,key+psk,{keys['a']}", f"two,,,key+psk,{keys['a']}")))
        fleet.fails(USAGE, "list.csv:2: the identity key is of another kind",
                    *words_for(fleet, listed(f"one,,,key+psk,{keys['p256']}")))
        words = words_for(fleet, listed(f"one,message,90d,key+psk,{keys['a']}", "plain,message,90d,psk,",
                                        f"two,message,90d,key+psk,{fleet.path('b.pem.pub')}"))
        fleet.json(*words)
        bound = {c["client"]: c.get("bound_to") for c in
                 fleet.json("bundle", "list", fleet.path("bundle"), "--passphrase-file", fleet.passphrase)["clients"]}
        chv.check_equal({name: fleet.show(name).get("identity") for name in bound}, bound, "bundle and registry")
        chv.check(bound["one"] and bound["two"] and not bound["plain"], f"bound: {bound}")
        for name in bound:
            unpack(fleet, name)
        chv.check(fleet.key("one.key")[1]["server-key"].startswith(b"x25519 "), "the server's key, to pin")
        chv.check("server-key" not in fleet.key("plain.key")[1], "profile psk has none")
        fleet.add("one", "--profile", "key+psk", "--identity", fleet.path("a.pem.pub"), out=fleet.path("same.key"))
        chv.check_equal(fleet.key("same.key"), fleet.key("one.key"), "as without a bundle")
        fleet.site.start()

        def send(name, *extra, code=0):
            return fleet.site.client(chv.Key("", fleet.path(f"{name}.key"), fleet.passphrase), *extra, "send", "ola", code=code)

        send("one", "--identity", fleet.path("a.pem"))
        send("two", "--identity", fleet.path("b.pem"))
        send("plain")
        chv.check(send("one", "--identity", fleet.path("b.pem"), code=None).code != 0, "another's identity key")


def test_without_a_registry():
    with Fleet() as fleet:
        fleet.site.configure(registry="none")
        fleet.json(*words_for(fleet, write_list(fleet, devices(10, "2040-01-31"))))
        chv.check_equal(contents(fleet)["dev00009"], (1, "2040-01-31T23:59:59Z"), "in the bundle")
        unpack(fleet, "dev00009")
        single = fleet.add("dev00009", "--scope", "message", "--scope", "files:ro", "--expires", "2040-01-31",
                           out=fleet.path("single"))
        chv.check_equal((single["serial"], fleet.key("single")), (1, fleet.key("dev00009.key")), "as without a bundle")
        fleet.fails(CANTCREAT, "is there already", *words_for(fleet, fleet.path("list.csv")))


def test_lists_that_are_wrong_make_nothing():
    cases = [(PROTOCOL, "list.csv: is empty: its first line is to be the header, id,scopes,expires", ""),
             (PROTOCOL, "list.csv:1: the first line", "id;scopes\na"),
             (PROTOCOL, "list.csv:1: the first line", "client,scopes\na,message"),
             (PROTOCOL, "list.csv:3: there are too many", "id,scopes,expires\na,message,90d\nb,message,90d,psk,,x"),
             (PROTOCOL, "list.csv:2: a quote", 'id,scopes\n"a,message'),
             (PROTOCOL, "no client in it", "id,scopes\n\n"),
             (USAGE, "list.csv:3: bad client id 'b b'", "id\na\nb b"),
             (USAGE, "list.csv:2: bad scope 'Files'", "id,scopes\na,Files"),
             (USAGE, "list.csv:4: client 'a' stands on line 2 already", "id\na\nb\na"),
             (USAGE, "list.csv:2: ", "id,scopes,expires\na,message,soon"),
             (USAGE, "list.csv:2: ", "id,scopes,expires\na,message,2001-01-01"),
             (USAGE, "list.csv:2: profile 'key'", "id,scopes,expires,profile\na,message,90d,key"),
             (USAGE, "list.csv:2: unknown profile 'kez'", "id,scopes,expires,profile\na,message,90d,kez"),
             (USAGE, "list.csv:2: profile 'key+psk': the client's public key is missing", "id,scopes,expires,profile\na,,,key+psk"),
             (USAGE, "list.csv:2: an identity key goes with", "id,scopes,expires,profile,identity\na,,,psk,x25519 AAAA"),
             (USAGE, "list.csv:2: ", "id,scopes,expires,profile,identity\na,,,key+psk,x25519 AAAA"),
             (CANTCREAT, "list.csv:3: client 'cam1' is registered with other scopes", "id,scopes\nnew,\ncam1,files:ro")]
    with Fleet() as fleet:
        fleet.add("cam1")
        rows = len(fleet.audit())
        for code, text, lines in cases:
            listed = chv.write(fleet.path("list.csv"), lines + "\n")
            fleet.fails(code, text, *words_for(fleet, listed))
        listed = write_list(fleet, devices(2))
        for extra, text in ((["--to", "pkcs11:token=x"], "--to"), (["--serial", "3"], "--serial"),
                            (["--profile", "key"], "--profile"), (["--recipient", "x.pem"], "no passphrase")):
            fleet.fails(USAGE, text, *words_for(fleet, listed), *extra)
        fleet.fails(USAGE, "not both", "client", "add", "cam9", *words_for(fleet, listed)[2:])
        fleet.fails(USAGE, "--recipient is for a bundle", "client", "add", "cam9", *fleet.made(), "--out",
                    fleet.path("no"), "--recipient", "x")
        fleet.fails(NOINPUT, "nowhere", *words_for(fleet, fleet.path("nowhere")))
        chv.check_equal((fleet.ids(), len(fleet.audit())), (["cam1"], rows), "registry")
        chv.check_equal([f for f in os.listdir(fleet.site.folder) if f.startswith("bundle")], [], "bundles")


def test_to_a_certificate():
    with Fleet() as fleet:
        key, certificate = fleet.path("site.pem"), fleet.path("site.crt")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                        "/CN=site", "-keyout", key, "-out", certificate, "-days", "2"], check=True, capture_output=True)
        listed = write_list(fleet, devices(100))
        chv.run("keyadmin", "client", "add", "--from", listed, *fleet.server(), "--out", fleet.path("bundle"), "--recipient",
                certificate)
        listed = fleet.json("bundle", "list", fleet.path("bundle"), "--key", key)
        chv.check_equal(len(listed["clients"]), 100, "clients")
        fleet.fails(NOINPUT, "--key", "bundle", "list", fleet.path("bundle"))
        done = fleet.json("bundle", "unpack", "dev00050", "--from", fleet.path("bundle"), "--key", key,
                          "--client-passphrase-file", fleet.passphrase, "--scrypt-cost", chv.SCRYPT_COST, "--out",
                          fleet.path("dev.key"))
        chv.check_equal(done["client"], "dev00050", "unpacked")
        subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out",
                        fleet.path("other.pem")], check=True, capture_output=True)
        fleet.fails(NOPERM, "does not open", "bundle", "list", fleet.path("bundle"), "--key", fleet.path("other.pem"))


def test_damaged_bundles_are_told():
    with Fleet() as fleet:
        fleet.json(*words_for(fleet, write_list(fleet, devices(2000))))
        whole = chv.read(fleet.path("bundle"))
        other = fleet.site.new_passphrase("other.pass")
        fleet.fails(NOPERM, "passphrase", "bundle", "list", fleet.path("bundle"), "--passphrase-file", other)
        for name, data, text in (("cut", whole[:-1], "cut off"), ("half", whole[:len(whole) // 2], "cut off"),
                                 ("flipped", whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:], "damaged"),
                                 ("none", b"hello\n", "is no bundle")):
            chv.write(fleet.path(name), data)
            # a client before the damage is not handed out either
            fleet.fails(DATAERR, text, "bundle", "unpack", "dev00000", "--from", fleet.path(name), "--passphrase-file",
                        fleet.passphrase, "--client-passphrase-file", fleet.passphrase, "--out", fleet.path("no"))
            chv.check(not os.path.exists(fleet.path("no")), f"{name}: a keystore was made")
        listed = chv.run("keyadmin", "bundle", "list", fleet.path("cut"), "--passphrase-file", fleet.passphrase,
                         code=DATAERR)
        chv.check_in("cut off", listed.stderr, "list of a bundle that is cut off")


def test_a_terminal_sees_progress():
    with Fleet() as fleet:
        words = words_for(fleet, write_list(fleet, devices(5000)))
        ours, theirs = pty.openpty()
        process = subprocess.Popen([chv.program("keyadmin"), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=theirs)
        os.close(theirs)
        seen = b""
        try:
            while piece := os.read(ours, 4096):
                seen += piece
        except OSError:
            pass  # the other end is closed
        process.communicate()
        os.close(ours)
        chv.check_equal(process.returncode, 0, "exit code")
        for word in (b"checking", b"registering", b"deriving", b"recording", b"2000/5000"):
            chv.check_in(word, seen, "progress")
        chv.check(seen.endswith(b"\r\x1b[K"), "the bar is left behind")


def test_two_at_once():
    with Fleet() as fleet:
        fleet.add("first")
        started = []
        for i in range(3):
            listed = write_list(fleet, devices(3000)[i * 500:i * 500 + 2000], f"list{i}.csv")
            started.append(fleet.site.spawn("keyadmin", *words_for(fleet, listed, f"bundle{i}"), "--json"))
        results = [json.loads(process.wait(0).stdout) for process in started]
        chv.check_equal(sum(r["added"] for r in results), 3000, "added, none twice")
        rows = registered(fleet)
        chv.check_equal((len(rows), {serial for serial, _ in rows.values()}), (3001, {1}), "registry")
        for i in range(3):
            inside = contents(fleet, f"bundle{i}")
            chv.check_equal(inside, {name: rows[name] for name in inside}, f"bundle {i}")
        fleet.verify()


def killed_and_resumed(fleet, points):
    """Kills a batch at each of these points, goes on days later: what was registered stays as it is."""
    wall = clock.Clock(fleet.site.folder)
    wall.shift(3 * 86400)
    half = False
    for n in points:
        names = [f"k{n}.{i}" for i in range(2500)]
        listed = write_list(fleet, [f"{name},message,90d" for name in names], f"list{n}.csv")
        words = words_for(fleet, listed, f"bundle{n}")
        killed = client_life.killed_at(fleet, n, *words)
        before = {name: row for name, row in registered(fleet).items() if name.startswith(f"k{n}.")}
        half = half or 0 < len(before) < len(names)
        again = chv.run("keyadmin", *words, env=wall.env, code=None)
        # if all was done but to say so, the bundle is there and nobody is pending
        chv.check(again.code == 0 or again.code == CANTCREAT, f"{n}: {again.stderr}")
        after = {c["client"]: c for c in fleet.list() if c["client"].startswith(f"k{n}.")}
        chv.check_equal(sorted(after), sorted(names), f"{n}: clients")
        chv.check_equal({name: (after[name]["serial"], after[name]["expires"]) for name in before}, before, f"{n}: kept")
        chv.check_equal([name for name, c in after.items() if c["serial"] != 1 or "pending" in c], [], f"{n}: odd ones")
        chv.check_equal(contents(fleet, f"bundle{n}"), {name: (1, c["expires"]) for name, c in after.items()},
                        f"{n}: bundle")
        chv.check(not os.path.exists(fleet.path(f"bundle{n}.part")), f"{n}: left-overs")
        if not killed:
            break
    fleet.verify()
    return half, killed


def test_killed_anywhere():
    with Fleet() as fleet:
        fleet.add("first")
        half, killed = killed_and_resumed(fleet, [1, 5, 20, 80, 160, 240, 320, 480, 640, 10 ** 9])
        chv.check(half, "no point was in the middle of registering")
        chv.check(not killed, "it did not run to its end at all")


def test_killed_with_postgresql():
    with postgres.Cluster() as cluster, Fleet(cluster.uri("fleet")) as fleet:
        fleet.add("first")
        killed_and_resumed(fleet, [50, 3000, 9000])


if __name__ == "__main__":
    chv.main()
