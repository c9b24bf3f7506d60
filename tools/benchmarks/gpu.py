"""The service's engine on an accelerator, against the bare pipeline and the device's own limit.

    uv run python -m tools.benchmarks.gpu [--short] [--rounds 5] [--save DIR]

Stable Diffusion 1.5's architecture with random weights, 512×512, 25 steps, half precision, in calls of 1, 4 and 8
images, with and without torch.compile; both sides in one process, in turns. The limit is the throughput of a large
matrix product on this device; the share of it counts the pipeline's floating-point operations
(torch.utils.flop_counter). Without CUDA the same code runs at a tiny size on the CPU, which does not measure speed.
`--save` keeps the model, for `tools.benchmarks.overhead`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tasks_app.engine.diffusers.handler import DiffusersHandler
from tasks_app.engine.types import GenerationRequest
from tests.support import tiny
from tools.benchmarks.harness import architectures, pipeline
from tools.benchmarks.harness.report import arguments, grid, machine, ratios

NAME = "random-sd"
OWED = "No CUDA here: this is a tiny pipeline on the CPU. The figures of a GPU are still owed."
LEAST = 0.97


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Device, precision and sizes of the measurement."""

    device: str
    dtype: str
    steps: int
    batches: tuple[int, ...]
    matrix: int
    compiles: tuple[bool, ...]
    save: Callable[[Path], object]


@dataclass(kw_only=True)
class Seen:
    """Images per second of both sides, by round."""

    bare: list[float] = field(default_factory=list)
    service: list[float] = field(default_factory=list)


def setting() -> Setting:
    """Return the largest setting that this machine can measure."""
    if torch.cuda.is_available():
        save = partial(architectures.save_sd15, dtype="float16")
        return Setting(
            device="cuda", dtype="float16", steps=25, batches=(1, 4, 8), matrix=8192, compiles=(False, True), save=save
        )
    return Setting(
        device="cpu", dtype="float32", steps=3, batches=(1, 4, 8), matrix=256, compiles=(False,), save=tiny.save_sd
    )


def peak(where: Setting, *, products: int = 20) -> float:
    """Return the floating-point operations per second of a large matrix product: the best of five runs."""
    size = where.matrix
    one = torch.randn(size, size, device=where.device, dtype=getattr(torch, where.dtype))
    best = min(_seconds(where, lambda: [one @ one for _ in range(products)]) for _ in range(5))
    return products * 2 * size**3 / best


def _seconds(where: Setting, work: Callable[[], object]) -> float:
    _wait(where)
    began = time.perf_counter()
    work()
    _wait(where)
    return time.perf_counter() - began


def _wait(where: Setting) -> None:
    if where.device == "cuda":
        torch.cuda.synchronize()


def operations(pipe: Any, where: Setting) -> int:
    """Return the number of floating-point operations that the whole pipeline needs for one image."""
    with FlopCounterMode(display=False) as counter:
        pipeline.draw(pipe, ["a"], steps=where.steps)
    return int(counter.get_total_flops())


def serve(handler: DiffusersHandler, where: Setting, batch: int) -> None:
    """Run a batch with the service's engine, as its worker does."""
    handler.run([_request(where, seed) for seed in range(batch)], lambda progress: None)


def _request(where: Setting, seed: int) -> GenerationRequest:
    return GenerationRequest(
        model_id=NAME,
        revision="",
        prompt="a",
        negative_prompt="",
        steps=where.steps,
        guidance_scale=pipeline.GUIDANCE,
        seed=seed,
        width=None,
        height=None,
        num_images=1,
    )


def race(pipe: Any, handler: DiffusersHandler, where: Setting, *, batch: int, rounds: int) -> Seen:
    """Let both sides generate in turns; the first round, which loads and compiles, does not count."""
    seen = Seen()
    for number in range(rounds + 1):
        bare = batch / _seconds(where, lambda: pipeline.draw(pipe, ["a"] * batch, steps=where.steps))
        service = batch / _seconds(where, lambda: serve(handler, where, batch))
        if number:
            seen.bare.append(bare)
            seen.service.append(service)
    return seen


def measure(folder: Path, where: Setting, rounds: int) -> dict[tuple[bool, int], Seen]:
    """Measure all batch sizes, without compilation and, where supported, with it."""
    found: dict[tuple[bool, int], Seen] = {}
    for compiled in where.compiles:
        pipe = pipeline.load(folder / NAME, where.device, where.dtype)
        if compiled:
            pipe.unet.compile_repeated_blocks()
        for batch in where.batches:
            handler = DiffusersHandler(
                models_dir=folder, hub_cache=folder, device=where.device, dtype=where.dtype, preview_every=2
            )
            found[compiled, batch] = race(pipe, handler, where, batch=batch, rounds=rounds)
    return found


def judged(share: float) -> str:
    """Return whether the service meets the target; a tiny model on a CPU can't show that."""
    if not torch.cuda.is_available():
        return "owed"
    return "met" if share >= LEAST else "missed"


def tell(found: Mapping[tuple[bool, int], Seen], *, per_picture: int, limit: float) -> str:
    """Return the table."""
    rows = [["pictures in a call", "bare, pictures/s", "service", "by bare (min … max)", f"≥{LEAST}", "of peak"]]
    for (compiled, batch), seen in found.items():
        shares = ratios(seen.service, seen.bare)
        share = statistics.median(shares)
        title = f"{batch}, bare compiled" if compiled else str(batch)
        service = statistics.median(seen.service)
        rows.append([
            title,
            f"{statistics.median(seen.bare):.2f}",
            f"{service:.2f}",
            f"{share:.3f} ({min(shares):.3f} … {max(shares):.3f})",
            judged(share),
            f"{100 * service * per_picture / limit:.1f} %",
        ])  # fmt: skip
    return grid(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--save", type=Path, help="keep the model in this folder")
    options = parser.parse_args(argv)
    where = setting()
    with TemporaryDirectory(prefix="dh-gpu-") as temporary:
        folder = options.save or Path(temporary)
        where.save(folder / NAME)
        limit = peak(where)
        per_picture = operations(pipeline.load(folder / NAME, where.device, where.dtype), where)
        found = measure(folder, where, 1 if options.short else options.rounds)
    if where.device == "cpu":
        print(OWED)
    device = torch.cuda.get_device_name() if where.device == "cuda" else "CPU"
    print(f"{device}, {where.dtype}, {where.steps} steps; torch {torch.__version__}\n{machine()}")
    print(f"peak {limit / 1e12:.3g} TFLOPS by a product of {where.matrix}²; {per_picture / 1e12:.3g} TFLOP a picture\n")
    print(tell(found, per_picture=per_picture, limit=limit))


if __name__ == "__main__":
    main()
