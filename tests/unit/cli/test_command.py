"""The ``tryitnow`` command, as a person meets it."""

from __future__ import annotations

import pytest

from tryitnow.cli.main import main


def test_a_setting_that_cannot_be_used_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PODMAN_SOCKET", "ftp://example.com")
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith("tryitnow: PODMAN_SOCKET='ftp://example.com' is no URL of a Unix socket")


def test_it_shows_which_commands_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(command in said for command in ("controller", "agent", "doctor"))
