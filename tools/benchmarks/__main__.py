"""Run all benchmarks in short form, one after the other: `uv run python -m tools.benchmarks [NAME…]`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.support.stack import ROOT
from tools.benchmarks.harness.report import machine

NAMES = (
    "overhead",
    "batching",
    "peers",
    "kills",
    "posts",
    "switching",
    "previews",
    "options",
    "cold",
    "streams",
    "rows",
    "gpu",
)


def main(names: Sequence[str]) -> int:
    """Run the benchmarks; return 1 if one of them failed."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    print(f"Short forms: counts hold, times mean little. {machine()}", flush=True)
    failed = []
    for name in names:
        print(f"\n## {name}\n", flush=True)
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", f"tools.benchmarks.{name}", "--short"], cwd=ROOT, env=env)
        print(f"\n({time.monotonic() - began:.0f} s)", flush=True)
        if done.returncode:
            failed.append(name)
    if failed:
        print(f"\nFailed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or NAMES))
