"""`manage.py pull MODEL`: fetch a model's files ahead of time."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError
from tqdm import tqdm

from tasks_app import catalog, errors, providers
from tasks_app.contracts import Progress
from tasks_app.task_types import TEXT_TO_IMAGE


class Command(BaseCommand):
    """Fetch a model that this server allows, by its public name."""

    help = "Fetches a model's files ahead of time, so that no task waits for the download."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("model", help="a Hub id or an alias")
        parser.add_argument("--revision", default="", help="a commit, branch or tag (the pinned one, else the newest)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Fetch it and say which commit it is."""
        try:
            model = _resolve(options["model"])
            revision = options["revision"] or model.revision
            handler = providers.handler(TEXT_TO_IMAGE.name, TEXT_TO_IMAGE.provider)
            with tqdm(desc=model.model_id, unit="B", unit_scale=True, disable=None) as bar:
                revision = handler.pull(model.model_id, revision, lambda progress: _show(bar, progress))
        except errors.TaskError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{model.model_id} is here, at revision {revision}.")


def _resolve(name: str) -> catalog.ResolvedModel:
    """Return the model by its row; where there is no database or no table yet, by the settings."""
    try:
        return catalog.resolve(name)
    except (OperationalError, ProgrammingError):
        model = catalog.by_settings(name)
        if model is None:
            raise errors.ModelNotAllowed("The settings do not allow this model, and no database says more.") from None
        return model


def _show(bar: Any, progress: Progress) -> None:
    if progress.bytes_total:
        bar.total = progress.bytes_total
        bar.n = progress.bytes_done
        bar.refresh()
