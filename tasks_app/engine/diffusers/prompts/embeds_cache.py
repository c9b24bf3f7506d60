"""Prompts that come again skip the text encoders: what a pipeline made of them is kept with it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch.utils import _pytree as pytree

from tasks_app.engine.diffusers.adapters import embeddings, loras

# What two calls can be compared by; a call with anything else, as with embeddings, is not remembered.
_COMPARABLE_TYPES = (str, int, float, torch.device, torch.dtype, type(None))


def enable_prompt_cache(pipeline: DiffusionPipeline, max_bytes: int) -> None:
    """Let a pipeline remember its prompts, as long as it lives; one that has no `encode_prompt` stays as it is."""
    if max_bytes and hasattr(pipeline, "encode_prompt"):
        pipeline.encode_prompt = PromptEmbedsCache(
            pipeline.encode_prompt, max_bytes, lambda: _get_encoder_state(pipeline)
        )


def _get_encoder_state(pipeline: DiffusionPipeline) -> Hashable:
    return loras.get_active_loras(pipeline), embeddings.get_active_embeddings(pipeline)


@dataclass(frozen=True, kw_only=True)
class _CachedEmbeds:
    """What came out of the encoders, and how often each tensor had been written to when it did."""

    leaves: list[Any]
    layout: pytree.TreeSpec
    versions: list[int]

    def is_unmodified(self) -> bool:
        return _get_versions(self.leaves) == self.versions

    def count_bytes(self) -> int:
        # A slice keeps all of what it is one of.
        storages = (leaf.untyped_storage() for leaf in self.leaves if leaf is not None)
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


class PromptEmbedsCache:
    """Stands for `encode_prompt`: for arguments that it knows it returns the tensors that came of them before.

    The least recently used go first when all together take more than `max_bytes`. Tensors that a caller has written to
    are made anew. `encoders` says how the text encoders are at present, where that changes.
    """

    def __init__(
        self, encode: Callable[..., Any], max_bytes: int, encoders: Callable[[], Hashable] = lambda: None
    ) -> None:
        self._encode = encode
        self._get_encoder_state = encoders
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, _CachedEmbeds] = OrderedDict()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what `encode_prompt` returns."""
        key = _build_key(self._get_encoder_state(), args, kwargs)
        found = self._entries.get(key)
        if found is not None and found.is_unmodified():
            self._entries.move_to_end(key)
            return pytree.tree_unflatten(found.leaves, found.layout)
        # What is kept has to tell whether it was written to, which tensors of inference mode don't.
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
    """Return what tells this call from others; None if nothing does."""
    leaves, layout = pytree.tree_flatten((args, dict(kwargs)))
    return (encoders, repr(layout), *leaves) if all(isinstance(leaf, _COMPARABLE_TYPES) for leaf in leaves) else None


def _get_versions(leaves: list[Any]) -> list[int]:
    # torch's own count, which autograd uses to find out the same.
    return [leaf._version for leaf in leaves if leaf is not None]
