"""Taking a lab down leaves nothing of it on the machine, whatever ran in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import network, remains
from lab.cluster import Cluster
from tests.system.traces import traces


@pytest.fixture
def brief(cluster: Cluster, notes_image: str) -> Iterator[tuple[Cluster, str]]:
    """A small lab beside the other, with a container running in it."""
    lab = Cluster(f"{cluster.lab.name}brief", nodes=1, operator=False)
    lab.up()
    try:
        # Both labs' registries serve the same images.
        image = f"{lab.registry}/{notes_image.partition('/')[2]}"
        lab.exec("node-1", ["podman", "run", "--detach", "--publish=8080:80", image])
        yield lab, image
    finally:
        lab.down()


def test_down_leaves_nothing(brief: tuple[Cluster, str]) -> None:
    lab, _ = brief
    name = lab.lab.name
    cable = network.machine_cable(lab.shape.network)
    found = traces(name)
    assert found["network namespaces"]
    assert found["cgroups"]
    assert found["processes"]
    assert name in remains.names()
    lab.down()
    assert not any(traces(name).values()), traces(name)
    assert not Path(f"/sys/class/net/{cable}").exists()
    assert name not in remains.names()


def test_up_again_keeps_what_runs(brief: tuple[Cluster, str]) -> None:
    lab, _ = brief
    before = lab.exec("node-1", ["podman", "ps", "--quiet"]).stdout
    assert before
    Cluster(lab.lab.name, nodes=1, operator=False).up()
    assert lab.exec("node-1", ["podman", "ps", "--quiet"]).stdout == before
