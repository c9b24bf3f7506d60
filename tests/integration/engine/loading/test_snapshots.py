"""From ids to folders: local ones, the Hub's cache offline, and downloads from a Hub on the loopback interface."""

import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tasks_app.engine.diffusers.loading import snapshots
from tasks_app.engine.diffusers.loading.snapshots import (
    ModelLocations,
    fetch_snapshot,
    find_snapshot,
    get_variant,
    is_complete,
    select_files,
)
from tasks_app.errors import ModelUnavailableError
from tests.integration.engine import hub
from tests.support import tiny

MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"


@pytest.fixture(scope="session")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.save_sd(tmp_path_factory.mktemp("hub") / "sd")
    shutil.rmtree(folder / "words")
    return folder


@pytest.fixture
def places(tmp_path: Path) -> ModelLocations:
    (tmp_path / "models").mkdir()
    return ModelLocations(models_dir=tmp_path / "models", hub_cache=tmp_path / "hub")


def cached(places: ModelLocations, model: Path, commit: str = hub.COMMIT) -> Path:
    """Lay a model out as the Hub's cache does: blobs, links to them, and a reference."""
    root = places.hub_cache / f"models--{MODEL.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    for number, file in enumerate(file for file in model.rglob("*") if file.is_file()):
        blob = root / "blobs" / f"{number:040}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blob)
        link = snapshot / file.relative_to(model)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text(commit)
    return snapshot


def no_bytes(done: int, total: int) -> None:
    pytest.fail("nothing is to be downloaded")


def at(places: ModelLocations, **more: Any) -> ModelLocations:
    return ModelLocations(models_dir=places.models_dir, hub_cache=places.hub_cache, **more)


def test_a_folder_of_models_dir_comes_first(places: ModelLocations, sd: Path) -> None:
    shutil.copytree(sd, places.models_dir / "mine")
    found = fetch_snapshot("mine", "", places, no_bytes)
    assert (found.path, found.revision) == (places.models_dir / "mine", "local")


@pytest.mark.parametrize("revision", ["", "main", hub.COMMIT])
def test_the_hub_cache_serves_offline_and_tells_the_commit(places: ModelLocations, sd: Path, revision: str) -> None:
    snapshot = cached(places, sd)
    found = fetch_snapshot(MODEL, revision, at(places, offline=True), no_bytes)
    assert (found.path, found.revision) == (snapshot, hub.COMMIT)


def test_a_pinned_revision_that_is_not_cached_is_not_replaced_by_another(places: ModelLocations, sd: Path) -> None:
    cached(places, sd)
    assert find_snapshot(MODEL, "f" * 40, places) is None


def test_a_snapshot_that_lacks_weights_is_incomplete(places: ModelLocations, sd: Path) -> None:
    snapshot = cached(places, sd)
    assert is_complete(snapshot)
    (snapshot / "unet" / "diffusion_pytorch_model.safetensors").resolve().unlink()
    assert not is_complete(snapshot)
    assert find_snapshot(MODEL, "", places) is None
    shutil.rmtree(snapshot / "unet")
    assert not is_complete(snapshot)


def test_offline_a_missing_model_is_unavailable_with_its_id_and_what_to_do(places: ModelLocations) -> None:
    with pytest.raises(ModelUnavailableError, match=f"{MODEL}.*manage.py models pull {MODEL}.*MODELS_DIR"):
        fetch_snapshot(MODEL, "", at(places, offline=True), no_bytes)


def test_a_hub_that_refuses_connections_is_told_at_once(places: ModelLocations) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ModelUnavailableError, match="can't be reached"):
            fetch_snapshot(MODEL, "", at(places, endpoint=endpoint), no_bytes)
    assert time.monotonic() - started < 5


