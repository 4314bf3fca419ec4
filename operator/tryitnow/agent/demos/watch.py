"""Probing ready demos on, cheaply, through the address that clients use."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp

from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.revisions import RevisionError
from tryitnow.agent.sandbox.probe import Target, ask
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import Key
from tryitnow.kubernetes.errors import KubernetesError

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""Between two looks at which probes are due."""

SUSPECT_SECONDS = 3.0
"""Between two probes of a demo that did not answer the last one."""

PROBE_TIMEOUT = aiohttp.ClientTimeout(total=8)
"""For one answer. Three that time out in a row, and the pauses between them, are less than the
minute after which nothing dead may be called ready."""

_AT_ONCE = 128
"""Probes at once: all demos of a node (a kubelet has 110 Pods), or those that hang together would
wait for each other's time limits, and be called ready for longer than a minute."""

_WATCHED = frozenset({DemoInstancePhase.READY, DemoInstancePhase.NOT_ANSWERING})


class Watch:
    """Probes all demos of the node that were ready."""

    def __init__(
        self,
        tools: DemoTools,
        changed: Callable[[Key], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin; ``changed`` is called with each demo whose verdict changed."""
        self._tools = tools
        self._clock = clock
        self._changed = changed
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._probes: dict[str, asyncio.Task[None]] = {}

    async def tick(self) -> None:
        """Begin the probes that are due."""
        now = self._clock()
        for demo in self._tools.demos:
            uid = demo.metadata.uid
            # Without a URL it is as an older state of the cluster has it, and is not to be asked.
            has_url = demo.status.host_port is not None
            is_watched = demo.status.phase in _WATCHED and has_url and not demo.is_deleting
            if is_watched and uid not in self._probes and self._tools.verdicts.due(uid) <= now:
                self._begin(demo)

    def _begin(self, demo: DemoInstance) -> None:
        uid = demo.metadata.uid
        task = asyncio.create_task(self._probe(demo))
        self._probes[uid] = task
        task.add_done_callback(lambda _: self._probes.pop(uid, None))

    async def _probe(self, demo: DemoInstance) -> None:
        uid, verdicts = demo.metadata.uid, self._tools.verdicts
        async with self._turns:
            try:
                target = await self._target_of(demo)
                answer = await ask(self._tools.start.prober.http, target, PROBE_TIMEOUT)
            except (KubernetesError, RevisionError) as error:
                # Without the definition nobody knows what to ask: the next probe tries again.
                logger.debug("%s cannot be probed: %s", demo.key, error)
                verdicts.put_off(uid, self._clock() + SUSPECT_SECONDS)
                return
        present = self._tools.demos.get(demo.key)
        if present is None or present.metadata.uid != uid or present.status.phase not in _WATCHED:
            return  # started again or removed meanwhile: what was asked is not there any more
        has_changed = verdicts.note(uid, answer)
        interval = self._tools.settings.probe_interval.total_seconds()
        suspect = verdicts.is_suspect(uid)
        verdicts.put_off(uid, self._clock() + (SUSPECT_SECONDS if suspect else interval))
        if has_changed:
            self._changed(demo.key)

    async def _target_of(self, demo: DemoInstance) -> Target:
        assert demo.revision_key is not None
        assert demo.status.host_port is not None
        definition = (await self._tools.revisions.get(demo.revision_key)).definition
        settings = self._tools.settings
        port = demo.status.host_port
        return Target(settings.node_address, port, definition.readiness, settings.host_at(port))

    async def stop(self) -> None:
        """End all probes."""
        for task in self._probes.values():
            task.cancel()
        await asyncio.gather(*self._probes.values(), return_exceptions=True)
