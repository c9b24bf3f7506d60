"""Scenes with buildings: house, city skyline, neon city."""

from random import Random

from tools.demo_model.training.canvas import SIDE, Canvas
from tools.demo_model.training.light import DAY, Light, sky, stars
from tools.demo_model.training.palette import COLOURS, PALETTE, Colour, mix, vary

LIT: Colour = (255, 222, 110)
CYAN: Colour = (40, 230, 250)
MAGENTA: Colour = (255, 50, 180)
NEONS: tuple[Colour, ...] = (CYAN, MAGENTA, (150, 80, 255))


def house(canvas: Canvas, random: Random, light: Light) -> list[str]:
    """Draw a house with a roof, a door and two windows, which are lit unless it is day."""
    sky(canvas, light, random, 50)
    canvas.box(0, 48, SIDE, SIDE, light.on(vary((104, 172, 72), random)))
    walls = random.choice(COLOURS)
    roof = random.choice([name for name in COLOURS if name != walls])
    x, half, eaves = 32 + random.uniform(-4, 4), random.uniform(16, 18), 30
    shade = mix(PALETTE[walls], light.on(PALETTE[walls]), 0.65)
    tiles = mix(PALETTE[roof], light.on(PALETTE[roof]), 0.65)
    canvas.box(x + 7, 12, x + 12, 26, mix(tiles, (60, 40, 40), 0.5))
    canvas.box(x - half, eaves, x + half, 54, vary(shade, random))
    canvas.polygon([(x - half - 4, eaves + 1), (x + half + 4, eaves + 1), (x, 12)], vary(tiles, random))
    canvas.box(x - 3.5, 41, x + 3.5, 54, light.on((110, 66, 40) if walls != "brown" else (236, 220, 190)))
    pane = light.on((190, 226, 245)) if light is DAY else LIT
    for middle in (x - 10.5, x + 10.5):
        canvas.box(middle - 4, 35, middle + 4, 43, light.on((250, 250, 250) if walls != "white" else (120, 120, 130)))
        canvas.box(middle - 3, 36, middle + 3, 42, pane)
    coloured = f"{'an' if walls == 'orange' else 'a'} {walls} house"
    roofed = f"{'an' if roof == 'orange' else 'a'} {roof} roof"
    return [coloured] * 5 + [f"{coloured} with {roofed}"] * 3 + [f"a house with {roofed}", "a house", "a house"]


def _windows(canvas: Canvas, random: Random, left: float, right: float, top: float, pane: Colour, share: float) -> None:
    x = left + 1.5
    while x + 1.5 < right:
        for row in range(int((50 - top) // 4)):
            if random.random() < share:
                canvas.box(x, top + 2 + row * 4, x + 1.7, top + 4 + row * 4, pane)
        x += 3.4


def skyline(canvas: Canvas, random: Random, light: Light) -> list[str]:
    """Draw towers next to each other; their windows are lit unless it is day."""
    sky(canvas, light, random, 56)
    for left in range(-2, 66, 9):
        top = random.uniform(26, 36)
        canvas.box(left, top, left + 9, 58, mix(light.on((150, 162, 184)), light.bottom, 0.35))
    x = -1.0
    while x < SIDE:
        width, top = random.choice([8.0, 9.5, 11.0]), random.uniform(16, 40)
        wall = light.on(vary(random.choice([(92, 104, 132), (116, 124, 146), (74, 86, 116)]), random))
        canvas.box(x, top, x + width, 58, wall)
        pane = light.on((200, 226, 244)) if light is DAY else LIT
        _windows(canvas, random, x, x + width, top, pane, 1.0 if light is DAY else 0.7)
        x += width + random.choice([0.0, 1.0])
    canvas.box(0, 56, SIDE, SIDE, light.on(vary((84, 88, 96), random)))
    return ["a city skyline", "a city skyline", "a city", "a city with tall buildings"]


def neon_city(canvas: Canvas, random: Random, _: Light) -> list[str]:
    """Draw dark towers with glowing edges and signs, mirrored in a wet street."""
    canvas.gradient(vary((16, 6, 44), random, 4), vary((110, 20, 120), random, 8), 48)
    stars(canvas, random, 8, 16)
    sun = random.random() < 0.5
    if sun:
        canvas.disc(32 + random.uniform(-8, 8), 30, 13, (255, 90, 150))
    canvas.box(0, 48, SIDE, SIDE, (18, 10, 38))
    x = -2.0
    while x < SIDE:
        width, top, neon = random.choice([9.0, 11.0, 13.0]), random.uniform(10, 34), random.choice(NEONS)
        canvas.box(x, top, x + width, 48, neon)
        canvas.box(x + 1.2, top + 1.2, x + width - 1.2, 48, (22, 14, 48))
        for floor in range(int((44 - top) // 5)):
            if random.random() < 0.7:
                y, pane = top + 4 + floor * 5, random.choice([CYAN, MAGENTA, LIT])
                canvas.box(x + 3, y, x + width - 3, y + 2, pane)
        canvas.box(x + 1, 50, x + width - 1, random.uniform(54, 60), neon, 90)
        x += width + random.choice([0.0, 2.0])
    canvas.box(0, 48, SIDE, 49.4, CYAN)
    futures = ["a cyberpunk city", "a futuristic city", "a futuristic cyberpunk city", "a cyberpunk city"]
    nights = ["a neon city at night", "a neon city at night", "a cyberpunk city at night"]
    return ["a neon city", *futures, *nights, "neon lights in a city at night"]
