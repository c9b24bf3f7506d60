"""The ten colours that captions name, and which of them a pixel is nearest to."""

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
# A shape's colour and its background's that are so far apart in the list are kept for the measure, out of training.
HELD_OUT_DISTANCES = (3, 6)
JITTER = 7


def held_out(colour: str, background: str) -> bool:
    """Say whether a shape of this colour on this background is kept out of training."""
    return (COLOURS.index(background) - COLOURS.index(colour)) % len(COLOURS) in HELD_OUT_DISTANCES


def held_out_pairs() -> list[tuple[str, str]]:
    """Return the pairs of a shape's colour and a background that training never shows."""
    return [(colour, background) for colour in COLOURS for background in COLOURS if held_out(colour, background)]


def vary(colour: Colour, random: Random, by: int = JITTER) -> Colour:
    """Return a colour a little off, as no two pictures of a thing are the same."""
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
    """Name the palette's colour that is nearest to a pixel."""
    parts = list(pixel)
    return min(COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(PALETTE[name], parts, strict=True)))
