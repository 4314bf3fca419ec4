"""Taking a lab down leaves nothing of it on the machine, whatever ran in it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import cgroups, network, remains, state
from lab.cluster import Cluster

NAME = "brief"


@pytest.fixture
def brief(notes_image: str) -> Iterator[tuple[Cluster, str]]:
    """A small lab beside the other, with a container running in it."""
    lab = Cluster(NAME, nodes=1, operator=False)
    lab.up()
    try:
        # Both labs' registries serve the same images.
        image = f"{lab.registry}/{notes_image.partition('/')[2]}"
        lab.exec("node-1", ["podman", "run", "--detach", "--publish=8080:80", image])
        yield lab, image
    finally:
        lab.down()


def traces() -> dict[str, list[str]]:
    """What a lab leaves, by where it is found."""
    mounts = Path("/proc/mounts").read_text().splitlines()
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True)
    directory = str(state.ROOT / NAME)
    return {
        "network namespaces": [p.name for p in network.namespaces(state.Lab(NAME))],
        "cgroups": [p.name for p in cgroups.mountpoint().glob(f"tin-{NAME}")],
        "mounts": [line for line in mounts if directory in line],
        "processes": [line for line in _command_lines() if directory in line],
        "files": [directory] if Path(directory).exists() else [],
        "links": [line for line in links.stdout.splitlines() if f"tin-{NAME}" in line],
    }


def _command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            yield path.read_text(errors="replace").replace("\0", " ")


def test_down_leaves_nothing(brief: tuple[Cluster, str]) -> None:
    lab, _ = brief
    cable = network.machine_cable(lab.shape.network)
    found = traces()
    assert found["network namespaces"]
    assert found["cgroups"]
    assert found["processes"]
    assert NAME in remains.names()
    lab.down()
    assert not any(traces().values()), traces()
    assert not Path(f"/sys/class/net/{cable}").exists()
    assert NAME not in remains.names()


def test_up_again_keeps_what_runs(brief: tuple[Cluster, str]) -> None:
    lab, _ = brief
    before = lab.exec("node-1", ["podman", "ps", "--quiet"]).stdout
    assert before
    Cluster(NAME, nodes=1, operator=False).up()
    assert lab.exec("node-1", ["podman", "ps", "--quiet"]).stdout == before
