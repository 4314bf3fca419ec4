"""The commands and objects that our pages show people: README.md and docs/.

A page is named by its path below docs/. Every block of commands on a page is run by some test that
asks for ``blocks("page.md")`` or ``walkthrough("page.md")``: ``tests/unit/docs/test_pages.py``
looks that one does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

COMMANDS = ("sh", "sh node", "sh go", "sh machine")
"""Marks of blocks that are run: in a checkout, on a node, in the example in Go, in a checkout
beside a lab with a machine."""

_PROGRAMS = "kubectl|helm|tryitnow|make|podman"

# A list's block is indented with its item.
_BLOCK = re.compile(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", re.MULTILINE)

_MENTION = re.compile(rf"`((?:{_PROGRAMS}) [^`]*)`")

_ELLIPSIS = "…"


@dataclass(frozen=True)
class Block:
    """What stands between two fences; ``mark`` is what the first one says."""

    page: str
    mark: str
    text: str


def pages() -> list[str]:
    """The names of all pages."""
    return ["../README.md", *sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))]


def all_blocks() -> Iterator[Block]:
    """Yield the blocks of all pages, in their order."""
    for page in pages():
        for indent, mark, text in _BLOCK.findall((DOCS / page).read_text()):
            yield Block(page, mark, re.sub(f"^{indent}", "", text, flags=re.MULTILINE))


def blocks(page: str, mark: str = "sh") -> list[str]:
    """Return the blocks so marked on a page; a page without any is a mistake."""
    found = [block.text for block in all_blocks() if (block.page, block.mark) == (page, mark)]
    assert found, f"{page} has no block marked {mark}"
    return found


def walkthrough(page: str) -> str:
    """Return all that a page tells people to run, as one text."""
    return "\n".join(blocks(page))


def filled(text: str, words: Mapping[str, str]) -> str:
    """Return a command with words in the place of what a page has in capitals, such as NAME."""
    # "NAME:" is the heading of a column.
    return re.sub(r"\b([A-Z]+)\b(?!:)", lambda found: words.get(found[1], found[1]), text)


def prose(page: str) -> str:
    """Return a page without its blocks."""
    return _BLOCK.sub("", (DOCS / page).read_text())


def mentions() -> Iterator[str]:
    """Yield each command in a sentence of any page; those that leave words out are none."""
    for page in pages():
        for found in _MENTION.findall(prose(page)):
            if _ELLIPSIS not in found:
                yield " ".join(found.split())
