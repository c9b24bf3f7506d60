"""The settings and their documentation."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from pydantic import ValidationError

from project import env
from project.env import RENAMED, Env
from tools import settings_reference

VALUES = dict(
    line.split("=", 1)
    for line in settings_reference.EXAMPLE.read_text().splitlines()
    if line and not line.startswith("#")
)


def test_the_example_and_the_reference_are_generated_from_the_settings() -> None:
    assert settings_reference.EXAMPLE.read_text() == settings_reference.render_example()
    assert settings_reference.REFERENCE.read_text() == settings_reference.render_reference()
    assert VALUES.keys() == Env.model_fields.keys()


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Env.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("name", [name for name, value in VALUES.items() if value])
def test_the_example_shows_the_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    default = getattr(Env(_env_file=None), name)  # type: ignore[call-arg]
    monkeypatch.setenv(name, VALUES[name])
    assert getattr(Env(_env_file=None), name) == default  # type: ignore[call-arg]


def test_no_new_name_is_an_old_one() -> None:
    assert set(RENAMED.values()) <= Env.model_fields.keys()
    assert not RENAMED.keys() & Env.model_fields.keys()


@pytest.mark.parametrize("name", RENAMED)
def test_an_old_name_in_the_file_is_refused_with_the_new_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(f"DEBUG=false\n{name}=1\n")
    monkeypatch.setattr(env, "BASE_DIR", tmp_path)
    with pytest.raises(ImproperlyConfigured, match=f"{name} is now {RENAMED[name]}"):
        env.read_env()


def test_the_users_home_is_only_asked_for_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(cls: type[Path]) -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", classmethod(homeless))
    monkeypatch.setenv("HF_HOME", "/cache")
    assert Path("/cache") == Env(_env_file=None).HF_HOME  # type: ignore[call-arg]
    monkeypatch.delenv("HF_HOME")
    with pytest.raises(RuntimeError, match="no home"):
        Env(_env_file=None)  # type: ignore[call-arg]


GOOD_SECRET = "whsec_" + "A" * 32


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("WEBHOOK_SECRET", GOOD_SECRET, GOOD_SECRET),
        ("PUBLIC_URL", "https://pictures.example/api", "https://pictures.example/api"),
        ("WEBHOOK_PRIVATE_NETWORKS", "10.0.0.0/8, fd00::/8", (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
        ("WEBHOOK_SECRET", "whsec_tooshort", None),
        ("WEBHOOK_SECRET", "A" * 32, None),
        ("PUBLIC_URL", "pictures.example", None),
        ("PUBLIC_URL", "https://pictures.example/", None),
        ("WEBHOOK_PRIVATE_NETWORKS", "10.0.0.1/8", None),
        ("WEBHOOK_PRIVATE_NETWORKS", "intranet", None),
    ],
)
def test_settings_of_webhooks_are_read_or_refused_by_name(
    name: str, value: str, good: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    if good is not None:
        assert getattr(Env(_env_file=None), name) == good  # type: ignore[call-arg]
        return
    with pytest.raises(ValidationError) as refused:
        Env(_env_file=None)  # type: ignore[call-arg]
    assert {error["loc"][0] for error in refused.value.errors()} == {name}
