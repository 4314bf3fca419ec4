"""What ended of a demo, and why: the application, the kernel for want of memory, or the node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.sandbox.kernel_log import OOMKill, oom_kills
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import demo_name
from tryitnow.api.definition import Definition
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import now
from tryitnow.podman.client import ContainerState, PodState

RESTARTING = "Restarting"
NODE_RESTARTED = "NodeRestarted"
OOM_KILLED = "OOMKilled"

_KILLED = 137
"""Exit code of a process that SIGKILL ended (128 + 9)."""

_BEFORE_END_SECONDS, _AFTER_END_SECONDS = 60.0, 5.0
"""When, around the end of a container, the kernel killed a process that was its cause: a program
may live on for a while without its child, and Podman notices an end a little later."""


@dataclass(frozen=True)
class End:
    """The end of a demo's containers.

    Attributes:
        reason: In one word, as the condition Ready has it.
        what: In a sentence.

    """

    reason: str
    what: str


async def find_end(
    tools: DemoTools,
    demo: DemoInstance,
    definition: Definition,
    sandbox: Sandbox,
    pod: PodState,
) -> End | None:
    """Return which container of a demo has ended, and why; None when all run or are paused."""
    if (end := await _find_end(tools, demo, definition, sandbox, pod)) is None:
        return None
    started_in = demo.status.node_boot_id
    if started_in is not None and started_in != tools.boot_id:
        # Exit codes tell nothing then: what Podman says of them after a boot is 0 or 137.
        return End(NODE_RESTARTED, "the node was started again, and all of its containers with it")
    return end


async def _find_end(
    tools: DemoTools,
    demo: DemoInstance,
    definition: Definition,
    sandbox: Sandbox,
    pod: PodState,
) -> End | None:
    if not pod.infra_running:
        return End(RESTARTING, "its pod had ended, as after a reboot of the node")
    names = sandbox.containers(demo_name(demo), definition)
    for container, own in names.items():
        if own not in pod.members:
            return End(RESTARTING, f"container {container} is gone: somebody removed it")
    members = {own: container for container, own in names.items()}
    for own, state in sorted(pod.members.items()):
        if state in {"running", "paused"}:
            continue
        found = await tools.start.podman.inspect(own)
        if found is None or found.alive:
            continue
        container = members.get(own, own.removeprefix(f"{sandbox.pod}_"))
        is_main = container == definition.main.name
        of = "its main container" if is_main else f"container {container}"
        records = await asyncio.to_thread(tools.kernel_log)
        return describe_end(of, found, _memory_limit(definition, container), oom_kills(records))
    return None


def _memory_limit(definition: Definition, container: str) -> str | None:
    members = definition.template.members
    limits = (member.resources.limits.memory for member in members if member.name == container)
    return next(limits, None)


def describe_end(
    of: str, found: ContainerState, memory_limit: str | None, kills: Sequence[OOMKill]
) -> End:
    """Return why a container ended.

    Args:
        of: How people call it.
        found: What Podman says of it.
        memory_limit: Its limit of memory, if it has one.
        kills: What the kernel killed for want of memory, the oldest first.

    """
    code = f"exit code {found.exit_code}"
    kill = _cause(found, kills)
    if kill is None:
        # Podman never takes its mark back: it may be of an end long ago.
        if not (found.oom_killed and found.exit_code == _KILLED):
            return End(RESTARTING, f"{of} ended with {code}")
        text = f"{of} was killed for want of memory ({code})"
        if memory_limit is None:
            return End(OOM_KILLED, f"{text}: {_NODE}")
        either = f"its limit of {memory_limit} was reached, or the memory of the node"
        return End(OOM_KILLED, f"{text}: {either}; the kernel's log of the node (`dmesg`) tells")
    text = f"{of} ended with {code} after the kernel had killed its {kill.program}"
    if kill.is_limit_of(found.id):
        limit = f" of {memory_limit}" if memory_limit else ""
        return End(
            OOM_KILLED,
            f"{text}: its memory limit{limit} was reached. "
            "Raise resources.limits.memory of the container for new demos",
        )
    if kill.limited:
        return End(OOM_KILLED, f"{text}: the memory limit of cgroup {kill.limited} was reached")
    return End(OOM_KILLED, f"{text}: {_NODE}")


_NODE = (
    "the memory of the node was used up. Run fewer demos and warm sandboxes on it "
    "(`agent.maxInstances`, `spec.pool.warm`), or raise `agent.memoryReserveMiB`"
)


def _cause(found: ContainerState, kills: Sequence[OOMKill]) -> OOMKill | None:
    """Return the last kill in a container that can have been the cause of its end."""
    ended_at = time.monotonic()
    if found.finished_at is not None:
        ended_at -= (now() - found.finished_at).total_seconds()
    earliest, latest = ended_at - _BEFORE_END_SECONDS, ended_at + _AFTER_END_SECONDS
    inside = [kill for kill in kills if kill.is_in(found.id) and earliest <= kill.at <= latest]
    return inside[-1] if inside else None


def read_boot_id(path: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    """Return the identity of the node's present boot, as Node.status.nodeInfo.bootID has it."""
    return path.read_text().strip()
