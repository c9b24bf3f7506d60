"""The settings and what is said about them."""

from pathlib import Path

import pytest

from project.settings import Environment

EXAMPLE = Path(__file__).resolve().parent.parent / ".env.example"


def example() -> dict[str, str]:
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_the_example_lists_every_variable_and_no_other() -> None:
    assert example().keys() == Environment.model_fields.keys()


@pytest.mark.parametrize("name", [name for name, value in example().items() if value])
def test_the_example_shows_the_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    default = getattr(Environment(_env_file=None), name)  # type: ignore[call-arg]
    monkeypatch.setenv(name, example()[name])
    assert getattr(Environment(_env_file=None), name) == default  # type: ignore[call-arg]
