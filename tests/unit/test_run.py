"""A program of the node ends in time, or is ended with all that it started."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.unit.processes import begun, ended, hanging_script
from tryitnow.commands import run


async def test_what_it_came_to() -> None:
    ended = await run("sh", "-c", "cat; printf yes; echo no >&2; exit 3", seconds=10)
    assert (ended.status, ended.output, ended.complaints) == (3, "yes", "no")


async def test_it_has_the_environment_that_it_is_given() -> None:
    env = {"PATH": os.environ["PATH"], "WORD": "word"}
    ended = await run("sh", "-c", "echo $WORD", seconds=10, env=env)
    assert ended.output == "word\n"


async def test_one_that_is_missing() -> None:
    with pytest.raises(FileNotFoundError):
        await run("no-such-program", seconds=10)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_one_that_hangs_is_ended_with_its_children(
    tmp_path: Path, *, cancelled: bool
) -> None:
    child = tmp_path / "child"
    script = hanging_script(child)
    running = asyncio.create_task(run("sh", "-c", script, seconds=60 if cancelled else 0.5))
    await begun(child, 10)
    began = time.monotonic()
    if cancelled:
        running.cancel()
    with pytest.raises(asyncio.CancelledError if cancelled else TimeoutError):
        await running
    assert time.monotonic() - began < 5
    await ended(child, 10)
