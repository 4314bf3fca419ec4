"""Texts of others, before people see them: nothing in them steers a terminal or hides a word.

Applications, registries, Podman, CRIU's logs and peers write what they like. Whatever leaves our
programs goes through here, at the four places where it does: a status, an Event, a log line, and
what ``kubectl tryitnow`` prints.
"""

from __future__ import annotations

import logging
import re
from typing import Any

_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"  # CSI: colours, the cursor, clearing
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]{0,1024}(?:\x07|\x1b\\|\x9c)"  # OSC: titles, links
    r"|\x1b[ -/]{0,8}[0-~]"
)
"""Control sequences of a terminal (ECMA-48), whole: what is left of one would be noise."""


def printable(text: str) -> str:
    """Return a text without what controls a terminal, and without what reorders or hides words.

    These are the control characters (C0 but for line feed and tab, DEL, C1) with the sequences that
    they begin, marks of direction and other invisible ones, and halves of surrogate pairs.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _SEQUENCES.sub("", text)
    return "".join(c for c in text if c in "\n\t" or c.isprintable() or c == "\N{NO-BREAK SPACE}")


def all_printable(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a JSON value with all its texts printable, names of fields included."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {all_printable(key): all_printable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [all_printable(each) for each in value]
    return value


class LogLines(logging.Formatter):
    """Formats a record so that nothing in it passes for another record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with all lines that follow indented."""
        return printable(super().format(record)).replace("\n", "\n    ")
