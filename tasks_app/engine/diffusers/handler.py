"""Text to image with diffusers: requests -> one pipeline call -> images. Uses neither Django nor Redis."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

# isort: off
from tasks_app.engine.diffusers.loading import library_logs  # noqa: F401 - before diffusers

# isort: on
import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline

from tasks_app.engine.diffusers import memory
from tasks_app.engine.diffusers.adapters import embeddings, loras
from tasks_app.engine.diffusers.adapters.embeddings import Embedding
from tasks_app.engine.diffusers.adapters.loras import Lora
from tasks_app.engine.diffusers.call import PipelineCall, build_images, fresh_schedulers
from tasks_app.engine.diffusers.image_inputs import pipeline_for
from tasks_app.engine.diffusers.loading import loader, optimizations, snapshots
from tasks_app.engine.diffusers.pipeline_cache import PipelineCache
from tasks_app.engine.diffusers.previews import PreviewSchedule
from tasks_app.engine.diffusers.prompts import embeds_cache
from tasks_app.engine.handler import ProgressCallback
from tasks_app.engine.types import (
    EngineState,
    GenerationRequest,
    GenerationResult,
    LoadOptions,
    ModelUsage,
    Progress,
    WarmModel,
)
from tasks_app.errors import GenerationAbortedError, OutOfMemoryError


def _empty_device_cache() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


PIPELINE_CACHE = PipelineCache(on_evict=_empty_device_cache, size_of=memory.get_pipeline_size)


# Cache key of a loaded pipeline: model, revision, options.
_CacheKey = tuple[str, str, LoadOptions]


class _CacheLimits(TypedDict):
    capacity: int
    max_bytes: int | None


class DiffusersHandler:
    """Engine for any text-to-image pipeline that diffusers loads, and for image inputs if the family supports them."""

    def __init__(
        self,
        *,
        models_dir: Path,
        hub_cache: Path,
        loras_dir: Path | None = None,
        embeddings_dir: Path | None = None,
        offline: bool = False,
        hub_endpoint: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        max_models_bytes: int | None = None,
        max_cached_models: int = 1,
        max_cached_bytes: int | None = None,
        safety_checker: bool = True,
        preview_every: int = 0,
        preview_seconds: float = 0.0,
        prompt_cache_bytes: int = 0,
        cpu_threads: int | None = None,
    ) -> None:
        self._locations = snapshots.ModelLocations(
            models_dir=models_dir,
            hub_cache=hub_cache,
            offline=offline,
            endpoint=hub_endpoint,
            max_bytes=max_models_bytes,
        )
        self._loras_dir = loras_dir or models_dir / "loras"
        self._embeddings_dir = embeddings_dir or models_dir / "embeddings"
        self._device = device
        self._dtype = dtype
        self._cache_limits: _CacheLimits = {"capacity": max_cached_models, "max_bytes": max_cached_bytes}
        self._safety_checker = safety_checker
        self._preview_schedule = PreviewSchedule(every=preview_every, seconds=preview_seconds)
        self._prompt_cache_bytes = prompt_cache_bytes
        if cpu_threads is not None:
            torch.set_num_threads(cpu_threads)

    def run(self, requests: Sequence[GenerationRequest], report: ProgressCallback) -> list[GenerationResult]:
        """Generate the images of the requests; see `engine.handler.Handler`.

        If there is not enough memory for a single request, the engine evicts all pipelines and retries once in
        low-memory mode.
        """
        forward = _MonotonicProgress(report)
        try:
            return self._run_requests(requests, forward, thrifty=False)
        except OutOfMemoryError:
            if len(requests) > 1:
                raise
            # Retry outside the `except` block, where no traceback keeps the first attempt's tensors alive.
        PIPELINE_CACHE.clear()
        return self._run_requests(requests, forward, thrifty=True)

    def _run_requests(
        self, requests: Sequence[GenerationRequest], report: ProgressCallback, *, thrifty: bool
    ) -> list[GenerationResult]:
        started = time.monotonic()
        first = requests[0]
        snapshot = self._fetch_snapshot(first.model_id, first.revision, report, first.total_steps)
        worn = loras.find_loras(first.loras, self._loras_dir)
        words = embeddings.find_embeddings(first.embeddings, self._embeddings_dir)
        key = _build_cache_key(first.model_id, snapshot, first.options)
        with memory.translate_device_errors(), self._lease_pipeline(key, snapshot, thrifty=thrifty) as found:
            self._apply_adapters(found, worn, words, key)
            pipeline = pipeline_for(found, first)
            loaded = time.monotonic()
            slim = memory.low_memory(pipeline) if thrifty else nullcontext()
            with fresh_schedulers(pipeline, first.scheduler), slim:
                spoken = [embeddings.substitute_tokens(found, request) for request in requests]
                call = PipelineCall(pipeline, spoken, report, pace=self._preview_schedule)
                output = call()
        timings = {"loading": loaded - started, "denoising": call.last_step_at - loaded}
        timings["decoding"] = time.monotonic() - call.last_step_at
        rounded = {name: round(seconds, 3) for name, seconds in timings.items()}
        made_by = self._build_provenance(snapshot, first.options) | {"batch_size": str(len(requests))}
        made_by |= loras.build_provenance(worn) | embeddings.build_provenance(words)
        return [
            GenerationResult(images=made, revision=snapshot.revision, timings=rounded, provenance=made_by)
            for made in build_images(output, requests)
        ]

    def preload_model(self, model_id: str, revision: str, options: LoadOptions) -> None:
        """Load a model ahead of its first task; see `engine.handler.Handler`."""
        snapshot = self._fetch_snapshot(model_id, revision, lambda progress: None, 0)
        with (
            memory.translate_device_errors(),
            self._lease_pipeline(_build_cache_key(model_id, snapshot, options), snapshot),
        ):
            pass

    def unload_model(self, model_id: str) -> None:
        """Evict a model; see `engine.handler.Handler`."""
        PIPELINE_CACHE.evict(lambda key: key[0] == model_id)

    def unload_idle_models(self, seconds: float) -> None:
        """Evict the models that have not been used for this many seconds; see `engine.handler.Handler`."""
        PIPELINE_CACHE.evict_idle(seconds)

    def get_warm_models(self) -> tuple[WarmModel, ...]:
        """Return the loaded models; see `engine.handler.Handler`."""
        keys = PIPELINE_CACHE.keys()
        return tuple(dict.fromkeys(WarmModel(model_id=model_id, revision=revision) for model_id, revision, _ in keys))

    def get_state(self) -> EngineState:
        """Return the device and loaded models of this process; see `engine.handler.Handler`."""
        return memory.build_engine_state(
            loader.resolve_device(self._device), self.get_warm_models(), _get_model_usage()
        )

    def _apply_adapters(
        self, pipeline: DiffusionPipeline, wanted: tuple[Lora, ...], words: tuple[Embedding, ...], key: _CacheKey
    ) -> None:
        """Apply these LoRAs and embeddings, and no others, to a leased pipeline."""
        embeddings.apply_embeddings(pipeline, words)
        loras.check_loras(pipeline, wanted, key[2])
        try:
            grown = loras.apply_loras(pipeline, wanted)
        except Exception:
            PIPELINE_CACHE.discard(key)
            raise
        if grown:
            PIPELINE_CACHE.update_size(key, **self._cache_limits)

    def _lease_pipeline(
        self, key: _CacheKey, snapshot: snapshots.Snapshot, *, thrifty: bool = False
    ) -> AbstractContextManager[DiffusionPipeline]:
        _, _, options = key
        # A model that was once too large stays offloaded until it is evicted.
        chosen = replace(options, offload="model") if thrifty and options.offload == "none" else options
        return PIPELINE_CACHE.lease(key, lambda: self._load_pipeline(snapshot, chosen), **self._cache_limits)

    def download_model(self, model_id: str, revision: str, report: ProgressCallback) -> str:
        """Download a model's files; see `engine.handler.Handler`."""
        return self._fetch_snapshot(model_id, revision, report, 0).revision

    def _fetch_snapshot(self, model_id: str, revision: str, report: ProgressCallback, steps: int) -> snapshots.Snapshot:
        def on_bytes(done: int, total: int) -> None:
            try:
                report(Progress(phase="loading", total_steps=steps, bytes_done=done, bytes_total=total))
            except GenerationAbortedError:
                # A download can't be stopped half-way; the next report raises the error again.
                return

        report(Progress(phase="loading", total_steps=steps))
        snapshot = snapshots.fetch_snapshot(model_id, revision, self._locations, on_bytes)
        report(Progress(phase="loading", total_steps=steps))
        return snapshot

    def _build_provenance(self, snapshot: snapshots.Snapshot, options: LoadOptions) -> dict[str, str]:
        placement = self._choose_placement(snapshot, options)
        versions = {library.__name__: str(library.__version__) for library in (diffusers, torch, transformers)}
        dtype = str(placement.dtype).removeprefix("torch.")
        return {"device": placement.device, "dtype": dtype, **optimizations.build_provenance(options), **versions}

    def _choose_placement(self, snapshot: snapshots.Snapshot, options: LoadOptions) -> loader.Placement:
        return loader.choose_placement(self._device, options.dtype or self._dtype, snapshot.path)

    def _load_pipeline(self, snapshot: snapshots.Snapshot, options: LoadOptions) -> DiffusionPipeline:
        placement = self._choose_placement(snapshot, options)
        pipeline = loader.load_pipeline(snapshot, placement, safety_checker=self._safety_checker, options=options)
        embeds_cache.enable_prompt_cache(pipeline, self._prompt_cache_bytes)
        return pipeline


def _build_cache_key(model_id: str, snapshot: snapshots.Snapshot, options: LoadOptions) -> _CacheKey:
    return model_id, snapshot.revision, options


def _get_model_usage() -> tuple[ModelUsage, ...]:
    """Return the usage of each model, summed over its revisions and options."""
    loads: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for (model_id, _, _), loaded, found in PIPELINE_CACHE.get_usage():
        loads[model_id] += loaded
        hits[model_id] += found
    return tuple(ModelUsage(model_id=model_id, loads=loads[model_id], hits=hits[model_id]) for model_id in loads)


class _MonotonicProgress:
    """Progress callback that forwards reports and keeps the step from going back when a run is retried."""

    def __init__(self, report: ProgressCallback) -> None:
        self._report = report
        self._last_step = 0

    def __call__(self, progress: Progress, /) -> None:
        self._last_step = max(self._last_step, progress.step)
        self._report(replace(progress, step=self._last_step))
