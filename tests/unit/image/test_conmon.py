"""The conmon of our image: Podman's orders to it, without those for the container's end."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

IMAGE = Path(__file__).parents[3] / "image"
PROGRAM = "exec /usr/bin/conmon"


def run(instead: str, *arguments: str, opened: tuple[int, ...] = ()) -> str:
    """What the script writes that calls something else in the place of the real conmon.

    Args:
        instead: What it calls.
        arguments: Its own.
        opened: Files that whoever calls it has open, by their numbers.

    """
    script = (IMAGE / "conmon").read_text()
    assert script.count(PROGRAM) == 1
    script = script.replace(PROGRAM, instead)
    files = "".join(f"exec {number}</dev/null\n" for number in opened)
    done = subprocess.run(
        ["bash", "-c", f'{files}exec bash -c "$0" conmon "$@"', script, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def passed_on(*arguments: str) -> list[str]:
    """What the real conmon is started with."""
    return run("printf '%s\\0'", *arguments).split("\0")[:-1]


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


def test_what_it_starts_has_the_score_of_demos() -> None:
    """Also where Podman is one that the kernel is to spare."""
    assert run("exec cat /proc/self/oom_score_adj") == "1000\n"


def test_it_holds_no_file_of_podmans_but_its_pipes() -> None:
    held = run("exec ls /proc/self/fd", opened=(3, 4, 5, 17, 230)).split()
    # The last is the folder, which `ls` reads.
    assert sorted(int(number) for number in held) == [0, 1, 2, 3, 4, 5, 6]


def test_podman_calls_our_conmon() -> None:
    engine = tomllib.loads((IMAGE / "containers.conf").read_text())["engine"]
    assert engine["conmon_path"] == ["/usr/libexec/try-it-now/conmon"]
    containerfile = (IMAGE.parent / "Containerfile").read_text()
    (copied,) = [line for line in containerfile.splitlines() if "image/conmon " in line]
    assert copied.endswith(" /usr/libexec/try-it-now/")
