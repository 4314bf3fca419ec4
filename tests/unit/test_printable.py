"""Nothing that others write steers a terminal, hides a word or forges a line."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tryitnow.cli import commands
from tryitnow.cli.output import emit
from tryitnow.printable import LogLines, all_printable, printable

HOSTILE = {
    "colour": "a\x1b[31mb\x1b[0m",
    "clears the screen": "a\x1b[2J\x1b[Hb",
    "title": "a\x1b]0;owned\x07b",
    "link": "a\x1b]8;;https://evil.example\x1b\\b",
    "C1": "a\x9b31mb\x85",
    "OSC of C1": "a\x9d0;owned\x9cb",
    "character set": "a\x1b(0b",
    "reset": "a\x1bcb",
    "overwrites": "a\rb\x08",
    "bell and NUL": "a\x07\x00b\x7f",
    "reorders": "a\u202eb\u202c",
    "isolates": "a\u2066b\u2069",
    "invisible": "a\u200bb\ufeff\u00ad",
    "lines of Unicode": "a\u2028b\u2029",
    "surrogate": "a\udcffb",
    "tags": "a\U000e0041b",
    "unfinished": "a\x1b[",
    "unfinished title": "ab\x1b]",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_steers_a_terminal_or_hides_is_removed(kind: str) -> None:
    shown = printable(HOSTILE[kind])
    assert shown in ("ab", "a")
    assert printable(shown) == shown


@pytest.mark.parametrize(
    "text", ["caf\u00e9\tone\ntwo", "\u65e5\u672c", "\U0001f600", "", "10\xa0MiB"]
)
def test_what_people_write_stays(text: str) -> None:
    assert printable(text) == text


def test_long_beginnings_of_sequences_are_read_once() -> None:
    numbers = "1;" * 100_000
    assert printable(f"\x1b[{numbers}") == numbers
    assert "\x1b" not in printable("\x1b]" * 100_000)


def test_all_texts_of_a_status_are_printable() -> None:
    status = {"conditions": [{"message": "a\x1b[2Jb", "n": 1}], "pem": "one\ntwo\n", "x\x07": None}
    assert all_printable(status) == {
        "conditions": [{"message": "ab", "n": 1}],
        "pem": "one\ntwo\n",
        "x": None,
    }


def test_no_log_line_passes_for_another() -> None:
    record = logging.LogRecord(
        "a", logging.INFO, "", 0, "%s", ("said\n2026 INFO forged\x1b[2J\r\n",), None
    )
    lines = LogLines("%(levelname)s %(message)s").format(record).split("\n")
    assert lines[:2] == ["INFO said", "    2026 INFO forged"]
    assert all(not line or line.startswith("    ") for line in lines[1:])


def test_nor_what_an_exception_says() -> None:
    try:
        raise ValueError("bad\n2026 INFO forged\x1b[2J")
    except ValueError as error:
        info = type(error), error, error.__traceback__
    record = logging.LogRecord("a", logging.ERROR, "", 0, "failed", (), info)
    first, *rest = LogLines("%(message)s").format(record).split("\n")
    assert first == "failed"
    assert all(line.startswith("    ") for line in rest)
    assert "\x1b" not in "".join(rest)


def test_the_command_prints_nothing_that_steers_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    emit("a\x1b[2Jb")
    emit("c\x9bHd", err=True)
    assert capsys.readouterr() == ("ab\n", "cd\n")
    folder = Path(commands.__file__).parent
    others = [
        file.name for file in sorted(folder.glob("*.py")) if "click.echo(" in file.read_text()
    ]
    assert others == ["completion.py", "output.py"], "print by emit()"
