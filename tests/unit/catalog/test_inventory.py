"""What lies on this host: whether it is whole, and how it goes."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from tasks_app.catalog import inventory
from tasks_app.catalog.inventory import LocalModel

HUB_ID = "somebody/tiny"
WEIGHTS = b"weights"


def local_folder(models_dir: Path, name: str) -> LocalModel:
    folder = models_dir / name
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text('{"a": "b"}')
    (folder / "unet.safetensors").write_bytes(b"weights!")
    return LocalModel(model_id=name, revision="local", path=folder)


def local_file(models_dir: Path, name: str, *, base: str) -> LocalModel:
    path = models_dir / name
    path.write_bytes(WEIGHTS)
    path.with_suffix(".json").write_text(json.dumps({"base": base}))
    return LocalModel(model_id=path.stem, revision="local", path=path)


def cache(hub_cache: Path, commit: str = "c" * 40) -> LocalModel:
    """Lay a model out as the Hub's cache does: a small file under git's hash of it, a large one under its sha256."""
    root = hub_cache / "models--somebody--tiny"
    contents = {"model_index.json": b'{"small": true}', "unet/weights.safetensors": WEIGHTS}
    index = b"blob 15\0" + contents["model_index.json"]
    blobs = {
        "model_index.json": hashlib.sha1(index).hexdigest(),
        "unet/weights.safetensors": hashlib.sha256(WEIGHTS).hexdigest(),
    }
    for name, content in contents.items():
        blob, link = root / "blobs" / blobs[name], root / "snapshots" / commit / name
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.symlink_to(blob)
    return LocalModel(model_id=HUB_ID, revision=commit, path=root / "snapshots" / commit)


def test_everything_that_is_here_is_found_with_its_bytes(tmp_path: Path) -> None:
    models_dir, hub_cache = tmp_path / "models", tmp_path / "hub"
    expected = [local_folder(models_dir, "mine"), local_file(models_dir, "one.gguf", base="mine"), cache(hub_cache)]
    (models_dir / "lora.safetensors").touch()
    found = inventory.list_local_models(models_dir, hub_cache)
    assert found == expected
    assert [model.size for model in found] == [18, 7, 22]


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert inventory.list_local_models(tmp_path / "models", tmp_path / "hub") == []


def test_a_cached_file_is_held_to_the_hash_that_the_hub_gave(tmp_path: Path) -> None:
    model = cache(tmp_path)
    assert inventory.find_file_errors(model) == {}
    (model.path / "unet" / "weights.safetensors").write_bytes(b"weighty")
    assert inventory.find_file_errors(model) == {"unet/weights.safetensors": "has changed"}
    (model.path / "model_index.json").write_bytes(b'{"small": TRUE}')
    (model.path / "unet" / "weights.safetensors").resolve().unlink()
    assert inventory.find_file_errors(model) == {
        "model_index.json": "has changed",
        "unet/weights.safetensors": "is missing",
    }


def test_a_local_folder_is_held_to_what_was_recorded(tmp_path: Path) -> None:
    model = local_folder(tmp_path, "mine")
    assert inventory.find_file_errors(model) is None
    inventory.write_checksums(model)
    assert inventory.find_file_errors(model) == {}
    (model.path / "unet.safetensors").write_bytes(b"weights?")
    (model.path / "more.txt").touch()
    (model.path / "model_index.json").unlink()
    assert inventory.find_file_errors(model) == {
        "model_index.json": "is missing",
        "more.txt": "has no recorded checksum",
        "unet.safetensors": "has changed",
    }


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_record_is_one_that_sha256sum_reads(tmp_path: Path, kind: str) -> None:
    model = local_folder(tmp_path, "mine") if kind == "folder" else local_file(tmp_path, "one.gguf", base="mine")
    inventory.write_checksums(model)
    folder, sums = (model.path, "SHA256SUMS") if kind == "folder" else (tmp_path, "one.sha256")
    check = ["sha256sum", "--check", "--strict", sums]
    assert subprocess.run(check, cwd=folder, capture_output=True).returncode == 0
    assert inventory.find_file_errors(model) == {}


def test_a_file_goes_with_what_stands_beside_it(tmp_path: Path) -> None:
    other = local_file(tmp_path, "other.gguf", base="mine")
    model = local_file(tmp_path, "one.safetensors", base="mine")
    inventory.write_checksums(model)
    inventory.remove_model(model)
    assert {path.name for path in tmp_path.iterdir()} == {"other.gguf", "other.json"}
    assert other.files


def test_of_the_hubs_cache_all_revisions_go(tmp_path: Path) -> None:
    cache(tmp_path, "d" * 40)
    inventory.remove_model(cache(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_folder_goes_and_the_folder_stays(tmp_path: Path) -> None:
    elsewhere = local_folder(tmp_path / "elsewhere", "mine").path
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").symlink_to(elsewhere)
    (model,) = inventory.list_local_models(tmp_path / "models", tmp_path)
    inventory.remove_model(model)
    assert list((tmp_path / "models").iterdir()) == []
    assert (elsewhere / "unet.safetensors").exists()
