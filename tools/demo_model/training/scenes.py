"""The scenes by name, and the function that draws one of them with a caption."""

from collections.abc import Callable
from random import Random

from tools.demo_model.training import land, town
from tools.demo_model.training.canvas import Canvas, Drawing
from tools.demo_model.training.light import Light, choose_time, when

Scene = Callable[[Canvas, Random, Light], list[str]]

SCENES: dict[str, Scene] = {
    "forest": land.forest,
    "summer tree": land.summer_tree,
    "autumn tree": land.autumn_tree,
    "winter tree": land.winter_tree,
    "beach": land.beach,
    "mountains": land.mountains,
    "flower": land.flower,
    "night sky": land.night_sky,
    "house": town.house,
    "city": town.skyline,
    "neon city": town.neon_city,
}
# Their captions already describe the time of day: they are always dark.
TIMELESS = ("night sky", "neon city")
WEIGHTS = {"house": 2.0, "flower": 1.6, "forest": 1.6, "neon city": 1.2}
LEADS = ("a picture of", "a painting of", "a drawing of")


def draw_scene(random: Random, kind: str | None = None) -> Drawing:
    """Draw a scene of this kind, or of a random one."""
    kind = kind or random.choices(list(SCENES), [WEIGHTS.get(name, 1.0) for name in SCENES])[0]
    light, canvas = choose_time(random), Canvas()
    caption = random.choice(SCENES[kind](canvas, random, light))
    if kind not in TIMELESS:
        caption += when(light, random)
    if random.random() < 0.08:
        caption = f"{random.choice(LEADS)} {caption}"
    return Drawing(image=canvas.finish(), kind=kind, caption=caption)
