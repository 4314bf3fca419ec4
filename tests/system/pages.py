"""Commands that our pages tell people to run."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"

_BLOCK = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)


def blocks(page: str, kind: str = "sh") -> list[str]:
    """The blocks of that kind on a page, in its order; a page without any is a mistake."""
    text = (DOCS / page).read_text()
    found = [content for label, content in _BLOCK.findall(text) if label == kind]
    assert found, f"{page} has no block marked {kind}"
    return found