def test_a_hub_that_never_answers_is_told_soon(places: ModelLocations, monkeypatch: pytest.MonkeyPatch) -> None:
    assert snapshots.HUB_TIMEOUT_SECONDS < 5
    monkeypatch.setattr(snapshots, "HUB_TIMEOUT_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ModelUnavailableError, match="can't be reached"):
            fetch_snapshot(MODEL, "", at(places, endpoint=endpoint), no_bytes)
    assert time.monotonic() - started < 5


def test_a_model_that_the_hub_does_not_know_is_unavailable(places: ModelLocations) -> None:
    with hub.serving({}) as server, pytest.raises(ModelUnavailableError, match="the Hub has no such model"):
        fetch_snapshot(MODEL, "", at(places, endpoint=server.url), no_bytes)


def test_a_download_reports_its_bytes_and_lands_in_the_cache(places: ModelLocations, sd: Path) -> None:
    seen: list[tuple[int, int]] = []
    half_way = threading.Event()
    with hub.serving({MODEL: sd}) as server:
        server.gate.clear()

        def on_bytes(done: int, total: int) -> None:
            seen.append((done, total))
            if 0 < done < total:
                half_way.set()
                server.gate.set()

        found = fetch_snapshot(MODEL, "", at(places, endpoint=server.url), on_bytes)
        downloads = list(server.downloads)
    assert half_way.is_set()
    totals = {total for _, total in seen}
    assert len(totals) == 1
    assert seen[-1][0] == seen[-1][1] > 10_000
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert found.revision == hub.COMMIT
    assert is_complete(found.path)
    assert find_snapshot(MODEL, "", at(places, offline=True)) == found
    assert not [name for name in downloads if name.endswith((".bin", ".ckpt", ".py", ".md"))]


def test_a_download_beyond_the_quota_is_refused_in_numbers_before_it_begins(places: ModelLocations, sd: Path) -> None:
    weights = sum(file.stat().st_size for file in sd.glob("*/*.safetensors"))
    with hub.serving({MODEL: sd}) as server:
        with pytest.raises(ModelUnavailableError, match=rf"needs [\d,]+ more bytes.*MODELS_MAX_BYTES={weights:,}"):
            fetch_snapshot(MODEL, "", at(places, endpoint=server.url, max_bytes=weights), lambda done, total: None)
        assert server.downloads == ["model_index.json"]


def test_what_is_cached_counts_once_towards_the_quota(places: ModelLocations, sd: Path) -> None:
    total = sum(file.stat().st_size for file in sd.rglob("*") if file.is_file())
    with hub.serving({MODEL: sd, "somebody/else": sd}) as server:
        bounded = at(places, endpoint=server.url, max_bytes=total)
        folder = fetch_snapshot(MODEL, "", bounded, lambda done, total: None).path
        lost = folder / "unet" / "diffusion_pytorch_model.safetensors"
        lost.resolve().unlink()
        lost.unlink()
        assert fetch_snapshot(MODEL, "", bounded, lambda done, total: None).path == folder
        with pytest.raises(ModelUnavailableError, match=r"manage\.py models remove"):
            fetch_snapshot("somebody/else", "", bounded, lambda done, total: None)


FILES = [
    "model_index.json",
    "README.md",
    "v1-5-pruned.safetensors",
    "pipeline.py",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors.index.json",
    "text_encoder/model-00001-of-00002.safetensors",
    "text_encoder/model-00002-of-00002.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "onnx/model.onnx",
]


def test_only_what_a_pipeline_needs_is_downloaded() -> None:
    wanted = select_files(FILES, ["unet", "text_encoder", "vae", "tokenizer"])
    assert sorted(set(FILES) - set(wanted)) == [
        "README.md",
        "onnx/model.onnx",
        "pipeline.py",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "v1-5-pruned.safetensors",
    ]
    assert len(wanted) == len(set(wanted))


def test_weights_in_half_precision_only_are_loaded_as_that_variant(tmp_path: Path, sd: Path) -> None:
    assert get_variant(sd) is None
    half = tmp_path / "half"
    shutil.copytree(sd, half)
    for weights in half.glob("*/*.safetensors"):
        weights.rename(weights.with_suffix(".fp16.safetensors"))
    assert get_variant(half) == "fp16"


def test_the_patience_with_the_hub_fits_into_the_promise() -> None:
    assert snapshots.HUB_TIMEOUT_SECONDS < 5
