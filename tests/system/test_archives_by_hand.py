"""Archives are of use without the operator: Podman restores them by hand, other tools read them.

CRI-O itself is in no package registry. A strict reader stands in for it, which checks what CRI-O
checks before it restores an archive (``server/container_restore.go`` and
``internal/lib/restore.go`` of CRI-O 1.37, which restored what this reader passed and refused what
it refused when both were tried once).
"""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard

from lab import binaries
from lab.cluster import Cluster
from tests.system.nodes import CHECKPOINTS, NODES, LabNodes
from tests.system.notes import PORT, Client, notes_spec, visit
from tests.system.objects import Objects, wait_until
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.definition import Compression

BY_HAND = "/var/tmp/by-hand"
"""On the node: where a person takes an archive."""

PUBLISHED = 8080
"""On the node: where the metadata beside an archive publishes the application."""

HOOK = {"exec": {"command": ["sh", "-c", "echo written > /data/files/kept; rm /etc/issue.net"]}}
"""What an application does to its files: adds some, removes some of its image's."""

COUNTER = """
import socket
listening = socket.create_server(("127.0.0.1", 7000))
lines, count = listening.accept()[0].makefile("rw"), 0
for line in lines:
    count += 1
    print(count, file=lines, flush=True)
"""

FRONT = """
import http.server, json, pathlib, secrets, socket
kept = pathlib.Path("/kept/token")
kept.write_text(secrets.token_hex(8))
counter = socket.create_connection(("127.0.0.1", 7000)).makefile("rw")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("one more", file=counter, flush=True)
        told = {"count": int(counter.readline()), "token": kept.read_text(),
                "given": pathlib.Path("/given/greeting").read_text()}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())
http.server.HTTPServer(("", 80), Handler).serve_forever()
"""

WARM_UP = 7
"""Requests before the checkpoint, besides those that ask whether it is ready."""


def pair_spec(image: str) -> dict[str, Any]:
    """Two containers with a connection between them that neither makes twice, and volumes."""
    counter = {
        "name": "counter",
        "image": image,
        "command": ["python3", "-c", COUNTER],
        "restartPolicy": "Always",
        # No probe of the port: the first connection is the only one that it takes.
        "startupProbe": {"exec": {"command": ["grep", "-q", ":1B58 .* 0A ", "/proc/net/tcp"]}},
    }
    front = {
        "name": "front",
        "image": image,
        "command": ["python3", "-c", FRONT],
        "ports": [{"containerPort": PORT}],
        "volumeMounts": [
            {"name": "kept", "mountPath": "/kept", "subPath": "below"},
            {"name": "given", "mountPath": "/given"},
        ],
    }
    volumes = [
        {"name": "kept", "emptyDir": {}},
        {"name": "given", "configMap": {"name": "given"}},
    ]
    template = {"initContainers": [counter], "containers": [front], "volumes": volumes}
    warm_up = {"paths": ["/"], "rounds": WARM_UP}
    return {"template": template, "readiness": {"timeout": "30s"}, "warmUp": warm_up}


@dataclass(frozen=True)
class Found:
    """An archive on a node that did not build it."""

    node: str
    name: str
    stem: str


@pytest.fixture(scope="module")
def one(module_objects: Objects, notes_image: str) -> Found:
    """An archive of one container without volumes."""
    spec = notes_spec(notes_image, hooks={"beforeCheckpoint": [HOOK]})
    module_objects.checkpoint("notes", spec)
    return fetched(module_objects, module_objects.ready_checkpoint("notes"))


@pytest.fixture(scope="module")
def connected(module_objects: Objects, notes_image: str) -> Found:
    """An archive of one container whose connections are kept."""
    spec = notes_spec(notes_image, criu={"tcp": "Established", "compression": "None"})
    module_objects.checkpoint("connected", spec)
    return fetched(module_objects, module_objects.ready_checkpoint("connected"))


@pytest.fixture(scope="module")
def several(module_objects: Objects, notes_image: str) -> Found:
    """An archive of several containers and their volumes."""
    module_objects.config_map("given", greeting="hello")
    module_objects.checkpoint("pair", pair_spec(notes_image))
    return fetched(module_objects, module_objects.ready_checkpoint("pair"))


