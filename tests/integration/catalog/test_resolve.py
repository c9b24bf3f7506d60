"""The models' rows: what requests may name, what names stand for, and what a request gets that leaves things out."""

from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError

from tasks_app.catalog import choices as model_choices
from tasks_app.catalog import resolve
from tasks_app.catalog import rows as model_rows
from tasks_app.engine.types import LoadOptions
from tasks_app.errors import ModelNotAllowedError
from tasks_app.models import DiffusionModel

ALIAS, ALIASED = "runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"
pytestmark = pytest.mark.django_db


def edit(model_id: str, **values: Any) -> None:
    assert DiffusionModel.objects.filter(model_id=model_id).update(**values)


def test_after_a_migrate_every_model_that_the_settings_name_has_a_row() -> None:
    rows = {row.model_id: row.aliases for row in DiffusionModel.objects.all()}
    assert rows == {"demo": [], ALIASED: [ALIAS]}


def test_rows_that_are_there_stay_as_they_are() -> None:
    edit("demo", steps=7)
    DiffusionModel.objects.filter(model_id=ALIASED).delete()
    model_rows.sync_rows()
    assert resolve.resolve_model("demo").defaults["steps"] == 7
    assert DiffusionModel.objects.filter(model_id=ALIASED).exists()


def test_a_model_card_says_the_defaults_of_a_new_row(tmp_path: Path, settings: Any) -> None:
    settings.MODELS_DIR = tmp_path
    folder = tmp_path / "carded"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    parameters = "inference:\n  parameters:\n    num_inference_steps: 8\n    guidance_scale: 1.5\n"
    (folder / "README.md").write_text(f"---\nlicense: mit\n{parameters}---\nWords.")
    model_rows.sync_rows()
    row = DiffusionModel.objects.get(model_id="carded")
    assert (row.steps, row.guidance_scale, row.license_note) == (8, 1.5, "mit")


@pytest.mark.parametrize(
    "inference",
    [
        "inference: false",
        "inference:\n  parameters:\n    num_inference_steps: 9999",
        "inference:\n  parameters:\n    width: 64",
    ],
    ids=["said of the Hub", "no request could have it", "half a size"],
)
def test_a_card_without_usable_defaults_gives_none(tmp_path: Path, settings: Any, inference: str) -> None:
    settings.MODELS_DIR = tmp_path
    folder = tmp_path / "carded"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    (folder / "README.md").write_text(f"---\nlicense: mit\n{inference}\n---\nWords.")
    model_rows.sync_rows()
    row = DiffusionModel.objects.get(model_id="carded")
    assert (row.steps, row.width, row.license_note) == (None, None, "mit")


@pytest.mark.parametrize(
    ("names", "besides", "expected"),
    [
        (["demo", "free"], "", {"demo": "demo"}),
        ([ALIAS], "", {ALIAS: ALIASED}),
        ([ALIAS], ALIASED, {ALIAS: ALIASED}),
        (["tiny", ALIASED], "", {"tiny": "demo", ALIASED: ALIASED}),
        (["tiny", "demo"], "demo", {}),
    ],
)
def test_names_that_are_taken_are_known_with_their_models(
    names: list[str], besides: str, expected: dict[str, str]
) -> None:
    edit("demo", aliases=["tiny"])
    row = DiffusionModel.objects.filter(model_id=besides).first()
    assert resolve.find_name_owners(names, besides=row.pk if row else 0) == expected


@pytest.mark.parametrize(
    "card",
    [b"---\nlicense: [a\n---\n", b"---\na: b: c\n---\n", b"---\njust words\n---\n", b"---\nlicense: \xff\n---\n"],
    ids=["unclosed", "not YAML", "no mapping", "not UTF-8"],
)
def test_a_card_that_cannot_be_read_leaves_its_model_without_defaults(
    tmp_path: Path, settings: Any, card: bytes
) -> None:
    settings.MODELS_DIR = tmp_path
    folder = tmp_path / "carded"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    (folder / "README.md").write_bytes(card)
    model_rows.sync_rows()
    row = DiffusionModel.objects.get(model_id="carded")
    assert (row.steps, row.license_note) == (None, "")


@pytest.mark.parametrize("name", [ALIAS, ALIASED])
def test_a_model_that_is_not_allowed_is_refused_under_all_its_names(name: str) -> None:
    edit(ALIASED, allowed=False)
    with pytest.raises(ModelNotAllowedError):
        resolve.resolve_model(name)
    assert not {ALIAS, ALIASED} & set(resolve.get_public_names())


