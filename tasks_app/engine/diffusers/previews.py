"""Previews of latents during denoising: a linear map from latent channels to RGB, fitted to each model's own VAE.

The map is fitted once per pipeline, by least squares over the VAE's encodings of a few random color fields, so no table
of model families is needed. The inference thread only makes one small copy, and another thread renders the preview.
Together they may take at most `MAX_TIME_SHARE` of the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

FloatArray = NDArray[np.float32]

# Maximum share of the run time that copying and rendering may take.
MAX_TIME_SHARE = 0.02
# Maximum length of a preview's longer side, in latent pixels.
MAX_PREVIEW_SIDE = 64
COLOR_FIELD_COUNT = 32


@dataclass(frozen=True, kw_only=True)
class PreviewSchedule:
    """Schedule of previews: one every `every` steps (0 disables them), at least `seconds` apart.

    The first preview comes at least `seconds` after the start.
    """

    every: int = 0
    seconds: float = 0.0


NO_PREVIEWS = PreviewSchedule()

_latent_maps: WeakKeyDictionary[DiffusionPipeline, torch.Tensor | None] = WeakKeyDictionary()


class Previews:
    """Previews of one call, showing the first image of each request."""

    def __init__(
        self, pipeline: DiffusionPipeline, pace: PreviewSchedule, *, height: int | None = None, width: int | None = None
    ) -> None:
        """Prepare the previews of a call; sizes are in pixels, None means the model's own."""
        self._pipeline = pipeline
        self._image_size = height, width
        self._schedule = pace
        self._latent_map = get_latent_map(pipeline) if pace.every else None
        self._started = time.monotonic()
        self._next_at = self._started + pace.seconds
        self._spent_seconds = 0.0

    def capture_preview(self, step: int, latents: Any) -> Callable[[int], Image.Image] | None:
        """Copy the latents if a preview is due, and return a function that renders one of them by its request's index.

        The latents have the shape (requests, channels, height, width).
        """
        if self._latent_map is None or not self._is_due(step):
            return None
        began = time.monotonic()
        self._next_at = began + self._schedule.seconds
        latents = self._unpack_patches(latents)
        if latents.ndim != 4 or latents.shape[1] != self._latent_map.shape[0] - 1:
            return None  # of an unknown layout, or of a video: the map does not fit
        small = _shrink_latents(latents.detach()).to("cpu", torch.float32, copy=True).numpy()
        self._spent_seconds += time.monotonic() - began
        return partial(self._draw_preview, small, self._latent_map.numpy())

    def _unpack_patches(self, latents: torch.Tensor) -> torch.Tensor:
        """Return latents in the decoder's layout; some pipelines pack them in patches (requests, patches, values)."""
        unpack = getattr(self._pipeline, "_unpack_latents", None)
        if latents.ndim != 3 or unpack is None:
            return latents
        factor = self._pipeline.vae_scale_factor
        height, width = (side or self._pipeline.default_sample_size * factor for side in self._image_size)
        unpacked: torch.Tensor = unpack(latents, height, width, factor)
        return unpacked

    def _is_due(self, step: int) -> bool:
        now = time.monotonic()
        affordable = self._spent_seconds <= MAX_TIME_SHARE * (now - self._started)
        return step % self._schedule.every == 0 and now >= self._next_at and affordable

    def _draw_preview(self, latents: FloatArray, latent_map: FloatArray, index: int) -> Image.Image:
        # Not with torch: if a second thread uses it, there are more compute threads than cores, they sleep while they
        # wait for each other, and the run itself takes twice as long.
        began = time.thread_time()
        rgb = np.einsum("chw,cd->hwd", latents[index], latent_map[:-1]) + latent_map[-1]
        image = Image.fromarray((255 * rgb.clip(0, 1)).round().astype(np.uint8))
        self._spent_seconds += time.thread_time() - began
        return image


def get_latent_map(pipeline: DiffusionPipeline) -> torch.Tensor | None:
    """Return the map (channels + 1, 3) from latents to RGB of 0…1, fitted at first use; None if that is impossible."""
    if pipeline not in _latent_maps:
        _latent_maps[pipeline] = _fit_latent_map(pipeline)
    return _latent_maps[pipeline]


def _fit_latent_map(pipeline: DiffusionPipeline) -> torch.Tensor | None:
    vae = getattr(pipeline, "vae", None)
    if not isinstance(vae, AutoencoderKL):
        return None
    fields = _build_color_fields(8 * pipeline.vae_scale_factor)
    latents = _encode_pixels(vae, fields, pipeline._execution_device)
    height, width = latents.shape[-2:]
    seen = torch.nn.functional.adaptive_avg_pool2d(fields, (height, width))
    rows, colors = (values.movedim(1, -1).flatten(0, -2) for values in (latents, seen))
    solution: torch.Tensor = torch.linalg.lstsq(_append_ones(rows), colors, driver="gelsd").solution
    return solution if bool(solution.isfinite().all()) else None


def _encode_pixels(vae: AutoencoderKL, pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the latents as a pipeline scales them, on the CPU in float32."""
    dtype = vae.dtype
    # Some autoencoders overflow in half precision; their pipelines also upcast them before decoding.
    upcast = dtype == torch.float16 and vae.config.force_upcast
    if upcast:
        vae.to(dtype=torch.float32)
    try:
        with torch.no_grad():
            latents = vae.encode((2 * pixels - 1).to(device, vae.dtype)).latent_dist.mode()
    finally:
        if upcast:
            vae.to(dtype=dtype)
    return _normalize_latents(latents.float().cpu(), vae.config)


def _normalize_latents(latents: torch.Tensor, config: Any) -> torch.Tensor:
    shifted = latents - (config.shift_factor or 0)
    if config.latents_mean is not None and config.latents_std is not None:
        mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (config.latents_mean, config.latents_std))
        shifted = (latents - mean) / std
    return shifted * float(config.scaling_factor)


def _build_color_fields(side: int) -> torch.Tensor:
    """Return smooth and flat fields of random colors, always the same: (COLOR_FIELD_COUNT, 3, side, side) of 0…1."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(COLOR_FIELD_COUNT, 3, 4, 4, generator=generator)
    coarse[::2] = coarse[::2, :, :1, :1]
    coarse = (1.8 * (coarse - 0.5) + 0.5).clamp(0, 1)  # to include pure colors
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=True)


def _shrink_latents(latents: torch.Tensor) -> torch.Tensor:
    height, width = latents.shape[-2:]
    scale = MAX_PREVIEW_SIDE / max(height, width)
    if scale >= 1:
        return latents
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return torch.nn.functional.adaptive_avg_pool2d(latents, size)


def _append_ones(rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
