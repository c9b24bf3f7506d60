"""What in MODELS_DIR is a model."""

from pathlib import Path

import pytest

from tasks_app.engine import model_files
from tasks_app.errors import ModelLoadError

NOTE = '{"base": "folder"}'


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model_index.json").write_text("{}")
    (tmp_path / "no pipeline").mkdir()
    for name in ("one.safetensors", "two.gguf", "lora.safetensors", "old.ckpt", "words.txt"):
        (tmp_path / name).touch()
    for name in ("one", "two", "old", "alone"):
        (tmp_path / f"{name}.json").write_text(NOTE)
    return tmp_path


def test_folders_with_a_pipeline_and_files_with_a_base_are_models(models: Path) -> None:
    assert model_files.get_model_names(models) == {"folder", "one", "two"}


def test_what_is_none_is_told_with_the_reason(models: Path) -> None:
    assert model_files.find_rejected_files(models) == {
        "lora.safetensors": "needs lora.json",
        "old.ckpt": "pickle files can run code, convert it to safetensors",
    }


def test_a_file_is_found_with_its_base(models: Path) -> None:
    assert model_files.find_weights_file(models, "two") == model_files.WeightsFile(
        path=models / "two.gguf", base="folder"
    )
    for name in ("folder", "lora", "old", "alone", "gone", "somebody/one"):
        assert model_files.find_weights_file(models, name) is None


def test_a_folder_goes_before_a_file_of_the_same_name(models: Path) -> None:
    (models / "folder.safetensors").touch()
    (models / "folder.json").write_text(NOTE)
    assert model_files.find_weights_file(models, "folder") is None


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"base": 5}', '{"base": ""}', '{"base": "a", "more": 1}', '"a"'])
def test_a_note_that_names_no_base_is_refused_by_its_name(models: Path, note: str) -> None:
    (models / "one.json").write_text(note)
    with pytest.raises(ModelLoadError, match=r'one\.json: must be {"base": "NAME"'):
        model_files.find_weights_file(models, "one")


def cached(hub_cache: Path, commit: str, name: str = "") -> Path:
    """Put a revision where the Hub's cache would have it, under a name too."""
    root = hub_cache / "models--somebody--tiny"
    snapshot = root / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text("{}")
    if name:
        (root / "refs").mkdir()
        (root / "refs" / name).write_text(commit)
    return snapshot


def test_what_a_model_consists_of_is_told_by_its_folder_its_base_or_the_hubs_cache(
    models: Path, tmp_path: Path
) -> None:
    hub = tmp_path / "hub"
    newest, pinned = cached(hub, "a" * 40, "main"), cached(hub, "b" * 40)
    for name, base in (("two", "somebody/tiny@" + "b" * 40), ("alone", "somebody/tiny")):
        (models / f"{name}.json").write_text(f'{{"base": "{base}"}}')
    asked = {
        ("folder", ""): models / "folder",
        ("one", ""): models / "folder",
        ("two", ""): pinned,
        ("somebody/tiny", ""): newest,
        ("somebody/tiny", "main"): newest,
        ("somebody/tiny", "b" * 40): pinned,
        ("somebody/tiny", "c" * 40): None,
        ("somebody/else", ""): None,
        ("gone", ""): None,
    }
    found = {key: model_files.find_configuration(models, hub, *key) for key in asked}
    assert found == asked


def test_a_base_that_is_a_file_itself_tells_nothing(models: Path, tmp_path: Path) -> None:
    (models / "one.json").write_text('{"base": "one"}')
    assert model_files.find_configuration(models, tmp_path / "hub", "one", "") is None
