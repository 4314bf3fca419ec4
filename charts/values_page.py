"""docs/values.md: every value of the chart with its default, its type, and what it means.

The text is the comment above the value in values.yaml, the type is that of values.schema.json.
``python -m charts.values_page FILE`` writes the page.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from charts import CHART

_KEY = re.compile(r"(?P<indent> *)(?P<name>[A-Za-z][A-Za-z0-9]*):(?P<rest>.*)")

_HEADER = """# Values of the chart

Generated from `charts/try-it-now/values.yaml` and `values.schema.json` by `make docs`.

| value | type | default | meaning |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Value:
    """One line of the table."""

    path: tuple[str, ...]
    meaning: str


class UndocumentedValueError(ValueError):
    """A value has no comment; the message names it."""


def documented(text: str) -> Iterator[Value]:
    """Read the commented values from values.yaml, in their order.

    What stands below a commented value is its default, not values of its own.
    """
    comment: list[str] = []
    path: list[tuple[int, str]] = []
    inside: int | None = None  # indentation of the commented value whose default is being passed
    for line in text.splitlines():
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if not stripped:
            comment = []
            continue
        if inside is not None and (indent > inside or stripped.startswith("- ")):
            continue
        inside = None
        if stripped.startswith("#"):
            comment.append(stripped.removeprefix("#").strip())
            continue
        key = _KEY.fullmatch(line)
        if key is None:
            continue
        path = [*(p for p in path if p[0] < indent), (indent, key["name"])]
        if comment:
            yield Value(tuple(name for _, name in path), " ".join(comment))
            inside = indent
        elif key["rest"].strip():
            msg = f"values.yaml: {'.'.join(name for _, name in path)} has no comment above it"
            raise UndocumentedValueError(msg)
        comment = []


def _inside(tree: Any, path: tuple[str, ...]) -> Any:  # noqa: ANN401 - YAML
    for name in path:
        tree = tree[name]
    return tree


def _schema_of(schema: Any, path: tuple[str, ...]) -> Any:  # noqa: ANN401 - JSON
    for name in path:
        schema = schema["properties"][name]
    return schema


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{word}`" for word in schema["enum"])
    types = schema["type"]
    return types if isinstance(types, str) else " or ".join(types)


def page() -> str:
    """Return the page."""
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    schema = json.loads((CHART / "values.schema.json").read_text())
    lines = []
    for value in documented(text):
        default = json.dumps(_inside(values, value.path))
        kind = _type(_schema_of(schema, value.path))
        lines.append(f"| `{'.'.join(value.path)}` | {kind} | `{default}` | {value.meaning} |\n")
    return _HEADER + "".join(lines)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
