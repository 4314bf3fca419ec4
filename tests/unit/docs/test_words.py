"""One word, one meaning: an old word is nowhere, once another one has taken its place."""

from __future__ import annotations

import functools
import io
import re
import subprocess
import tokenize
from collections.abc import Iterable

import pytest

from tests.pages import ROOT

WORDS = {
    r"thaw\w*|(un)?free?ze\w*|freezing|frozen?": "checkpoint, restore",
    r"mend(s|ed|ing)?": "fix, remedy",
    r"visitors?": "client",
    r"gates?": "firewall",
    r"slots?": "pre-created sandbox",
    r"blueprints?": "CheckpointRevision, definition",
    r"headless": "without a main container",
    r"half.made": "incomplete",
    r"(un)?seal(s|ed|ing)?": "fingerprint, blocked",
    r"admits?|admitted": "personalize, accept",
    r"warm.cop(y|ies)": "warm sandbox",
    r"patience": "timeout",
}
"""Old words as patterns, each with its successors; an underscore or a capital ends a word."""

NAMES = (
    r"cop(y|ies)_(of|on)|release_copies|is_copying|NoCopy|\w*Cop(y|ies)(Lost|Missing|Unfit|Corrupt)",
    r"RecordedEvent|told_to_\w+|keep_doing|all_together|to_its_end|until_written",
    r"_?(looks?|say|said|told|tell|LOOK_\w+|look_at_\w+|\w+_a_look|say_\w+)",
    r"reorder|repool|promised_bytes|roomy|is_pressed|dismantle",
    r"Played|play|Ground|Room|remains",
)
"""Old names in Python; in a sentence their words are fine."""

TERMS = (
    r"gc\.freeze|frozen=True|frozenset|FrozenInstanceError|__slots__|file\.tell\(",  # Python's
    r"freezer|cgroup\.freeze|--freeze-cgroup|frozen 1",  # the kernel's and CRIU's
    r"admits? (no |critical )?Pods?|API server admits",  # Kubernetes'
    r"frozen once, and each demo thaws",  # the README's picture
)
"""Terms of other programs that have an old word in them."""

ANY_TERM = re.compile("|".join(TERMS))

HISTORY = {"docs/upgrade.md"}
"""Pages that tell people who upgrade what the old words are called now."""

PICTURES = (".png", ".svg", ".sum", ".gif", ".ico", ".webp", ".jpg")

CODE = ("operator/", "lab/", "tests/unit/", "crds/", "Makefile", "pyproject.toml")


def files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    ours = {"tests/unit/docs/test_words.py"}
    return sorted(set(listed.stdout.splitlines()) - HISTORY - ours)


CODE_FILES = [path for path in files() if path.startswith(CODE)]
OTHER_FILES = [path for path in files() if not path.startswith(CODE)]


@functools.cache
def lines(path: str) -> list[tuple[int, str]]:
    """Return the lines of a file, their names split into words; none for a picture."""
    if not (ROOT / path).is_file() or path.endswith(PICTURES):
        return []
    text = ANY_TERM.sub("", (ROOT / path).read_text())
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", text)
    return list(enumerate(words.splitlines(), start=1))


def found(paths: Iterable[str], pattern: str) -> list[str]:
    word = re.compile(rf"\b({pattern})\b", re.IGNORECASE)
    return [
        f"{path}:{number}: {line.strip()[:120]}"
        for path in paths
        for number, line in lines(path)
        if word.search(line)
    ]


@functools.cache
def names_in(path: str) -> list[tuple[int, str]]:
    """Return the names in a Python file, with the numbers of their lines."""
    text = (ROOT / path).read_text()
    return [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.NAME and not ANY_TERM.search(token.line)
    ]


@pytest.mark.parametrize("pattern", WORDS)
def test_code_and_crds_have_no_old_word(pattern: str) -> None:
    assert found(CODE_FILES, pattern) == [], f"write instead: {WORDS[pattern]}"


@pytest.mark.parametrize("pattern", WORDS)
def test_pages_charts_and_system_tests_have_no_old_word(pattern: str) -> None:
    assert found(OTHER_FILES, pattern) == [], f"write instead: {WORDS[pattern]}"


@pytest.mark.parametrize("pattern", NAMES)
def test_nothing_in_python_has_an_old_name(pattern: str) -> None:
    name = re.compile(pattern)
    old = [
        f"{path}:{number}: {found}"
        for path in CODE_FILES
        if path.endswith(".py")
        for number, found in names_in(path)
        if name.fullmatch(found)
    ]
    assert old == []
