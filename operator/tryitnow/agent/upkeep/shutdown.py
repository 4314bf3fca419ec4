"""What the agent does at its end when the node goes down with it: it ends the demos' processes.

Demos are in no unit of systemd's and in no Pod, so at a shutdown nobody ends them before systemd's
very last step, which waits 90 s for whatever does not end at SIGTERM: conmon hands that on to the
container, and the first process of many ignores it. Their files are kept, as in any reboot.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tryitnow.commands import run

logger = logging.getLogger(__name__)

GRACE_SECONDS = 8.0
"""For a database to end by itself; the agent's Pod and the kubelet's own shutdown have 30 s."""

_ASK_SECONDS = 3.0

_ON_NODE = ("nsenter", "--target=1", "--mount", "--")
"""The agent's Pod sees the node's first process, and may look into it."""

_QUESTIONS = (
    # systemd, from the moment when it stops units.
    (("systemctl", "is-system-running"), "stopping"),
    # logind, while the kubelet's graceful shutdown holds that up.
    (
        (
            "busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1",
            "org.freedesktop.login1.Manager", "PreparingForShutdown",
        ),
        "b true",
    ),
)  # fmt: skip

CONTAINERS = Path("/sys/fs/cgroup/libpod_parent")
"""Below it Podman has a cgroup for each container and for its conmon (cgroupfs as its manager)."""

COMMANDS = Path("/sys/fs/cgroup/try-it-now")
"""Podman itself, and the conmons of commands in containers (image/podman-service)."""


async def end_with_node() -> None:
    """End all demos' processes where the node is being shut down; else leave them alone."""
    if not await _node_goes_down():
        return
    logger.warning("the node is being shut down: its demos end, and their files are kept")
    await end_processes(CONTAINERS, GRACE_SECONDS)
    await end_processes(COMMANDS, 0)


async def _node_goes_down() -> bool:
    for question, answer in _QUESTIONS:
        try:
            answered = await run(*_ON_NODE, *question, seconds=_ASK_SECONDS)
        except (OSError, TimeoutError) as error:
            logger.info("whether the node is being shut down is not known: %s", error)
            continue
        if answered.output.strip() == answer:
            return True
    return False


async def end_processes(group: Path, grace_seconds: float) -> None:
    """Ask all processes of a cgroup and below it to end, and kill those that have not in time."""
    if grace_seconds:
        await asyncio.to_thread(_ask_to_end, group, grace_seconds)
    with contextlib.suppress(FileNotFoundError):
        # cgroup-v2.rst: also what is being forked at this moment.
        (group / "cgroup.kill").write_text("1")


def _ask_to_end(group: Path, grace_seconds: float) -> None:
    until = time.monotonic() + grace_seconds
    with contextlib.ExitStack() as opened:
        ends = select.poll()
        left = 0
        for pid in _processes(group):
            with contextlib.suppress(ProcessLookupError):
                # pidfd_open(2): it can be read from once the process has ended.
                handle = os.pidfd_open(pid)
                opened.callback(os.close, handle)
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                ends.register(handle, select.POLLIN)
                left += 1
        while left and (seconds := until - time.monotonic()) > 0:
            for handle, _ in ends.poll(seconds * 1000):
                ends.unregister(handle)
                left -= 1


def _processes(group: Path) -> Iterator[int]:
    for file in (group / "cgroup.procs", *group.rglob("*/cgroup.procs")):
        with contextlib.suppress(OSError):  # it was removed with its last process
            yield from (int(pid) for pid in file.read_text().split() if int(pid))
