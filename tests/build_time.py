# SPDX-License-Identifier: Apache-2.0
"""The time before which no clock is believed: the release's, or a later SOURCE_DATE_EPOCH, and never the compiler's."""
import os
import re
import shutil
import subprocess

import chv

MACRO = os.path.join(chv.TOP_SRCDIR, "m4/chv-time.m4")
RELEASE = 1700000000


def configured(folder, epoch):
    """What a configure script with that macro does: (exit code, CHV_TIME_FLOOR, standard error)."""
    env = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    if epoch is not None:
        env["SOURCE_DATE_EPOCH"] = epoch
    header = os.path.join(folder, "config.h")
    if os.path.exists(header):
        os.unlink(header)
    done = subprocess.run(["./configure", "-q"], cwd=folder, env=env, capture_output=True, text=True, check=False)
    found = re.search(r"^#define CHV_TIME_FLOOR (\d+)$", chv.read(header).decode(), re.M) if done.returncode == 0 else None
    return done.returncode, found and int(found.group(1)), done.stderr


def test_source_date_epoch():
    if shutil.which("autoconf") is None:
        raise chv.Skip("autoconf is not installed")
    folder = chv.folder()
    chv.write(os.path.join(folder, "configure.ac"),
              f"AC_INIT([t], [1])\nm4_include([{MACRO}])\nCHV_BUILD_TIME([{RELEASE}])\nAC_CONFIG_HEADERS([config.h])\n"
              "AC_OUTPUT\n")
    chv.write(os.path.join(folder, "config.h.in"), "#undef CHV_TIME_FLOOR\n")
    subprocess.run(["autoconf"], cwd=folder, check=True)
    for epoch, wanted in ((None, RELEASE), ("", RELEASE), ("1", RELEASE), (str(RELEASE - 1), RELEASE),
                          (str(RELEASE + 1), RELEASE + 1)):
        chv.check_equal(configured(folder, epoch)[:2], (0, wanted), f"SOURCE_DATE_EPOCH={epoch!r}")
    for epoch in ("0", "yesterday", "-5", "1e9", "17000000001", "1700000001 "):
        code, _, error = configured(folder, epoch)
        chv.check(code != 0, f"SOURCE_DATE_EPOCH={epoch!r} is taken")
        chv.check_in("is no Unix time", error, f"SOURCE_DATE_EPOCH={epoch!r}")


def test_this_build():
    text = chv.read(os.path.join(chv.TOP_BUILDDIR, "config.h")).decode()
    floor = int(re.search(r"^#define CHV_TIME_FLOOR (\d+)$", text, re.M).group(1))
    release = int(re.search(r"^CHV_BUILD_TIME\(\[(\d+)\]\)$",
                            chv.read(os.path.join(chv.TOP_SRCDIR, "configure.ac")).decode(), re.M).group(1))
    chv.check(floor >= release, f"{floor} is before the release")


def test_no_source_asks_the_compiler_for_the_time():
    for layer in ("base", "core", "p11", "backends", "keystore", "registry", "net", "services", "tools", "include"):
        for top, _, names in os.walk(os.path.join(chv.TOP_SRCDIR, layer)):
            for name in names:
                if name.endswith((".c", ".h", ".in")):
                    for word in (b"__DATE__", b"__TIME__", b"__TIMESTAMP__"):
                        chv.check_not_in(word, chv.read(os.path.join(top, name)), f"{top}/{name}")


if __name__ == "__main__":
    chv.main()
