"""What this node tells the cluster about itself: doctor's verdict, its room, and that it lives."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from tryitnow.agent.health import Health
from tryitnow.agent.node import Node
from tryitnow.agent.transfer.certificate import Certificates
from tryitnow.agent.upkeep.memory import available_memory_bytes
from tryitnow.api.meta import Condition, ConditionStatus, Key, now, set_condition
from tryitnow.api.nodeagent import (
    HEARTBEAT_INTERVAL,
    LIMIT_REACHED,
    STOPPING,
    STORAGE_CHANGED,
    NodeAgent,
    NodeAgentStatus,
)
from tryitnow.background import run_periodically
from tryitnow.doctor import Examination, examine
from tryitnow.doctor.report import can_run, can_take, criu_available
from tryitnow.kubernetes.errors import KubernetesError, NotFoundError
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError

logger = logging.getLogger(__name__)

SILENCE_SECONDS = 30.0
"""How long Podman may owe an answer before the node counts as unfit."""

GOODBYE_SECONDS = 3.0
"""For the last report: the kubelet gives the agent's Pod 30 s in all."""

EXAMINE_EVERY_SECONDS = 300.0
EXAMINE_BROKEN_EVERY_SECONDS = 30.0
"""Between two examinations of the node; sooner while something is wrong: a fix shows soon."""

EXAMINE_UNKNOWN_EVERY_SECONDS = 5.0
"""The same while a node that was just taken into service was too busy to say what it can do: until
then its demos start cold. Each examination waits longer than the one before."""


def pause_until_examination(health: Health, examination: Examination | None) -> float:
    """Return the seconds until the node is examined again."""
    if examination is None or examination.busy:
        return EXAMINE_UNKNOWN_EVERY_SECONDS
    if health.can_run and health.criu_available and not examination.unanswered:
        return EXAMINE_EVERY_SECONDS
    return EXAMINE_BROKEN_EVERY_SECONDS


async def examine_node(node: Node) -> None:
    """Have doctor look at the node, and remember what it found."""
    examination = await examine(node.settings, node.health.examination)
    node.health.examination = examination
    run, run_message = can_run(examination.checks)
    criu, criu_message = criu_available(examination.checks)
    before = node.health.current
    if not criu and (before.criu_available or not before.checks):
        logger.warning("CRIU not available - will use cold start: %s", criu_message)
    node.health.current = Health(
        can_run=run,
        can_run_message=run_message,
        criu_available=criu,
        criu_message=criu_message,
        checks=examination.checks,
        versions=examination.versions,
        controllers=examination.controllers,
        selinux=examination.selinux,
    )
    if node.health.current != before:
        node.checkpoints.turn_all()


