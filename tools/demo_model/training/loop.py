"""The loop that both trainings share: a schedule, a progress bar, and checkpoints to resume from."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import cos, pi
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

SAVE_EVERY_S = 180
WARM_UP = 200


@dataclass(kw_only=True)
class Loop:
    """A training run of `steps` steps, some of which may already be done."""

    name: str
    steps: int
    peak: float
    checkpoint: Path
    optimizer: torch.optim.Optimizer
    parts: dict[str, Any]
    step: int = 0
    losses: list[float] = field(default_factory=list)

    def resume(self) -> None:
        """Resume from the checkpoint, if there is one."""
        if not self.checkpoint.exists():
            return
        kept = torch.load(self.checkpoint, weights_only=True)
        for name, part in {**self.parts, "optimizer": self.optimizer}.items():
            part.load_state_dict(kept[name])
        self.step = kept["step"]

    def save(self) -> None:
        """Save a checkpoint atomically."""
        kept = {name: part.state_dict() for name, part in {**self.parts, "optimizer": self.optimizer}.items()}
        scratch = self.checkpoint.with_suffix(".partial")
        torch.save({**kept, "step": self.step}, scratch)
        scratch.replace(self.checkpoint)

    def rate(self) -> float:
        """Return the learning rate of the step: a warm-up, then half a cosine."""
        return self.peak * min(1, (self.step + 1) / WARM_UP) * (0.51 + 0.49 * cos(pi * self.step / self.steps))

    def run(self, loss_of: Callable[[int], torch.Tensor], after: Callable[[int], None] = lambda step: None) -> None:
        """Run the remaining steps."""
        saved = time.monotonic()
        for _ in (bar := tqdm(range(self.step, self.steps), desc=self.name, mininterval=10)):
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate()
            self.optimizer.zero_grad(set_to_none=True)
            loss = loss_of(self.step)
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], 1.0)
            self.optimizer.step()
            self.step += 1
            after(self.step)
            self.losses = [*self.losses[-199:], loss.item()]
            bar.set_postfix(loss=f"{sum(self.losses) / len(self.losses):.4f}", refresh=False)
            if time.monotonic() - saved > SAVE_EVERY_S:
                self.save()
                saved = time.monotonic()
        self.save()
