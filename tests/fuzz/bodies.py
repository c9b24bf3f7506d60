"""Bodies of `POST /task` according to the contract: valid ones, and ones with one or several wrong fields."""

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.checks import Case
from tests.fuzz.values import (
    DELETE,
    HUGE,
    NO_NUMBERS,
    NO_OBJECTS,
    NO_STRINGS,
    NULS,
    SURROGATES,
    TEXTS,
    bad_integer,
    bad_text,
    encode_json,
    good_text,
    names,
    wrong_values,
)

MODELS = ["demo", "runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/x"]
OTHER_MODELS = ["", "somebody/else", "DEMO", " demo", "demo ", "demo/", "demo\n", "demo\u200b", "ｄｅｍｏ", "x" * 256]
PLACES = ["..", ".", "/", "./demo", "../demo", "demo/../demo", "/etc/passwd", "../../../etc", "C:\\", "\\\\host\\share"]
PLACES += [
    "%2e%2e/demo",
    "stabilityai/..",
    "stabilityai/../x",
    "stabilityai//x",
    "stabilityai/x/y",
    "~/x",
    "*",
    "[a-z]*",
]
ADDRESSES = ["https://example.org/model", "file:///etc/passwd", "s3://bucket/x", "//example.org/x", "a/b?x=y", "a/b#c"]
ADDRESSES += ["hf://stabilityai/x", "stabilityai/x@main", "stabilityai/--x", "stabilityai/x.git", "datasets/x/y"]

side = st.integers(4, 256).map(lambda number: 8 * number)
PARAMS: dict[str, st.SearchStrategy[Any]] = {
    "provider": st.just("diffusers"),
    "model_id": st.sampled_from(MODELS),
    "negative_prompt": st.one_of(st.just(""), good_text),
    "steps": st.integers(1, 150),
    "guidance_scale": st.one_of(st.integers(0, 50), st.floats(0, 50)),
    "seed": st.integers(0, 2**32 - 1),
    "num_images": st.integers(1, 8),
}
no_side = st.one_of(
    bad_integer(32, 2048, null=True),
    st.integers(33, 2047).filter(lambda number: number % 8),
    st.sampled_from([10**9, 40000]),
)
no_scale = st.one_of(
    wrong_values(NO_NUMBERS, HUGE, [-1, -0.1, 50.1, 51, -5e-324, 1e308, "@@1e999@@", 50.00000000000001]),
    st.floats(max_value=-5e-324, allow_infinity=False),
    st.floats(min_value=50.00000000000001, allow_infinity=False),
)
no_model = st.one_of(
    wrong_values(OTHER_MODELS, PLACES, ADDRESSES, NO_STRINGS, SURROGATES, NULS, TEXTS), bad_text(255, blank=False)
)
BAD: dict[tuple[str, ...], st.SearchStrategy[Any]] = {
    ("task_type",): wrong_values(NO_STRINGS, SURROGATES, NULS, TEXTS, [DELETE, "", "image-to-video", "Text-to-image"]),
    ("priority",): bad_integer(-10, 10),
    ("params",): wrong_values(NO_OBJECTS, [DELETE]),
    ("params", "provider"): wrong_values(NO_STRINGS, SURROGATES, NULS, TEXTS, ["", "comfy", "Diffusers", "fake"]),
    ("params", "model_id"): no_model,
    ("params", "prompt"): st.one_of(st.just(DELETE), bad_text(4000, blank=False)),
    ("params", "negative_prompt"): bad_text(4000, blank=True),
    ("params", "steps"): bad_integer(1, 150),
    ("params", "guidance_scale"): no_scale,
    ("params", "seed"): bad_integer(0, 2**32 - 1),
    ("params", "width"): no_side,
    ("params", "height"): no_side,
    ("params", "num_images"): bad_integer(1, 8),
    ("params", "loras"): wrong_values([None, True, 5, "x", {}, {"id": "x"}, [{}] * 9]),
    ("params", "embeddings"): wrong_values([None, True, 5, "x", {}, ["x"] * 9]),
}
KNOWN = {"task_type", "priority", "webhook", "params", "prompt", "width", "height", "loras", "embeddings", *PARAMS}


@st.composite
def valid_bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Return a valid body."""
    params = {"prompt": draw(good_text)}
    params |= {name: draw(PARAMS[name]) for name in draw(st.sets(st.sampled_from(sorted(PARAMS))))}
    match draw(st.sampled_from(["absent", "null", "given"])):
        case "null":
            params |= {"width": None, "height": None}
        case "given":
            params |= {"width": draw(side), "height": draw(side)}
    priority = {"priority": draw(st.integers(-10, 10))} if draw(st.booleans()) else {}
    return {"task_type": "text-to-image", **priority, "params": params}


@st.composite
def accepted_cases(draw: st.DrawFn) -> Case:
    """Return a request that creates a task."""
    body = draw(valid_bodies())
    return Case(content=encode_json(body), sent=body, status=201, chunked=draw(st.booleans()))


@st.composite
def refused_cases(draw: st.DrawFn) -> Case:
    """Return a request with one to four wrong fields."""
    body = draw(valid_bodies())
    places = draw(st.sets(st.sampled_from([*sorted(BAD), ("*",), ("params", "*")]), min_size=1, max_size=4))
    if ("params",) in places:
        places = {place for place in places if place[0] != "params" or len(place) == 1}
    bad = set()
    for place in sorted(places):
        *outer, name = place
        name = draw(names.filter(lambda text: text not in KNOWN)) if name == "*" else name
        _set_value(body["params"] if outer else body, name, draw(BAD.get(place, st.none())))
        bad.add(_field_path([*outer, name]))
    return Case(content=encode_json(body), status=400, bad=frozenset(bad))


def _set_value(values: dict[str, Any], name: str, value: Any) -> None:
    if value is DELETE:
        values.pop(name, None)
    else:
        values[name] = value


def _field_path(parts: list[str]) -> str:
    """Return a field's path in error messages, with lone surrogates as escapes; empty names are omitted."""
    return ".".join(part for part in parts if part).encode("utf-8", "backslashreplace").decode()
