"""Threads that do one thing after the other."""

import subprocess
import sys

FORKS = """
import os
from tasks_app.threads import SerialThread

thread = SerialThread("made before the fork")
if child := os.fork():
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert [thread.submit(lambda: each).result(10) for each in "ab"] == ["a", "b"]
"""


def test_one_that_was_made_before_a_fork_works_after_it() -> None:
    assert subprocess.run([sys.executable, "-c", FORKS]).returncode == 0