def fetched(objects: Objects, checkpoint: Checkpoint) -> Found:
    objects.wait_node_checkpoints(checkpoint.metadata.name, NODES)
    copies = {node: objects.copy(checkpoint.metadata.name, node) for node in NODES}
    (node,) = (node for node, copy in copies.items() if copy and copy.spec.fetch)
    stem = f"{objects.namespace}_{checkpoint.metadata.name}_{checkpoint.status.current_revision}"
    packed = checkpoint.spec.criu.compression is Compression.ZSTD
    return Found(node, f"{stem}.tar.zst" if packed else f"{stem}.tar", stem)


class ByHand:
    """A person with a root shell on a node, an archive, and what its metadata says."""

    def __init__(self, nodes: LabNodes, found: Found) -> None:
        self._nodes, self._found = nodes, found
        metadata = nodes.shell(found.node, f"cat {CHECKPOINTS}/{found.stem}.md")
        self.commands = "".join(re.findall(r"^    (.*\n)", metadata, re.MULTILINE))
        self.client = Client(f"http://{nodes.cluster.node_address(found.node)}:{PUBLISHED}")

    def shell(self, script: str) -> str:
        return self._nodes.shell(self._found.node, f"cd {BY_HAND}\n{script}")

    def __enter__(self) -> ByHand:
        archive = f"{CHECKPOINTS}/{self._found.name}"
        self._nodes.shell(self._found.node, f"mkdir -p {BY_HAND}; cp {archive} {BY_HAND}")
        return self

    def __exit__(self, *_: object) -> None:
        script = f"podman pod rm --force --time=0 --ignore demo; rm -r {BY_HAND}"
        self._nodes.shell(self._found.node, script)

    def wait_answer(self) -> None:
        def answers() -> bool:
            return not self.client.is_gone()

        wait_until(answers, "an answer of what was restored by hand", 30)


def test_podman_restores_one_container_as_its_metadata_says(
    module_objects: Objects, nodes: LabNodes, one: Found
) -> None:
    module_objects.demo("one", "notes", start="RestoreOnly")
    ours = visit(module_objects.ready_demo("one"))
    with ByHand(nodes, one) as by_hand:
        by_hand.shell(by_hand.commands)
        by_hand.wait_answer()
        assert by_hand.client.memory_id() == ours.memory_id()
        assert by_hand.client.get("/files/kept").text == "written\n"
        gone = "podman exec demo-notes test ! -e /etc/issue.net -a -e /etc/issue"
        by_hand.shell(gone)
        assert by_hand.client.post("/notes", "by hand").status_code == 201
        assert by_hand.client.notes() == ["by hand"]


def test_podman_restores_the_connections_of_one_container_as_its_metadata_says(
    nodes: LabNodes, connected: Found
) -> None:
    with ByHand(nodes, connected) as by_hand:
        by_hand.shell(by_hand.commands)
        by_hand.wait_answer()
        assert nodes.containers(connected.node, "demo-notes") == ["demo-notes"]


def test_podman_restores_several_containers_as_their_metadata_says(
    module_objects: Objects, nodes: LabNodes, several: Found
) -> None:
    module_objects.demo("pair", "pair", start="RestoreOnly")
    ours = visit(module_objects.ready_demo("pair")).get().json()
    with ByHand(nodes, several) as by_hand:
        prepare, pod, restore = by_hand.commands.partition("podman pod create")
        by_hand.shell(f"{prepare}\nmkdir volumes/given; echo -n hello > volumes/given/greeting")
        by_hand.shell(f"cd parts\n{pod}{restore}")
        by_hand.wait_answer()
        theirs = by_hand.client.get().json()
        assert theirs["count"] > WARM_UP, "the connection between both goes on"
        assert theirs["token"] == ours["token"]
        assert theirs["given"] == "hello"
        own = f"{BY_HAND}/parts/volumes/kept/below/token"
        assert by_hand.shell(f"cat {own}") == theirs["token"]


# -- what other tools read -------------------------------------------------------------------------


@pytest.fixture
def exports(cluster: Cluster, one: Found, several: Found, tmp_path: Path) -> dict[str, Path]:
    """Podman's exports as they are in the archives, by container, on this machine."""
    found = {"notes": tmp_path / one.name}
    data = cluster.lab.node_directory(one.node) / "data/checkpoints"
    found["notes"].write_bytes((data / one.name).read_bytes())
    data = cluster.lab.node_directory(several.node) / "data/checkpoints"
    with (
        zstandard.open(data / several.name) as plain,
        tarfile.open(fileobj=plain, mode="r|") as parts,
    ):
        parts.extractall(tmp_path, filter="data")
    return found | {path.stem: path for path in (tmp_path / "containers").iterdir()}


