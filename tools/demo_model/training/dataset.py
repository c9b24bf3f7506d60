"""The training set: numbered drawings, reproducible by seed and number."""

from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from tqdm import tqdm

from tools.demo_model.training.canvas import SIDE, Drawing
from tools.demo_model.training.scenes import draw_scene
from tools.demo_model.training.shapes import draw_shapes


@dataclass(frozen=True, kw_only=True)
class Drawings:
    """Images as bytes (count, 3, 64, 64) and their captions."""

    pixels: torch.Tensor
    captions: list[str]

    def batch(self, chosen: torch.Tensor) -> torch.Tensor:
        """Return a batch of the images as model input, between -1 and 1."""
        return self.pixels[chosen].float() / 127.5 - 1


def draw(seed: int, number: int) -> Drawing:
    """Draw one image of the set: a shape or a scene, with equal probability."""
    random = Random(f"{seed}/{number}")
    return draw_shapes(random) if random.random() < 0.5 else draw_scene(random)


def draw_all(seed: int, count: int) -> Drawings:
    """Draw a whole set; 60,000 images take half a minute and 700 MB."""
    pixels, captions = torch.empty((count, 3, SIDE, SIDE), dtype=torch.uint8), []
    for number in tqdm(range(count), desc="drawing", mininterval=5):
        drawing = draw(seed, number)
        pixels[number] = torch.from_numpy(np.asarray(drawing.image).copy()).permute(2, 0, 1)
        captions.append(drawing.caption)
    return Drawings(pixels=pixels, captions=captions)
