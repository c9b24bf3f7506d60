"""A1111's infotext, as A1111 and its kin write it, and there and back."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.contracts import GenerationMetadata
from tasks_app.engine.diffusers.schedulers import SCHEDULERS
from tasks_app.images.metadata import infotext

# As the web UI writes it, with what only it knows.
FOREIGN = """a castle, (stone:1.2)
by the sea
Negative prompt: blurry, text
low quality
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 965400086, Size: 512x768, \
Model hash: cc6cb27103, Model: v1-5-pruned-emaonly, Clip skip: 2, Lora hashes: "a: 12, b: 34", Version: v1.10.1"""


def stripped(text: str) -> str:
    """Return what A1111's grammar can carry: no space at the ends of a line, no line that looks like the negative."""
    return "\n".join(line.strip() for line in text.split("\n") if not line.strip().startswith("Negative")).strip()


def recipe(params: dict[str, Any]) -> GenerationMetadata:
    provenance = {"diffusers-handler": "0.1.0"}
    return GenerationMetadata(
        task_type="text-to-image", params=params, model_id="x", revision="", provenance=provenance
    )


def test_a_foreign_line_is_read_and_what_is_unknown_is_told() -> None:
    found = infotext.parse_infotext(FOREIGN)
    assert found.params == {
        "prompt": "a castle, (stone:1.2)\nby the sea",
        "negative_prompt": "blurry, text\nlow quality",
        "steps": 20,
        "scheduler": "dpmpp_2m_karras",
        "guidance_scale": 7.0,
        "seed": 965400086,
        "width": 512,
        "height": 768,
        "model_id": "v1-5-pruned-emaonly",
    }
    assert found.ignored == {
        "Model hash": "cc6cb27103",
        "Clip skip": "2",
        "Lora hashes": "a: 12, b: 34",
        "Version": "v1.10.1",
    }


def test_loras_are_written_as_tags_and_read_from_them() -> None:
    loras = [{"id": "style", "weight": 0.8}, {"id": "two words", "weight": -1.0}]
    params = {"prompt": "a house", "negative_prompt": "", "seed": 1, "width": 64, "height": 64, "steps": 5}
    text = infotext.format_infotext({**params, "loras": loras}, recipe({}))
    assert text.startswith("a house <lora:style:0.8> <lora:two words:-1>\n")
    assert infotext.parse_infotext(text).params == {**params, "loras": loras}


def test_embeddings_are_written_with_their_sums_and_read_from_them() -> None:
    params = {"prompt": "a mood", "negative_prompt": "", "seed": 1, "width": 64, "height": 64, "steps": 5}
    for names in (["mood"], ["mood", "two words"]):
        sums = {f"embedding:{name}": "0123456789abcdef" for name in names}
        text = infotext.format_infotext({**params, "embeddings": names}, replace(recipe({}), provenance=sums))
        assert "mood: 0123456789ab" in text.splitlines()[-1]
        assert infotext.parse_infotext(text).params == {**params, "embeddings": names}


@pytest.mark.parametrize(
    ("sampler", "scheduler", "ignored"),
    [
        ("Sampler: Euler a", "euler_a", {}),
        ("Sampler: DPM++ 2M Karras", "dpmpp_2m_karras", {}),
        ("Sampler: DPM++ 2M", "dpmpp_2m", {}),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "dpmpp_2m_karras", {}),
        ("Sampler: DPM++ 2M, Schedule type: Uniform", "dpmpp_2m", {}),
        ("Sampler: Euler, Schedule type: Exponential", "euler", {"Schedule type": "Exponential"}),
        ("Sampler: DPM fast", None, {"Sampler": "DPM fast"}),
    ],
)
def test_samplers_have_our_names_where_there_is_one(sampler: str, scheduler: str | None, ignored: Any) -> None:
    found = infotext.parse_infotext(f"a\nSteps: 1, {sampler}, Seed: 1, Size: 8x8")
    assert (found.params.get("scheduler"), found.ignored) == (scheduler, ignored)


def test_values_that_are_none_are_ignored_and_told() -> None:
    found = infotext.parse_infotext("a\nSteps: many, CFG scale: nan, Seed: 1.5, Size: large")
    assert found.params == {"prompt": "a", "negative_prompt": ""}
    assert found.ignored == {"Steps": "many", "CFG scale": "nan", "Seed": "1.5", "Size": "large"}


def test_a_last_line_of_fewer_than_three_pairs_is_prompt() -> None:
    assert (
        infotext.parse_infotext("a house\nstyle: oil, light: dim").params["prompt"] == "a house\nstyle: oil, light: dim"
    )


def test_a_value_is_quoted_if_it_holds_what_divides_pairs() -> None:
    params = {"prompt": "a", "seed": 1, "width": 8, "height": 8, "model_id": 'a, "b": c\n'}
    text = infotext.format_infotext(params, recipe(params))
    assert r'Model: "a, \"b\": c\n", Version: diffusers-handler 0.1.0' in text
    assert infotext.parse_infotext(text).params["model_id"] == 'a, "b": c\n'


def test_an_escaped_lone_surrogate_becomes_an_escape() -> None:
    found = infotext.parse_infotext('a\nSteps: 1, Seed: 1, Size: 8x8, Note: "\\ud800,"')
    assert found.ignored == {"Note": "\\ud800,"}


@pytest.mark.parametrize(
    "text",
    ["a:" * 60_000, " " * 120_000, 'a:"' * 40_000, "\\" * 99_999, "a" * 99_999, 'a: "b",,' * 20_000],
    ids=lambda text: text[:8],
)
@pytest.mark.timeout(30)
def test_a_hostile_line_takes_no_time(text: str) -> None:
    infotext.parse_infotext(f"a\n{text}")
    infotext.parse_infotext(f"a\nSteps: 1, Seed: 1, Size: 8x8, {text}")


@given(
    prompt=st.text().map(stripped).filter(bool),
    negative=st.text().map(stripped),
    steps=st.integers(1, 150),
    guidance=st.floats(0, 50),
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 2048), st.integers(1, 2048)),
    scheduler=st.sampled_from([None, *SCHEDULERS]),
    model=st.text(min_size=1).filter(lambda name: name == name.strip() and name[0] != '"'),
)
def test_parameters_come_back_from_an_infotext(
    prompt: str,
    negative: str,
    steps: int,
    guidance: float,
    seed: int,
    size: tuple[int, int],
    scheduler: str | None,
    model: str,
) -> None:
    params = {
        "prompt": prompt,
        "negative_prompt": negative,
        "steps": steps,
        "guidance_scale": guidance,
        "seed": seed,
        "width": size[0],
        "height": size[1],
        "scheduler": scheduler,
        "model_id": model,
    }
    found = infotext.parse_infotext(infotext.format_infotext(params, recipe(params)))
    assert {"scheduler": None, **found.params} == params
    assert found.ignored == {"Version": "diffusers-handler 0.1.0"}
