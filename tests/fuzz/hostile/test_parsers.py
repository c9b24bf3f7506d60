"""Every parser of user text does linear work, however hostile the text."""

import io
import re
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from django.test import RequestFactory
from rest_framework.request import Request

from project import log_config
from tasks_app import errors
from tasks_app.api.http.parsers import StrictJSONParser
from tasks_app.api.live import prefer_wait
from tasks_app.engine import trigger_words
from tasks_app.engine.diffusers.prompts import attention
from tasks_app.images import metadata
from tasks_app.images.metadata import containers, exif, infotext, lora_tags
from tests.fuzz.hostile.growth import cpu_seconds, growth
from tests.unit.images.test_containers import chunk

MOST_PER_DOUBLING = 2.5
NAMES = [f"{'-a' * 30}{number}" for number in range(300)]


def parse_weights(text: str) -> None:
    with suppress(errors.InvalidParamsError):
        attention.parse_prompt_attention(text, "prompt")


def find_trigger_words(text: str) -> None:
    trigger_words.find_trigger_words(text, NAMES)
    trigger_words.replace_trigger_words(text, dict.fromkeys(NAMES, "x"))


def read_preference(text: str) -> None:
    prefer_wait.parse_prefer_wait(Request(RequestFactory().get("/", headers={"Prefer": text})))


