"""Runs programs of this machine and turns their failures into messages a person can act on."""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from lab import LabError
from lab.progress import Step

# What programs inside the lab start with. Neither proxies nor credentials of the person's own
# environment may leak in: the lab is a network of its own.
CLEAN_ENVIRONMENT: dict[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class CommandFailedError(LabError):
    """A program ended with another exit code than 0."""

    def __init__(self, argv: list[str], code: int, output: str) -> None:
        shown = " ".join(argv)
        super().__init__(f"`{shown[:300]}` ended with {code}:\n{output.strip()[-2000:]}")
        self.code = code
        self.output = output


def run(
    *argv: str | Path,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program to its end and return what it wrote to stdout."""
    words = [str(word) for word in argv]
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, cwd=cwd, env=_merged(env), check=False
    )
    if done.returncode != 0:
        raise CommandFailedError(words, done.returncode, done.stdout + done.stderr)
    return done.stdout


def run_watched(
    *argv: str | Path,
    step: Step,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a long program; each line it writes shows how far it is."""
    words = [str(word) for word in argv]
    tail: deque[str] = deque(maxlen=40)
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=cwd,
        env=_merged(env),
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail.append(line)
            step.at(line)
    step.at("")
    if process.returncode != 0:
        raise CommandFailedError(words, process.returncode, "".join(tail))


def _merged(env: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if env is None else {**os.environ, **env}
