"""Requests, progress reports and results of an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from uuid import UUID

if TYPE_CHECKING:
    from PIL.Image import Image

Phase = Literal["loading", "denoising", "decoding", "saving"]


Offload = Literal["none", "model", "sequential"]


OutputFormat = Literal["png", "jpeg", "webp"]


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Options for loading a model; an empty dtype means the server's own, any other empty option is off.

    `offload` keeps idle components off the accelerator. The fields of the model's row describe the effects and costs
    of the other options.
    """

    dtype: str = ""
    offload: Offload = "none"
    channels_last: bool = False
    fuse_qkv: bool = False
    attention_backend: str = ""
    compile_blocks: bool = False
    step_cache: str = ""
    vae_slicing: bool = False
    vae_tiling: bool = False
    quantization: str = ""
    prompt_weighting: bool = False


@dataclass(frozen=True, kw_only=True)
class RequestedLora:
    """Name of a LoRA and the factor with which it is added to the model's weights; 1 is its trained strength."""

    id: str
    weight: float


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """Request to an engine. Width and height are in pixels; None means the model's own, as for the scheduler.

    `explicit_params` names the parameters with optional support that the client set itself: a model that does not
    support one of them rejects the request.

    With an `image` (RGB), the run starts from it and takes the last `strength` (0…1) of the steps. The result has the
    size of the image, or `width` × `height` if set. With a `mask` (RGB) of the same size, only its white area changes.

    `embeddings` are names, which act as trigger words in the prompts.
    """

    model_id: str
    revision: str
    prompt: str
    negative_prompt: str
    steps: int
    guidance_scale: float
    seed: int
    width: int | None
    height: int | None
    num_images: int
    scheduler: str | None = None
    image: Image | None = None
    mask: Image | None = None
    strength: float | None = None
    loras: tuple[RequestedLora, ...] = ()
    embeddings: tuple[str, ...] = ()
    explicit_params: frozenset[str] = frozenset()
    options: LoadOptions = LoadOptions()

    @property
    def total_steps(self) -> int:
        """Return the expected number of steps of the run."""
        return count_run_steps(self.steps, self.strength)


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """One image. `flagged`: the model's safety checker replaced it; `blank`: all pixels are black."""

    seed: int
    image: Image
    flagged: bool = False
    blank: bool = False


@dataclass(frozen=True, kw_only=True)
class GenerationResult:
    """Result of one request. `revision` is the loaded revision; timings are in seconds.

    `provenance` lists the factors besides the parameters that the images depend on: device, dtype, library versions.
    """

    images: tuple[GeneratedImage, ...]
    revision: str
    timings: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a run. Byte counts are those of a download and known only in the phase `loading`.

    `preview` takes the index of a request and renders a small image from the latents of its first image at this step;
    call it from another thread.
    """

    phase: Phase
    step: int = 0
    total_steps: int
    bytes_done: int | None = None
    bytes_total: int | None = None
    preview: Callable[[int], Image] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class WarmModel:
    """A model that is loaded and ready to run."""

    model_id: str
    revision: str


@dataclass(frozen=True, kw_only=True)
class ModelUsage:
    """Counts of a process's uses of a model: those that loaded it, and those that found it loaded."""

    model_id: str
    loads: int
    hits: int


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """Device and loaded models of an engine.

    Memory is in bytes: that of the accelerator; on a CPU, the host's total and the part that this process uses.
    """

    device: str
    device_name: str
    memory_used: int
    memory_total: int
    warm: tuple[WarmModel, ...]
    uses: tuple[ModelUsage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UploadInfo:
    """An image that a client uploaded. Sizes are in pixels; the checksum is that of the stored PNG."""

    id: UUID
    sha256: str
    width: int
    height: int


def count_run_steps(steps: int, strength: float | None) -> int:
    """Return the number of steps that a run takes: all, or only the last ones if it starts from an image."""
    return steps if strength is None else int(steps * strength)


def percent_done(step: int, total_steps: int) -> int:
    """Return the percentage of steps done, 0…100."""
    return 100 * step // total_steps if total_steps else 0