def test_checkpointctl_reads_them(exports: dict[str, Path], notes_image: str) -> None:
    assert exports.keys() == {"notes", "counter", "front"}
    for container, path in exports.items():
        assert "Podman" in checkpointctl("show", path)
        (told,) = json.loads(checkpointctl("inspect", "--all", "--format=json", path))
        assert told["engine"] == "Podman"
        assert told["runtime"] == "crun"
        assert told["image"].partition("@")[0] == notes_image.rpartition(":")[0]
        assert told["checkpoint_size"]["memory_pages_size"] > 1 << 20
        assert told["statistics"]["pages_written"] > 0
        command = "notes" if container == "notes" else "python3"
        assert command in json.dumps(told["process_tree"])
        assert {"/proc", "/etc/hosts"} <= {mount["destination"] for mount in told["mounts"]}
    (front,) = json.loads(checkpointctl("inspect", "--mounts", "--format=json", exports["front"]))
    assert {"/kept", "/given"} <= {mount["destination"] for mount in front["mounts"]}
    (notes,) = json.loads(checkpointctl("inspect", "--all", "--format=json", exports["notes"]))
    assert notes["checkpoint_size"]["root_fs_diff_size"] > 0


def checkpointctl(*words: str | Path) -> str:
    argv = [str(binaries.tool("checkpointctl")), *map(str, words)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_cri_o_would_restore_them(exports: dict[str, Path], tmp_path: Path) -> None:
    volumes = {"front": {"/kept", "/given"}}
    for container, path in exports.items():
        read = StrictCRIO(path, tmp_path / f"cri-o-{container}")
        # The kubelet mounts /etc/hosts into each container, and the volumes of the Pod.
        assert read.mounts_it_asks_for == {"/etc/hosts"} | volumes.get(container, set())


@dataclass
class StrictCRIO:
    """Stands in for CRI-O: fails where CRI-O would not restore an archive."""

    archive: Path
    directory: Path
    mounts_it_asks_for: set[str] = field(default_factory=set)

    _SET_UP_BY_ITSELF = frozenset(
        {"/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/dev/shm",
         "/etc/resolv.conf", "/etc/hostname", "/etc/passwd", "/etc/group", "/run/secrets",
         "/run/.containerenv"}
    )  # fmt: skip
    """Mounts that CRImportCheckpoint leaves out."""

    def __post_init__(self) -> None:
        self._unpack()
        spec, config = self._json("spec.dump"), self._json("config.dump")
        annotations = json.loads(spec["annotations"]["io.kubernetes.cri-o.Annotations"])
        assert all(isinstance(value, str) for value in annotations.values())
        # The image that the container is created from: an ID where CRI-O made the archive.
        reference = config.get("rootfsImageRef")
        assert reference is None or re.fullmatch(r"[0-9a-f]{64}", reference)
        assert re.fullmatch(r"[^@\s]+/[^@\s]+@sha256:[0-9a-f]{64}", config["rootfsImageName"])
        datetime.fromisoformat(config["createdTime"])
        destinations = {mount["destination"] for mount in spec["mounts"]}
        self.mounts_it_asks_for = destinations - self._SET_UP_BY_ITSELF
        self._check_files()

    def _unpack(self) -> None:
        self.directory.mkdir()
        is_packed = self.archive.suffix == ".zst"
        with (
            zstandard.open(self.archive) if is_packed else self.archive.open("rb") as plain,
            tarfile.open(fileobj=plain, mode="r|") as tar,
        ):
            tar.extractall(self.directory, filter="data")

    def _json(self, name: str) -> dict[str, Any]:
        found = json.loads((self.directory / name).read_text())
        assert isinstance(found, dict)
        return found

    def _check_files(self) -> None:
        """What a restore applies before it calls the runtime, and what the runtime reads."""
        if (changes := self.directory / "rootfs-diff.tar").exists():
            with tarfile.open(changes) as tar:
                assert tar.getnames()
            gone = json.loads((self.directory / "deleted.files").read_text())
            assert all(isinstance(path, str) for path in gone)
        for name in ("inventory.img", "pstree.img", "descriptors.json"):
            assert (self.directory / "checkpoint" / name).stat().st_size > 0
        # CRI-O would make what these name on the node.
        assert not (self.directory / "bind.mounts").exists()
