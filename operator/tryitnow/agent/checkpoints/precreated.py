"""The pre-created sandboxes of a revision on this node: everything but processes, ahead of time.

They belong to one actor. Handing out waits for nothing, so each goes to one restore only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from tryitnow.agent.checkpoints.chores import Chores
from tryitnow.agent.checkpoints.failures import EXPECTED
from tryitnow.agent.checkpoints.timer import Timer
from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.checkpoints.warm_pool import Subject, is_same
from tryitnow.agent.restore.precreate import PreCreated, precreate, remove_precreated
from tryitnow.agent.sandbox.names import Role, stock_name, waits_for
from tryitnow.agent.storage.generations import Generation
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.backoff import Pauses

logger = logging.getLogger(__name__)

PRECREATE_DELAY = 0.5
"""Seconds that the node is left to demos that are being restored, before more is made ready. Who
has taken one is about to restore into it: a restore takes a fifth longer beside the making."""

_PAUSES = Pauses(timedelta(seconds=5), timedelta(minutes=5))


class PrecreatedPool:
    """Sandboxes that wait for a restore, made one after the other."""

    def __init__(
        self,
        tools: CheckpointTools,
        *,
        spare_ports: Callable[[], int],
        failed: Callable[[Generation, Exception], None],
    ) -> None:
        """Begin with nothing.

        Args:
            tools: The node's tools.
            spare_ports: Tells how many ports no demo will need.
            failed: Told of a generation of which no sandbox could be made.

        """
        self._tools = tools
        self._spare_ports = spare_ports
        self._failed = failed
        self._waiting: list[PreCreated] = []
        self._is_making = False
        self._wanted = 0
        self._chores = Chores("a pre-created sandbox")
        self._removals = Chores("the removal of a pre-created sandbox")
        self._timer = Timer(self._fill)
        self._failures = 0
        self._retry_at = 0.0
        self._taken_at = float("-inf")
        self._closed = False
        self._subject: Subject | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def ports_held(self) -> int:
        """Number of ports that they hold."""
        return sum(len(one.sandbox.ports) for one in self._waiting)

    @property
    def names(self) -> set[str]:
        """Names of all that wait."""
        return {str(one.name) for one in self._waiting}

    def take(self, generation: Generation) -> PreCreated | None:
        """Hand out one of that generation; None when none waits."""
        for one in () if self._closed else self._waiting:
            if one.generation is generation:
                self._waiting.remove(one)
                self._taken_at = self._tools.clock()
                self._fill()
                return one
        return None

    def keep(self, subject: Subject | None, wanted: int | None) -> None:
        """Bring their number to ``wanted``, step by step; None leaves it as it is.

        Those of any other generation than the subject's go.
        """
        if self._closed:
            return
        if not is_same(self._subject, subject):
            self._failures, self._retry_at = 0, 0.0
        self._subject = subject
        self._wanted = len(self) if wanted is None else wanted
        generation = subject.generation if subject is not None else None
        fresh = [one for one in self._waiting if one.generation is generation]
        for one in [one for one in self._waiting if one not in fresh] + fresh[self._wanted :]:
            self._remove(one)
        self._fill()

    def lost(self, *, gone: set[str]) -> bool:
        """Drop those that somebody removed; return whether there were any.

        ``podman system prune`` removes containers that do not run.
        """
        missing = [one for one in self._waiting if str(one.name) in gone]
        for one in missing:
            self._waiting.remove(one)
            self._removals.begin(self._remove_rest(one))
        return bool(missing)

    def _remove(self, one: PreCreated) -> None:
        self._waiting.remove(one)
        self._removals.begin(remove_precreated(self._tools.start, one))

    async def _remove_rest(self, one: PreCreated) -> None:
        """Remove a sandbox whose main container is gone, which alone tells where the rest is."""
        try:
            await self._tools.start.sandboxes.remove_pod(one.sandbox.pod)
        finally:
            await remove_precreated(self._tools.start, one)

    def _fill(self) -> None:
        self._timer.off()
        if self._subject is None or self._closed or self._is_making:
            return
        if self._missing(self._subject) <= 0:
            return
        due = max(self._retry_at, self._taken_at + PRECREATE_DELAY)
        wait = due - self._tools.clock()
        if self._tools.start.turns.has_high_priority:
            wait = max(wait, PRECREATE_DELAY)
        if wait > 0:
            self._timer.wake_in(wait)
            return
        self._is_making = True
        self._chores.begin(self._add(self._subject))

    def _missing(self, subject: Subject) -> int:
        """How many may be made: only on ports that no demo will need."""
        each = len(subject.definition.template.ports)
        room = len(self) + self._spare_ports() // each
        return min(self._wanted, room) - len(self)

    async def _add(self, subject: Subject) -> None:
        name = stock_name(Role.PRECREATED, subject.node_checkpoint)
        try:
            made = await precreate(self._tools.start, name, subject.definition, subject.generation)
        except EXPECTED as error:
            # Restores make their own where none waits, or fail and say so there.
            self._failures += 1
            self._retry_at = self._tools.clock() + _PAUSES.after(self._failures).total_seconds()
            logger.warning("%s: a sandbox cannot be pre-created: %s", name, error)
            if not self._closed:
                self._failed(subject.generation, error)
        else:
            self._failures, self._retry_at = 0, 0.0
            if self._closed or not self._is_of_subject(made):
                await remove_precreated(self._tools.start, made)
            else:
                self._waiting.append(made)
        finally:
            self._is_making = False
        self._fill()

    def _is_of_subject(self, made: PreCreated) -> bool:
        return self._subject is not None and self._subject.generation is made.generation

    async def adopt(self, node_checkpoint: NodeCheckpoint) -> None:
        """Remove what an agent before this one made: what it was made from may have changed.

        Raises:
            PodmanError, PodmanUnreachableError: not all was removed; call it again.

        """
        sandboxes = self._tools.start.sandboxes
        for name, _ in await sandboxes.list_all():
            if waits_for(name, Role.PRECREATED, node_checkpoint) and str(name) not in self.names:
                await sandboxes.remove(name)

    async def close(self) -> None:
        """Remove all that waits, and wait until nothing is being made."""
        self._closed = True
        self._timer.off()
        while self._waiting:
            await remove_precreated(self._tools.start, self._waiting.pop())
        await self.stop()

    async def stop(self) -> None:
        """Cancel what is being made; what waits is made anew by the next agent."""
        self._closed = True
        self._timer.off()
        await self._chores.cancel()
        await self._removals.finish()
