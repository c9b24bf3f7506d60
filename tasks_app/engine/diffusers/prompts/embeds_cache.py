"""Cache of prompt embeddings, kept with each pipeline: repeated prompts skip the text encoders."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch.utils import _pytree as pytree

from tasks_app.engine.diffusers.adapters import embeddings, loras

# Types of arguments that can be compared; a call with any other type, for example embeddings, is not cached.
_COMPARABLE_TYPES = (str, int, float, torch.device, torch.dtype, type(None))


def enable_prompt_cache(pipeline: DiffusionPipeline, max_bytes: int) -> None:
    """Cache the prompt embeddings of a pipeline for its lifetime; do nothing if it has no `encode_prompt`."""
    if max_bytes and hasattr(pipeline, "encode_prompt"):
        pipeline.encode_prompt = PromptEmbedsCache(
            pipeline.encode_prompt, max_bytes, lambda: _get_encoder_state(pipeline)
        )


def _get_encoder_state(pipeline: DiffusionPipeline) -> Hashable:
    return loras.get_active_loras(pipeline), embeddings.get_active_embeddings(pipeline)


@dataclass(frozen=True, kw_only=True)
class _CachedEmbeds:
    """Output of the encoders, and the version counter of each tensor at that time."""

    leaves: list[Any]
    layout: pytree.TreeSpec
    versions: list[int]

    def is_unmodified(self) -> bool:
        return _get_versions(self.leaves) == self.versions

    def count_bytes(self) -> int:
        # A slice keeps its whole storage in memory.
        storages = (leaf.untyped_storage() for leaf in self.leaves if leaf is not None)
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


class PromptEmbedsCache:
    """Replacement for `encode_prompt` that returns cached tensors for arguments that it has encoded before.

    If the entries together take more than `max_bytes`, the least recently used are evicted first. Prompts whose tensors
    a caller has modified are encoded again. `encoders` returns the current state of the text encoders, if it changes.
    """

    def __init__(
        self, encode: Callable[..., Any], max_bytes: int, encoders: Callable[[], Hashable] = lambda: None
    ) -> None:
        self._encode = encode
        self._get_encoder_state = encoders
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, _CachedEmbeds] = OrderedDict()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the embeddings as `encode_prompt` does."""
        key = _build_key(self._get_encoder_state(), args, kwargs)
        found = self._entries.get(key)
        if found is not None and found.is_unmodified():
            self._entries.move_to_end(key)
            return pytree.tree_unflatten(found.leaves, found.layout)
        # Cached tensors need version counters, which tensors created in inference mode lack.
        with torch.inference_mode(False), torch.no_grad():
            made = self._encode(*args, **kwargs)
        if key is not None:
            self._store_embeds(key, made)
        return made

    def _store_embeds(self, key: Hashable, made: Any) -> None:
        leaves, layout = pytree.tree_flatten(made)
        if not all(leaf is None or isinstance(leaf, torch.Tensor) for leaf in leaves):
            return
        self._entries[key] = _CachedEmbeds(leaves=leaves, layout=layout, versions=_get_versions(leaves))
        while sum(kept.count_bytes() for kept in self._entries.values()) > self._max_bytes:
            self._entries.popitem(last=False)


def _build_key(encoders: Hashable, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable:
    """Return the cache key of a call; None if its arguments can't be compared."""
    leaves, layout = pytree.tree_flatten((args, dict(kwargs)))
    return (encoders, repr(layout), *leaves) if all(isinstance(leaf, _COMPARABLE_TYPES) for leaf in leaves) else None


def _get_versions(leaves: list[Any]) -> list[int]:
    # torch's own counter, by which autograd detects modified tensors.
    return [leaf._version for leaf in leaves if leaf is not None]