def test_a_row_for_a_model_of_the_hub_allows_it_under_its_aliases() -> None:
    with pytest.raises(ModelNotAllowedError):
        resolve.resolve_model("org/new")
    DiffusionModel.objects.create(model_id="org/new", aliases=["new", "newest"], revision="abc")
    for name in ("org/new", "new", "newest"):
        assert (resolve.resolve_model(name).model_id, resolve.resolve_model(name).revision) == ("org/new", "abc")
    assert {"org/new", "new", "newest"} <= set(resolve.get_public_names())


def test_a_row_whose_folder_is_gone_is_no_model(tmp_path: Path, settings: Any) -> None:
    settings.MODELS_DIR = tmp_path
    with pytest.raises(ModelNotAllowedError):
        resolve.resolve_model("demo")
    assert "demo" not in resolve.get_public_names()


def test_defaults_are_what_the_row_has_and_nothing_else() -> None:
    assert resolve.resolve_model(ALIAS).defaults == {}
    edit(ALIASED, steps=9, guidance_scale=0, width=64, height=64, scheduler="euler", negative_prompt="rain")
    assert resolve.resolve_model(ALIAS).defaults == {
        "steps": 9,
        "guidance_scale": 0,
        "width": 64,
        "height": 64,
        "scheduler": "euler",
        "negative_prompt": "rain",
    }


def test_the_rows_revision_goes_before_the_settings(settings: Any) -> None:
    settings.ALLOWED_MODELS = [f"{ALIASED}@451"]
    assert resolve.resolve_model(ALIAS).revision == "451"
    edit(ALIASED, revision="c0ffee")
    assert resolve.resolve_model(ALIAS).revision == "c0ffee"


def test_load_options_are_the_rows() -> None:
    assert model_rows.fetch_load_options("unknown") == LoadOptions()
    row = {"dtype": "bfloat16", "offload": "model", "step_cache": "taylorseer", "vae_tiling": True}
    edit("demo", **row)
    assert model_rows.fetch_load_options("demo") == LoadOptions(**row)  # type: ignore[arg-type]


def test_plain_names_are_no_patterns(settings: Any) -> None:
    settings.ALLOWED_MODELS = ["stabilityai/*", "org/one@abc"]
    assert "stabilityai/*" in resolve.get_public_names()
    assert "stabilityai/*" not in model_choices.get_public_ids()
    assert "org/one" in model_choices.get_public_ids()


def test_without_a_name_the_default_is_meant_a_row_before_the_setting() -> None:
    by_setting = resolve.resolve_model(None)
    assert (by_setting.name, by_setting.model_id, model_choices.get_default_name()) == (ALIAS, ALIASED, ALIAS)
    model_choices.set_default_model(resolve.resolve_model("demo"))
    by_row = resolve.resolve_model(None)
    assert (by_row.name, by_row.model_id, model_choices.get_default_name()) == ("demo", "demo", "demo")
    assert resolve.resolve_model(ALIAS).model_id == ALIASED


def test_there_is_one_default_at_a_time(settings: Any) -> None:
    settings.ALLOWED_MODELS = ["org/*"]
    for name in ("demo", "org/new"):
        model_choices.set_default_model(resolve.resolve_model(name))
    assert list(DiffusionModel.objects.filter(is_default=True).values_list("model_id", flat=True)) == ["org/new"]
    with pytest.raises(IntegrityError):
        edit("demo", is_default=True)


def test_a_default_that_is_not_allowed_is_refused_and_not_replaced() -> None:
    edit("demo", is_default=True, allowed=False)
    with pytest.raises(ModelNotAllowedError):
        resolve.resolve_model(None)


def test_a_name_is_kept_as_it_was_asked_for() -> None:
    edit("demo", aliases=["tiny"])
    for name in ("tiny", "demo", ALIAS):
        assert resolve.resolve_model(name).name == name


def test_a_file_of_weights_is_a_model_by_its_note(tmp_path: Path, settings: Any) -> None:
    settings.MODELS_DIR = tmp_path
    for name in ("one.safetensors", "lora.safetensors", "one.json"):
        (tmp_path / name).touch()
    model_rows.sync_rows()
    assert resolve.resolve_model("one").model_id == "one"
    with pytest.raises(ModelNotAllowedError):
        resolve.resolve_model("lora")
