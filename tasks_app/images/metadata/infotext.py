"""A1111's infotext: the prompt, a line that begins with `Negative prompt:`, and a last line of `Name: value` pairs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tasks_app.contracts import GenerationMetadata, ParsedMetadata
from tasks_app.images.metadata import a1111_samplers, lora_tags

_NEGATIVE_PREFIX = "Negative prompt:"
_PAIR_PATTERN = re.compile(r'\s*(\w[\w \-/]{0,63}):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_NUMBER_PARAMS: Mapping[str, tuple[str, type[int] | type[float]]] = {
    "Steps": ("steps", int),
    "CFG scale": ("guidance_scale", float),
    "Seed": ("seed", int),
}
_SIZE_PATTERN = re.compile(r"(\d{1,5})x(\d{1,5})", re.ASCII)
# As in A1111: a last line with fewer pairs belongs to the prompt.
_MIN_PAIRS = 3
_EMBEDDINGS_KEY = "TI hashes"
_HASH_DIGITS = 12


def format_infotext(params: Mapping[str, Any], recipe: GenerationMetadata) -> str:
    """Return the infotext of one image; it names no sampler if the scheduler is the model's own."""
    pairs = {
        "Steps": params.get("steps"),
        "Sampler": a1111_samplers.SAMPLERS_BY_SCHEDULER.get(params.get("scheduler") or ""),
        "CFG scale": params.get("guidance_scale"),
        "Seed": params["seed"],
        "Size": f"{params['width']}x{params['height']}",
        "Model": recipe.params.get("model_id"),
        _EMBEDDINGS_KEY: _format_embedding_hashes(params.get("embeddings", ()), recipe.provenance),
        "Version": f"diffusers-handler {recipe.provenance.get('diffusers-handler', '')}".strip(),
    }
    last = ", ".join(f"{name}: {_quote_value(value)}" for name, value in pairs.items() if value is not None)
    negative = params.get("negative_prompt")
    prompt = lora_tags.append_tags(params.get("prompt", ""), params.get("loras", ()))
    lines = [prompt, f"{_NEGATIVE_PREFIX} {negative}" if negative else None, last]
    return "\n".join(line for line in lines if line is not None)


def parse_infotext(text: str) -> ParsedMetadata:
    """Return the parameters in an infotext; pairs without a counterpart here are returned as `ignored`."""
    prompt, negative, pairs = split_infotext(text)
    prompt, loras = lora_tags.extract_tags(prompt)
    params = {
        "prompt": prompt,
        "negative_prompt": negative,
        **({"loras": loras} if loras else {}),
        **_pop_params(pairs),
    }
    return ParsedMetadata(source="a1111", task_type="text-to-image", params=params, ignored=pairs)


def split_infotext(text: str) -> tuple[str, str, dict[str, str]]:
    """Return an infotext's prompt, negative prompt and pairs."""
    lines = [line.strip() for line in text.strip().split("\n")]
    pairs = _parse_pairs(lines[-1])
    if len(pairs) < _MIN_PAIRS:
        pairs = {}
    else:
        lines.pop()
    at = next((number for number, line in enumerate(lines) if line.startswith(_NEGATIVE_PREFIX)), len(lines))
    negative = "\n".join(lines[at:]).removeprefix(_NEGATIVE_PREFIX)
    return "\n".join(lines[:at]).strip(), negative.strip(), pairs


def _pop_params(pairs: dict[str, str]) -> dict[str, Any]:
    """Remove the pairs that are parameters here, and return them."""
    params: dict[str, Any] = {}
    for name, (key, kind) in _NUMBER_PARAMS.items():
        number = _parse_number(kind, pairs.get(name, ""))
        if number is not None:
            params[key] = number
            del pairs[name]
    if size := _SIZE_PATTERN.fullmatch(pairs.get("Size", "")):
        params |= {"width": int(size[1]), "height": int(size[2])}
        del pairs["Size"]
    if "Model" in pairs:
        params["model_id"] = pairs.pop("Model")
    if _EMBEDDINGS_KEY in pairs:
        params["embeddings"] = [each.rpartition(":")[0].strip() for each in pairs.pop(_EMBEDDINGS_KEY).split(",")]
    return params | _pop_scheduler(pairs)


def _pop_scheduler(pairs: dict[str, str]) -> dict[str, str]:
    """Remove the sampler if it is known, and return its scheduler.

    Newer versions of A1111 name the schedule type separately.
    """
    sampler = pairs.get("Sampler", "")
    if not a1111_samplers.is_known_sampler(sampler):
        return {}
    scheduler = a1111_samplers.find_scheduler(sampler, pairs.get("Schedule type", ""))
    del pairs["Sampler"]
    if scheduler is None:
        return {"scheduler": str(a1111_samplers.find_scheduler(sampler, ""))}
    pairs.pop("Schedule type", None)
    return {"scheduler": scheduler}


def _format_embedding_hashes(names: Iterable[str], provenance: Mapping[str, str]) -> str | None:
    """Return embeddings with the first digits of their files' sha256; None if there are none."""
    found = (f"{name}: {provenance.get(f'embedding:{name}', '')[:_HASH_DIGITS]}" for name in names)
    return ", ".join(found) or None


def _parse_number(kind: type[int] | type[float], text: str) -> float | None:
    try:
        number = kind(text)
    except ValueError:
        return None
    # math.isfinite() can't convert an integer of 400 digits to a float.
    return number if isinstance(number, int) or math.isfinite(number) else None


def _quote_value(value: Any) -> str:
    """Format a value as A1111 does: quoted if it contains a separator."""
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(",\n:") else text


def _unquote_value(text: str) -> str:
    if len(text) < 2 or not (text[0] == text[-1] == '"'):
        return text
    try:
        # An escape may decode to a lone surrogate, which a response can't contain.
        return str(json.loads(text)).encode("utf-8", "backslashreplace").decode()
    except ValueError:
        return text


def _parse_pairs(line: str) -> dict[str, str]:
    """Return the pairs of a line; other text is skipped up to the next comma."""
    pairs: dict[str, str] = {}
    at = 0
    while at < len(line):
        if pair := _PAIR_PATTERN.match(line, at):
            pairs[pair[1]] = _unquote_value(pair[2].strip())
            at = pair.end()
        else:
            at = line.find(",", at) + 1 or len(line)
    return pairs
