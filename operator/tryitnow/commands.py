"""Running a program of the node, which ends in time or is ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """What a program came to."""

    status: int
    """Its exit status."""

    output: str
    complaints: str
    """What it wrote to its standard error."""


async def run(
    *argv: str,
    seconds: float,
    env: Mapping[str, str] | None = None,
) -> Ended:
    """Run a program to its end; one that is cancelled or takes too long is killed.

    Its children are killed with it.

    Args:
        argv: The program, and its arguments.
        seconds: How long it may take.
        env: Its environment; by default ours.

    Raises:
        OSError: it cannot be run.
        TimeoutError: it took too long.

    """
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            start_new_session=True,
        )
    )
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # asyncio would kill the program alone, and wait for its children.
        await _kill(await starting)
        raise
    try:
        async with asyncio.timeout(seconds):
            output, complaints = await process.communicate()
    finally:
        await _kill(process)
    assert process.returncode is not None
    return Ended(
        process.returncode,
        output.decode(errors="replace"),
        complaints.decode(errors="replace").strip(),
    )


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):  # it ended at this very moment
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
