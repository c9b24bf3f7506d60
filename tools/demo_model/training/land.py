"""Landscape scenes: forest, trees, beach, mountains, flower, night sky."""

from math import pi
from random import Random

from tools.demo_model.training.canvas import SIDE, Canvas
from tools.demo_model.training.light import MOON, NIGHT, SUNSET, Light, crescent, sky, stars
from tools.demo_model.training.palette import COLOURS, PALETTE, Colour, mix, vary

GRASS: Colour = (110, 180, 75)
SNOW: Colour = (240, 245, 252)
BARK: Colour = (112, 72, 42)


def _crown(canvas: Canvas, random: Random, x: float, y: float, r: float, colour: Colour, light: Light) -> None:
    """Draw leaves: dark blobs below, light ones above."""
    shaded, lit = mix(colour, (0, 0, 0), 0.2), mix(colour, (255, 255, 200), 0.22)
    blobs = ((-0.6, 0.3, 0.62, shaded), (0.6, 0.3, 0.62, shaded), (0, 0, 0.8, colour), (-0.25, -0.35, 0.5, lit))
    for dx, dy, size, tone in blobs:
        canvas.disc(x + dx * r, y + dy * r, size * r, light.on(vary(tone, random)))


def _trunks_and_leaves(canvas: Canvas, random: Random, light: Light) -> None:
    for x in (7, 22, 39, 55):
        middle, half = x + random.uniform(-3, 3), random.uniform(2, 3)
        left, right = middle - half, middle + half
        foot = random.uniform(51, 57)
        bark = light.on(vary(BARK, random))
        canvas.polygon([(left, 0), (right, 0), (right + 1, foot), (left - 1, foot)], bark)
        canvas.box(left, 0, left + 1.4, foot, mix(bark, (255, 230, 170), 0.2))
    for x in range(0, 70, 8):
        leaf = light.on(vary(random.choice([(40, 120, 50), (66, 150, 60), (52, 136, 52)]), random))
        canvas.disc(x + random.uniform(-2, 2), random.uniform(1, 7), random.uniform(6.5, 9), leaf)


def forest(canvas: Canvas, random: Random, light: Light) -> list[str]:
    """Draw trunks with leaves above and light between them, and sunbeams in some of the images that are not dark."""
    far = light.on((196, 222, 140)) if light is not SUNSET else (250, 176, 96)
    canvas.gradient(mix(light.on((70, 140, 70)), far, 0.5), far, 50)
    for left in range(-2, 70, 7):
        canvas.box(left, 10, left + 2, 50, mix(light.on(BARK), far, 0.55))
    canvas.box(0, 48, SIDE, SIDE, light.on(vary((84, 128, 52), random)))
    rays = not light.dark and random.random() < 0.6
    start = random.uniform(4, 16)
    _trunks_and_leaves(canvas, random, light)
    if rays:
        for step in range(4):
            x = start + step * 12
            canvas.polygon([(x, 0), (x + 4, 0), (x + 22, SIDE), (x + 11, SIDE)], (255, 246, 180), 105)
    nouns = ["a forest", "a beautiful forest", "the forest", "a forest with tall trees"]
    if rays:
        through = "with sunlight filtering through"
        shining = [f"{through} leaves", f"{through} the leaves", "with sun rays"]
        return nouns[:2] * 2 + [f"{noun} {words}" for noun in nouns[:2] for words in shining * 2]
    return nouns


def _hill(canvas: Canvas, random: Random, colour: Colour, light: Light) -> None:
    canvas.box(0, 50, SIDE, SIDE, light.on(vary(colour, random)))
    canvas.oval(32, 52, 44, 6, light.on(vary(colour, random)))


def _trunk(canvas: Canvas, x: float, top: float, light: Light) -> None:
    canvas.polygon([(x - 2, top), (x + 2, top), (x + 3.2, 53), (x - 3.2, 53)], light.on(BARK))


def summer_tree(canvas: Canvas, random: Random, light: Light) -> list[str]:
    """Draw a green tree on a meadow."""
    sky(canvas, light, random, 50)
    _hill(canvas, random, GRASS, light)
    x = 32 + random.uniform(-5, 5)
    _trunk(canvas, x, 30, light)
    _crown(canvas, random, x, 23 + random.uniform(-1, 1), random.uniform(15, 18), (62, 150, 58), light)
    return ["a tree", "a green tree", "a tree in summer", "a tree on a meadow", "a summer tree"]


