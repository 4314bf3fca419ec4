"""The conmon of the image: Podman's orders to it, without those for the container's end."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parents[3] / "image/conmon"


def passed_on(*arguments: str) -> list[str]:
    """What the real conmon is started with."""
    program = "exec /usr/bin/conmon"
    script = _SCRIPT.read_text()
    assert script.count(program) == 1
    script = script.replace(program, "printf '%s\\0'")
    done = subprocess.run(
        ["sh", "-c", script, "conmon", *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.split("\0")[:-1]


def test_no_program_is_started_when_a_container_ends() -> None:
    # As Podman 5.8 orders it, shortened.
    cleanup = ["/usr/bin/podman", "--log-level", "warning", "container", "cleanup", "--exec", "c1"]
    arguments = ["--api-version", "1", "-c", "c1", "-r", "/usr/bin/crun", "--full-attach"]
    at_the_end = ["--exit-command", cleanup[0]]
    at_the_end += [word for each in cleanup[1:] for word in ("--exit-command-arg", each)]
    assert passed_on(*arguments, *at_the_end, "--exit-delay", "300", "-s") == [*arguments, "-s"]


@pytest.mark.parametrize("odd", ["", "two words", "new\nline", "$HOME `id` *", '"', "'", "-e"])
def test_all_other_arguments_stay_as_they_are(odd: str) -> None:
    assert passed_on("-n", odd, "--exit-command", odd, "--version", odd) == [
        "-n", odd, "--version", odd,
    ]  # fmt: skip
