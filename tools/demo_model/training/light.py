"""Times of day: their sky, their effect on colours, and their words in captions."""

from dataclasses import dataclass
from random import Random

from tools.demo_model.training.canvas import SIDE, Canvas
from tools.demo_model.training.palette import Colour, mix, tint, vary


@dataclass(frozen=True, kw_only=True)
class Light:
    """A time of day."""

    name: str
    top: Colour
    bottom: Colour
    shade: tuple[float, float, float]
    words: tuple[str, ...]
    dark: bool = False

    def on(self, colour: Colour) -> Colour:
        """Return a colour as it looks at this time."""
        return tint(colour, self.shade)


DAY = Light(
    name="day",
    top=(70, 150, 235),
    bottom=(190, 228, 250),
    shade=(1, 1, 1),
    words=("by day", "on a sunny day", "during the day", "in daylight"),
)
SUNSET = Light(
    name="sunset",
    top=(120, 60, 130),
    bottom=(255, 150, 60),
    shade=(0.82, 0.62, 0.58),
    words=("at sunset", "at sunset", "in the evening", "at dusk"),
)
NIGHT = Light(
    name="night",
    top=(8, 10, 38),
    bottom=(28, 38, 92),
    shade=(0.42, 0.46, 0.66),
    dark=True,
    words=("at night", "at night", "at night", "by night", "in the dark"),
)
DAWN = Light(
    name="dawn",
    top=(150, 160, 220),
    bottom=(255, 205, 200),
    shade=(0.9, 0.8, 0.86),
    words=("at dawn", "at dawn", "at sunrise", "in the early morning"),
)
TIMES = (DAY, SUNSET, NIGHT, DAWN)
SUN: dict[str, Colour] = {"day": (255, 236, 120), "sunset": (255, 225, 110), "dawn": (255, 246, 214)}
MOON: Colour = (244, 240, 214)


def choose_time(random: Random) -> Light:
    """Return a random time of day; day is the most frequent, as in prompts."""
    return random.choices(TIMES, [4, 2, 2, 2])[0]


def when(light: Light, random: Random) -> str:
    """Return the words for a time, or none: a scene whose caption names no time is by day."""
    if light is DAY and random.random() < 0.65:
        return ""
    return " " + random.choice(light.words)


def stars(canvas: Canvas, random: Random, count: int, until: float) -> None:
    """Scatter stars over the upper part."""
    for _ in range(count):
        x, y = random.uniform(1, SIDE - 1), random.uniform(1, until)
        canvas.disc(x, y, random.choice([0.5, 0.6, 0.9]), (255, 255, 235))


def crescent(canvas: Canvas, x: float, y: float, radius: float, sky: Colour) -> None:
    """Draw a crescent moon."""
    canvas.disc(x, y, radius, MOON)
    canvas.disc(x + 0.55 * radius, y - 0.25 * radius, 0.85 * radius, sky)


def sky(canvas: Canvas, light: Light, random: Random, horizon: float, sun: bool = True) -> None:
    """Draw the sky of a time down to the horizon, with a sun, or with stars and a moon."""
    top, bottom = vary(light.top, random, 6), vary(light.bottom, random, 6)
    canvas.gradient(top, bottom, horizon)
    x, y = random.choice([random.uniform(8, 20), random.uniform(44, 56)]), random.uniform(8, 14)
    if light.dark:
        stars(canvas, random, 14, horizon * 0.7)
        if sun:
            crescent(canvas, x, y, 5, mix(top, bottom, y / horizon))
    elif sun:
        height = y if light is DAY else horizon - random.uniform(3, 8)
        canvas.disc(x, height, 9, SUN[light.name], 70)
        canvas.disc(x, height, 6, SUN[light.name])
