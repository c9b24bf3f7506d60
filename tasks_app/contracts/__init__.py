"""What crosses the layers: frozen keyword-only dataclasses, and the two protocols of handlers."""

from tasks_app.contracts.asking import Answer, Caller, Letter, Limits, Once, Submission, Webhook
from tasks_app.contracts.claims import NOTHING_HELD, Beat, Claim, Held, Success
from tasks_app.contracts.engines import EngineState, Handler, ModelUse, Report, WarmModel
from tasks_app.contracts.generation import (
    GeneratedImage,
    GenerationRequest,
    GenerationResult,
    LoadOptions,
    LoraUse,
    Offload,
    OutputFormat,
    Phase,
    Progress,
    percent,
    steps_taken,
)
from tasks_app.contracts.pictures import PictureVerdict, Recipe, Recovered, Reproduction, StoredImage, Uploaded, Verdict
from tasks_app.contracts.watching import Event, Standing, Trail

__all__ = [
    "NOTHING_HELD",
    "Answer",
    "Beat",
    "Caller",
    "Claim",
    "EngineState",
    "Event",
    "GeneratedImage",
    "GenerationRequest",
    "GenerationResult",
    "Handler",
    "Held",
    "Letter",
    "Limits",
    "LoadOptions",
    "LoraUse",
    "ModelUse",
    "Offload",
    "Once",
    "OutputFormat",
    "Phase",
    "PictureVerdict",
    "Progress",
    "Recipe",
    "Recovered",
    "Report",
    "Reproduction",
    "Standing",
    "StoredImage",
    "Submission",
    "Success",
    "Trail",
    "Uploaded",
    "Verdict",
    "WarmModel",
    "Webhook",
    "percent",
    "steps_taken",
]
