"""What a picture's file tells of how it was made: written and read back, in all formats."""

import io
import json
from dataclasses import replace
from typing import Any, get_args

import piexif
import piexif.helper
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from tasks_app.contracts import GenerationMetadata
from tasks_app.engine.types import OutputFormat
from tasks_app.errors import InvalidImageError
from tasks_app.images import metadata

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
PARAMS: dict[str, Any] = {
    "provider": "diffusers",
    "model_id": "demo",
    "prompt": "a red house, evening",
    "negative_prompt": "rain",
    "steps": 25,
    "guidance_scale": 7.5,
    "scheduler": "euler_a",
    "output_format": "png",
}
RECIPE = GenerationMetadata(
    task_type="text-to-image",
    params={**PARAMS, "num_images": 3, "width": None, "height": None},
    model_id="org/demo",
    revision="0" * 40,
    provenance={"diffusers-handler": "0.1.0", "diffusers": "1", "device": "cuda", "dtype": "float16"},
)
PICTURE = Image.effect_noise((48, 40), 60).convert("RGB")
INFOTEXT = """a red house, evening
Negative prompt: rain
Steps: 25, Sampler: Euler a, CFG scale: 7.5, Seed: 42, Size: 48x40, Model: demo, Version: diffusers-handler 0.1.0"""


def png(**texts: str) -> bytes:
    """Return a PNG as another program may have written it."""
    chunks, buffer = PngInfo(), io.BytesIO()
    for name, text in texts.items():
        chunks.add_text(name.replace("_", "-"), text)
    PICTURE.save(buffer, format="PNG", pnginfo=chunks)
    return buffer.getvalue()


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_picture_tells_the_parameters_that_make_this_very_picture(output_format: OutputFormat) -> None:
    found = metadata.read_metadata(metadata.encode_image(PICTURE, output_format, RECIPE, seed=42))
    assert (found.source, found.task_type, found.ignored) == ("diffusers-handler", "text-to-image", {})
    assert found.params == {**PARAMS, "seed": 42, "num_images": 1, "width": 48, "height": 40}


def test_a_png_has_a1111s_line_and_everything_in_a_chunk_of_our_own() -> None:
    image = Image.open(io.BytesIO(metadata.encode_image(PICTURE, "png", RECIPE, seed=42)))
    assert isinstance(image, PngImageFile)
    assert image.text["parameters"] == INFOTEXT
    ours = json.loads(image.text["diffusers-handler"])
    assert ours["model"] == {"id": "org/demo", "revision": "0" * 40}
    assert ours["made_by"] == RECIPE.provenance
    assert image.tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_a1111s_own_reader_finds_the_line_in_exif(output_format: OutputFormat) -> None:
    content = metadata.encode_image(PICTURE, output_format, RECIPE, seed=42)
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == (output_format.upper(), PICTURE.size)
        exif = piexif.load(image.info["exif"])
    assert piexif.helper.UserComment.load(exif["Exif"][piexif.ExifIFD.UserComment]) == INFOTEXT
    assert json.loads(exif["0th"][piexif.ImageIFD.ImageDescription])["made_by"] == RECIPE.provenance


@pytest.mark.parametrize("output_format", FORMATS)
def test_equal_runs_make_equal_bytes(output_format: OutputFormat) -> None:
    first, again, other = (metadata.encode_image(PICTURE, output_format, RECIPE, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_a_jpeg_has_no_transparency() -> None:
    content = metadata.encode_image(PICTURE.convert("RGBA"), "jpeg", RECIPE, seed=1)
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "RGB"


@pytest.mark.parametrize("output_format", FORMATS)
def test_the_longest_prompts_fit_into_every_format(output_format: OutputFormat) -> None:
    longest = {**RECIPE.params, "prompt": "🏠" * 4000, "negative_prompt": "🌧" * 4000}
    found = metadata.read_metadata(
        metadata.encode_image(PICTURE, output_format, replace(RECIPE, params=longest), seed=1)
    )
    assert (found.params["prompt"], found.params["negative_prompt"]) == ("🏠" * 4000, "🌧" * 4000)


@given(output_format=st.sampled_from(FORMATS), prompt=st.text(min_size=1), seed=st.integers(0, 2**32 - 1))
def test_any_prompt_comes_back_to_the_letter(output_format: OutputFormat, prompt: str, seed: int) -> None:
    recipe = replace(RECIPE, params={**RECIPE.params, "prompt": prompt})
    found = metadata.read_metadata(metadata.encode_image(PICTURE, output_format, recipe, seed=seed))
    assert (found.params["prompt"], found.params["seed"]) == (prompt, seed)


def test_without_our_own_a1111s_line_is_read() -> None:
    found = metadata.read_metadata(png(parameters=INFOTEXT))
    assert (found.source, found.params["prompt"], found.params["seed"]) == ("a1111", "a red house, evening", 42)


def test_a_picture_that_tells_nothing_is_refused_in_words() -> None:
    with pytest.raises(InvalidImageError, match="contains no generation parameters"):
        metadata.read_metadata(png(Comment="made by hand"))


@pytest.mark.parametrize(
    "ours",
    [
        "[]",
        "{",
        "[" * 100_000,
        '{"task_type": "text-to-image"}',
        '{"task_type": 1, "params": {}}',
        '{"task_type": "text-to-image", "params": []}',
        '{"task_type": "text-to-image", "params": {"prompt": [["a"]]}}',
        '{"task_type": "text-to-image", "params": {"prompt": "\\ud800"}}',
        '{"task_type": "text-to-image", "params": {"\\ud800": 1}}',
        '{"task_type": "text-to-image", "params": {"guidance_scale": NaN}}',
        '{"task_type": "text-to-image", "params": {"guidance_scale": 1e999}}',
        '{"task_type": "text-to-image", "params": {"seed": ' + "1" * 5000 + "}}",
    ],
    ids=lambda text: text[:60],
)
def test_what_somebody_else_wrote_in_our_place_is_refused_in_words(ours: str) -> None:
    with pytest.raises(InvalidImageError, match="damaged"):
        metadata.read_metadata(png(diffusers_handler=ours))
