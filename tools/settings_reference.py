"""Write `.env.example` and `docs/reference/settings.md`: `uv run python -m tools.settings_reference`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from project.env import BASE_DIR, Env

EXAMPLE = BASE_DIR / ".env.example"
REFERENCE = BASE_DIR / "docs" / "reference" / "settings.md"
WIDTH = 118


def main() -> None:
    """Write both files."""
    EXAMPLE.write_text(render_example())
    REFERENCE.parent.mkdir(parents=True, exist_ok=True)
    REFERENCE.write_text(render_reference())


def render_example() -> str:
    """Return `.env.example`: every setting with its default and its description."""
    lines = ["# Copy to .env, or set in the environment, which wins. These are the defaults; empty means unset."]
    for section in _list_sections():
        lines += ["", f"# --- {section.__doc__}"]
        for name, field in _own_fields(section):
            lines += [f"# {line}" for line in textwrap.wrap(str(field.description), WIDTH)]
            lines.append(f"{name}={_format_default(field)}")
    return "\n".join(lines) + "\n"


def render_reference() -> str:
    """Return the page of the documentation: a table for each section."""
    lines = [
        "# Settings",
        "",
        "Generated from `project/env.py`: edit that file, then run `uv run python -m tools.settings_reference`.",
        "",
        "Set them in the environment, which wins, or in `.env`. Times are in seconds unless the name has another unit.",
    ]
    for section in _list_sections():
        title, _, rest = str(section.__doc__).partition(".")
        lines += ["", f"## {title}", *(["", rest.strip()] if rest.strip() else [])]
        lines += ["", "| setting | default | meaning |", "| --- | --- | --- |"]
        for name, field in _own_fields(section):
            default = _format_default(field)
            lines.append(f"| `{name}` | {f'`{default}`' if default else ''} | {field.description} |")
    return "\n".join(lines) + "\n"


def _list_sections() -> tuple[type[BaseSettings], ...]:
    return tuple(base for base in Env.__bases__ if issubclass(base, BaseSettings))


def _own_fields(section: type[BaseSettings]) -> Iterator[tuple[str, FieldInfo]]:
    return ((name, section.model_fields[name]) for name in section.__annotations__)


def _format_default(field: FieldInfo) -> str:
    """Return the default as `.env` has it; empty where it is unset or depends on the machine."""
    default: Any = field.default
    if field.default_factory is not None or default in (None, ()) or isinstance(default, Path):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


if __name__ == "__main__":
    main()
