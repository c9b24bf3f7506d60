"""Lookup and download of a model's files: MODELS_DIR, then the local Hub cache, then the Hub. Does not import torch."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

from tasks_app.engine import model_files
from tasks_app.engine.model_files import INDEX_FILE
from tasks_app.errors import ModelUnavailableError

# Progress bars need a terminal, which a worker's log is not; callbacks report the bytes instead.
disable_progress_bars()

HUB_TIMEOUT_SECONDS = 3.0
POLL_SECONDS = 0.5
# Length of the short hash that A1111 and model sites show (AutoV2).
HASH_DIGITS = 10

# Done and total bytes of a download.
OnBytes = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A folder with a complete pipeline, and its revision; `local` for a folder in MODELS_DIR.

    `weights` is a file whose weights override those of the folder; the revision is then a hash of its content.
    """

    path: Path
    revision: str
    weights: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ModelLocations:
    """Locations of models, and the maximum number of bytes of downloads."""

    models_dir: Path
    hub_cache: Path
    offline: bool = False
    endpoint: str | None = None
    max_bytes: int | None = None


def find_snapshot(model_id: str, revision: str, places: ModelLocations) -> Snapshot | None:
    """Return the local snapshot of a model; None if files are missing. It never accesses the network."""
    if model_files.is_pipeline_folder(places.models_dir, model_id):
        return Snapshot(path=places.models_dir / model_id, revision="local")
    if "/" not in model_id:
        return None  # a deleted folder; a model of this name on the Hub would be a different one
    try:
        cached = snapshot_download(
            model_id, revision=revision or None, cache_dir=places.hub_cache, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    path = Path(cached)
    return Snapshot(path=path, revision=path.name) if is_complete(path) else None


def fetch_snapshot(model_id: str, revision: str, places: ModelLocations, on_bytes: OnBytes) -> Snapshot:
    """Return the snapshot of a model, and download it from the Hub if it is not on this disk.

    Raises:
        ModelUnavailableError: The files are not available; raised within seconds if the Hub does not respond.
        ModelLoadError: The sidecar file of a weights file is invalid.
    """
    file = model_files.find_weights_file(places.models_dir, model_id)
    if file is None:
        return _fetch_folder(model_id, revision, places, on_bytes)
    base, _, base_revision = file.base.partition("@")
    folder = _fetch_folder(base, base_revision, places, on_bytes)
    return Snapshot(path=folder.path, revision=hash_file(file.path)[:HASH_DIGITS], weights=file.path)


def _fetch_folder(model_id: str, revision: str, places: ModelLocations, on_bytes: OnBytes) -> Snapshot:
    found = find_snapshot(model_id, revision, places)
    if found is not None:
        return found
    if "/" not in model_id:
        raise _unavailable_error(model_id, _explain_not_local(model_id, places))
    if places.offline:
        raise _unavailable_error(model_id, "this server is offline")
    try:
        return _download_snapshot(model_id, revision, places, on_bytes)
    except GatedRepoError:
        raise _unavailable_error(model_id, "access to it is restricted, HF_TOKEN must be set") from None
    except RepositoryNotFoundError:
        raise _unavailable_error(model_id, "the Hub has no such model, or it is private") from None
    except HfHubHTTPError as error:
        raise _unavailable_error(model_id, f"the Hub returned HTTP {error.response.status_code}") from None
    except (OSError, httpx2.HTTPError) as error:
        raise _unavailable_error(model_id, f"the Hub can't be reached ({type(error).__name__})") from None


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    stat = path.stat()
    return _hash_file_version(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _hash_file_version(path: Path, size: int, modified: int) -> str:
    """Hash a file once until it changes, because every task needs the hash."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_complete(folder: Path) -> bool:
    """Return whether every component of a pipeline's folder has all its files, fully downloaded."""
    if not (folder / INDEX_FILE).is_file():
        return False
    return all(
        _is_component_complete(folder / name)
        for name in get_component_names(json.loads((folder / INDEX_FILE).read_text()))
    )


def get_component_names(index: dict[str, Any]) -> list[str]:
    """Return the names of the pipeline components that have a folder of their own."""
    return [
        name
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
    ]


def select_files(names: Iterable[str], parts: Iterable[str]) -> list[str]:
    """Return the files of a repository that a pipeline needs: configuration, tokenizers, full-precision safetensors.

    For a component that has only half-precision weights (`….fp16.safetensors`), these are included.
    """
    names = list(names)
    wanted = [name for name in names if name == INDEX_FILE]
    for part in parts:
        inside = [name for name in names if name.startswith(f"{part}/")]
        weights = [name for name in inside if name.endswith((".safetensors", ".safetensors.index.json"))]
        plain = [name for name in weights if not _parse_variant(name)]
        half = [name for name in weights if _parse_variant(name) == "fp16"]
        others = ("*.json", "*.txt", "*.model", "*.jinja")
        wanted += plain or half
        wanted += [
            name
            for name in inside
            if any(fnmatchcase(name, pattern) for pattern in others) and not name.endswith(".index.json")
        ]
    return wanted


def get_variant(folder: Path) -> str | None:
    """Return `fp16` if any component in the folder has only half-precision weights."""
    for part in folder.iterdir():
        weights = [file.name for file in part.glob("*.safetensors")] if part.is_dir() else []
        if weights and all(_parse_variant(name) == "fp16" for name in weights):
            return "fp16"
    return None


def _parse_variant(name: str) -> str:
    """Return `fp16` for `model.fp16.safetensors` and for `model.fp16-00001-of-00002.safetensors`."""
    parts = Path(name).name.removesuffix(".index.json").split(".")
    return parts[1].split("-")[0] if len(parts) > 2 else ""


def _is_component_complete(part: Path) -> bool:
    if not part.is_dir():
        return False
    # Files in the Hub cache are links; `exists` is false if the blob is missing.
    if not all(file.exists() for file in part.iterdir()):
        return False
    for index in part.glob("*.safetensors.index.json"):
        shards = set(json.loads(index.read_text())["weight_map"].values())
        if not all((part / shard).exists() for shard in shards):
            return False
    needs_weights = (part / "config.json").exists()
    return not needs_weights or any(part.glob("*.safetensors"))


def _download_snapshot(model_id: str, revision: str, places: ModelLocations, on_bytes: OnBytes) -> Snapshot:
    hub = HfApi(endpoint=places.endpoint)
    # Download by the requested revision, not by its commit, so that the cache can look up that revision later.
    where: dict[str, Any] = {"repo_id": model_id, "revision": revision or None}
    info = hub.model_info(**where, timeout=HUB_TIMEOUT_SECONDS, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    if INDEX_FILE not in sizes:
        raise _unavailable_error(model_id, "it is not a diffusers pipeline (no model_index.json)")
    where["cache_dir"] = places.hub_cache
    first = Path(hub.snapshot_download(**where, allow_patterns=[INDEX_FILE]))
    wanted = select_files(sizes, get_component_names(json.loads((first / INDEX_FILE).read_text())))
    missing = [name for name in wanted if not _is_cached(model_id, name, first.name, places)]
    _check_download_quota(model_id, sum(sizes[name] for name in missing), places)
    with _DownloadWatcher(first.parent.parent / "blobs", sum(sizes[name] for name in wanted), on_bytes):
        path = Path(hub.snapshot_download(**where, allow_patterns=wanted))
    return Snapshot(path=path, revision=path.name)


def _explain_not_local(model_id: str, places: ModelLocations) -> str:
    refused = model_files.find_rejected_files(places.models_dir).items()
    reasons = [f"{name}: {why}" for name, why in refused if Path(name).stem == model_id]
    return "; ".join(reasons) or "MODELS_DIR has no model of this name"


def _is_cached(model_id: str, name: str, commit: str, places: ModelLocations) -> bool:
    return isinstance(try_to_load_from_cache(model_id, name, cache_dir=places.hub_cache, revision=commit), str)


def _check_download_quota(model_id: str, more: int, places: ModelLocations) -> None:
    if places.max_bytes is None:
        return
    taken = sum(_get_folder_size(blobs) for blobs in places.hub_cache.glob("models--*/blobs"))
    if taken + more > places.max_bytes:
        raise ModelUnavailableError(
            f"The model {model_id} needs {more:,} more bytes, but {taken:,} of MODELS_MAX_BYTES={places.max_bytes:,} "
            "are in use. An administrator can free space with `manage.py models list` and `manage.py models remove`."
        )


class _DownloadWatcher:
    """Context manager that reports the bytes in a folder during a download."""

    def __init__(self, folder: Path, total: int, on_bytes: OnBytes) -> None:
        self._folder, self._total, self._on_bytes = folder, total, on_bytes
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._report_bytes, name="download-watch", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if failure is None:
            self._on_bytes(self._total, self._total)

    def _report_bytes(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self._on_bytes(min(_get_folder_size(self._folder), self._total), self._total)


def _get_folder_size(folder: Path) -> int:
    sizes = []
    for file in folder.glob("*"):
        try:
            sizes.append(file.stat().st_size)
        except FileNotFoundError:  # it was renamed between the two calls
            continue
    return sum(sizes)


def _unavailable_error(model_id: str, reason: str) -> ModelUnavailableError:
    pull = f"run `manage.py models pull {model_id}` or " if "/" in model_id else ""
    return ModelUnavailableError(
        f"The model {model_id} is not on this server and couldn't be downloaded: {reason}. "
        f"An administrator can {pull}add its files to MODELS_DIR."
    )
