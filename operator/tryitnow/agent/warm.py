"""The warm pool of a copy: filled ahead of time, looked after, claimed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tryitnow.agent.archive import ArchiveError
from tryitnow.agent.inside import reached
from tryitnow.agent.measure import claim_ended
from tryitnow.agent.memory import available_memory_bytes
from tryitnow.agent.names import (
    ContainerName,
    Role,
    demo_container,
    warm_container,
)
from tryitnow.agent.node import Node
from tryitnow.agent.pool import WarmCopy
from tryitnow.agent.ports import NoPortError
from tryitnow.agent.probe import NotReadyError, ask
from tryitnow.agent.quarantine import note_restore_failure, quarantine_damaged
from tryitnow.agent.restore import thaw
from tryitnow.agent.sandbox import Sandbox, SandboxError
from tryitnow.agent.sandboxes import discard, discard_waiting, find, members, waiting
from tryitnow.agent.unpack import UnpackError
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.background import all_together, outcomes, together
from tryitnow.podman.errors import PodmanCallError, PodmanUnreachableError

logger = logging.getLogger(__name__)

LOOK_EVERY = timedelta(seconds=10)
"""Between two looks at whether the waiting copies still answer."""

SETTLED = timedelta(milliseconds=50)
"""After a claim, before the pool is looked at: until the demo's user has been told."""

QUIET = timedelta(milliseconds=300)
"""After a claim, before the copy is replaced: claims come in bursts, and the restores of those who
came too late for a warm copy should not share the cores with its replacement. About the time that
a restore takes."""

CLAIM_TIMEOUT_SECONDS = 8.0
"""For one answer of a copy that waits: it has nothing left to do first, but a node that starts many
demos leaves it little time. Less than what ends a request, so that silence is no wrong answer."""

_EXPECTED = (
    PodmanCallError,
    NotReadyError,
    ArchiveError,
    UnpackError,
    NoPortError,
    SandboxError,
)
"""Why a copy may not be thawed."""


class _SilentError(Exception):
    """A copy that was ready once does not answer.

    Nor would the next, where thaws and cold starts keep the whole node busy: it is not asked.
    """


@dataclass(frozen=True)
class Claim:
    """What came of a look for a copy that waits."""

    sandbox: Sandbox | None = None
    """That of a copy which is the instance's now: no visitor gets into its pod yet. None when none
    waits that answers in time."""

    took: timedelta | None = None
    """Time spent on copies that waited, fit or not; None where none did."""


async def claim(node: Node, instance: DemoInstance, copy: NodeCheckpoint) -> Claim:
    """Hand a waiting copy to an instance, where there is one.

    The container's new name makes it the instance's: after a crash at any moment it is either
    free or taken.
    """
    began = time.monotonic()
    took: timedelta | None = None
    while (warm := node.pool.take(copy.key)) is not None:
        name = demo_container(instance)
        # Until its ports are the instance's, it is neither the pool's nor found by its name.
        node.claiming.add(str(warm.name))
        try:
            if warm.paused:
                await _each(node.podman.unpause, copy, warm)
            await together(
                node.podman.rename(str(warm.name), str(name)), _answers(node, copy, warm)
            )
            node.ports.hand_over(str(warm.name), str(name))
        except (PodmanCallError, NotReadyError, _SilentError) as error:
            if isinstance(error, PodmanUnreachableError):
                raise
            note = f"the warm copy {warm.name} was not fit and is replaced: {error}"
            logger.warning("%s: %s", instance.key, note)
            node.kubernetes.event(instance, "WarmCopyUnfit", note, warning=True)
            claim_ended(node, copy, "Unfit")
            await _discard_both(node, warm, name)
            took = timedelta(seconds=time.monotonic() - began)
            if isinstance(error, _SilentError):
                return Claim(took=took)
            continue
        except BaseException:
            await _discard_both(node, warm, name)
            raise
        finally:
            node.claiming.discard(str(warm.name))
        claim_ended(node, copy, "Claimed")
        return Claim(warm.sandbox, timedelta(seconds=time.monotonic() - began))
    if copy.spec.pool.warm:
        claim_ended(node, copy, "Empty")
    return Claim(took=took)


async def _discard_both(node: Node, warm: WarmCopy, name: ContainerName) -> None:
    # The renaming may or may not have happened.
    await discard(node, warm.name)
    await discard(node, name)


