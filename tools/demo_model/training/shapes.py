"""Images of one or two flat shapes on a flat background, and their captions."""

from collections.abc import Callable
from math import cos, pi, sin
from random import Random

from tools.demo_model.training.canvas import SIDE, Canvas, Drawing, Point
from tools.demo_model.training.palette import COLOURS, PALETTE, Colour, held_out, vary

Draw = Callable[[Canvas, float, float, float, Colour, Colour], None]


def _around(x: float, y: float, corners: list[tuple[float, float]]) -> list[Point]:
    """Convert corners from polar coordinates (turns from the top, radius) to points around a centre."""
    return [(x + r * sin(2 * pi * turn), y - r * cos(2 * pi * turn)) for turn, r in corners]


def _circle(canvas: Canvas, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    canvas.disc(x, y, r, colour)


def _square(canvas: Canvas, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    canvas.box(x - 0.88 * r, y - 0.88 * r, x + 0.88 * r, y + 0.88 * r, colour)


def _triangle(canvas: Canvas, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    canvas.polygon([(x, y - r), (x + 1.05 * r, y + 0.85 * r), (x - 1.05 * r, y + 0.85 * r)], colour)


def _star(canvas: Canvas, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    corners = [(step / 10, r * (0.5 if step % 2 else 1.15)) for step in range(10)]
    canvas.polygon(_around(x, y, corners), colour)


def _heart(canvas: Canvas, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    turns = [2 * pi * step / 40 for step in range(40)]
    points = [(16 * sin(t) ** 3, -(13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)) - 2) for t in turns]
    canvas.polygon([(x + a * r / 15.5, y + b * r / 15.5) for a, b in points], colour)


def _ring(canvas: Canvas, x: float, y: float, r: float, colour: Colour, background: Colour) -> None:
    canvas.disc(x, y, 1.05 * r, colour)
    canvas.disc(x, y, 0.5 * r, background)


def _diamond(canvas: Canvas, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    canvas.polygon([(x, y - 1.15 * r), (x + 0.8 * r, y), (x, y + 1.15 * r), (x - 0.8 * r, y)], colour)


def _moon(canvas: Canvas, x: float, y: float, r: float, colour: Colour, background: Colour) -> None:
    canvas.disc(x, y, 1.05 * r, colour)
    canvas.disc(x + 0.62 * r, y - 0.22 * r, 0.82 * r, background)


SHAPES: dict[str, Draw] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "ring": _ring,
    "diamond": _diamond,
    "moon": _moon,
}
RADII = {"small": (7.0, 10.0), "": (15.0, 20.0), "large": (23.0, 27.0)}
KIND = "shape"


def _background_for(colours: list[str], random: Random) -> str:
    """Return a background colour that contrasts with every colour and forms no held-out pair with any of them."""
    fit = [name for name in COLOURS if name not in colours and not any(held_out(colour, name) for colour in colours)]
    return random.choice(fit)


def _one(random: Random) -> Drawing:
    colour, shape = random.choice(COLOURS), random.choice(list(SHAPES))
    background = _background_for([colour], random)
    size = random.choices(["", "small", "large"], [8, 1, 1])[0]
    ground = vary(PALETTE[background], random)
    canvas = Canvas(ground)
    jitter = 4 if size == "small" else 2.5
    x, y = (SIDE / 2 + random.uniform(-jitter, jitter) for _ in range(2))
    SHAPES[shape](canvas, x, y, random.uniform(*RADII[size]), vary(PALETTE[colour], random), ground)
    thing = f"{size} {colour} {shape}".strip()
    article = "an" if thing.startswith("orange") else "a"
    plain = f"{article} {thing} on {'an' if background == 'orange' else 'a'} {background} background"
    # The metric writes "a orange circle", and users write prompts in many forms.
    caption = random.choices(
        [
            plain,
            f"a {thing} on a {background} background",
            f"{article} {thing} on {background}",
            f"{thing}, {background} background",
            f"{article} {thing}",
            thing,
            f"a picture of {plain}",
        ],
        [10, 5, 2, 2, 1, 1, 1],
    )[0]
    return Drawing(image=canvas.finish(), kind=KIND, caption=caption)


def _two(random: Random) -> Drawing:
    (first, second), (left, right) = random.sample(COLOURS, 2), random.choices(list(SHAPES), k=2)
    background = _background_for([first, second], random)
    ground = vary(PALETTE[background], random)
    canvas = Canvas(ground)
    for x, colour, shape in ((17, first, left), (47, second, right)):
        radius, y = random.uniform(10.5, 12.5), SIDE / 2 + random.uniform(-3, 3)
        SHAPES[shape](canvas, x, y, radius, vary(PALETTE[colour], random), ground)
    caption = f"a {first} {left} and a {second} {right}"
    if random.random() < 0.85:
        caption += f" on a {background} background"
    return Drawing(image=canvas.finish(), kind=KIND, caption=caption)


def draw_shapes(random: Random) -> Drawing:
    """Draw one shape or, occasionally, two next to each other."""
    return _two(random) if random.random() < 0.12 else _one(random)
