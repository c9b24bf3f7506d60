"""Print readability figures of the code base: `python tools/measure_code.py [CHECKOUT …]`, one column per checkout.

The figures point to hard-to-read code; they are not rules. The measured packages are project, tasks_app and client/src.
Migrations, dunder methods, properties and overrides of a framework's methods are left out.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("project", "tasks_app", "client/src")
NOT_COUNTED = {"__init__.py", "__pycache__", "migrations", "static", "py.typed"}
# Hooks of Django, DRF, Dramatiq, logging, unfold and argparse, whose names the frameworks prescribe.
HOOKS = re.compile(
    r"(get|post|put|patch|delete|head|options|handle|ready|emit|format|filter|parse|render|save|clean|check|lookups|queryset|count"
    r"|before_\w+|after_\w+|process_\w+|validate_\w+|add_arguments|create_parser|has_\w+_permission|has_output|get_\w+|to_\w+|run_\w+"
    r"|save_\w+|log_\w+|changelist_view|changeform_view|\w+_view|formfield_\w+|response_\w+|authenticate\w*|allow_request|wait"
    r"|media_type|select_\w+|fail|default|next|send|enqueue|consume)"
)
QUESTION = re.compile(r"(what|who|which|whether|how|where|when|why|that which|whose)\b", re.I)
WHAT = re.compile(r"\bwhat\b", re.I)
TELL = re.compile(r"\b(tells?|told|telling|says?|said|saying)\b", re.I)
YOU = re.compile(r"\b(you|your|yours|yourself)\b", re.I)
WORD = re.compile(r"[A-Za-z][A-Za-z’'-]*")
GUIDES = ("README.md", "docs/tutorial.md", "docs/how-to/*.md")


class Prose(NamedTuple):
    """Docstrings and comments of a set of files."""

    docstrings: list[str]
    comments: list[str]


def main() -> None:
    """Measure each checkout given on the command line and print the figures as a table."""
    roots = [Path(name) for name in sys.argv[1:]] or [Path(__file__).resolve().parent.parent]
    columns = [measure(root) for root in roots]
    for name in columns[0]:
        print(f"{name:<58}" + "".join(f"{column[name]:>12}" for column in columns))


def measure(root: Path) -> dict[str, str]:
    """Return the figures of a checkout by name."""
    files = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py")) if _is_measured(path)]
    trees = [ast.parse(path.read_text()) for path in files]
    names = [name for tree in trees for name in _function_names(tree.body)]
    short = [name for name in names if "_" not in name.strip("_")]
    prose = Prose(
        [text for tree in trees for text in _docstrings(tree)], [text for path in files for text in _comments(path)]
    )
    words = _words([*prose.docstrings, *prose.comments])
    widths = {folder: _width(folder) for folder in _folders(root)}
    widest = max((folder for folder in widths if folder != root / "tasks_app"), key=widths.__getitem__)
    guides = [_without_code(path.read_text()) for pattern in GUIDES for path in sorted(root.glob(pattern))]
    return {
        "entries in tasks_app": str(widths[root / "tasks_app"]),
        "entries in the widest other folder": str(widths[widest]),
        "functions": str(len(names)),
        "functions with one-word names": f"{len(short) / len(names):.0%}",
        "docstrings": str(len(prose.docstrings)),
        "docstrings that open with a question word": f"{_share(prose.docstrings):.1%}",
        "'what' per 1,000 words of docstrings and comments": f"{_rate(WHAT, prose, words):.1f}",
        "tell and say per 1,000 words of docstrings and comments": f"{_rate(TELL, prose, words):.1f}",
        "'you' per 1,000 words of README, tutorial and how-tos": f"{_you_rate(guides):.1f}",
        "module names in import contracts": str(_contract_names(root)),
        "lines that make the OpenAPI schema": str(_schema_lines(root)),
        "modules over 300 lines": str(sum(len(path.read_text().splitlines()) > 300 for path in files)),
    }


def _is_measured(path: Path) -> bool:
    return "migrations" not in path.parts and "__pycache__" not in path.parts


def _folders(root: Path) -> Iterator[Path]:
    for package in PACKAGES:
        for folder in [root / package, *(root / package).rglob("*")]:
            if (
                folder.is_dir()
                and not {"static", "migrations", "__pycache__"} & set(folder.parts)
                and not folder.suffix
            ):
                yield folder


def _width(folder: Path) -> int:
    return sum(entry.name not in NOT_COUNTED for entry in folder.iterdir())


def _function_names(body: list[ast.stmt], *, in_class: bool = False) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _function_names(node.body, in_class=True)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not (node.name.startswith("__") or _is_property(node) or (in_class and HOOKS.fullmatch(node.name))):
                yield node.name
            yield from _function_names(node.body)


def _is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def _docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def _comments(path: Path) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT and not re.match(r"#\s*(noqa|type:|!)", token.string):
            yield token.string.lstrip("# ")


def _words(texts: list[str]) -> int:
    return sum(len(WORD.findall(text)) for text in texts)


def _share(docstrings: list[str]) -> float:
    return sum(QUESTION.match(text) is not None for text in docstrings) / len(docstrings)


def _rate(pattern: re.Pattern[str], prose: Prose, words: int) -> float:
    return 1000 * sum(len(pattern.findall(text)) for text in [*prose.docstrings, *prose.comments]) / words


def _you_rate(guides: list[str]) -> float:
    return 1000 * sum(len(YOU.findall(text)) for text in guides) / max(1, _words(guides))


def _without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", " ", text, flags=re.S)


def _contract_names(root: Path) -> int:
    text = (root / "pyproject.toml").read_text()
    contracts = text[text.index("[tool.importlinter]") : text.index("[tool.pytest")]
    return len(re.findall(r"\btasks_app\.[\w.]+", re.sub(r"ignore_imports = \[.*?\]", "", contracts, flags=re.S)))


def _schema_lines(root: Path) -> int:
    folders = (root / "tasks_app/api/schema", root / "tasks_app/api/openapi")
    return sum(len(path.read_text().splitlines()) for folder in folders for path in folder.glob("*.py"))


if __name__ == "__main__":
    main()
