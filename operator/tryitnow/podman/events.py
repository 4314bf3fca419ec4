"""Podman's event stream: containers that end or are removed.

The stream is a hint and no record: Podman sends nothing where its events are switched off, and
skips some when it shortens its file of them. Its readers must poll from time to time as well.

Podman 5.8 has no event for a kill for want of memory: ``inspect`` tells it of what died
(``ContainerState.oom_killed``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from tryitnow.podman.calls import CALL_SECONDS, Calls, ended
from tryitnow.podman.errors import PodmanBusyError, PodmanUnreachableError
from tryitnow.podman.session import Session

_INFRA = re.compile(r"([0-9a-f]{12})-infra")
"""How Podman calls what holds the namespaces of a pod: by the first digits of the pod's ID."""


class EventAction(StrEnum):
    """One event of a container, in Podman's words."""

    DIED = "died"
    REMOVED = "remove"
    STARTED = "start"
    RENAMED = "rename"


@dataclass(frozen=True)
class ContainerEvent:
    """Something happened to a container.

    Attributes:
        name: What it was called at that moment.
        id: Its ID.
        action: What happened.
        pod: ID of the pod that it is in, as far as Podman tells: nothing where a member ended, and
            the first 12 digits where what holds the namespaces of a pod did.
        exit_code: With which exit code it ended, where it died.
        is_infra: Whether it holds the namespaces of its pod.

    """

    name: str
    id: str
    action: EventAction
    pod: str = ""
    exit_code: int | None = None
    is_infra: bool = False


class ContainerEvents:
    """Events as they come. Iterating ends with an error only: Podman never stops telling."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[ContainerEvent | None] = asyncio.Queue()
        self._failure: BaseException | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ContainerEvent:
        """Wait for the next one.

        Raises:
            PodmanUnreachableError: the service broke off.

        """
        event = await self._queue.get()
        if event is None:
            self._queue.put_nowait(None)
            msg = "Podman's event stream ended"
            raise self._failure or PodmanUnreachableError(msg)
        return event

    def add(self, event: ContainerEvent) -> None:
        """Have one more."""
        self._queue.put_nowait(event)

    def end(self, work: asyncio.Future[None]) -> None:
        """End the iteration: no more events will come."""
        self._failure = None if work.cancelled() else work.exception()
        self._queue.put_nowait(None)


class Events(Calls):
    """The events of our containers on this node."""

    @contextlib.asynccontextmanager
    async def events(
        self,
        prefix: str,
        actions: Collection[EventAction] = (EventAction.DIED, EventAction.REMOVED),
    ) -> AsyncIterator[ContainerEvents]:
        """Follow the events, on a connection of its own that is closed with the block.

        From the block's beginning on nothing is missed: whoever looks at the containers inside of
        it knows all. Events are of containers whose name starts with the prefix, and of those
        that hold the namespaces of pods, whoever owns them.

        Raises:
            PodmanError: events are switched off.
            PodmanUnreachableError: the service does not answer.

        """
        loop = asyncio.get_running_loop()
        reported, begun = ContainerEvents(), asyncio.Event()
        params = {
            "stream": True,
            "filters": json.dumps({"type": ["container"], "event": [*map(str, actions)]}),
        }

        def call(api: Any) -> None:  # noqa: ANN401
            with contextlib.closing(
                api.get("/events", params=params, stream=True, timeout=(CALL_SECONDS, None))
            ) as answer:
                answer.raise_for_status()
                loop.call_soon_threadsafe(begun.set)
                for line in answer.iter_lines():
                    event = _event(json.loads(line))
                    if event.is_infra or event.name.startswith(prefix):
                        loop.call_soon_threadsafe(reported.add, event)

        session = Session(self._socket)
        work = self._submit(self._slow, session, call)
        work.add_done_callback(reported.end)
        work.add_done_callback(lambda _: begun.set())
        try:
            await self._wait_for(begun)
            if work.done():
                work.result()  # raises what kept it from telling
            yield reported
        finally:
            session.hang_up()
            await ended(work)

    async def _wait_for(self, begun: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await begun.wait()
        except TimeoutError as error:
            msg = f"Podman at {self._socket} does not start its event stream"
            raise PodmanBusyError(msg) from error


def _event(text: dict[str, Any]) -> ContainerEvent:
    actor = text["Actor"]
    attributes = actor["Attributes"]
    action = EventAction(text["Action"])
    infra = _INFRA.fullmatch(attributes["name"])
    # Labels of the container stand beside Podman's own words, and one may have this very name:
    # only where a container died does Podman always set its own in that place.
    code = attributes.get("containerExitCode") if action is EventAction.DIED else None
    return ContainerEvent(
        name=attributes["name"],
        id=actor["ID"],
        action=action,
        pod=attributes.get("podId") or (infra[1] if infra else ""),
        exit_code=None if code is None else int(code),
        is_infra=infra is not None,
    )