class Reporter:
    """Keeps this node's NodeAgent object true."""

    def __init__(self, node: Node, transfer_url: str, certificates: Certificates) -> None:
        self._node = node
        self._transfer_url = transfer_url
        self._certificates = certificates
        self._seen: NodeAgent | None = None
        self._stopping = False
        self._answered_at = time.monotonic()

    async def report(self) -> None:
        """Write the node's state once.

        Raises:
            KubernetesError: the API server refused or did not answer.

        """
        silence = time.monotonic() - self._answered_at
        if silence > SILENCE_SECONDS:
            self._cannot_run(f"Podman has not answered for {silence:.0f} s")
        before = self._seen or await self._find()
        try:
            status = await self._status(before)
            self._seen = await self._node.kubernetes.patch_status(before, status.to_api())
            self._certificates.reported(status.transfer_certificate)
        except NotFoundError:
            # Somebody deleted it, or the Node it belonged to: the next report makes it anew.
            self._seen = None
            raise

    async def keep_reporting(self) -> None:
        """Report for ever; an API server that is away is told as soon as it is back."""
        await run_periodically(
            "report this node",
            self.report,
            pause_seconds=HEARTBEAT_INTERVAL.total_seconds,
            expected=(KubernetesError,),
        )

    async def report_stopping(self) -> None:
        """Say that this agent ends, so that nothing new is given to its node meanwhile."""
        self._stopping = True
        if self._seen is None:
            return
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                conditions = tuple(self._with_stopping(self._seen.status.conditions))
                status = self._seen.status.model_copy(update={"conditions": conditions})
                await self._node.kubernetes.patch_status(self._seen, status.to_api())
        except (KubernetesError, TimeoutError) as error:
            logger.warning("cannot say that this agent ends: %s", error)

    async def keep_examining(self) -> None:
        """Examine the node for ever; apart from the reports, as a hanging tool takes its time."""

        def pause_seconds() -> float:
            health = self._node.health
            return pause_until_examination(health.current, health.examination)

        await run_periodically(
            "examine this node",
            lambda: examine_node(self._node),
            pause_seconds=pause_seconds,
            expected=(),  # the doctor records what it cannot find out
            at_once=False,  # the agent's start has examined it
        )

    async def _find(self) -> NodeAgent:
        kubernetes, name = self._node.kubernetes, self._node.name
        try:
            return await kubernetes.get(NodeAgent, Key("", name))
        except NotFoundError:
            # Owned by the Node: when that is removed from the cluster, so is this.
            owner = {
                "apiVersion": "v1",
                "kind": "Node",
                "name": name,
                "uid": await kubernetes.node_uid(name),
            }
            body = {
                "metadata": {"name": name, "ownerReferences": [owner]},
                "spec": {"nodeName": name},
            }
            return await kubernetes.create(NodeAgent, body)

    async def ask_podman(self) -> None:
        """Ask whether Podman lives; when it is back, have the node examined."""
        try:
            await self._node.podman.ping()
        except (PodmanError, PodmanUnreachableError) as error:
            self._cannot_run(str(error))
            return
        finally:
            self._answered_at = time.monotonic()
        if not self._node.health.current.can_run:
            await examine_node(self._node)

    def _cannot_run(self, message: str) -> None:
        last = self._node.health
        last.current = replace(last.current, can_run=False, can_run_message=message)

    async def keep_asking_podman(self) -> None:
        """Ask for ever; apart from the reports, as a node whose Podman hangs is not silent."""
        await run_periodically(
            "ask Podman whether it lives",
            self.ask_podman,
            pause_seconds=HEARTBEAT_INTERVAL.total_seconds,
            expected=(),  # what it says or does not say goes into the next report
        )

    async def _status(self, before: NodeAgent) -> NodeAgentStatus:
        node, health = self._node, self._node.health.current
        conditions = set_condition(
            before.status.conditions,
            "Ready",
            ConditionStatus.TRUE if health.can_run else ConditionStatus.FALSE,
            "PodmanWorks" if health.can_run else "NodeUnfit",
            health.can_run_message,
        )
        conditions = set_condition(
            conditions,
            "CRIUAvailable",
            ConditionStatus.TRUE if health.criu_available else ConditionStatus.FALSE,
            "CRIUWorks" if health.criu_available else "CRIUNotAvailable",
            health.criu_message,
        )
        takes, limit = can_take(health.checks)
        conditions = set_condition(
            conditions,
            LIMIT_REACHED,
            ConditionStatus.FALSE if takes else ConditionStatus.TRUE,
            "RoomLeft" if takes else "LimitReached",
            limit,
        )
        problem = node.guard.problem
        if not node.guard.is_examined:
            storage = ConditionStatus.UNKNOWN, "NotExamined"
        elif problem:
            storage = ConditionStatus.TRUE, "StorageChanged"
        else:
            storage = ConditionStatus.FALSE, "StorageKnown"
        conditions = set_condition(conditions, STORAGE_CHANGED, *storage, problem or "")
        conditions = self._with_stopping(conditions)
        memory = await asyncio.to_thread(available_memory_bytes)
        return NodeAgentStatus(
            heartbeat=now(),
            conditions=tuple(conditions),
            address=node.settings.node_address,
            transfer_url=self._transfer_url,
            transfer_certificate=self._certificates.pem,
            versions=health.versions,
            capacity=node.settings.capacity,
            namespace_capacity=node.settings.namespace_capacity,
            memory_available_bytes=max(0, memory - node.settings.memory_reserve_bytes),
            disk_available_bytes=await asyncio.to_thread(lambda: node.disk.unpromised_bytes),
            disk_reserve_bytes=node.settings.disk_reserve_bytes,
            # What is not known yet must not undo what the cluster remembers: it alone tells a
            # storage that lost its marks from a new one.
            storage=node.guard.storage if node.guard.storage.id else before.status.storage,
            checks=health.checks,
        )

    def _with_stopping(self, conditions: Sequence[Condition]) -> list[Condition]:
        return set_condition(
            conditions,
            STOPPING,
            ConditionStatus.TRUE if self._stopping else ConditionStatus.FALSE,
            "AgentEnds" if self._stopping else "AgentRuns",
            "nothing new is started here until the agent is back" if self._stopping else "",
        )
