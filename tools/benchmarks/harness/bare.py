"""The bare pipeline in a separate process, which generates images for benchmarks: no service, nothing stored.

`python -m tools.benchmarks.harness.bare FOLDER [DEVICE] [DTYPE]` answers each line of JSON on its standard input with
one on its standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.stack import ROOT
from tools.benchmarks.harness import pipeline
from tools.benchmarks.harness.world import environment


@dataclass(kw_only=True)
class Bare:
    """The process with its loaded model. Times are those of `time.time()`."""

    process: subprocess.Popen[str]
    spawned_at: float
    loaded_at: float = field(init=False)

    def __post_init__(self) -> None:
        """Wait until the model is loaded."""
        self.loaded_at = float(self._read()["loaded_at"])

    def draw(self, images: int, *, steps: int, batch: int = 1) -> float:
        """Generate `images` images, `batch` per call; return the seconds taken."""
        return float(self._ask(images=images, steps=steps, batch=batch)["seconds"])

    def first_step(self) -> float:
        """Return the time at which the first step of an image was done."""
        return float(self._ask(images=1, steps=1, batch=1)["first_step_at"])

    def _ask(self, **wish: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(wish) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@contextmanager
def bare(folder: Path, *, device: str = "cpu", dtype: str = "float32") -> Iterator[Bare]:
    """Run the process until the block ends."""
    command = [sys.executable, "-m", "tools.benchmarks.harness.bare", str(folder), device, dtype]
    spawned_at = time.time()
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, env=environment(), text=True, **pipes) as process:
        yield Bare(process=process, spawned_at=spawned_at)


def _answer(pipe: Any, wish: dict[str, int]) -> dict[str, float]:
    steps_at: list[float] = []
    began = time.perf_counter()
    for start in range(0, wish["images"], wish["batch"]):
        count = min(wish["batch"], wish["images"] - start)
        prompts = [f"a red house {start + number}" for number in range(count)]
        pipeline.draw(pipe, prompts, steps=wish["steps"], on_step=lambda: steps_at.append(time.time()))
    return {"seconds": time.perf_counter() - began, "first_step_at": steps_at[0]}


def main(folder: str, device: str = "cpu", dtype: str = "float32") -> None:
    """Load the pipeline, then answer until the input ends."""
    pipe = pipeline.load(Path(folder), device, dtype)
    print(json.dumps({"loaded_at": time.time()}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(pipe, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
