"""The lab's nodes as a person with a root shell sees them."""

from __future__ import annotations

import json
import shlex
from typing import Any

from lab.cluster import Cluster
from tests.system.objects import wait_until
from tryitnow.api.demoinstance import DemoInstance

NODES = ["node-1", "node-2"]

CHECKPOINTS = "/var/lib/try-it-now/checkpoints"
DATA = "/var/lib/try-it-now/data"
VOLUMES = "/var/lib/try-it-now/volumes"

_FORGET = """
import pathlib, sqlite3, sys
(database,) = pathlib.Path("/var/lib/containers/storage").glob("*.sql")
with sqlite3.connect(database, timeout=30) as db:
    found = db.execute("select ID from ContainerConfig where Name = ?", sys.argv[1:]).fetchone()
    tables = [name for (name,) in db.execute("select name from sqlite_master where type = 'table'")]
    for table in tables:
        columns = {row[1] for row in db.execute(f"pragma table_info({table})")}
        for column in columns & {"ID", "CtrID"}:
            db.execute(f"delete from {table} where {column} = ?", found)
"""


class LabNodes:
    """Runs commands in nodes; sees what Podman and the operator keep there."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def shell(self, node: str, script: str) -> str:
        return self.cluster.exec(node, ["sh", "-euc", script]).stdout

    def podman(self, node: str, *words: str) -> str:
        return self.cluster.exec(node, ["podman", *words]).stdout

    def containers(self, node: str, part: str = "tryitnow_") -> list[str]:
        """Names of all containers, running or not, that contain a text."""
        names = self.podman(node, "ps", "--all", "--format={{.Names}}").split()
        return [name for name in names if part in name]

    def main_container(self, demo: DemoInstance) -> str:
        """Name of a demo's main container, on the node that runs it."""
        assert demo.status.node_name
        (name,) = self.containers(demo.status.node_name, f"_{demo.metadata.name}_")
        return name

    def inspect(self, node: str, container: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.podman(node, "inspect", container))[0]
        return found

    def files(self, node: str, directory: str, part: str = "") -> list[str]:
        """Names in a directory that contain a text; none where there is no such directory."""
        # Not asked for first: it may go between the question and the look.
        script = f"ls -A {shlex.quote(directory)} 2>/dev/null || true"
        return [name for name in self.shell(node, script).split() if part in name]

    def generation(self, node: str, stem: str) -> str | None:
        """Number of the newest whole generation of what is unpacked; None where there is none."""
        # In this order: the mark is written last, and what is being removed has it for a while.
        whole = [
            number
            for number in self.files(node, f"{DATA}/{stem}")
            if "generation.json" in self.files(node, f"{DATA}/{stem}/{number}")
        ]
        return max(whole, key=int, default=None)

    def damage_generation(self, node: str, stem: str, container: str) -> str:
        """Damage what is unpacked, as a person's hand would; returns which generation it was."""
        number = self.generation(node, stem)
        assert number is not None
        where = f"{DATA}/{stem}/{number}/{container}"
        self.shell(node, f"mv {where}/checkpoint {where}/elsewhere")
        return number

    def published_ports(self, node: str) -> set[int]:
        """Ports of the node that Netavark forwards to a container."""
        script = "nft -j list table inet netavark 2>/dev/null || echo '{\"nftables\": []}'"
        rules = json.loads(self.shell(node, script))["nftables"]
        found = set()
        for rule in (entry["rule"] for entry in rules if "rule" in entry):
            for part in rule["expr"]:
                left = part.get("match", {}).get("left", {})
                if isinstance(left, dict) and left.get("payload", {}).get("field") == "dport":
                    right = part["match"]["right"]
                    found |= {right} if isinstance(right, int) else set()
        return found

    def pods(self, node: str) -> list[str]:
        """Names of all our pods."""
        return self.podman(
            node, "pod", "ps", "--format={{.Name}}", "--filter=name=tryitnow_"
        ).split()

    def pod_of(self, node: str, container: str) -> str:
        """Name of the pod that a container is in."""
        return self.podman(node, "pod", "inspect", "--format={{.Name}}",
                           self.inspect(node, container)["Pod"]).strip()  # fmt: skip

    def without_main_container(self, node: str) -> list[str]:
        """Pods without a container that tells whose they are, and volumes without a pod."""
        listed = self.podman(
            node, "ps", "--all", "--format={{.PodName}} {{.Names}}", "--filter=name=tryitnow_"
        )
        within = [line.split() for line in listed.splitlines()]
        owned = {words[0] for words in within if not words[-1].startswith("tryitnow_pod_")}
        there = set(self.pods(node))
        needed = {f"tryitnow_pod_{tag}" for tag in self.files(node, VOLUMES)}
        return sorted((there - owned) | (needed - there))

    def have_podman_forget(self, node: str, container: str) -> None:
        """Leave a container in the storage alone, as a Podman that is killed while it makes one."""
        self.cluster.exec(node, ["python3", "-c", _FORGET, container])

    def everywhere(self, part: str) -> list[str]:
        """Names of the containers of all nodes that contain a text."""
        return [name for node in NODES for name in self.containers(node, part)]

    def leftovers(self, namespace: str) -> list[str]:
        """Everything on any node that belongs to objects of a namespace, or to nobody."""
        files = [
            name
            for node in NODES
            for directory in (CHECKPOINTS, DATA)
            for name in self.files(node, directory, f"{namespace}_")
        ]
        mainless = [pod for node in NODES for pod in self.without_main_container(node)]
        return [*self.everywhere(f"_{namespace}_"), *files, *mainless]

    def wait_clean(self, namespace: str, within: float) -> None:
        """Wait until nothing remains of a namespace."""
        wait_until(
            lambda: not self.leftovers(namespace),
            lambda: f"nothing of {namespace} to be left on any node: {self.leftovers(namespace)}",
            within,
        )

    def agent_log(self, node: str) -> str:
        return self.cluster.log(f"agent-{node}").read_text(errors="replace")
