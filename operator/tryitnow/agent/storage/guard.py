"""Keeps anything from being removed or started anew while the node is not what it was.

Three things are compared with what they were: the storage (``storage.identity``), the cluster (its
UID, and that its objects do not go back in time), and Podman (that it lists something of ours while
demos are known to run here).
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from tryitnow.agent.storage.files import write_whole
from tryitnow.agent.storage.identity import (
    Mark,
    Marks,
    new_storage_id,
    read_mark,
    what_changed,
    write_mark,
)
from tryitnow.api.meta import Key
from tryitnow.api.nodeagent import CONFIRM_STORAGE_ANNOTATION, NodeAgent, Storage
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import NotFoundError
from tryitnow.podman.client import Podman

logger = logging.getLogger(__name__)

_VERSION_FILE = "try-it-now-cluster"
"""Holds the cluster's UID and the highest resource version that was seen of it."""


class StorageGuard:
    """Knows why nothing may be removed or started anew; nothing is known before ``examine``."""

    def __init__(
        self, kubernetes: KubernetesApi, podman: Podman, node_name: str, directory: Path
    ) -> None:
        """Begin without knowledge.

        Args:
            kubernetes: The cluster.
            podman: Podman of this node.
            node_name: Name of this node.
            directory: The directory that holds archives, data and volumes.

        """
        self._kubernetes = kubernetes
        self._podman = podman
        self._node_name = node_name
        self._directory = directory
        self._is_examined = False
        self._changed: str | None = None
        self._podman_lost: str | None = None
        self._rewound: str | None = None
        self._storage = Storage()
        self._highest = 0
        self._empty_is_confirmed = False
        self._lock = asyncio.Lock()

    @property
    def problem(self) -> str | None:
        """Why nothing may be removed or started anew, with the way out; None when all is well."""
        if not self._is_examined:
            return "the node's storage has not been examined yet: see the agent's log"
        found = self._changed or self._rewound or self._podman_lost
        if found is None:
            return None
        return (
            f"{found}. Nothing is removed and no demo is started anew until it is as it was, or "
            f"until a person runs `kubectl tryitnow confirm-storage {self._node_name}`"
        )

    @property
    def is_examined(self) -> bool:
        """Whether anything is known: Podman and the API server have answered."""
        return self._is_examined

    @property
    def storage(self) -> Storage:
        """What the node's files belong to, for the NodeAgent's status."""
        return self._storage

    async def examine(self, *, anything_at_stake: bool) -> None:
        """Compare the storage and the cluster with what they were.

        Args:
            anything_at_stake: Whether a demo that was ready is bound here, or something of ours
                lies here. A node without anything takes on any storage.

        Raises:
            KubernetesError: the API server does not answer: what was known stays.
            PodmanError, PodmanUnreachableError: Podman does not answer.
            OSError: the disk is broken.

        """
        async with self._lock:
            await self._examine(anything_at_stake=anything_at_stake)

    async def _examine(self, *, anything_at_stake: bool) -> None:
        agent = await self._find_agent()
        cluster_uid = await self._kubernetes.namespace_uid("kube-system")
        graph_root = await self._podman.storage_root()
        marks = Marks(
            data=await asyncio.to_thread(read_mark, self._directory),
            podman=await asyncio.to_thread(read_mark, graph_root),
            # What this process wrote stands in the NodeAgent's status after the next report only.
            cluster=self._storage.id or (agent.status.storage.id if agent else "") or None,
        )
        changed = what_changed(marks) or self._other_cluster(cluster_uid)
        found = changed or self._rewound or self._podman_lost
        if found is not None and (self._is_confirmed(agent, marks) or not anything_at_stake):
            logger.warning("taking on the storage and the cluster as they are: %s", found)
            self._empty_is_confirmed = self._podman_lost is not None
            changed = self._rewound = self._podman_lost = None
            self._highest = 0
            # A new identity: a confirmation holds for one change.
            marks = Marks(None, None, marks.cluster)
        if changed is None:
            mark = marks.data or Mark(new_storage_id(), marks.cluster)
            if marks.data is None:
                await asyncio.to_thread(write_mark, self._directory, mark)
                await asyncio.to_thread(write_mark, graph_root, mark)
            self._storage = Storage(id=mark.id, cluster_uid=cluster_uid)
            await asyncio.to_thread(self._remember, cluster_uid)
        elif agent is not None:
            self._storage = agent.status.storage
        if changed is not None and changed != self._changed:
            logger.error("StorageChanged: %s", changed)
        self._changed, self._is_examined = changed, True

    async def _find_agent(self) -> NodeAgent | None:
        try:
            return await self._kubernetes.get(NodeAgent, Key("", self._node_name))
        except NotFoundError:
            return None

    @staticmethod
    def _is_confirmed(agent: NodeAgent | None, marks: Marks) -> bool:
        if agent is None:
            return False
        # The value names what was lost: an annotation from the last time confirms nothing today.
        asked = agent.metadata.annotations.get(CONFIRM_STORAGE_ANNOTATION)
        found = marks.data.id if marks.data else None
        return asked is not None and asked in {agent.status.storage.id, found}

    def _other_cluster(self, cluster_uid: str) -> str | None:
        uid, self._highest = self._recall()
        if uid in {None, cluster_uid}:
            return None
        return f"the node was in the cluster {uid} and is in the cluster {cluster_uid} now"

    def _recall(self) -> tuple[str | None, int]:
        try:
            uid, version = (self._directory / _VERSION_FILE).read_text().split()
            return uid, max(int(version), self._highest)
        except (FileNotFoundError, ValueError):
            return None, self._highest

    def _remember(self, cluster_uid: str) -> None:
        text = f"{cluster_uid} {self._highest}\n"
        write_whole(self._directory / _VERSION_FILE, text.encode())

    async def seen_version(self, resource_version: int) -> None:
        """Note the version of a fresh list: one that is lower than before is of a restored cluster.

        Comparing versions as numbers is sanctioned since Kubernetes 1.35 (KEP-5504).
        """
        if not self._highest:
            # An agent that was just started knows what the one before it saw.
            _, self._highest = await asyncio.to_thread(self._recall)
        if resource_version < self._highest:
            self._rewound = (
                "the cluster went back in time (was its etcd restored from a snapshot?): its "
                f"objects have version {resource_version}, and {self._highest} was seen before"
            )
            return
        if self._rewound is not None:
            return  # until a person confirms it: the objects in between are lost
        self._highest = resource_version
        if self._storage.cluster_uid:
            await asyncio.to_thread(self._remember, self._storage.cluster_uid)

    def seen_rewind(self) -> None:
        """Note that an object is as it was before it was last seen."""
        self._rewound = self._rewound or (
            "the cluster went back in time (was its etcd restored from a snapshot?): objects of "
            "this node are as they were before"
        )

    def seen_containers(self, *, listed: int, ready_demos: int) -> None:
        """Note what Podman lists: nothing at all, where demos are known to run, is no answer."""
        if listed or not ready_demos:
            self._podman_lost, self._empty_is_confirmed = None, False
        elif not self._empty_is_confirmed:
            self._podman_lost = (
                f"Podman lists none of this node's containers, though {ready_demos} demos were "
                "ready here (was its storage reset, or its database lost?)"
            )