async def _each(
    act: Callable[[str], Coroutine[Any, Any, None]], copy: NodeCheckpoint, warm: WarmCopy
) -> None:
    """Do something to each container of a waiting copy."""
    called = warm.sandbox.containers(warm.name, copy.spec.blueprint)
    await all_together(act(own) for own in called.values())


async def _answers(node: Node, copy: NodeCheckpoint, warm: WarmCopy) -> None:
    """Ask a waiting copy once.

    Raises:
        NotReadyError: it is not ready any more.
        _SilentError: it does not answer.

    """
    # A thaw in its stead would have that long at most, on a node that is no less busy.
    allowed = copy.spec.blueprint.readiness.restore_timeout.total_seconds()
    patience = min(CLAIM_TIMEOUT_SECONDS, allowed)
    try:
        async with (
            asyncio.timeout(patience),
            reached(node, copy.spec.blueprint, warm.sandbox) as (session, target),
        ):
            answer = await ask(session, target)
    except TimeoutError as error:
        msg = f"no answer within {patience:g} s"
        raise _SilentError(msg) from error
    if answer is not None:
        raise NotReadyError(answer)


async def reconcile_pool(node: Node, key: Key) -> timedelta | None:
    """Bring the number of a copy's waiting thaws to what its spec wants."""
    copy = node.copies.get(key)
    if copy is None:
        # Its containers are nobody's now, and are collected as such.
        await discard_waiting(node, node.pool, key)
        node.pool.adopted.discard(key)
        return None
    wanted = _wanted(node, copy)
    if wanted and (busy := _busy(node)) and key in node.pool.adopted:
        await _report(node, key, copy.status.warm_message)
        return busy
    await _adopt(node, copy)
    unfit = [warm for warm in node.pool.of(key) if not await _is_fit(node, copy, warm)]
    fit = [warm for warm in node.pool.of(key) if warm not in unfit]
    # Looking took its time: the controller may have changed its mind meanwhile.
    copy = node.copies.get(key) or copy
    wanted = _wanted(node, copy)
    await _drop_all(node, copy, [*unfit, *fit[wanted:]])
    missing = wanted - len(node.pool.of(key))
    message: str | None = None
    again = LOOK_EVERY if wanted else None
    if missing > 0 and (pause := node.backoff.remaining(_pool_id(copy))):
        message, again = copy.status.warm_message, min(pause, LOOK_EVERY)
    elif missing > 0:
        room, why = await asyncio.to_thread(_room, node, copy)
        message = await _fill(node, copy, min(missing, room)) or (why if room < missing else None)
    await _report(node, key, message)
    return again


async def _adopt(node: Node, copy: NodeCheckpoint) -> None:
    """Take in what waited before the agent was started, and remove what cannot be used."""
    for name, state in await waiting(node, Role.WARM, copy):
        if state.name in node.pool.names():
            continue
        sandbox = await find(node, state) if state.alive else None
        if await node.podman.inspect(state.name) is None or state.name in node.claiming:
            continue  # a demo's by now, or about to be: neither it nor its ports are the pool's
        if sandbox is not None:
            warm = WarmCopy(name, sandbox, paused=state.paused)
            node.ports.adopt([state])
            if await _can_be_used(node, copy, warm):
                node.pool.add(copy.key, warm)
                continue
        await discard(node, name)
    node.pool.adopted.add(copy.key)


async def _can_be_used(node: Node, copy: NodeCheckpoint, warm: WarmCopy) -> bool:
    if warm.paused:
        return copy.spec.pool.pause  # it was asked before it was paused
    try:
        await _answers(node, copy, warm)
    except (NotReadyError, _SilentError):
        return False
    return True


def _wanted(node: Node, copy: NodeCheckpoint) -> int:
    return copy.spec.pool.warm if copy.is_prepared and node.health.criu_available else 0


async def _is_fit(node: Node, copy: NodeCheckpoint, warm: WarmCopy) -> bool:
    """Whether a waiting copy still runs, answers, and waits in the right way."""
    state = await node.podman.inspect(str(warm.name))
    alive = state is not None and (state.paused if warm.paused else state.running)
    if alive and state is not None and state.pod:
        wanted = "paused" if warm.paused else "running"
        alive = set(await members(node, state.pod)) == {wanted}
    return (
        alive
        and warm.paused == copy.spec.pool.pause
        and (warm.paused or await _can_be_used(node, copy, warm))
    )


