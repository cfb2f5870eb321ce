# SPDX-License-Identifier: Apache-2.0
"""tests/summary on made-up results: what it counts as passed, failed and skipped."""
import os
import subprocess
import sys

import chv

CUNIT = """
Run Summary:    Type  Total    Ran Passed Failed Inactive
              suites      1      1    n/a      0        0
               tests      {}      {}      {}      {}        0
             asserts    619    619    619      0      n/a
"""


def summary(results, strict=False):
    """results: {name: (automake's result, text of the log)}; exit code, the last line, all of the output."""
    build = chv.folder()
    os.mkdir(os.path.join(build, "tests"))
    for name, (result, log) in results.items():
        path = os.path.join(build, "tests", name)
        chv.write(path + ".trs", f":test-result: {result}\n:copy-in-global-log: no\n")
        chv.write(path + ".log", log)
    env = dict(os.environ)
    env.pop("CHV_NO_SKIP", None)
    if strict:
        env["CHV_NO_SKIP"] = "1"
    done = subprocess.run([sys.executable, os.path.join(chv.TOP_SRCDIR, "tests", "summary"), build], env=env, check=False,
                          capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()[-1], done.stdout


def test_tests_are_summed_not_asserts():
    code, last, _ = summary({"a": ("PASS", CUNIT.format(3, 3, 3, 0)), "b": ("PASS", "ok x\n12 passed, 0 failed\n"),
                             "c": ("PASS", "5 passed, 0 failed, 2 skipped\n"), "d": ("PASS", "nothing counted\n")})
    chv.check_equal((code, last), (0, "21 passed, 0 failed"), "sum")


def test_failures_count_and_are_shown():
    code, last, out = summary({"a": ("FAIL", "not ok x: the reason\n" + CUNIT.format(3, 3, 2, 1)),
                               "b": ("PASS", "1 passed, 0 failed\n")})
    chv.check_equal((code, last), (1, "3 passed, 1 failed"), "sum")
    chv.check_in("not ok x: the reason", out, "output")


def test_a_program_that_failed_without_a_count_is_one_failure():
    for log in ("Segmentation fault\n", CUNIT.format(3, 3, 3, 0) + "ERROR: LeakSanitizer: detected memory leaks\n"):
        code, last, _ = summary({"a": ("FAIL", log)})
        chv.check_equal((code, last.split(", ")[1]), (1, "1 failed"), "sum")


def test_cases_that_did_not_run_are_failures():
    chv.check_equal(summary({"a": ("FAIL", CUNIT.format(5, 3, 3, 0))})[1], "3 passed, 2 failed", "sum")


def test_nothing_run_is_a_failure():
    chv.check_equal(summary({})[:2], (1, "0 passed, 1 failed"), "sum")


def test_skips_are_shown_and_failures_where_none_is_allowed():
    results = {"a": ("SKIP", "no module cryptography\nSKIP tests/a (exit status: 77)\n"),
               "b": ("PASS", "skip test_token: no token\nok x\n1 passed, 0 failed, 1 skipped\n"),
               "c": ("SKIP", "no ../shared/vectors\n"), "d": ("SKIP", "skipped: AddressSanitizer keeps freed memory\n")}
    code, last, out = summary(results)
    chv.check_equal((code, last), (0, "1 passed, 0 failed"), "sum")
    for reason in ("skipped: no module cryptography\n", "skipped: test_token: no token\n"):
        chv.check_in(reason, out, "output")
    code, last, _ = summary(results, strict=True)
    chv.check_equal((code, last), (1, "1 passed, 2 failed"), "sum where no skip is allowed")


if __name__ == "__main__":
    chv.main()
