"""A canvas of 64×64 units, drawn at three times the size and reduced, so that edges are smooth."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin

from PIL import Image, ImageDraw

from tools.demo_model.training.palette import Colour, mix

SIDE = 64
SCALE = 3

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """An image, its kind and its caption."""

    image: Image.Image
    kind: str
    caption: str


class Canvas:
    """Canvas that the scenes draw on; all coordinates are pixels of the finished image."""

    def __init__(self, background: Colour = (0, 0, 0)) -> None:
        self._image = Image.new("RGB", (SIDE * SCALE, SIDE * SCALE), background)
        self._pen = ImageDraw.Draw(self._image, "RGBA")

    def gradient(self, top: Colour, bottom: Colour, until: float = SIDE) -> None:
        """Fill from the top edge down to a height, from one colour to another."""
        rows = round(until * SCALE)
        for row in range(rows):
            self._pen.line([(0, row), (SIDE * SCALE, row)], fill=mix(top, bottom, row / rows))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour, alpha: int = 255) -> None:
        """Draw a filled rectangle."""
        corners = [round(left * SCALE), round(top * SCALE), round(right * SCALE) - 1, round(bottom * SCALE) - 1]
        if corners[2] >= corners[0] and corners[3] >= corners[1]:
            self._pen.rectangle(corners, fill=(*colour, alpha))

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour, alpha: int = 255) -> None:
        """Draw a filled ellipse around a centre."""
        box = [(x - rx) * SCALE, (y - ry) * SCALE, (x + rx) * SCALE, (y + ry) * SCALE]
        self._pen.ellipse(box, fill=(*colour, alpha))

    def disc(self, x: float, y: float, radius: float, colour: Colour, alpha: int = 255) -> None:
        """Draw a filled circle."""
        self.oval(x, y, radius, radius, colour, alpha)

    def polygon(self, points: Sequence[Point], colour: Colour, alpha: int = 255) -> None:
        """Draw a filled polygon."""
        self._pen.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=(*colour, alpha))

    def line(self, points: Sequence[Point], colour: Colour, width: float, alpha: int = 255) -> None:
        """Draw a line through the points."""
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self._pen.line(scaled, fill=(*colour, alpha), width=max(1, round(width * SCALE)), joint="curve")

    def petal(self, x: float, y: float, angle: float, length: float, width: float, colour: Colour) -> None:
        """Draw an ellipse that points away from a centre."""
        turns = [2 * pi * step / 24 for step in range(24)]
        along = [(length / 2 * (1 + cos(turn)), width / 2 * sin(turn)) for turn in turns]
        self.polygon(
            [(x + a * cos(angle) - b * sin(angle), y + a * sin(angle) + b * cos(angle)) for a, b in along], colour
        )

    def finish(self) -> Image.Image:
        """Return the image at its final size."""
        return self._image.reduce(SCALE)
