# SPDX-License-Identifier: Apache-2.0
"""The harness itself: its checks fail when they must, nothing is left behind, its runner counts."""
import os
import signal
import subprocess
import sys

import chv

SH = "/bin/sh"


def refuses(function, *arguments):
    try:
        function(*arguments)
    except chv.Failure as why:
        return str(why)
    raise chv.Failure(f"{function.__name__}{arguments} did not fail")


def run_tests(text, *names):
    """A test file of that text, run as `make check` runs one."""
    path = os.path.join(chv.folder(), "t.py")
    chv.write(path, "import chv, os, subprocess, sys\n" + text + "\nchv.main()\n")
    env = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.abspath(chv.__file__)))
    return subprocess.run([sys.executable, path, *names], env=env, capture_output=True, text=True, check=False)


def test_checks_fail_when_they_must():
    chv.check(True, "never")
    chv.check_equal(1, 1, "number")
    chv.check_in("b", b"abc", "part")
    chv.check_not_in("x", "abc", "part")
    chv.check_in("why", refuses(chv.check, False, "why"), "text of check")
    chv.check_in("number: wanted 2, got 1", refuses(chv.check_equal, 1, 2, "number"), "text of check_equal")
    refuses(chv.check_in, "x", "abc", "part")
    refuses(chv.check_not_in, "b", b"abc", "part")


def test_run_gives_output_and_checks_the_exit_code():
    done = chv.run(SH, "-c", "cat; echo no >&2; exit 3", code=3, stdin="in")
    chv.check_equal((done.stdout, done.stderr), (b"in", b"no\n"), "output")
    chv.check_in("exit code 3 instead of 0", refuses(chv.run, SH, "-c", "exit 3"), "text")


def test_a_sanitizer_report_is_a_failure_whatever_the_exit_code():
    refuses(chv.run, SH, "-c", "echo 'ERROR: LeakSanitizer: detected memory leaks' >&2")


def test_waits_for_a_line_and_notices_an_early_end():
    process = chv.Process(SH, "-c", "echo one >&2; echo two >&2; exec sleep 1000")
    chv.check_equal([m.group(1) for m in process.wait_for(r"(one|two)", 2)], [b"one", b"two"], "lines")
    process.stop(-signal.SIGTERM)
    ended = chv.Process(SH, "-c", "echo other >&2")
    chv.check_in("it ended", refuses(ended.wait_for, "wanted"), "text")
    ended.wait(0)


def test_stop_notices_a_process_left_behind():
    process = chv.Process(SH, "-c", "sleep 1000 & trap 'exit 0' TERM; echo ready >&2; wait")
    process.wait_for("ready")
    children = chv.processes_under(process.pid)
    chv.check_equal(len(children), 1, "children")
    chv.check_in("still there", refuses(process.stop), "text")
    refuses_kill(children[0])


def refuses_kill(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return
    raise chv.Failure(f"process {pid} lives on")


def test_wait_gone_ends_when_the_processes_do():
    process = chv.Process(SH, "-c", "sleep 1000 & echo ready >&2; wait")
    process.wait_for("ready")
    children = chv.processes_under(process.pid)
    process.process.kill()
    process.process.wait()
    os.kill(children[0], signal.SIGTERM)
    chv.wait_gone(children)


def test_folders_go_also_after_a_failure():
    done = run_tests("def test_one():\n    print('FOLDER', chv.folder())\n    chv.check(False, 'as meant')\n")
    chv.check_equal(done.returncode, 1, "exit code")
    chv.check_in("not ok test_one: as meant\n0 passed, 1 failed\n", done.stdout, "output")
    path = done.stdout.split("FOLDER ")[1].split("\n")[0]
    chv.check(path.startswith("/") and not os.path.exists(path), f"{path} is still there")


def test_runner_counts_names_and_goes_on():
    done = run_tests("def test_a():\n    1 / 0\n"
                     "def test_b():\n    pass\n"
                     "def test_c():\n    raise chv.Skip('no token')\n"
                     "def test_d():\n    subprocess.Popen(['sleep', '1000'])\n")
    chv.check_equal(done.returncode, 1, "exit code")
    for line in ("not ok test_a: ZeroDivisionError", "ok test_b\n", "skip test_c: no token\n",
                 "not ok test_d: left processes behind", "1 passed, 2 failed, 1 skipped\n"):
        chv.check_in(line, done.stdout, "output")
    chv.check_equal(run_tests("def test_a():\n    raise chv.Skip('x')\n").returncode, 77, "exit code when all is skipped")
    only = run_tests("def test_a():\n    pass\ndef test_b():\n    1 / 0\n", "test_a")
    chv.check_equal((only.returncode, only.stdout), (0, "ok test_a\n1 passed, 0 failed\n"), "one by name")
    chv.check_in("there is no such test", run_tests("def test_a():\n    pass\n", "test_x").stdout, "a wrong name")


if __name__ == "__main__":
    chv.main()