def autumn_tree(canvas: Canvas, random: Random, light: Light) -> list[str]:
    """Draw an orange tree that drops its leaves."""
    sky(canvas, light, random, 50)
    _hill(canvas, random, (196, 160, 84), light)
    x = 32 + random.uniform(-5, 5)
    _trunk(canvas, x, 30, light)
    leaf = random.choice([(226, 112, 36), (216, 84, 36), (236, 140, 40)])
    _crown(canvas, random, x, 23 + random.uniform(-1, 1), random.uniform(15, 18), leaf, light)
    for _ in range(12):
        canvas.oval(random.uniform(6, 58), random.uniform(53, 62), 1.6, 1, light.on(leaf))
    return ["an autumn tree", "a tree in autumn", "a tree in fall", "an orange autumn tree"]


def winter_tree(canvas: Canvas, random: Random, light: Light) -> list[str]:
    """Draw a bare tree in the snow."""
    sky(canvas, light, random, 50)
    _hill(canvas, random, SNOW, light)
    x, bark = 32 + random.uniform(-5, 5), light.on((84, 62, 52))
    canvas.polygon([(x - 1.6, 14), (x + 1.6, 14), (x + 3, 53), (x - 3, 53)], bark)
    for side in (-1, 1):
        for foot, reach, rise in ((36, 16, 13), (28, 13, 13), (20, 8, 10)):
            end = (x + side * reach, foot - rise)
            canvas.line([(x, foot), end], bark, 2)
            middle = (x + side * reach * 0.55, foot - rise * 0.55)
            canvas.line([middle, (middle[0] + side * 7, middle[1] - 1.5)], bark, 1.3)
            canvas.disc(*end, 1.8, light.on(SNOW))
    return ["a winter tree", "a tree in winter", "a bare tree in the snow", "a snowy tree"]


def beach(canvas: Canvas, random: Random, light: Light) -> list[str]:
    """Draw sea, sand and, in most images, a sailboat."""
    horizon = 30 + random.uniform(-2, 2)
    sky(canvas, light, random, horizon)
    sea, sand = light.on((40, 130, 205)), light.on((240, 214, 150))
    canvas.box(0, horizon, SIDE, 50, vary(sea, random))
    canvas.box(0, horizon, SIDE, horizon + 2, mix(sea, light.bottom, 0.4))
    canvas.box(0, 47, SIDE, SIDE, vary(sand, random))
    canvas.oval(random.uniform(16, 48), 47, 40, 3.5, mix(sea, (255, 255, 255), 0.6))
    canvas.oval(32, 51, 46, 4, vary(sand, random))
    boat = random.random() < 0.75
    if boat:
        x, y = random.uniform(20, 44), horizon + 7
        canvas.polygon([(x - 8, y), (x + 8, y), (x + 5, y + 4), (x - 5, y + 4)], light.on((160, 70, 50)))
        canvas.polygon([(x - 0.5, y - 17), (x - 0.5, y - 1.5), (x - 8, y - 1.5)], light.on((252, 252, 252)))
        canvas.polygon([(x + 0.8, y - 15), (x + 0.8, y - 1.5), (x + 7, y - 1.5)], light.on((235, 235, 240)))
    nouns = ["a beach", "a beach", "a sandy beach by the sea", "a beautiful beach"]
    return nouns + ["a beach with a sailboat", "a sailboat at the beach", "a beach with a sailboat on the sea"] * boat


def _peak(canvas: Canvas, x: float, top: float, foot: float, rock: Colour, snow: Colour) -> None:
    half, cap = (foot - top) * 0.95, (foot - top) * 0.34
    width = cap * 0.95
    canvas.polygon([(x - half, foot), (x + half, foot), (x, top)], rock)
    canvas.polygon([(x, top), (x + half, foot), (x + half * 0.25, foot)], mix(rock, (0, 0, 0), 0.22))
    edge = [(width, cap), (0.4 * width, 0.75 * cap), (0, 1.2 * cap), (-0.45 * width, 0.8 * cap), (-width, cap)]
    canvas.polygon([(x, top), *((x + dx, top + dy) for dx, dy in edge)], snow)


