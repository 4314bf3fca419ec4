"""A lab shows what runs in it, and when it is taken down nothing of it is left on the machine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import binaries, cleanup, network
from lab.cluster import Cluster
from tests.system.conftest import Kubectl
from tests.system.leftovers import leftovers
from tests.system.nodes import NODES
from tests.system.objects import wait_until

OURS = ("-n", "tryitnow-system")
AGENTS = "--selector=app.kubernetes.io/component=agent"


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
    found = leftovers(name)
    assert found["network namespaces"]
    assert found["cgroups"]
    assert found["processes"]
    assert name in cleanup.names()
    lab.down()
    assert not any(leftovers(name).values()), leftovers(name)
    assert not Path(f"/sys/class/net/{cable}").exists()
    assert name not in cleanup.names()


def test_up_again_keeps_what_runs(brief: tuple[Cluster, str]) -> None:
    lab, _ = brief
    before = lab.exec("node-1", ["podman", "ps", "--quiet"]).stdout
    assert before
    Cluster(lab.lab.name, nodes=1, operator=False).up()
    assert lab.exec("node-1", ["podman", "ps", "--quiet"]).stdout == before


def test_kubectl_shows_the_logs_of_the_operator(kubectl: Kubectl) -> None:
    agents = kubectl(*OURS, "logs", AGENTS, "--prefix", "--tail=50").stdout.splitlines()
    pods = kubectl(*OURS, "get", "pods", AGENTS, "-o", "name").stdout.split()
    # Neither has the control plane one.
    assert len(pods) == len(NODES)
    assert {line.partition("/agent] ")[0] for line in agents} == {f"[{pod}" for pod in pods}
    assert "controller started" in kubectl(*OURS, "logs", "deploy/tryitnow-controller").stdout
    before = kubectl(*OURS, "logs", "deploy/tryitnow-controller", "--previous")
    assert 'previous terminated container "controller" in pod' in before.stderr


def test_kubectl_runs_commands_in_the_operators_pods(kubectl: Kubectl) -> None:
    told = kubectl(*OURS, "exec", "ds/tryitnow-agent", "--", "tryitnow", "--version")
    assert told.stdout.startswith("tryitnow ")
    done = kubectl(*OURS, "exec", "ds/tryitnow-agent", "--", "sh", "-c", "echo $NODE_NAME; exit 7")
    assert done.stdout.strip() in NODES
    assert "exit code 7" in done.stderr
    controller = kubectl(*OURS, "exec", "deploy/tryitnow-controller", "--", "id", "-u")
    assert controller.stdout == "65532\n"


def test_a_followed_log_ends_with_its_pod_and_the_next_pods_begins_with_it(
    cluster: Cluster, kubectl: Kubectl
) -> None:
    def pods() -> set[str]:
        return {*kubectl(*OURS, "get", "pods", AGENTS, "-o", "name").stdout.split()}

    before = pods()
    old = min(before)
    who = f"--kubeconfig={cluster.kubeconfig}"
    words = [str(binaries.tool("kubectl")), who, *OURS, "logs", "--follow", old]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        assert following.stdout.readline()
        assert kubectl(*OURS, "delete", old).returncode == 0
        rest, _ = following.communicate(timeout=60)
    assert "ended: 0" in rest.splitlines()[-1]
    wait_until(lambda: len(pods() - before) == 1, "the next Pod to be made")
    (new,) = pods() - before
    ready = kubectl(*OURS, "wait", "--for=condition=Ready", new, "--timeout=60s")
    assert ready.returncode == 0, ready.stderr
    assert "start 1" in kubectl(*OURS, "logs", new).stdout.splitlines()[0]
