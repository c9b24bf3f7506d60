"""The demo model's measure in short, and the measure itself: it must be able to fail."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from django.conf import settings
from PIL import Image

from tools.demo_model.evaluation import colours, painter
from tools.demo_model.training.canvas import SIDE, Canvas
from tools.demo_model.training.dataset import draw
from tools.demo_model.training.palette import COLOURS, PALETTE, held_out_pairs, vary
from tools.demo_model.training.shapes import SHAPES, draw_shapes

PROMPTS = 20


@pytest.fixture(scope="module")
def model() -> painter.Painter:
    return painter.load(Path(settings.MODELS_DIR) / "demo")


def drawn(asked: colours.Asked, random: Random) -> Image.Image:
    """Draw what a prompt asks for."""
    ground = vary(PALETTE[asked.background], random)
    canvas = Canvas(ground)
    SHAPES[asked.shape](canvas, SIDE / 2, SIDE / 2, 17, vary(PALETTE[asked.colour], random), ground)
    return canvas.finish()


def test_colours_that_training_never_showed_together_come_out_right(model: painter.Painter) -> None:
    found = colours.measure(model, PROMPTS)
    assert found.backgrounds >= 0.85 * PROMPTS, found.mistaken
    assert found.shapes >= 0.8 * PROMPTS, found.mistaken


def test_the_prompts_of_the_docs_look_like_what_they_say(model: painter.Painter) -> None:
    forest, city = model.paint(
        ["a beautiful forest with sunlight filtering through leaves", "a futuristic cyberpunk city"], [1, 1]
    )
    red, green, blue = painter.as_array(forest).mean(axis=(0, 1))
    assert green > red > blue
    pixels = painter.as_array(city)
    assert np.median(pixels) < 80
    assert pixels.max() > 200
    red, green, blue = pixels.mean(axis=(0, 1))
    assert blue > green
    assert red > green


def test_a_seed_is_a_picture_and_the_card_says_how_it_is_made(model: painter.Painter) -> None:
    assert painter.same_bytes(model)
    assert model.steps == 25
    assert model.pipeline.unet.config.sample_size * model.pipeline.vae_scale_factor == SIDE
    assert model.pipeline.scheduler.config.timestep_spacing == "trailing"


def test_the_measure_names_what_was_drawn_and_nothing_else() -> None:
    random = Random(0)
    for asked in colours.prompts(160):
        assert colours.named(drawn(asked, random)) == (asked.background, asked.colour)
    blank = Image.new("RGB", (SIDE, SIDE), PALETTE["blue"])
    assert colours.named(blank) == ("blue", "blue")


def test_the_measure_asks_for_every_held_out_pair_and_all_shapes() -> None:
    asked = colours.prompts(160)
    assert {(one.colour, one.background) for one in asked} == set(held_out_pairs())
    assert {one.shape for one in asked} == set(SHAPES)
    assert len({one.prompt for one in asked}) == 160


def test_no_training_picture_shows_a_held_out_pair() -> None:
    captions = [draw_shapes(Random(number)).caption for number in range(2000)]
    pairs = {f"{colour} {shape} on a {ground}" for colour, ground in held_out_pairs() for shape in SHAPES}
    shown = {f"{colour} {shape} on a {ground}" for colour in COLOURS for ground in COLOURS for shape in SHAPES}
    seen = [phrase for caption in captions for phrase in shown if phrase in caption]
    assert len(seen) > 1000
    assert not pairs & set(seen)


def test_a_training_picture_is_the_same_whenever_it_is_drawn() -> None:
    one, again, other = draw(0, 7), draw(0, 7), draw(1, 7)
    assert (one.caption, one.image.tobytes()) == (again.caption, again.image.tobytes())
    assert one.image.tobytes() != other.image.tobytes()


def test_standardised_latents_decode_to_the_same_picture() -> None:
    from tools.demo_model.training import autoencoder

    torch.manual_seed(0)
    vae = autoencoder.build().eval().requires_grad_(False)
    pictures = torch.rand(8, 3, SIDE, SIDE) * 2 - 1
    before = vae.encode(pictures).latent_dist.mean
    decoded = vae.decode(before).sample
    autoencoder.standardise(vae, before.mean(dim=(0, 2, 3)), before.std(dim=(0, 2, 3)))
    after = vae.encode(pictures).latent_dist.mean
    torch.testing.assert_close(after.mean(dim=(0, 2, 3)), torch.zeros(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(after.std(dim=(0, 2, 3)), torch.ones(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(vae.decode(after).sample, decoded, atol=1e-4, rtol=1e-3)
