"""Frozen, keyword-only dataclasses that more than one package needs."""

from tasks_app.contracts.claims import NOTHING_HELD, Beat, Claim, Held, Success
from tasks_app.contracts.events import Event, Standing, Trail
from tasks_app.contracts.images import PictureVerdict, Recipe, Recovered, Reproduction, StoredImage, Verdict
from tasks_app.contracts.submissions import Answer, Caller, Letter, Limits, Once, Submission, Webhook

__all__ = [
    "NOTHING_HELD",
    "Answer",
    "Beat",
    "Caller",
    "Claim",
    "Event",
    "Held",
    "Letter",
    "Limits",
    "Once",
    "PictureVerdict",
    "Recipe",
    "Recovered",
    "Reproduction",
    "Standing",
    "StoredImage",
    "Submission",
    "Success",
    "Trail",
    "Verdict",
    "Webhook",
]
