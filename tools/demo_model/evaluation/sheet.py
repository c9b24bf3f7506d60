"""The contact sheet: images of fixed prompts, for visual inspection."""

from PIL import Image, ImageDraw, ImageFont

from tools.demo_model.evaluation.painter import Painter
from tools.demo_model.evaluation.scenes import PROMPTS

SIDE, GAP, WORDS, SEEDS = 128, 8, 18, 6
SHAPES = (
    "a red circle on a blue background",
    "a yellow star on a black background",
    "a black heart on a white background",
    "a purple ring on a pink background",
    "a green triangle and a white moon on a brown background",
    "a small orange diamond on a green background",
)


def contact_sheet(painter: Painter) -> Image.Image:
    """Return a sheet with a row for each prompt and a column for each seed."""
    asked = [*(prompt for prompts in PROMPTS.values() for prompt in prompts), *SHAPES]
    height = SIDE + WORDS + GAP
    whole = Image.new("RGB", (2 * SEEDS * (SIDE + GAP) + GAP, -(-len(asked) // 2) * height + GAP), "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(size=13)
    for number, prompt in enumerate(asked):
        row, half = divmod(number, 2)
        top, start = GAP + row * height, GAP + half * SEEDS * (SIDE + GAP)
        pen.text((start, top), prompt, fill="black", font=font)
        for column, picture in enumerate(painter.paint([prompt] * SEEDS, list(range(SEEDS)))):
            enlarged = picture.resize((SIDE, SIDE), Image.Resampling.NEAREST)
            whole.paste(enlarged, (start + column * (SIDE + GAP), top + WORDS))
    return whole
