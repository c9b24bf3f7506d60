"""Parser of the tables in docs/reference/models.md, which document each family."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[4] / "docs" / "reference" / "models.md"


BEHAVIOUR = ("pipeline", "works", "guidance", "negative", "preview", "multiple", "loras", "schedulers")
OWN = ("own_steps", "own_guidance", "own_size", "memory")


@dataclass(frozen=True, kw_only=True)
class Family:
    """The row of a family in each table, column by column."""

    pipeline: str
    works: str
    guidance: str
    negative: str
    preview: str
    multiple: str
    loras: str
    schedulers: str
    own_steps: str
    own_guidance: str
    own_size: str
    memory: str


def families() -> dict[str, Family]:
    """Return the families by their name in the first column."""
    behaviour, own = _table("## Families"), _table("### Their own defaults")
    assert behaviour.keys() == own.keys()
    return {
        name: Family(**dict(zip(BEHAVIOUR, row, strict=True)), **dict(zip(OWN, own[name], strict=True)))
        for name, row in behaviour.items()
    }


def schedulers() -> dict[str, set[str]]:
    """Return the names of the schedulers by kind."""
    return {kind.strip("`"): set(names.split("`")[1::2]) for kind, names in _rows("## Schedulers")}


def _table(heading: str) -> dict[str, list[str]]:
    """Return the rows of the first table below a heading, by the first word in backticks."""
    return {row[0].split("`")[1]: [cell.strip("`") for cell in row[1:]] for row in _rows(heading)}


def _rows(heading: str) -> Iterator[list[str]]:
    lines = iter(PAGE.read_text().splitlines())
    next(line for line in lines if line == heading)
    next(line for line in lines if line.startswith("| ---"))
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]
