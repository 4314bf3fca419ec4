"""The ``tryitnow`` command, as a person meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tryitnow.cli.main import main

CHECKOUT = Path(__file__).resolve().parents[3]


def test_a_setting_that_cannot_be_used_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PODMAN_SOCKET", "ftp://example.com")
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 2
    text = capsys.readouterr()
    assert text.out == ""
    [line] = text.err.splitlines()
    assert line.startswith("tryitnow: PODMAN_SOCKET='ftp://example.com' is no URL of a Unix socket")


def test_it_shows_which_commands_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("controller", "agent", "doctor"))


def test_the_programs_do_without_what_reads_command_lines() -> None:
    code = (
        "import sys; from tryitnow.cli import main, programs; "
        "programs.run = lambda name: name == 'agent' and 'click' in sys.modules; "
        "main.main(['agent'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=CHECKOUT / "operator")
    assert done.returncode == 0


@pytest.mark.parametrize("program", ["controller", "agent"])
def test_the_first_line_of_a_log_comes_before_what_takes_long_to_load(program: str) -> None:
    # A kubelet kills what does not answer in time: its log must not be empty then.
    code = (
        "import logging, sys; from tryitnow.cli import programs\n"
        "def seen(record):\n"
        "    print(record.getMessage(), {'kubernetes', 'pydantic', 'kopf'} & {*sys.modules})\n"
        "    sys.exit()\n"
        "programs.logger.addFilter(seen)\n"
        f"programs.run({program!r})"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, check=True, cwd=CHECKOUT / "operator", capture_output=True)
    line = done.stdout.decode().strip()
    assert line.startswith(f"{program} of try-it-now ")
    assert line.endswith(" is loading set()")


@pytest.mark.parametrize("command", ["demo", "explain-slow", "logs", "report", "shell", "status"])
def test_every_command_says_what_it_is_for(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "--namespace" in capsys.readouterr().out
