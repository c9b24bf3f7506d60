"""`manage.py models pull|list|verify|remove|default`: the models on this host and the default model."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError
from tqdm import tqdm

from tasks_app import errors
from tasks_app.catalog import choices as model_choices
from tasks_app.catalog import inventory, resolve
from tasks_app.catalog.inventory import LocalModel
from tasks_app.engine import model_files
from tasks_app.engine.types import Progress
from tasks_app.task_types.registry import TEXT_TO_IMAGE
from tasks_app.worker import engines


class Command(BaseCommand):
    """Download, list, verify and remove models, and set the default."""

    help = "Downloads, lists, verifies and removes models on this host, and sets the default."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the five subcommands."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        pull = verbs.add_parser("pull", help="download a model's files, so that no task waits for them")
        pull.add_argument("model", help="a Hub id or an alias that this server allows")
        pull.add_argument("--revision", default="", help="a commit, branch or tag (the pinned one, else the latest)")
        verbs.add_parser("list", help="list the models on this host with their sizes, and rejected files with reasons")
        verify = verbs.add_parser("verify", help="check the files against their checksums")
        verify.add_argument("model", nargs="*", help="only these (all)")
        verify.add_argument("--record", action="store_true", help="save the checksums of local files as they are now")
        remove = verbs.add_parser("remove", help="delete a model's files from this host")
        remove.add_argument("model", help="as `list` shows it, or an alias")
        remove.add_argument("--no-input", action="store_true", help="do not ask")
        default = verbs.add_parser("default", help="print or set the model of requests that name none")
        default.add_argument("model", nargs="?", help="a name that this server allows")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the subcommand."""
        verbs = {
            "pull": self._pull_model,
            "list": self._list_models,
            "verify": self._verify_models,
            "remove": self._remove_model,
            "default": self._set_default,
        }
        try:
            verbs[options["verb"]](options)
        except errors.TaskError as error:
            raise CommandError(str(error)) from None

    def _pull_model(self, options: dict[str, Any]) -> None:
        model = _resolve_model(options["model"])
        handler = engines.get_handler(TEXT_TO_IMAGE.name, TEXT_TO_IMAGE.provider)
        with tqdm(desc=model.model_id, unit="B", unit_scale=True, disable=None) as bar:
            wanted = options["revision"] or model.revision
            revision = handler.download_model(model.model_id, wanted, lambda progress: _update_bar(bar, progress))
        self.stdout.write(f"{model.model_id} is here, at revision {revision}.")

    def _list_models(self, options: dict[str, Any]) -> None:
        for model in _get_local_models():
            self.stdout.write(f"{model.model_id}\t{model.revision}\t{model.size:,} bytes")
        for name, why in sorted(model_files.find_rejected_files(settings.MODELS_DIR).items()):
            self.stdout.write(f"{name}\tnot a model: {why}")

    def _verify_models(self, options: dict[str, Any]) -> None:
        models = [model for name in options["model"] for model in _find_revisions(name)] or _get_local_models()
        if options["record"]:
            for model in models:
                self._write_checksums(model)
        elif sum(not self._check_files(model) for model in models):
            raise CommandError("Some checksums don't match; `models remove` and `models pull` replace the files.")

    def _write_checksums(self, model: LocalModel) -> None:
        if model.revision == inventory.LOCAL_REVISION:
            inventory.write_checksums(model)
            self.stdout.write(f"{model.model_id}: checksums saved.")

    def _check_files(self, model: LocalModel) -> bool:
        wrong = inventory.find_file_errors(model)
        if wrong is None:
            self.stdout.write(f"{model.model_id}: no checksums; `models verify --record` saves them.")
            return True
        for name, why in wrong.items():
            self.stdout.write(f"{model.model_id} {model.revision}: {name} {why}.")
        if not wrong:
            self.stdout.write(f"{model.model_id} {model.revision}: {len(model.files)} files, checksums OK.")
        return not wrong

    def _remove_model(self, options: dict[str, Any]) -> None:
        models = _find_revisions(options["model"])
        model_id, size = models[0].model_id, sum(model.size for model in models)
        if dependents := model_files.find_dependents(settings.MODELS_DIR, model_id):
            raise CommandError(f"{', '.join(dependents)} would lack its base: remove that first.")
        if not options["no_input"] and input(f"Delete {model_id} ({size:,} bytes)? [y/N] ").strip().lower() != "y":
            raise CommandError("Nothing was deleted.")
        inventory.remove_model(models[0])
        self.stdout.write(f"{model_id} removed.")
        if "/" in model_id:
            self.stdout.write("Its next task downloads it again, if it is still allowed.")

    def _set_default(self, options: dict[str, Any]) -> None:
        if options["model"] is not None:
            model_choices.set_default_model(resolve.resolve_model(options["model"]))
        self.stdout.write(model_choices.get_default_name())


def _get_local_models() -> list[LocalModel]:
    return inventory.list_local_models(settings.MODELS_DIR, settings.PROVIDERS["diffusers"]["hub_cache"])


def _find_revisions(name: str) -> list[LocalModel]:
    """Return all revisions of a model on this host."""
    model_id = settings.MODEL_ALIASES.get(name, name)
    found = [model for model in _get_local_models() if model.model_id == model_id]
    if not found:
        raise CommandError(f"Model {name} is not installed; `models list` shows those that are.")
    return found


def _resolve_model(name: str) -> resolve.ResolvedModel:
    """Return the model from its row, or from the settings if there is no database or no table yet."""
    try:
        return resolve.resolve_model(name)
    except (OperationalError, ProgrammingError):
        model = resolve.resolve_from_settings(name)
        if model is None:
            raise errors.ModelNotAllowedError(
                "The settings do not allow this model, and there is no database to ask."
            ) from None
        return model


def _update_bar(bar: Any, progress: Progress) -> None:
    if progress.bytes_total:
        bar.total = progress.bytes_total
        bar.n = progress.bytes_done
        bar.refresh()
