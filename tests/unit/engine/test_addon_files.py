"""What in LORAS_DIR is a LoRA, and in EMBEDDINGS_DIR an embedding."""

from pathlib import Path

from tasks_app.engine import addon_files


def test_files_of_safetensors_are_loras_by_their_names(tmp_path: Path) -> None:
    for name in ("b.safetensors", "a.v2.safetensors", "c.ckpt", "d.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "e.safetensors").touch()
    assert addon_files.get_addon_paths(tmp_path) == {
        "a.v2": tmp_path / "a.v2.safetensors",
        "b": tmp_path / "b.safetensors",
    }
    assert addon_files.get_addon_paths(tmp_path / "nowhere") == {}
