"""Each promise of docs/security/specification.md names a test that exists.

``python -m tests.specification`` says which do not. A promise is a row of a table: the promise, and
the tests that hold it, each as pytest calls it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/security/specification.md"

_ROW = re.compile(r"^\| (?P<promise>.+?) \| (?P<tests>.+?) \|$", re.MULTILINE)
_TEST = re.compile(r"`(?P<file>tests/[\w/.]+\.py)::(?P<name>\w+)`")
_HEAD = "promise"


@dataclass(frozen=True)
class Promise:
    """One row of the page."""

    text: str
    tests: tuple[tuple[str, str], ...]
    """File and function of each test."""


def promises(page: str) -> Iterator[Promise]:
    """Yield the rows of all tables of the page."""
    for row in _ROW.finditer(page):
        text = row["promise"].strip()
        if text == _HEAD or not text.strip("-"):
            continue
        tests = tuple((t["file"], t["name"]) for t in _TEST.finditer(row["tests"]))
        yield Promise(text, tests)


@cache
def _functions(file: Path) -> frozenset[str]:
    if not file.exists():
        return frozenset()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(n.name for n in ast.parse(file.read_text()).body if isinstance(n, kinds))


def problems(page: str, root: Path = ROOT) -> list[str]:
    """Say of each promise what is wrong with the tests that it names."""
    found = []
    for promise in promises(page):
        if not promise.tests:
            found.append(f"no test holds it: {promise.text}")
        for file, name in promise.tests:
            if not name.startswith("test_") or name not in _functions(root / file):
                found.append(f"there is no test {file}::{name}: {promise.text}")
    if not list(promises(page)):
        found.append("the page promises nothing")
    return found


def main() -> int:
    """Check the page."""
    found = problems(PAGE.read_text())
    for problem in found:
        sys.stderr.write(f"{PAGE.relative_to(ROOT)}: {problem}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
