"""Every benchmark runs in its short form."""

import subprocess
import sys

import pytest

from tests.support.stack import ROOT
from tools.benchmarks.__main__ import NAMES
from tools.benchmarks.harness import sides


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_the_short_form_prints_its_table(name: str) -> None:
    command = [sys.executable, "-m", "tools.benchmarks", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if sides.MISSING in done.stdout:
        pytest.skip(sides.MISSING)
    # What a benchmark prints besides its heading and its duration.
    assert len(done.stdout.splitlines()) > 8
