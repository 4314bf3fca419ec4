"""Versions as programs print them: ``Version: 4.2.1``, ``5.8.6-rc1``, ``6.18.44-fc``."""

from __future__ import annotations

import re

_NUMBERS = re.compile(r"\d+(?:\.\d+)*")


def version_in(text: str) -> str:
    """Return the first version number in a text, without a suffix such as ``-rc1``; or empty."""
    found = _NUMBERS.search(text)
    return found[0] if found else ""


def parse_version(text: str) -> tuple[int, ...]:
    """Return the first version in a text as numbers that compare; ``()`` is below them all.

    A release candidate counts as its release: it has what the release has.
    """
    return tuple(int(part) for part in version_in(text).split(".") if part)
