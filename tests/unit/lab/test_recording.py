"""The recording of a terminal that the README shows."""

from __future__ import annotations

import os
import re
from xml.etree import ElementTree

import pytest

from lab import LabError, recording
from lab.recording import Line, draw, record


def test_each_line_appears_when_it_came() -> None:
    picture = draw([Line(0, "$ first"), Line(1.25, "said <a>")])
    ElementTree.fromstring(picture)
    [shown] = re.findall(r'<text class="[^"]* (at-\d)"[^>]*>said&#160;&lt;a&gt;<', picture)
    assert f".{shown}{{animation:appear 0s 1.25s both}}" in picture


def test_a_picture_asks_nobody_for_anything() -> None:
    picture = draw([Line(0, "$ first")])
    assert "url(http" not in picture
    assert "@font-face" not in picture


def test_what_a_terminal_shows_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "COMMANDS", ("echo one", "test -t 1 && echo 'a terminal'"))
    lines = list(record(dict(os.environ)))
    assert [line.text for line in lines if line.text] == [
        "$ echo one", "one", "$ test -t 1 && echo 'a terminal'", "a terminal",
    ]  # fmt: skip
    assert sorted(line.at for line in lines) == [line.at for line in lines]


def test_a_command_that_fails_makes_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "COMMANDS", ("false", "echo never"))
    with pytest.raises(LabError, match="a command failed"):
        list(record(dict(os.environ)))
