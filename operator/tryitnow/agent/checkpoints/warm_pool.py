"""The warm sandboxes of a revision on this node.

They belong to one actor. Handing out waits for nothing, so each sandbox goes to one demo only,
however many come at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from tryitnow.agent.checkpoints.chores import Chores
from tryitnow.agent.checkpoints.failures import EXPECTED
from tryitnow.agent.checkpoints.timer import Timer
from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.checkpoints.warm import Warm, is_fit, make_warm
from tryitnow.agent.errors import FirewallError
from tryitnow.agent.restore.precreate import PreCreated
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import ContainerName, Role, stock_name, waits_for
from tryitnow.agent.storage.generations import Generation
from tryitnow.api.definition import Definition
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.backoff import Pauses
from tryitnow.podman.client import ContainerState
from tryitnow.podman.errors import NoSuchContainerError

logger = logging.getLogger(__name__)

REFILL_DELAY = 0.3
"""Seconds after a claim, before the warm sandbox is replaced: claims come in bursts, and the
restores of demos that came too late for a warm sandbox should not share the cores with it."""

LONGEST_DELAY = 1.0
"""Seconds after the first claim that was not made up for: steady demand must not put off the
replacement for ever."""

CHECK_INTERVAL = 10.0
"""Seconds between two looks at whether the warm sandboxes still answer."""

_PAUSES = Pauses(timedelta(seconds=5), timedelta(minutes=5))


@dataclass(frozen=True)
class Subject:
    """What sandboxes are made from."""

    node_checkpoint: NodeCheckpoint
    definition: Definition
    generation: Generation


def is_same(one: Subject | None, other: Subject | None) -> bool:
    """Whether sandboxes are made from the same files; what failed with others is no reason now."""
    generations = (one and one.generation, other and other.generation)
    return generations[0] is generations[1]


class WarmPool:
    """What is restored ahead of time, for demos that then wait for nothing."""

    def __init__(
        self,
        tools: CheckpointTools,
        *,
        changed: Callable[[], None],
        take_precreated: Callable[[Generation], PreCreated | None],
        restore_failed: Callable[[Generation, Exception], None],
    ) -> None:
        """Begin with nothing.

        Args:
            tools: The node's tools.
            changed: Called when something was made, taken or lost.
            take_precreated: Gives a sandbox to restore into, where one waits.
            restore_failed: Told of a generation that could not be restored, whatever the reason.

        """
        self._tools = tools
        self._changed = changed
        self._take_precreated = take_precreated
        self._restore_failed = restore_failed
        self._warm: list[Warm] = []
        self._making: set[str] = set()
        """Names of those that are being made."""

        self._wanted = 0
        self._chores = Chores("a warm sandbox")
        self._removals = Chores("the removal of a warm sandbox")
        self._timer = Timer(self._fill)
        self._failures = 0
        self._retry_at = 0.0
        self._claimed_at = float("-inf")
        self._waits_since: float | None = None
        """When the first sandbox was taken that was not made up for since."""

        self._checked_at = float("-inf")
        self._closed = False
        self._subject: Subject | None = None
        self.message: str | None = None
        """Why fewer wait than are wanted."""

    @property
    def ready(self) -> int:
        """Number of sandboxes that wait."""
        return len(self._warm)

    @property
    def size(self) -> int:
        """Number of sandboxes that run, or are about to, without a demo."""
        return len(self._warm) + len(self._making)

    @property
    def names(self) -> set[str]:
        """Names of all that wait or are being made: nobody else may take them for lost work."""
        return self.waiting | self._making

    @property
    def waiting(self) -> set[str]:
        """Names of those that wait, done."""
        return {str(warm.name) for warm in self._warm}

    def take(self) -> Warm | None:
        """Hand out the one that waits longest; None when none waits."""
        if not self._warm or self._closed:
            return None
        taken = self._warm.pop(0)
        self._claimed_at = self._tools.clock()
        if self._waits_since is None:
            self._waits_since = self._claimed_at
        self._changed()
        return taken

    def keep(self, subject: Subject | None, wanted: int | None) -> None:
        """Bring their number to ``wanted``, step by step; None leaves it as it is.

        Without a subject nothing is made.
        """
        if self._closed:
            return
        if not is_same(self._subject, subject):
            self._failures, self._retry_at = 0, 0.0
        self._subject = subject
        self._wanted = self.size if wanted is None else wanted
        surplus = self._warm[self._wanted :]
        del self._warm[self._wanted :]
        for unneeded in surplus:
            self._remove(unneeded)
        if surplus:
            self._changed()
        self._fill()

    def lost(self, *, ended: set[str]) -> None:
        """Drop those of which a container ended."""
        for warm in [one for one in self._warm if str(one.name) in ended]:
            self._drop(warm, "its container ended")

    async def give_up(self) -> bool:
        """Remove one that waits, for its memory; return whether there was one.

        None takes its place at once: whoever needs the memory has yet to fill it.
        """
        if not self._warm or self._closed:
            return False
        given_up = self._warm.pop()
        pause = _PAUSES.after(1).total_seconds()
        self._retry_at = max(self._retry_at, self._tools.clock() + pause)
        self.message = "a demo needed the memory of a warm sandbox"
        logger.info("removing the warm sandbox %s: %s", given_up.name, self.message)
        self._changed()
        # Also where the demo that needs it is deleted meanwhile, or Podman cannot remove it.
        await asyncio.wait({self._remove(given_up)})
        return True

    def _fill(self) -> None:
        self._timer.off()
        if self._subject is None or self._closed:
            return
        now = self._tools.clock()
        missing = self._wanted - self.size
        if missing <= 0:
            self._waits_since = self.message = None
            return
        due = self._refill_at()
        if due > now:
            self._timer.wake_in(due - now)
            return
        # Where there is room for some, these are made; where there is none, one says so.
        room = self._tools.free_capacity(self._subject.node_checkpoint.metadata.namespace)
        for _ in range(max(1, min(missing, room))):
            name = stock_name(Role.WARM, self._subject.node_checkpoint)
            self._making.add(str(name))
            self._chores.begin(self._add(name, self._subject))

    def _refill_at(self) -> float:
        quiet = self._claimed_at + REFILL_DELAY
        waits_since = self._claimed_at if self._waits_since is None else self._waits_since
        return max(min(quiet, waits_since + LONGEST_DELAY), self._retry_at)

    async def _add(self, name: ContainerName, subject: Subject) -> None:
        try:
            warm = await make_warm(
                self._tools,
                name,
                subject.node_checkpoint,
                subject.definition,
                subject.generation,
                lambda: self._take_precreated(subject.generation),
            )
        except EXPECTED as error:
            self._making.discard(str(name))
            self._note_failure(subject.generation, error)
            return
        except BaseException:
            self._making.discard(str(name))
            raise
        self._failures, self._retry_at, self.message = 0, 0.0, None
        if self._closed or self.ready >= self._wanted:
            self._remove(warm)
        else:
            self._warm.append(warm)
        self._making.discard(str(name))
        self._changed()

    def _note_failure(self, generation: Generation, error: Exception) -> None:
        now = self._tools.clock()
        if now >= self._retry_at:  # what was begun together and fails together is one failure
            self._failures += 1
            self._retry_at = now + _PAUSES.after(self._failures).total_seconds()
        if self._closed:
            return
        logger.warning("a warm sandbox could not be made: %s", error)
        self.message = str(error)
        self._restore_failed(generation, error)
        self._changed()

    def check(self) -> None:
        """Ask those that wait, if that was not done for a while."""
        now = self._tools.clock()
        if self._subject is None or not self._warm or now - self._checked_at < CHECK_INTERVAL:
            return
        self._checked_at = now
        for warm in list(self._warm):
            self._chores.begin(self._check(warm, self._subject))

    async def _check(self, warm: Warm, subject: Subject) -> None:
        if not await is_fit(self._tools, subject.node_checkpoint, subject.definition, warm):
            self._drop(warm, "it does not answer any more")

    def _drop(self, warm: Warm, why: str) -> None:
        if warm not in self._warm:
            return  # handed out, or dropped, meanwhile
        self._warm.remove(warm)
        logger.warning("removing the warm sandbox %s: %s", warm.name, why)
        self._remove(warm)
        self._changed()

    def _remove(self, warm: Warm) -> asyncio.Task[None]:
        return self._removals.begin(self._tools.start.sandboxes.remove(warm.name))

    async def adopt(self, node_checkpoint: NodeCheckpoint, definition: Definition) -> None:
        """Take in what waited before this agent was started, and remove what cannot be used.

        Raises:
            PodmanError, PodmanUnreachableError: not all was looked at; call it again.

        """
        sandboxes = self._tools.start.sandboxes
        for name, state in await sandboxes.list_all():
            if not waits_for(name, Role.WARM, node_checkpoint) or str(name) in self.names:
                continue
            warm = await self._found(name, state, node_checkpoint, definition)
            if warm is None:
                await sandboxes.remove(name)
                continue
            sandboxes.ports.adopt([state])
            self._warm.append(warm)

    async def _found(
        self,
        name: ContainerName,
        state: ContainerState,
        node_checkpoint: NodeCheckpoint,
        definition: Definition,
    ) -> Warm | None:
        """Return a sandbox that waited; None where it cannot be handed out."""
        start = self._tools.start
        sandbox = await start.sandboxes.of(state) if state.alive else None
        if sandbox is None or not await self._is_closed(sandbox):
            return None
        try:
            pids = await start.containers.pids_of(name, definition, sandbox)
        except NoSuchContainerError:
            return None  # a part of it was removed
        try:
            await start.sandboxes.guard(name, sandbox, definition.network)
        except FirewallError as error:
            logger.warning("%s: its firewall cannot be set: %s", name, error)
            return None
        warm = Warm(name, sandbox, paused=state.paused, pids=pids)
        return warm if await is_fit(self._tools, node_checkpoint, definition, warm) else None

    async def _is_closed(self, sandbox: Sandbox) -> bool:
        """Whether no client could come in: an agent that was killed may have begun to hand it out.

        What a stranger did in it would be given to the next demo.
        """
        try:
            return not await self._tools.start.sandboxes.firewall.is_open(sandbox.pid)
        except FirewallError:
            return False

    async def close(self) -> None:
        """Remove all that waits, and wait until nothing is being made."""
        self._closed = True
        self._timer.off()
        await self._chores.cancel()
        while self._warm:
            # Taken out before: while it is removed, a look may find that it has ended.
            await self._tools.start.sandboxes.remove(self._warm.pop().name)
        await self.stop()

    async def stop(self) -> None:
        """Cancel what is being made; what waits stays for the next agent."""
        self._closed = True
        self._timer.off()
        await self._chores.cancel()
        await self._removals.finish()
