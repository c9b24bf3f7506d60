"""Textual-inversion embeddings on a loaded pipeline: trigger words for learned vectors.

The model itself is not modified: an extended tokenizer and a layer around the token embedding replace its own until a
call needs other embeddings. diffusers' own `load_textual_inversion` replaces the embedding matrix, which breaks
offloaded models, and it also matches words that merely begin with the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from tasks_app.engine import addon_files, trigger_words
from tasks_app.engine.diffusers.loading.snapshots import hash_file
from tasks_app.engine.types import GenerationRequest
from tasks_app.errors import InvalidParamsError, ModelLoadError

_ACTIVE_ATTRIBUTE = "_worn_embeddings"
# Encoder names in embedding files for two encoders, mapped to the suffix of the pipeline's component names.
_ENCODER_SUFFIXES = {"clip_l": "", "clip_g": "_2"}
# Number of tokens that mark the start and the end of each chunk of a prompt.
_MARKER_TOKENS = 2


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """The file of an embedding; equal instances give equal images."""

    id: str
    sha256: str
    path: Path = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class _ActiveEmbeddings:
    """The active embeddings, their tokens by name, and the callbacks that remove them."""

    embeddings: tuple[Embedding, ...] = ()
    tokens: Mapping[str, str] = field(default_factory=dict)
    undo: ExitStack = field(default_factory=ExitStack)


@dataclass(frozen=True, kw_only=True)
class _TextEncoder:
    """A text encoder and its tokenizer."""

    encoder: Any
    tokenizer: Any


def find_embeddings(names: Iterable[str], folder: Path) -> tuple[Embedding, ...]:
    """Return the files of embeddings.

    Raises:
        ModelUnavailableError: An embedding is not on this worker.
    """
    paths = {
        name: addon_files.find_addon_path(folder, name, kind="embedding", setting="EMBEDDINGS_DIR") for name in names
    }
    return tuple(Embedding(id=name, sha256=hash_file(path), path=path) for name, path in paths.items())


def apply_embeddings(pipeline: DiffusionPipeline, wanted: tuple[Embedding, ...]) -> None:
    """Apply these embeddings and no others to a pipeline; if they are rejected, it keeps its previous ones.

    Raises:
        InvalidParamsError: The named embedding does not fit, or the model supports no embeddings.
        ModelLoadError: The file of the named embedding is damaged.
    """
    if wanted == get_active_embeddings(pipeline):
        return
    parts = _get_text_encoders(pipeline) if wanted else {}
    learned = {each.id: _load_vectors(each, parts) for each in wanted}
    _get_active_state(pipeline).undo.close()
    setattr(pipeline, _ACTIVE_ATTRIBUTE, _ActiveEmbeddings())
    tokens = {name: _build_tokens(index, len(rows[0])) for index, (name, rows) in enumerate(learned.items())}
    with ExitStack() as undo:
        for part, *rows in zip(parts.values(), *learned.values(), strict=True):
            _attach_tokens(part, [token for each in tokens.values() for token in each], torch.cat(rows), undo)
        words = {name: "".join(each) for name, each in tokens.items()}
        setattr(pipeline, _ACTIVE_ATTRIBUTE, _ActiveEmbeddings(embeddings=wanted, tokens=words, undo=undo.pop_all()))


def get_active_embeddings(pipeline: DiffusionPipeline) -> tuple[Embedding, ...]:
    """Return the active embeddings."""
    return _get_active_state(pipeline).embeddings


def substitute_tokens(pipeline: DiffusionPipeline, request: GenerationRequest) -> GenerationRequest:
    """Return a request whose prompts have the pipeline's tokens in place of the names of active embeddings."""
    tokens = _get_active_state(pipeline).tokens
    return replace(
        request,
        prompt=trigger_words.replace_trigger_words(request.prompt, tokens),
        negative_prompt=trigger_words.replace_trigger_words(request.negative_prompt, tokens),
    )


def build_provenance(embeddings: Iterable[Embedding]) -> dict[str, str]:
    """Return the sha256 of each file, by its key in the provenance."""
    return {f"embedding:{each.id}": each.sha256 for each in embeddings}


def _get_active_state(pipeline: DiffusionPipeline) -> _ActiveEmbeddings:
    return getattr(pipeline, _ACTIVE_ATTRIBUTE, _ActiveEmbeddings())


def _build_tokens(index: int, rows: int) -> list[str]:
    return [f"<|{index}-{row}|>" for row in range(rows)]


