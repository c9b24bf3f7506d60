"""What in MODELS_DIR is a model."""

from pathlib import Path

import pytest

from tasks_app import modelfiles
from tasks_app.errors import ModelLoadFailed

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
    assert modelfiles.names(models) == {"folder", "one", "two"}


def test_what_is_none_is_told_with_the_reason(models: Path) -> None:
    assert modelfiles.refused(models) == {
        "lora.safetensors": "needs lora.json",
        "old.ckpt": "a pickle, which could run code: convert it to safetensors",
    }


def test_a_file_is_found_with_its_base(models: Path) -> None:
    assert modelfiles.weights_file(models, "two") == modelfiles.WeightsFile(path=models / "two.gguf", base="folder")
    for name in ("folder", "lora", "old", "alone", "gone", "somebody/one"):
        assert modelfiles.weights_file(models, name) is None


def test_a_folder_goes_before_a_file_of_the_same_name(models: Path) -> None:
    (models / "folder.safetensors").touch()
    (models / "folder.json").write_text(NOTE)
    assert modelfiles.weights_file(models, "folder") is None


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"base": 5}', '{"base": ""}', '{"base": "a", "more": 1}', '"a"'])
def test_a_note_that_names_no_base_is_refused_by_its_name(models: Path, note: str) -> None:
    (models / "one.json").write_text(note)
    with pytest.raises(ModelLoadFailed, match=r'one\.json: must be {"base": "the model'):
        modelfiles.weights_file(models, "one")
