"""The stock of a revision on this node: pre-created and warm sandboxes, made ahead of time.

It belongs to one actor. Handing out waits for nothing, so each sandbox goes to one demo only,
however many come at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from tryitnow.agent.checkpoints.failures import EXPECTED
from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.checkpoints.warm_pool import Warm, is_fit, make_warm
from tryitnow.agent.errors import NodeShortError
from tryitnow.agent.restore.precreate import PreCreated, discard, precreate
from tryitnow.agent.sandbox.names import Role, stock_name, waits_for
from tryitnow.agent.storage.generations import Generation
from tryitnow.api.definition import Definition
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.backoff import Pauses
from tryitnow.podman.errors import NodeLimitError, PodmanUnreachableError

logger = logging.getLogger(__name__)

REFILL_DELAY = 0.3
"""Seconds after a claim, before the warm sandbox is replaced: claims come in bursts, and the
restores of demos that came too late for a warm sandbox should not share the cores with it."""

LONGEST_DELAY = 1.0
"""Seconds after the first claim that was not made up for: steady demand must not put off the
replacement for ever."""

PRECREATE_DELAY = 0.5
"""Seconds that the node is left to demos that are being restored, before more is made ready."""

CHECK_INTERVAL = 10.0
"""Seconds between two looks at whether the warm sandboxes still answer."""

_PAUSES = Pauses(timedelta(seconds=5), timedelta(minutes=5))


class Stock:
    """What waits on this node for demos of one revision."""

    def __init__(
        self,
        tools: CheckpointTools,
        *,
        changed: Callable[[], None],
        spare_ports: Callable[[], int],
        restore_failed: Callable[[Generation, Exception], None],
    ) -> None:
        """Begin with nothing.

        Args:
            tools: The node's tools.
            changed: Called when something was made, taken or lost.
            spare_ports: Tells how many ports no demo will need.
            restore_failed: Told of a generation that could not be restored.

        """
        self._tools = tools
        self._changed = changed
        self._spare_ports = spare_ports
        self._restore_failed = restore_failed
        self._warm: list[Warm] = []
        self._precreated: list[PreCreated] = []
        self._making_warm = 0
        self._making_precreated = 0
        self._wanted_warm = 0
        self._wanted_precreated = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._claimed_at = float("-inf")
        self._waits_since: float | None = None
        self._checked_at = 0.0
        self._closed = False
        self.message: str | None = None
        """Why fewer warm sandboxes wait than are wanted."""

        self._subject: tuple[NodeCheckpoint, Definition, Generation] | None = None

    @property
    def warm_ready(self) -> int:
        """Number of warm sandboxes that wait."""
        return len(self._warm)

    @property
    def size(self) -> int:
        """Number of sandboxes that run, or are about to, without a demo."""
        return len(self._warm) + self._making_warm

    @property
    def ports_held(self) -> int:
        """Number of ports that pre-created sandboxes hold."""
        return sum(len(one.sandbox.ports) for one in self._precreated)

    @property
    def names(self) -> set[str]:
        """Names of all sandboxes that wait."""
        return {str(warm.name) for warm in self._warm} | {str(one.name) for one in self._precreated}

    def take_warm(self) -> Warm | None:
        """Hand out a warm sandbox, the one that waits longest; None when none waits."""
        if not self._warm:
            return None
        taken = self._warm.pop(0)
        self._claimed_at = time.monotonic()
        if self._waits_since is None:
            self._waits_since = self._claimed_at
        self._changed()
        return taken

    def take_precreated(self, generation: Generation) -> PreCreated | None:
        """Hand out a pre-created sandbox of that generation; None when none waits."""
        for one in self._precreated:
            if one.generation is generation:
                self._precreated.remove(one)
                self._changed()
                return one
        return None

    def keep(
        self,
        node_checkpoint: NodeCheckpoint,
        definition: Definition,
        generation: Generation | None,
        *,
        warm: int | None,
        precreated: int | None,
    ) -> None:
        """Bring the stock to these numbers, step by step; None leaves one as it is."""
        if self._closed:
            return
        if generation is None:
            self._subject = None
        else:
            self._subject = (node_checkpoint, definition, generation)
        self._wanted_warm = self.warm_ready if warm is None else warm
        self._wanted_precreated = len(self._precreated) if precreated is None else precreated
        stale = [one for one in self._precreated if one.generation is not generation]
        if precreated is not None:
            fresh = [one for one in self._precreated if one.generation is generation]
            stale += fresh[precreated:]
        for one in stale:
            self._precreated.remove(one)
            self._spawn(discard(self._tools.start, one))
        surplus = self._warm[self._wanted_warm :]
        del self._warm[self._wanted_warm :]
        for unneeded in surplus:
            self._spawn(self._tools.start.sandboxes.remove(unneeded.name))
        if surplus:
            self._changed()
        self._fill()

    def lost(self, *, ended: set[str], gone: set[str]) -> None:
        """Drop warm sandboxes that ended, and pre-created ones that somebody removed.

        ``podman system prune`` removes containers that do not run.
        """
        for warm in [one for one in self._warm if str(one.name) in ended]:
            self._drop(warm, "its container ended")
        for unused in [one for one in self._precreated if str(one.name) in gone]:
            self._precreated.remove(unused)
            self._spawn(discard(self._tools.start, unused))
            self._changed()

    def _fill(self) -> None:
        self._timer_off()
        if self._subject is None or self._closed:
            return
        now = time.monotonic()
        if self._waits_since is not None and self.size >= self._wanted_warm:
            self._waits_since = None
        missing = self._wanted_warm - self.size
        if missing > 0:
            due = self._refill_at()
            if due <= now:
                self._making_warm += missing
                for _ in range(missing):
                    self._spawn(self._add_warm(*self._subject))
            else:
                self._wake_in(due - now)
        else:
            self.message = None
        if self._making_precreated == 0 and self._precreated_missing() > 0:
            if self._tools.start.turns.has_high_priority:
                self._wake_in(PRECREATE_DELAY)
            elif now >= self._retry_at:
                self._making_precreated = 1
                self._spawn(self._add_precreated(*self._subject))
            else:
                self._wake_in(self._retry_at - now)

    def _refill_at(self) -> float:
        quiet = self._claimed_at + REFILL_DELAY
        longest = (self._waits_since or self._claimed_at) + LONGEST_DELAY
        return max(min(quiet, longest), self._retry_at)

    def _precreated_missing(self) -> int:
        """How many may be made: only on ports that no demo will need."""
        assert self._subject is not None
        each = len(self._subject[1].template.ports)
        room = len(self._precreated) + self._spare_ports() // each
        return min(self._wanted_precreated, room) - len(self._precreated)

    def _wake_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + max(seconds, 0)
        if self._timer is None or self._timer.when() > at:
            self._timer_off()
            self._timer = loop.call_at(at, self._fill)

    def _timer_off(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _add_warm(
        self, node_checkpoint: NodeCheckpoint, definition: Definition, generation: Generation
    ) -> None:
        try:
            warm = await make_warm(
                self._tools,
                node_checkpoint,
                definition,
                generation,
                lambda: self.take_precreated(generation),
            )
        except EXPECTED as error:
            self._making_warm -= 1
            self._note_failure(generation, error)
            return
        except BaseException:
            self._making_warm -= 1
            raise
        self._making_warm -= 1
        self._failures, self._retry_at, self.message = 0, 0.0, None
        if self._closed or self.warm_ready >= self._wanted_warm:
            await self._tools.start.sandboxes.remove(warm.name)
        else:
            self._warm.append(warm)
        self._changed()

    def _note_failure(self, generation: Generation, error: Exception) -> None:
        self._failures += 1
        self._retry_at = time.monotonic() + _PAUSES.after(self._failures).total_seconds()
        if self._closed:
            return
        logger.warning("a warm sandbox could not be made: %s", error)
        self.message = str(error)
        limits = (NodeShortError, NodeLimitError, PodmanUnreachableError)
        if not isinstance(error, limits):
            self._restore_failed(generation, error)
        self._changed()

    async def _add_precreated(
        self, node_checkpoint: NodeCheckpoint, definition: Definition, generation: Generation
    ) -> None:
        name = stock_name(Role.PRECREATED, node_checkpoint)
        try:
            made = await precreate(self._tools.start, name, definition, generation)
        except EXPECTED as error:
            # Restores make their own where none waits, or fail and say so there.
            self._failures += 1
            self._retry_at = time.monotonic() + _PAUSES.after(self._failures).total_seconds()
            logger.warning("%s: a sandbox cannot be pre-created: %s", node_checkpoint.key, error)
            return
        finally:
            self._making_precreated = 0
        if self._closed or self._subject is None or self._subject[2] is not generation:
            await discard(self._tools.start, made)
        else:
            self._precreated.append(made)
        self._fill()

    def check(self) -> None:
        """Ask the warm sandboxes, if that was not done for a while."""
        now = time.monotonic()
        if self._subject is None or not self._warm or now - self._checked_at < CHECK_INTERVAL:
            return
        self._checked_at = now
        for warm in list(self._warm):
            self._spawn(self._check(warm, *self._subject[:2]))

    async def _check(
        self, warm: Warm, node_checkpoint: NodeCheckpoint, definition: Definition
    ) -> None:
        try:
            fit = await is_fit(self._tools, node_checkpoint, definition, warm)
        except EXPECTED as error:
            logger.warning("%s cannot be checked: %s", warm.name, error)
            return
        if not fit:
            self._drop(warm, "it does not answer any more")

    def _drop(self, warm: Warm, why: str) -> None:
        if warm not in self._warm:
            return  # handed out, or dropped, meanwhile
        self._warm.remove(warm)
        logger.warning("removing the warm sandbox %s: %s", warm.name, why)
        self._spawn(self._tools.start.sandboxes.remove(warm.name))
        self._changed()

    async def adopt(self, node_checkpoint: NodeCheckpoint, definition: Definition) -> None:
        """Take in what waited before this agent was started, and remove what cannot be used.

        Pre-created sandboxes are made anew: what they were made from may have changed.
        """
        sandboxes = self._tools.start.sandboxes
        for name, state in await sandboxes.list_all():
            if waits_for(name, Role.PRECREATED, node_checkpoint):
                await sandboxes.remove(name)
            if not waits_for(name, Role.WARM, node_checkpoint):
                continue
            found = await sandboxes.of(state) if state.alive else None
            if found is not None:
                warm = Warm(name, found, paused=state.paused)
                if await is_fit(self._tools, node_checkpoint, definition, warm):
                    sandboxes.ports.adopt([state])
                    self._warm.append(warm)
                    continue
            await sandboxes.remove(name)
        self._changed()

    async def close(self) -> None:
        """Remove all that waits, and wait until nothing is being made."""
        self._closed = True
        self._timer_off()
        warm, precreated = self._warm, self._precreated
        self._warm, self._precreated = [], []
        for one in precreated:
            await discard(self._tools.start, one)
        for waiting in warm:
            await self._tools.start.sandboxes.remove(waiting.name)
        await self.stop()

    async def stop(self) -> None:
        """Cancel what is being made; what waits stays for the next agent."""
        self._closed = True
        self._timer_off()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except EXPECTED as error:
            # What was left is found as what nobody owns.
            logger.warning("work on the stock failed: %s", error)
        except Exception:
            logger.exception("work on the stock: unexpected error")
