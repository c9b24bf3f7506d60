"""What crosses the layers: frozen dataclasses, and the two protocols between the supervisor and a handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import UUID

if TYPE_CHECKING:
    from PIL.Image import Image

Phase = Literal["loading", "denoising", "decoding", "saving"]
Offload = Literal["none", "model", "sequential"]
OutputFormat = Literal["png", "jpeg", "webp"]
Verdict = Literal["identical", "near", "different", "unknown"]


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
class LoraUse:
    """A LoRA by its name, and how much of it is added to the model's weights; 1 is what it was trained for."""

    id: str
    weight: float


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """What a handler is asked for. Width and height are in pixels; None means the model's own, as for the scheduler.

    `sent` names what the client itself sent of those parameters that not every model heeds: they are refused there.

    With an `image` (RGB) the run begins with it, takes the last `strength` (0…1) of the steps, and draws what is as
    large, or as large as width and height say; with a `mask` (RGB) of the same size only where that is white.
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
    loras: tuple[LoraUse, ...] = ()
    sent: frozenset[str] = frozenset()
    options: LoadOptions = LoadOptions()

    @property
    def total_steps(self) -> int:
        """How many steps the run is expected to take."""
        return steps_taken(self.steps, self.strength)


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """One picture. `flagged`: the model's safety checker replaced it; `black`: nothing was drawn."""

    seed: int
    image: Image
    flagged: bool = False
    black: bool = False


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


def steps_taken(steps: int, strength: float | None) -> int:
    """Return how many of a run's steps are taken: all, or the last ones when it begins with a picture."""
    return steps if strength is None else int(steps * strength)


def percent(step: int, total_steps: int) -> int:
    """Return the share of steps done, 0…100."""
    return 100 * step // total_steps if total_steps else 0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a queued task stands: its place in line, from 1, and whether the queue or its model is paused."""

    place: int
    paused: bool


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that Redis tells of a task: `status`, `progress` or `preview`.

    `entry` is its id in the task's stream, which a preview isn't in.
    """

    task_id: UUID
    name: str
    data: Mapping[str, Any]
    entry: str = ""


@dataclass(frozen=True, kw_only=True)
class Trail:
    """What Redis has of a task at one moment: the newest event, those since the one asked for, the latest preview."""

    newest: Event | None = None
    since: tuple[Event, ...] = ()
    preview: Event | None = None


class Report(Protocol):
    """Called by a handler at every step.

    Raises:
        RunStopped: the run is to end; the handler lets it pass.
    """

    def __call__(self, progress: Progress, /) -> None:
        """Take one report."""


@dataclass(frozen=True, kw_only=True)
class WarmModel:
    """A model that is loaded and ready to run."""

    model_id: str
    revision: str


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a worker holds when it claims, and for how many seconds it has held just that.

    `fits` is by model how many pictures the worker makes in one call, where it learned that more are too many.
    """

    models: frozenset[WarmModel] = frozenset()
    seconds: float = 0.0
    fits: Mapping[str, int] = field(default_factory=dict)


NOTHING_HELD = Held()


@dataclass(frozen=True, kw_only=True)
class ModelUse:
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
    uses: tuple[ModelUse, ...] = ()


class Handler(Protocol):
    """A provider's engine. All but `state` is called from one thread at a time."""

    def run(self, requests: Sequence[GenerationRequest], report: Report) -> list[GenerationResult]:
        """Generate the pictures of some requests in one call, which differ in prompt, negative prompt and seed only.

        Raises:
            TaskError: with the code that each task shall fail with.
            RunStopped: passed on from `report`.
        """

    def pull(self, model_id: str, revision: str, report: Report) -> str:
        """Fetch a model's files ahead of time and return the revision.

        Raises:
            ModelUnavailable: they can't be had.
        """

    def preload(self, model_id: str, revision: str, options: LoadOptions) -> None:
        """Load a model ahead of the first task that wants it.

        Raises:
            TaskError: with the reason why it can't be loaded.
        """

    def unload(self, model_id: str) -> None:
        """Give up the memory that a model takes."""

    def unload_idle(self, seconds: float) -> None:
        """Give up the memory of models that nobody has used for so long."""

    def state(self) -> EngineState:
        """Say what the engine runs on and holds; may be called at any time from any thread."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to write to a running task: lost as soon as the row's attempt is another."""

    task_id: UUID
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Beat:
    """What a heartbeat learned about its task."""

    cancel_requested: bool
    overdue: bool


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run's pictures were made of, as their files tell it; `params` are those that a `POST /task` takes."""

    task_type: str
    params: Mapping[str, Any]
    model_id: str
    revision: str
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """What a picture's file tells of how it was made; `ignored` has no counterpart here."""

    source: Literal["diffusers-handler", "a1111"]
    task_type: str
    params: Mapping[str, Any]
    ignored: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """A picture that lies in the storage. Sizes are in pixels."""

    index: int
    name: str
    content_type: str
    seed: int
    width: int
    height: int
    sha256: str
    flagged: bool
    black: bool


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """A picture that a client sent. Sizes are in pixels, the sum is that of the PNG that is kept."""

    id: UUID
    sha256: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class PictureVerdict:
    """How a picture that was made again compares with the first one: by its pixels, and by its file's bytes.

    `psnr` is in decibels; None where the pixels are equal, or can't be compared.
    """

    index: int
    verdict: Verdict
    psnr: float | None
    same_file: bool


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """How a task that was run again compares: the worst verdict, and what of its provenance was and is otherwise."""

    verdict: Verdict
    images: tuple[PictureVerdict, ...]
    differs: Mapping[str, tuple[str | None, str | None]]


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Who is told how a task ended, and of which ends."""

    url: str
    events: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A task to be: everything validated and resolved; without a batch key it runs alone.

    `sent` is as in a `GenerationRequest`; `uploads` are those that the parameters name; `reproduces` is the task whose
    pictures its own are compared with.
    """

    task_type: str
    provider: str
    requested_model_id: str
    model_id: str
    revision: str
    params: Mapping[str, Any]
    seed: int
    priority: int
    batch_key: str = ""
    sent: frozenset[str] = frozenset()
    uploads: tuple[UUID, ...] = ()
    webhook: Webhook | None = None
    reproduces: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class Letter:
    """What a webhook's receiver is sent."""

    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a delivery: the status, if there was one, and what went wrong in words, if something did."""

    status: int | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Once:
    """A client's name for one request, and what tells its body from another's."""

    name: str
    body_sha256: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a key is held to; None is no limit."""

    rate_per_minute: int | None = None
    max_queued: int | None = None
    max_running: int | None = None


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks: a key, or somebody without one, and what they may."""

    scopes: frozenset[str]
    key_id: int | None = None
    limits: Limits = Limits()
    webhook: Webhook | None = None
