"""What demos may reach, kept up: names with other addresses by now, demos that were found."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tryitnow.agent.demos.status import shows_egress
from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.errors import FirewallError
from tryitnow.agent.revisions import RevisionError
from tryitnow.agent.sandbox.names import demo_name
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import Key
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError

logger = logging.getLogger(__name__)

TICK_SECONDS = 5.0
"""Between two looks. A name is asked for when its answer expires, 15 s at the earliest."""

_RUNS = frozenset({DemoInstancePhase.READY, DemoInstancePhase.NOT_ANSWERING})


class EgressWatch:
    """Keeps up what the demos of the node may reach."""

    def __init__(self, tools: DemoTools, changed: Callable[[Key], None]) -> None:
        """Begin; ``changed`` is called with each demo whose condition is to be written."""
        self._tools = tools
        self._changed = changed
        self._found: set[str] = set()
        """UIDs of the demos whose rules are known to be set since this agent began."""

    async def tick(self) -> None:
        """Look once."""
        running = [
            demo
            for demo in self._tools.demos
            if demo.status.phase in _RUNS and not demo.is_deleting and demo.revision_key
        ]
        self._found &= {demo.metadata.uid for demo in running}
        for demo in running:
            if demo.metadata.uid not in self._found:
                await self._find(demo)
        await self._tools.start.sandboxes.outbound.refresh()
        self._tools.start.sandboxes.mail.stop_gone()
        for demo in running:
            # One that does not answer has something else to say first.
            is_known = demo.metadata.uid in self._found
            is_ready = demo.status.phase is DemoInstancePhase.READY
            if is_known and is_ready and not await self._is_told(demo):
                self._changed(demo.key)

    async def _find(self, demo: DemoInstance) -> None:
        """Set the rules of a demo that another agent started, be it of an older version."""
        sandboxes = self._tools.start.sandboxes
        try:
            definition = (await self._tools.revisions.get(_key(demo))).definition
            name = demo_name(demo)
            sandbox = await sandboxes.find(name)
            if sandbox is None or not sandbox.pid:
                return  # it has ended, and its rules are set when it is started again
            if not sandboxes.guards(name, sandbox, definition.network):
                await sandboxes.guard(name, sandbox, definition.network)
        except FirewallError as error:
            logger.warning("%s: what it may reach cannot be set: %s", demo.key, error)
        except (KubernetesError, RevisionError, PodmanError, PodmanUnreachableError) as error:
            logger.debug("%s: what it may reach is not known yet: %s", demo.key, error)
        else:
            self._found.add(demo.metadata.uid)

    async def _is_told(self, demo: DemoInstance) -> bool:
        try:
            definition = (await self._tools.revisions.get(_key(demo))).definition
        except (KubernetesError, RevisionError):
            return True  # nothing is known to tell
        return shows_egress(self._tools, demo, definition)


def _key(demo: DemoInstance) -> Key:
    assert demo.revision_key is not None
    return demo.revision_key
