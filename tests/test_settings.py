"""The settings and what is said about them."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from project.environment import Environment

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
        assert getattr(Environment(_env_file=None), name) == good  # type: ignore[call-arg]
        return
    with pytest.raises(ValidationError) as refused:
        Environment(_env_file=None)  # type: ignore[call-arg]
    assert {error["loc"][0] for error in refused.value.errors()} == {name}
