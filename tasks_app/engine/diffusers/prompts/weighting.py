"""Prompts that are longer than their encoder reads at once, or whose words weigh more or less, by compel."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from compel import EmbeddingsProvider, ReturnedEmbeddingsType, SplitLongTextMode
from diffusers import DiffusionPipeline

from tasks_app.engine.diffusers.prompts.attention import Fragment, parse_prompt_attention

# What pipelines whose encoders are CLIP's take of them; a prompt's length means nothing to their networks.
ENCODER_LAYERS: Mapping[str, ReturnedEmbeddingsType] = {
    "LatentConsistencyModelPipeline": ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED,
    "StableDiffusionPipeline": ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED,
    "StableDiffusionXLPipeline": ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED,
}
# Which of them add to the prompt's words one vector of the whole.
POOLED_ARGUMENT = "pooled_prompt_embeds"


def enable_prompt_weighting(pipeline: DiffusionPipeline, family: str) -> None:
    """Let a pipeline heed weights in its prompts, and read all of them; `family` is its class's name, or its origin's.

    Raises:
        LookupError: its encoders don't allow that.
    """
    pipeline.encode_prompt = WeightedPromptEncoder(pipeline, ENCODER_LAYERS[family])


class WeightedPromptEncoder:
    """Stands for `encode_prompt`: what it can't do itself it is given as embeddings, made of 77 tokens at a time."""

    def __init__(self, pipeline: DiffusionPipeline, layer: ReturnedEmbeddingsType) -> None:
        self._pipeline = pipeline
        self._layer = layer
        self._encode = pipeline.encode_prompt
        self._signature = inspect.signature(self._encode)
        # What follows the names of its encoders and tokenizers; those of a refiner begin with the second.
        self._encoder_suffixes = [
            which for which in ("", "_2") if pipeline.components.get(f"text_encoder{which}") is not None
        ]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what `encode_prompt` returns, but for the length.

        Raises:
            InvalidParams: a prompt's weights can't be heeded.
        """
        call = self._signature.bind(*args, **kwargs)
        call.apply_defaults()
        texts = self._get_prompts(call.arguments)
        parsed = {text: parse_prompt_attention(text, field) for field, prompts in texts.items() for text in prompts}
        if not all(self._is_plain_prompt(*each) for each in parsed.items()):
            call.arguments.update(dict.fromkeys(texts) | self._build_embeds(texts, parsed))
        return self._encode(*call.args, **call.kwargs)

    def _get_prompts(self, given: Mapping[str, Any]) -> dict[str, list[str]]:
        """Return the prompts, and the negative prompts if they count."""
        texts = {"prompt": _to_list(given["prompt"])}
        negative = given["negative_prompt"]
        zeros = negative is None and getattr(self._pipeline.config, "force_zeros_for_empty_prompt", False)
        if given["do_classifier_free_guidance"] and not zeros:
            texts["negative_prompt"] = _to_list(negative or [""] * len(texts["prompt"]))
        return texts

    def _is_plain_prompt(self, text: str, fragments: list[Fragment]) -> bool:
        """Return whether the pipeline itself makes of a prompt what is to be made of it."""
        tokenizer = self._pipeline.tokenizer_2 if "_2" in self._encoder_suffixes else self._pipeline.tokenizer
        fits = len(tokenizer(text).input_ids) <= tokenizer.model_max_length
        return fits and fragments == ([(text, 1.0)] if text else [])

    def _build_embeds(
        self, texts: Mapping[str, Sequence[str]], parsed: Mapping[str, list[Fragment]]
    ) -> dict[str, torch.Tensor]:
        """Return by argument what stands for the prompts: (prompts, tokens, features), and of the whole of each."""
        providers = self._build_providers()
        words = {text: _embed_words(providers, fragments) for text, fragments in parsed.items()}
        longest = max(found.shape[1] for found in words.values())
        # All as long: attention over the same twice is the same, so that no prompt depends on what it is together with.
        even = {text: found.repeat(1, longest // found.shape[1], 1) for text, found in words.items()}
        made = {f"{name}_embeds": torch.cat([even[text] for text in prompts]) for name, prompts in texts.items()}
        if POOLED_ARGUMENT in self._signature.parameters:
            whole = {text: _embed_pooled(providers[-1], fragments) for text, fragments in parsed.items()}
            made |= {
                _pooled_argument(name): torch.cat([whole[text] for text in prompts]) for name, prompts in texts.items()
            }
        return made

    def _build_providers(self) -> list[EmbeddingsProvider]:
        # Made anew for each call: an encoder's device is another one while it is offloaded.
        device, parts = self._pipeline._execution_device, self._pipeline.components
        return [
            EmbeddingsProvider(
                tokenizer=parts[f"tokenizer{which}"],
                text_encoder=_DeviceAwareEncoder(parts[f"text_encoder{which}"], device),
                returned_embeddings_type=self._layer,
                truncate=False,
                split_long_text_mode=SplitLongTextMode.SENTENCES,
                device=device,
            )
            for which in self._encoder_suffixes
        ]


class _DeviceAwareEncoder:
    """Stands for a text encoder and says where it computes, which its weights don't tell while they are offloaded."""

    def __init__(self, module: torch.nn.Module, device: torch.device) -> None:
        self._module = module
        self.device = device
        self.dtype = module.dtype

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._module(*args, **kwargs)


def _embed_words(providers: Sequence[EmbeddingsProvider], fragments: list[Fragment]) -> torch.Tensor:
    """Return the embeddings of a prompt's words, (1, tokens, features).

    The number of pieces is a power of two, so that of any two the longer is a multiple of the shorter.
    """
    return torch.cat([_embed_fragments(provider, fragments) for provider in providers], dim=-1)


def _embed_fragments(provider: EmbeddingsProvider, fragments: list[Fragment]) -> torch.Tensor:
    # compel stumbles over fragments without tokens, but takes no fragments at all for an empty prompt.
    some = [each for each in fragments if provider.get_token_ids([each[0]], include_start_and_end_markers=False)[0]]
    words, weights = map(list, zip(*some or [("", 1.0)], strict=True))
    found = provider.get_embeddings_for_weighted_prompt_fragments([words], [weights], device=provider.device)
    pieces = found.shape[1] // provider.max_token_count
    missing = (1 << (pieces - 1).bit_length()) - pieces
    return torch.cat([found, *([provider.empty_z.to(found)] * missing)], dim=1)


def _embed_pooled(provider: EmbeddingsProvider, fragments: list[Fragment]) -> torch.Tensor:
    """Return the embedding of the whole of a prompt, (1, features), by its first 77 tokens and without weights."""
    text = "".join(words for words, _ in fragments)
    found: torch.Tensor = provider.get_pooled_embeddings([text], device=provider.device)
    return found


def _to_list(prompts: str | list[str]) -> list[str]:
    return [prompts] if isinstance(prompts, str) else prompts


def _pooled_argument(name: str) -> str:
    return POOLED_ARGUMENT if name == "prompt" else f"negative_{POOLED_ARGUMENT}"