def mountains(canvas: Canvas, random: Random, light: Light) -> list[str]:
    """Draw snowy mountains, often with a lake that mirrors them."""
    lake = random.random() < 0.6
    foot = 42
    sky(canvas, light, random, foot)
    rock = light.on(vary((112, 118, 146), random))
    peaks = [(8, 24), (56, 22), (32 + random.uniform(-7, 7), random.uniform(9, 13))]
    canvas.box(0, foot, SIDE, SIDE, light.on(vary((60, 140, 200) if lake else (96, 156, 74), random)))
    for x, top in peaks:
        near = mix(rock, light.bottom, 0.3 if top > 20 else 0)
        if lake:
            reach = foot - top
            mirrored = [(x - 0.95 * reach, foot), (x + 0.95 * reach, foot), (x, foot + 0.7 * reach)]
            canvas.polygon(mirrored, near, 95)
        _peak(canvas, x, top, foot, near, light.on(SNOW))
    canvas.box(0, foot - 1, SIDE, foot + 1.5, light.on((70, 120, 62)))
    if lake:
        together = ["mountains with a lake", "mountains and a lake", "a lake in the mountains", "a mountain lake"]
        return [*together, "mountains"]
    return ["mountains", "snowy mountains", "the mountains", "a mountain landscape"]


def flower(canvas: Canvas, random: Random, light: Light) -> list[str]:
    """Draw one big flower on a meadow."""
    sky(canvas, light, random, 46, sun=False)
    canvas.box(0, 44, SIDE, SIDE, light.on(vary(GRASS, random)))
    colour = random.choice([name for name in COLOURS if name not in ("green", "black", "brown")])
    x, y = 32 + random.uniform(-4, 4), 24 + random.uniform(-1.5, 1.5)
    stem = light.on((42, 126, 52))
    canvas.box(x - 1.3, y, x + 1.3, 61, stem)
    for side, angle in ((1, -0.6), (-1, pi + 0.6)):
        canvas.petal(x + side, 54, angle, 14, 6, stem)
    # Petals keep their colour in the dark, because the caption names it.
    petal = mix(PALETTE[colour], light.on(PALETTE[colour]), 0.6)
    turn = random.uniform(0, pi / 4)
    for step in range(8):
        shade = petal if step % 2 else mix(petal, (0, 0, 0), 0.1)
        canvas.petal(x, y, turn + step * pi / 4, 17, 9, vary(shade, random, 4))
    heart = (250, 200, 40) if colour not in ("yellow", "orange") else (130, 76, 30)
    canvas.disc(x, y, 5, mix(heart, light.on(heart), 0.6))
    named = f"{'an' if colour == 'orange' else 'a'} {colour} flower"
    return [named] * 6 + [f"{named} on a meadow", f"a beautiful {colour} flower", "a flower"]


def night_sky(canvas: Canvas, random: Random, _: Light) -> list[str]:
    """Draw many stars over dark hills, in most images with a moon."""
    top, bottom = vary((6, 8, 34), random, 4), vary((34, 40, 104), random, 4)
    canvas.gradient(top, bottom)
    stars(canvas, random, 44, 46)
    shown = random.choice(["", "crescent", "full", "full"])
    x, y, r = random.uniform(16, 48), random.uniform(14, 22), random.uniform(8, 10)
    if shown == "full":
        canvas.disc(x, y, r + 3, MOON, 40)
        canvas.disc(x, y, r, MOON)
        for dx, dy, size in ((-0.3, -0.2, 0.22), (0.35, 0.1, 0.17), (-0.05, 0.45, 0.2)):
            canvas.disc(x + dx * r, y + dy * r, size * r, (222, 216, 184))
    elif shown:
        canvas.disc(x, y, r + 1, mix(top, bottom, y / SIDE))
        crescent(canvas, x, y, r, mix(top, bottom, y / SIDE))
    canvas.oval(14, 66, 34, 14, NIGHT.on((38, 62, 66)))
    canvas.oval(54, 68, 30, 15, NIGHT.on((24, 44, 52)))
    if not shown:
        return ["a night sky with stars", "a starry night sky", "stars in the night sky"]
    name = "a crescent moon" if shown == "crescent" else "a full moon"
    return ["a night sky", "a night sky with a moon", "a night sky with a moon and stars", f"a night sky with {name}"]