async def _drop_all(node: Node, copy: NodeCheckpoint, all_: list[WarmCopy]) -> None:
    """Take copies out of the pool, and say so before demos are sent here for them."""
    dropped = [warm for warm in all_ if node.pool.withdraw(copy.key, warm)]
    if not dropped:
        return
    try:
        await _report(node, copy.key, copy.status.warm_message)
    finally:
        for warm in dropped:
            await discard(node, warm.name)


async def empty_pool(node: Node, copy: NodeCheckpoint) -> None:
    """Remove whatever waits, or is being made to wait, of a copy that is removed."""
    await discard_waiting(node, node.pool, copy.key)
    for name, state in await waiting(node, Role.WARM, copy):
        if state.name not in node.claiming:
            await discard(node, name)


def _busy(node: Node) -> timedelta | None:
    """How long to leave the node to the demos that are being thawed; None when it is idle."""
    if node.thaws.is_pressed:
        return QUIET
    # In seconds: where none was ever taken, it was for ever ago, which no timedelta can say.
    left = QUIET.total_seconds() - (time.monotonic() - node.pool.taken_at)
    return timedelta(seconds=left) if left > 0 else None


def _room(node: Node, copy: NodeCheckpoint) -> tuple[int, str]:
    """Return how many more copies may wait here, and what limits them. Blocking."""
    slots = node.settings.capacity - len(node.instances) - node.pool.size
    prepared = node.prepared.get(copy.key)
    each = max(prepared.memory_bytes() if prepared else 0, 1)
    memory = available_memory_bytes() - node.settings.memory_reserve_bytes
    if memory // each < slots:
        why = f"{node.name} has memory for {max(memory // each, 0)} more ({each >> 20} MiB each)"
        return max(memory // each, 0), why
    return max(slots, 0), f"{node.name} runs {len(node.instances)} of {node.settings.capacity}"


async def _fill(node: Node, copy: NodeCheckpoint, count: int) -> str | None:
    """Thaw copies and let them wait; returns why one of them could not be had."""
    results = await outcomes(_add(node, copy) for _ in range(count))
    failures = [result for result in results if isinstance(result, BaseException)]
    for failure in failures:
        if not isinstance(failure, _EXPECTED):
            raise failure
        if isinstance(failure, PodmanUnreachableError):
            raise failure
    if not failures:
        node.backoff.forget(_pool_id(copy))
        return None
    failure = failures[0]
    if not node.is_wanted(copy.key):
        return None
    logger.warning("%s: a warm copy could not be made: %s", copy.key, failure)
    node.backoff.failed(_pool_id(copy))
    if isinstance(failure, ArchiveError):
        await quarantine_damaged(node, copy, str(failure))
    elif not isinstance(failure, (NoPortError, SandboxError)):
        await note_restore_failure(node, node.copies.get(copy.key) or copy, str(failure))
    return str(failure)


async def _add(node: Node, copy: NodeCheckpoint) -> None:
    archive = copy.status.archive
    if archive is None:
        return
    name = warm_container(copy)
    node.filling.add(str(name))
    try:
        thawed, _ = await thaw(node, name, copy, archive, urgent=False)
        warm = WarmCopy(name, thawed.sandbox, paused=copy.spec.pool.pause)
        if copy.spec.pool.pause:
            try:
                await _each(node.podman.pause, copy, warm)
            except BaseException:
                await discard(node, name)
                raise
        node.pool.add(copy.key, warm)
        await _report(node, copy.key, copy.status.warm_message)
    finally:
        node.filling.discard(str(name))


async def _report(node: Node, key: Key, message: str | None) -> None:
    copy = node.copies.get(key)
    if copy is None or copy.is_deleting:
        return
    # These two only: the life of the copy itself is written by another hand at the same time.
    fields = {"warmReady": len(node.pool.of(key)), "warmMessage": message}
    node.copies.update(await node.kubernetes.patch_status_fields(copy, fields))


def _pool_id(copy: NodeCheckpoint) -> str:
    return f"{copy.metadata.uid}/pool"
