"""The colour metric: a shape and its background have the colours that the prompt asks for, or not."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tools.demo_model.evaluation.painter import Painter, as_array
from tools.demo_model.training.palette import held_out_pairs, nearest
from tools.demo_model.training.shapes import SHAPES

# Minimum distance of a pixel's colour from the border's for the pixel to belong to the shape.
DISTANCE = 45
FIRST_SEED = 1000


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The parts of a prompt for a shape."""

    colour: str
    shape: str
    background: str

    @property
    def prompt(self) -> str:
        """Return the prompt in the wording of the metric."""
        return f"a {self.colour} {self.shape} on a {self.background} background"


def prompts(count: int) -> list[Asked]:
    """Return prompts of colour pairs held out of training, with every pair and shape about equally often."""
    pairs, shapes = held_out_pairs(), list(SHAPES)
    return [
        Asked(colour=colour, background=background, shape=shapes[(number + number // len(pairs)) % len(shapes)])
        for number in range(count)
        for colour, background in [pairs[number % len(pairs)]]
    ]


def named(picture: Image.Image) -> tuple[str, str]:
    """Return the names of the border's median colour and of that of the middle pixels that differ from it."""
    pixels = as_array(picture)
    side = len(pixels)
    frame, inset = side // 16, side // 5
    edge = np.ones((side, side), dtype=bool)
    edge[frame:-frame, frame:-frame] = False
    border = np.median(pixels[edge], axis=0)
    middle = pixels[inset:-inset, inset:-inset].reshape(-1, 3)
    shape = middle[np.linalg.norm(middle - border, axis=1) > DISTANCE]
    if len(shape) < len(middle) // 50:
        shape = middle
    return nearest(border), nearest(np.median(shape, axis=0))


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Number of images, how many have the background's and the shape's colour, and the mistakes."""

    count: int
    backgrounds: int
    shapes: int
    mistaken: Counter[str]


def measure(painter: Painter, count: int) -> Colours:
    """Generate images for held-out colour pairs and name their colours."""
    asked = prompts(count)
    pictures = painter.paint([one.prompt for one in asked], [FIRST_SEED + number for number in range(count)])
    found = [(one, *named(picture)) for one, picture in zip(asked, pictures, strict=True)]
    mistaken = [f"background {one.background} as {border}" for one, border, _ in found if border != one.background]
    mistaken += [f"shape {one.colour} as {middle}" for one, _, middle in found if middle != one.colour]
    return Colours(
        count=count,
        backgrounds=sum(border == one.background for one, border, _ in found),
        shapes=sum(middle == one.colour for one, _, middle in found),
        mistaken=Counter(mistaken),
    )
