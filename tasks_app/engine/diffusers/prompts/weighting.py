"""Prompt weighting with compel, and prompts that exceed the token limit of their encoder."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from compel import EmbeddingsProvider, ReturnedEmbeddingsType, SplitLongTextMode
from diffusers import DiffusionPipeline

from tasks_app.engine.diffusers.prompts.attention import Fragment, parse_prompt_attention

# Outputs that pipelines with CLIP encoders use; their denoisers accept prompts of any length.
ENCODER_LAYERS: Mapping[str, ReturnedEmbeddingsType] = {
    "LatentConsistencyModelPipeline": ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED,
    "StableDiffusionPipeline": ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED,
    "StableDiffusionXLPipeline": ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED,
}
# Argument of the pipelines that also take one pooled vector of the whole prompt.
POOLED_ARGUMENT = "pooled_prompt_embeds"


def enable_prompt_weighting(pipeline: DiffusionPipeline, family: str) -> None:
    """Enable weighted and long prompts; `family` is the class name of the pipeline, or of the one it derives from.

    Raises:
        LookupError: The encoders of this family are not supported.
    """
    pipeline.encode_prompt = WeightedPromptEncoder(pipeline, ENCODER_LAYERS[family])


class WeightedPromptEncoder:
    """Replacement for `encode_prompt`; passes it weighted or long prompts as embeddings, made 77 tokens at a time."""

    def __init__(self, pipeline: DiffusionPipeline, layer: ReturnedEmbeddingsType) -> None:
        self._pipeline = pipeline
        self._layer = layer
        self._encode = pipeline.encode_prompt
        self._signature = inspect.signature(self._encode)
        # Suffixes in the names of its encoders and tokenizers; a refiner has only the second ones.
        self._encoder_suffixes = [
            which for which in ("", "_2") if pipeline.components.get(f"text_encoder{which}") is not None
        ]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return embeddings as `encode_prompt` does, but without its limit on the length.

        Raises:
            InvalidParamsError: The weights of a prompt are out of range.
        """
        call = self._signature.bind(*args, **kwargs)
        call.apply_defaults()
        texts = self._get_prompts(call.arguments)
        parsed = {text: parse_prompt_attention(text, field) for field, prompts in texts.items() for text in prompts}
        if not all(self._is_plain_prompt(*each) for each in parsed.items()):
            call.arguments.update(dict.fromkeys(texts) | self._build_embeds(texts, parsed))
        return self._encode(*call.args, **call.kwargs)

    def _get_prompts(self, given: Mapping[str, Any]) -> dict[str, list[str]]:
        """Return the prompts, and the negative prompts if the call uses them."""
        texts = {"prompt": _to_list(given["prompt"])}
        negative = given["negative_prompt"]
        zeros = negative is None and getattr(self._pipeline.config, "force_zeros_for_empty_prompt", False)
        if given["do_classifier_free_guidance"] and not zeros:
            texts["negative_prompt"] = _to_list(negative or [""] * len(texts["prompt"]))
        return texts

    def _is_plain_prompt(self, text: str, fragments: list[Fragment]) -> bool:
        """Return whether the pipeline itself can encode a prompt: it has no weights and is not too long."""
        tokenizer = self._pipeline.tokenizer_2 if "_2" in self._encoder_suffixes else self._pipeline.tokenizer
        fits = len(tokenizer(text).input_ids) <= tokenizer.model_max_length
        return fits and fragments == ([(text, 1.0)] if text else [])

    def _build_embeds(
        self, texts: Mapping[str, Sequence[str]], parsed: Mapping[str, list[Fragment]]
    ) -> dict[str, torch.Tensor]:
        """Return the embeddings of the prompts, (prompts, tokens, features), and pooled ones if needed, by argument."""
        providers = self._build_providers()
        words = {text: _embed_words(providers, fragments) for text, fragments in parsed.items()}
        longest = max(found.shape[1] for found in words.values())
        # Repetition makes all equally long and does not change attention, so no prompt depends on its batch mates.
        even = {text: found.repeat(1, longest // found.shape[1], 1) for text, found in words.items()}
        made = {f"{name}_embeds": torch.cat([even[text] for text in prompts]) for name, prompts in texts.items()}
        if POOLED_ARGUMENT in self._signature.parameters:
            whole = {text: _embed_pooled(providers[-1], fragments) for text, fragments in parsed.items()}
            made |= {
                _pooled_argument(name): torch.cat([whole[text] for text in prompts]) for name, prompts in texts.items()
            }
        return made

    def _build_providers(self) -> list[EmbeddingsProvider]:
        # Created for each call, because the device of an encoder changes while it is offloaded.
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
    """Wrapper of a text encoder that reports its execution device, which offloaded weights don't show."""

    def __init__(self, module: torch.nn.Module, device: torch.device) -> None:
        self._module = module
        self.device = device
        self.dtype = module.dtype

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._module(*args, **kwargs)


def _embed_words(providers: Sequence[EmbeddingsProvider], fragments: list[Fragment]) -> torch.Tensor:
    """Return the embeddings of a prompt's words, (1, tokens, features).

    The number of chunks is a power of two, so that of any two prompts the longer is a multiple of the shorter.
    """
    return torch.cat([_embed_fragments(provider, fragments) for provider in providers], dim=-1)


def _embed_fragments(provider: EmbeddingsProvider, fragments: list[Fragment]) -> torch.Tensor:
    # compel fails on fragments without tokens, except on a single empty one for an empty prompt.
    some = [each for each in fragments if provider.get_token_ids([each[0]], include_start_and_end_markers=False)[0]]
    words, weights = map(list, zip(*some or [("", 1.0)], strict=True))
    found = provider.get_embeddings_for_weighted_prompt_fragments([words], [weights], device=provider.device)
    pieces = found.shape[1] // provider.max_token_count
    missing = (1 << (pieces - 1).bit_length()) - pieces
    return torch.cat([found, *([provider.empty_z.to(found)] * missing)], dim=1)


def _embed_pooled(provider: EmbeddingsProvider, fragments: list[Fragment]) -> torch.Tensor:
    """Return the pooled embedding of a prompt, (1, features), from its first 77 tokens and without weights."""
    text = "".join(words for words, _ in fragments)
    found: torch.Tensor = provider.get_pooled_embeddings([text], device=provider.device)
    return found


def _to_list(prompts: str | list[str]) -> list[str]:
    return [prompts] if isinstance(prompts, str) else prompts


def _pooled_argument(name: str) -> str:
    return POOLED_ARGUMENT if name == "prompt" else f"negative_{POOLED_ARGUMENT}"
