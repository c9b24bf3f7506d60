"""A1111's infotext: the prompt, a line that begins with `Negative prompt:`, and a last line of `Name: value` pairs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tasks_app.contracts import Recipe, Recovered
from tasks_app.images.metadata import a1111_samplers, lora_tags

_NEGATIVE = "Negative prompt:"
_PAIR = re.compile(r'\s*(\w[\w \-/]{0,63}):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_NUMBERS: Mapping[str, tuple[str, type[int] | type[float]]] = {
    "Steps": ("steps", int),
    "CFG scale": ("guidance_scale", float),
    "Seed": ("seed", int),
}
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})", re.ASCII)
# As A1111 has it: a last line with fewer pairs belongs to the prompt.
_FEWEST_PAIRS = 3
_EMBEDDINGS = "TI hashes"
_HASH_DIGITS = 12


def write(params: Mapping[str, Any], recipe: Recipe) -> str:
    """Return the infotext of one picture; a scheduler that is the model's own has no name there."""
    pairs = {
        "Steps": params.get("steps"),
        "Sampler": a1111_samplers.NAMES.get(params.get("scheduler") or ""),
        "CFG scale": params.get("guidance_scale"),
        "Seed": params["seed"],
        "Size": f"{params['width']}x{params['height']}",
        "Model": recipe.params.get("model_id"),
        _EMBEDDINGS: _hashes(params.get("embeddings", ()), recipe.provenance),
        "Version": f"diffusers-handler {recipe.provenance.get('diffusers-handler', '')}".strip(),
    }
    last = ", ".join(f"{name}: {_quoted(value)}" for name, value in pairs.items() if value is not None)
    negative = params.get("negative_prompt")
    prompt = lora_tags.written(params.get("prompt", ""), params.get("loras", ()))
    lines = [prompt, f"{_NEGATIVE} {negative}" if negative else None, last]
    return "\n".join(line for line in lines if line is not None)


def read(text: str) -> Recovered:
    """Return the parameters of an infotext; what has no counterpart here is ignored and told."""
    prompt, negative, pairs = split(text)
    prompt, loras = lora_tags.taken(prompt)
    params = {"prompt": prompt, "negative_prompt": negative, **({"loras": loras} if loras else {}), **_taken(pairs)}
    return Recovered(source="a1111", task_type="text-to-image", params=params, ignored=pairs)


def split(text: str) -> tuple[str, str, dict[str, str]]:
    """Return an infotext's prompt, negative prompt and pairs."""
    lines = [line.strip() for line in text.strip().split("\n")]
    pairs = _pairs(lines[-1])
    if len(pairs) < _FEWEST_PAIRS:
        pairs = {}
    else:
        lines.pop()
    at = next((number for number, line in enumerate(lines) if line.startswith(_NEGATIVE)), len(lines))
    negative = "\n".join(lines[at:]).removeprefix(_NEGATIVE)
    return "\n".join(lines[:at]).strip(), negative.strip(), pairs


def _taken(pairs: dict[str, str]) -> dict[str, Any]:
    """Take those pairs that are parameters here, and return them."""
    params: dict[str, Any] = {}
    for name, (key, kind) in _NUMBERS.items():
        number = _number(kind, pairs.get(name, ""))
        if number is not None:
            params[key] = number
            del pairs[name]
    if size := _SIZE.fullmatch(pairs.get("Size", "")):
        params |= {"width": int(size[1]), "height": int(size[2])}
        del pairs["Size"]
    if "Model" in pairs:
        params["model_id"] = pairs.pop("Model")
    if _EMBEDDINGS in pairs:
        params["embeddings"] = [each.rpartition(":")[0].strip() for each in pairs.pop(_EMBEDDINGS).split(",")]
    return params | _scheduler(pairs)


def _scheduler(pairs: dict[str, str]) -> dict[str, str]:
    """Take the sampler if it is known; newer versions of A1111 name its schedule by itself."""
    sampler = pairs.get("Sampler", "")
    if not a1111_samplers.known(sampler):
        return {}
    scheduler = a1111_samplers.scheduler(sampler, pairs.get("Schedule type", ""))
    del pairs["Sampler"]
    if scheduler is None:
        return {"scheduler": str(a1111_samplers.scheduler(sampler, ""))}
    pairs.pop("Schedule type", None)
    return {"scheduler": scheduler}


def _hashes(names: Iterable[str], provenance: Mapping[str, str]) -> str | None:
    """Return embeddings with the beginning of their files' sha256; None for none."""
    found = (f"{name}: {provenance.get(f'embedding:{name}', '')[:_HASH_DIGITS]}" for name in names)
    return ", ".join(found) or None


def _number(kind: type[int] | type[float], text: str) -> float | None:
    try:
        number = kind(text)
    except ValueError:
        return None
    # No float can be compared with an integer of 400 digits.
    return number if isinstance(number, int) or math.isfinite(number) else None


def _quoted(value: Any) -> str:
    """Write a value as A1111 does: in quotes if it holds what divides the pairs."""
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(",\n:") else text


def _unquoted(text: str) -> str:
    if len(text) < 2 or not (text[0] == text[-1] == '"'):
        return text
    try:
        # An escape may stand for a lone surrogate, which no answer can carry.
        return str(json.loads(text)).encode("utf-8", "backslashreplace").decode()
    except ValueError:
        return text


def _pairs(line: str) -> dict[str, str]:
    """Return the pairs of a line; what is none is passed over up to the next comma."""
    pairs: dict[str, str] = {}
    at = 0
    while at < len(line):
        if pair := _PAIR.match(line, at):
            pairs[pair[1]] = _unquoted(pair[2].strip())
            at = pair.end()
        else:
            at = line.find(",", at) + 1 or len(line)
    return pairs
