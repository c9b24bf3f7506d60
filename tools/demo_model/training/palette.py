"""The ten colours that captions name, and the function that finds the one nearest to a pixel."""

from collections.abc import Iterable
from random import Random

Colour = tuple[int, int, int]

PALETTE: dict[str, Colour] = {
    "red": (222, 40, 40),
    "orange": (250, 140, 30),
    "yellow": (252, 222, 50),
    "green": (45, 165, 70),
    "blue": (40, 90, 225),
    "purple": (130, 55, 190),
    "pink": (250, 150, 195),
    "brown": (128, 78, 42),
    "white": (248, 248, 248),
    "black": (18, 18, 20),
}
COLOURS = list(PALETTE)
# A shape's and a background's colour at these distances in the list are held out of training, for the metric.
HELD_OUT_DISTANCES = (3, 6)
JITTER = 7


def held_out(colour: str, background: str) -> bool:
    """Return whether a shape of this colour on this background is held out of training."""
    return (COLOURS.index(background) - COLOURS.index(colour)) % len(COLOURS) in HELD_OUT_DISTANCES


def held_out_pairs() -> list[tuple[str, str]]:
    """Return the pairs of shape and background colours that are held out of training."""
    return [(colour, background) for colour in COLOURS for background in COLOURS if held_out(colour, background)]


def vary(colour: Colour, random: Random, by: int = JITTER) -> Colour:
    """Return a slightly varied colour, so that no two images of a thing are the same."""
    red, green, blue = (min(255, max(0, part + random.randint(-by, by))) for part in colour)
    return red, green, blue


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """Return `one` with a share of `other` in it."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def tint(colour: Colour, light: tuple[float, float, float]) -> Colour:
    """Return the colour as it looks in a light."""
    red, green, blue = (min(255, round(part * factor)) for part, factor in zip(colour, light, strict=True))
    return red, green, blue


def nearest(pixel: Iterable[float]) -> str:
    """Return the name of the palette's colour that is nearest to a pixel."""
    parts = list(pixel)
    return min(COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(PALETTE[name], parts, strict=True)))
