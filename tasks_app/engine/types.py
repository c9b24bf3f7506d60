"""What a handler is asked for, what it reports and what it gives back."""

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
    """How a model is loaded; an empty dtype is the server's own, and what is empty otherwise is off.

    `offload` takes off an accelerator what is at rest. A model's row says of all others what they do and cost.
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
    """A LoRA by its name, and how much of it is added to the model's weights; 1 is what it was trained for."""

    id: str
    weight: float


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """What a handler is asked for. Width and height are in pixels; None means the model's own, as for the scheduler.

    `sent` names what the client itself sent of those parameters that not every model heeds: they are refused there.

    With an `image` (RGB) the run begins with it, takes the last `strength` (0…1) of the steps, and draws what is as
    large, or as large as width and height say; with a `mask` (RGB) of the same size only where that is white.

    `embeddings` are names; in the prompts these words stand for what was learned.
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
        """How many steps the run is expected to take."""
        return count_run_steps(self.steps, self.strength)


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """One picture. `flagged`: the model's safety checker replaced it; `blank`: nothing was drawn."""

    seed: int
    image: Image
    flagged: bool = False
    blank: bool = False


@dataclass(frozen=True, kw_only=True)
class GenerationResult:
    """What a handler gives back. `revision` is the one that was loaded; timings are in seconds.

    `provenance` names what the picture depends on beside its parameters: device, dtype, versions of libraries.
    """

    images: tuple[GeneratedImage, ...]
    revision: str
    timings: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is. Bytes are those of a download and known only in the phase `loading`.

    `preview` draws a small picture of the latents that a request's first picture has at this step, by the request's
    index; it is for another thread to call.
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
    """How often a process loaded a model, and how often it found it loaded."""

    model_id: str
    loads: int
    hits: int


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """What an engine runs on and holds.

    Memory is in bytes: the accelerator's own; on a CPU what this process uses of the host's.
    """

    device: str
    device_name: str
    memory_used: int
    memory_total: int
    warm: tuple[WarmModel, ...]
    uses: tuple[ModelUsage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UploadInfo:
    """A picture that a client sent. Sizes are in pixels, the sum is that of the PNG that is kept."""

    id: UUID
    sha256: str
    width: int
    height: int


def count_run_steps(steps: int, strength: float | None) -> int:
    """Return how many of a run's steps are taken: all, or the last ones when it begins with a picture."""
    return steps if strength is None else int(steps * strength)


def percent_done(step: int, total_steps: int) -> int:
    """Return the share of steps done, 0…100."""
    return 100 * step // total_steps if total_steps else 0