@pytest.fixture(autouse=True)
def _any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the limits of length not hide how the work grows."""
    monkeypatch.setattr(lora_tags, "MAX_SEARCHED_LENGTH", 2**30)


class UnboundedJSONParser(StrictJSONParser):
    def get_body_limit(self) -> int:
        return 2**30


def read_json(text: str) -> None:
    UnboundedJSONParser().parse(io.BytesIO(text.encode()))


PARSERS: dict[str, Callable[[str], object]] = {
    "LoRA tags": lora_tags.extract_tags,
    "trigger words": find_trigger_words,
    "infotext": infotext.parse_infotext,
    "prompt weights": parse_weights,
    "redaction": log_config.redact_secrets,
    "Prefer": read_preference,
    "JSON": read_json,
}
# The parser, and an input of about n characters.
TEXTS: dict[str, tuple[str, Callable[[int], str]]] = {
    "spaces in a prompt": ("LoRA tags", lambda n: f"a{' ' * n}b"),
    "line ends in a prompt": ("LoRA tags", lambda n: f"a{chr(10) * n}b"),
    "spaces before many tags": ("LoRA tags", lambda n: "  <lora:x:1>" * (n // 12)),
    "tags cut short": ("LoRA tags", lambda n: "<lora:" * (n // 6)),
    "tags without an end": ("LoRA tags", lambda n: "<lora:x:1" * (n // 9)),
    "one long name": ("LoRA tags", lambda n: f"<lora:{'x' * n}"),
    "letters": ("trigger words", lambda n: "a" * n),
    "the beginning of each name": ("trigger words", lambda n: "-a" * (n // 2)),
    "names and nothing else": ("trigger words", lambda n: f"{NAMES[7]} " * (n // 62)),
    "dashes": ("trigger words", lambda n: "-" * n),
    "spaces in an infotext": ("infotext", lambda n: f"a{' ' * n}b"),
    "spaces before no pair": ("infotext", lambda n: f"Steps: 1, Seed: 2, Size: 3x4,{' ' * n},{' ' * n}b"),
    "quotes that nobody closes": ("infotext", lambda n: 'A: "' * (n // 4)),
    "escaped quotes": ("infotext", lambda n: 'A: "' + '\\"' * (n // 2)),
    "quotes with more behind them": ("infotext", lambda n: 'A: ", "b,' * (n // 9)),
    "commas": ("infotext", lambda n: "," * n),
    "colons": ("infotext", lambda n: "a:" * (n // 2)),
    "digits of a seed": ("infotext", lambda n: f"Steps: 1, CFG scale: 2, Seed: {'9' * n}"),
    "lines": ("infotext", lambda n: "Negative prompt:\n" * (n // 17)),
    "embeddings": ("infotext", lambda n: f'Steps: 1, Seed: 2, TI hashes: "{"a: b, " * (n // 6)}"'),
    "opening brackets": ("prompt weights", lambda n: "(" * n),
    "nested brackets": ("prompt weights", lambda n: "(" * (n // 2) + "a" + ")" * (n // 2)),
    "nested brackets with words": ("prompt weights", lambda n: "[a" * (n // 4) + "b]" * (n // 4)),
    "two kinds of brackets, crossed": ("prompt weights", lambda n: "([a)b]" * (n // 6)),
    "nested weights": ("prompt weights", lambda n: "(a" * (n // 6) + ":.5)" * (n // 6)),
    "digits of a weight": ("prompt weights", lambda n: f"(a:{'1' * n}"),
    "spaces before a weight": ("prompt weights", lambda n: f"(a:{' ' * n}x"),
    "spaces behind a weight": ("prompt weights", lambda n: f"(a:1{' ' * n}x"),
    "backslashes": ("prompt weights", lambda n: "\\" * n),
    "names of secrets": ("redaction", lambda n: f"?{'key' * (n // 3)}"),
    "names of secrets, many": ("redaction", lambda n: "?key" * (n // 4)),
    "a name of secrets and a long one": ("redaction", lambda n: f"?key{'-' * n}"),
    "tokens that are none": ("redaction", lambda n: "token " * (n // 6)),
    "spaces behind a token": ("redaction", lambda n: f"token{' ' * n}"),
    "a token without digits": ("redaction", lambda n: f"bearer {'x' * n}"),
    "beginnings of keys": ("redaction", lambda n: "hf_" * (n // 3)),
    "schemes": ("redaction", lambda n: "a://" * (n // 4)),
    "a password without an end": ("redaction", lambda n: f"a://b:{'c' * n}"),
    "colons of passwords": ("redaction", lambda n: f"a://{'b:' * (n // 2)}"),
    "preferences": ("Prefer", lambda n: "wait," * (n // 5)),
    "spaces in a preference": ("Prefer", lambda n: f"wait={' ' * n}x"),
    "spaces behind a preference": ("Prefer", lambda n: f"wait=1{' ' * n}x"),
    "escapes": ("JSON", lambda n: '"' + "\\u0041" * (n // 6) + '"'),
    "numbers": ("JSON", lambda n: "[" + "1e1," * (n // 4) + "1]"),
}


# Those that were not linear once, and one of each other parser; the rest takes a minute and runs with `-m fuzz`.
ALWAYS = {
    *("spaces in a prompt", "the beginning of each name", "spaces in an infotext", "digits of a seed"),
    *("nested brackets with words", "nested weights", "digits of a weight", "names of secrets"),
    *("spaces in a preference", "escapes"),
}


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.fuzz) for name in TEXTS]
)
def test_a_text_twice_as_long_takes_at_most_twice_the_work(name: str) -> None:
    parser, make = TEXTS[name]
    assert growth(PARSERS[parser], make) <= MOST_PER_DOUBLING


def png(text: bytes) -> bytes:
    """Return a PNG without pixels whose parameters are this text, deflated."""
    return containers.PNG_SIGNATURE + chunk(b"zTXt", b"parameters\0\0" + zlib.compress(text)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("text", [b"a%bb", b"%b", b'A: "%b'])
def test_the_longest_text_that_a_file_can_have_is_read_in_a_second(text: bytes) -> None:
    content = png(text % (b" " * (exif.MAX_TEXT_BYTES - len(text) + 2)))
    assert len(content) < 1000
    assert cpu_seconds(metadata.read_metadata, content) < 1


def test_the_measure_sees_work_that_grows_with_the_square() -> None:
    assert growth(re.compile(r"\s*x").findall, lambda n: " " * n) > 3
    assert growth(re.compile(r"\s+").findall, lambda n: " x" * (n // 2)) <= MOST_PER_DOUBLING


def test_every_parser_has_a_hostile_text() -> None:
    assert {TEXTS[name][0] for name in ALWAYS} == PARSERS.keys()