def _get_text_encoders(pipeline: DiffusionPipeline) -> dict[str, _TextEncoder]:
    """Return the text encoders by their names in embedding files."""
    own = pipeline.components
    found = {
        name: _TextEncoder(encoder=own[f"text_encoder{which}"], tokenizer=own[f"tokenizer{which}"])
        for name, which in _ENCODER_SUFFIXES.items()
        if own.get(f"text_encoder{which}") is not None
    }
    known = all(isinstance(part.encoder, CLIPTextModel | CLIPTextModelWithProjection) for part in found.values())
    if not (hasattr(pipeline, "load_textual_inversion") and found and known):
        raise InvalidParamsError("This model doesn't support embeddings.")
    return found


def _load_vectors(embedding: Embedding, parts: Mapping[str, _TextEncoder]) -> list[torch.Tensor]:
    """Return the vectors for each text encoder, (vectors, features)."""
    try:
        stored = load_file(embedding.path)
    except (OSError, SafetensorError) as error:
        message = f"The embedding {embedding.id} can't be read: it is not a valid safetensors file."
        raise ModelLoadError(message) from error
    if len(stored) != len(parts) or (len(parts) > 1 and stored.keys() != parts.keys()):
        raise _mismatch_error(embedding, f"it has vectors for {len(stored)} text encoders instead of {len(parts)}")
    # The key of vectors for a single encoder is the word that they were trained with.
    by_part = stored if len(parts) > 1 else dict(zip(parts, stored.values(), strict=True))
    # A single vector may be stored without the dimension that counts the vectors.
    rows = [found[None] if found.ndim == 1 else found for found in (by_part[name] for name in parts)]
    if wrong := next(_find_mismatches(rows, parts), None):
        raise _mismatch_error(embedding, wrong)
    return rows


def _find_mismatches(rows: list[torch.Tensor], parts: Mapping[str, _TextEncoder]) -> Iterator[str]:
    """Yield the reasons why vectors don't fit the text encoders."""
    for found, part in zip(rows, parts.values(), strict=True):
        width, room = part.encoder.config.hidden_size, part.tokenizer.model_max_length - _MARKER_TOKENS
        if found.ndim != 2 or found.shape[1] != width:
            yield f"its vectors have {found.shape[-1]} features instead of {width}"
        if len(found) != len(rows[0]) or not 0 < len(found) <= room:
            yield f"its number of vectors, {len(found)}, is not supported"


def _attach_tokens(part: _TextEncoder, tokens: list[str], learned: torch.Tensor, undo: ExitStack) -> None:
    """Add tokens to a tokenizer and their vectors to its encoder; `undo` removes them."""
    own = part.tokenizer._tokenizer
    longer = Tokenizer.from_str(own.to_str())
    longer.add_tokens([AddedToken(token, normalized=False) for token in tokens])
    undo.callback(setattr, part.tokenizer, "_tokenizer", own)
    part.tokenizer._tokenizer = longer
    layer = part.encoder.get_input_embeddings()
    undo.callback(part.encoder.set_input_embeddings, layer)
    first = longer.token_to_id(tokens[0])
    assert first is not None, "it was added above"
    part.encoder.set_input_embeddings(_ExtendedEmbedding(layer, first, learned))
    # Older configurations pool a prompt at its highest token id, which would be one of the added tokens.
    model = getattr(part.encoder, "text_model", part.encoder)
    undo.callback(setattr, model, "eos_token_id", model.eos_token_id)
    model.eos_token_id = part.tokenizer.eos_token_id


class _ExtendedEmbedding(torch.nn.Module):
    """Wrapper of a token embedding: ids from `first` on are rows of `learned`, all others are those of `own`."""

    def __init__(self, own: torch.nn.Module, first: int, learned: torch.Tensor) -> None:
        super().__init__()
        self.own = own
        self._first = first
        # Not a buffer: `forward` moves them to the device on which offloading runs the layer.
        self._learned = learned

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the vectors of ids, (…, features)."""
        ours = ids >= self._first
        found: torch.Tensor = self.own(ids.masked_fill(ours, 0))
        rows = self._learned.to(found)[(ids - self._first).clamp(min=0)]
        return torch.where(ours.unsqueeze(-1), rows, found)


def _mismatch_error(embedding: Embedding, why: str) -> InvalidParamsError:
    return InvalidParamsError(f"The embedding {embedding.id} doesn't fit this model: {why}.")
