"""What 550 open streams cost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import ROOT

MOST_MIB = 200
MOST_THREADS = 20
POOL = 16


@pytest.mark.soak
def test_five_hundred_streams_cost_little_memory_no_threads_and_no_connections(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "tools.benchmarks.streams", "--short", "--json", str(found)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "POST with 500 idle and 50 active streams" in done.stdout
    seen = json.loads(found.read_text())
    (without,), (with_streams,) = seen["nothing"]["held"], seen["streams"]["held"]
    assert with_streams["resident"] < MOST_MIB
    assert with_streams["threads"] < MOST_THREADS
    assert with_streams["postgres"] <= POOL
    # One subscription more, and what the readers of streams ask with.
    assert with_streams["redis"] <= without["redis"] + 3
    assert len(seen["streams"]["deliveries"]) > 0
