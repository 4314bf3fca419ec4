"""What the programs may do: what they need, about their own node, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import kubernetes
import pytest
from kubernetes.client.exceptions import ApiException

from lab.cluster import Cluster
from tests.system.conftest import Kubectl
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import notes_spec
from tests.system.objects import Objects, connect
from tryitnow.api.archive import Archive
from tryitnow.api.meta import GROUP, VERSION

ACCOUNTS = ["tryitnow-controller", "tryitnow-agent"]


def may(kubectl: Kubectl, account: str, *words: str) -> bool:
    who = f"--as=system:serviceaccount:tryitnow-system:{account}"
    return kubectl("auth", "can-i", who, *words).stdout.strip() == "yes"


@pytest.mark.parametrize("account", ACCOUNTS)
@pytest.mark.parametrize(
    "words",
    [
        ("list", "secrets", "-A"),
        ("watch", "secrets", "-A"),
        ("list", "pods", "-A"),
        ("create", "pods", "-A"),
        ("update", "checkpoints.tryitnow.dev", "-A"),
        ("create", "demoinstances.tryitnow.dev", "-A"),
        ("patch", "nodes"),
        ("create", "clusterrolebindings"),
    ],
    ids=" ".join,
)
def test_the_programs_may_not(account: str, words: tuple[str, ...], kubectl: Kubectl) -> None:
    assert not may(kubectl, account, *words)


def test_the_controller_reads_no_secret_and_agents_only_by_name(kubectl: Kubectl) -> None:
    assert not may(kubectl, "tryitnow-controller", "get", "secrets", "-A")
    assert may(kubectl, "tryitnow-agent", "get", "secrets", "-A")


def test_the_controller_cannot_read_any_secret(cluster: Cluster, objects: Objects) -> None:
    metadata = kubernetes.client.V1ObjectMeta(name="password")
    secret = kubernetes.client.V1Secret(metadata=metadata, string_data={"password": "wordpass"})
    with connect(cluster.kubeconfig) as client:
        kubernetes.client.CoreV1Api(client).create_namespaced_secret(objects.namespace, secret)
    with connect(cluster.kubeconfig_of("controller")) as client:
        controller = kubernetes.client.CoreV1Api(client)
        for read in (
            lambda: controller.read_namespaced_secret("password", objects.namespace),
            lambda: controller.list_namespaced_secret(objects.namespace),
            lambda: controller.list_secret_for_all_namespaces(),
        ):
            with pytest.raises(ApiException, match="403"):
                read()
        kubernetes.client.CustomObjectsApi(client).list_cluster_custom_object(
            GROUP, VERSION, "checkpoints"
        )
    with connect(cluster.kubeconfig_of(f"agent-{NODES[0]}")) as client:
        agent = kubernetes.client.CoreV1Api(client)
        assert agent.read_namespaced_secret("password", objects.namespace).data
        with pytest.raises(ApiException, match="403"):
            agent.list_namespaced_secret(objects.namespace)


def test_the_controller_is_nobody_and_can_write_nowhere(cluster: Cluster) -> None:
    """The lab gives it what the chart's security context leaves it (lab/pods.py)."""
    process = Path("/proc") / str(cluster.unit_pid("controller"))
    status = dict(
        line.split(":\t", 1)
        for line in (process / "status").read_text().splitlines()
        if "\t" in line
    )
    assert set(status["Uid"].split()) == {"65532"}
    assert set(status["Gid"].split()) == {"65532"}
    assert status["Groups"].split() == []
    assert status["NoNewPrivs"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    writable = [
        fields[4]
        for fields in map(str.split, (process / "mountinfo").read_text().splitlines())
        if "rw" in fields[5].split(",") and not fields[4].startswith(("/proc", "/sys", "/dev"))
    ]
    assert writable == []


def test_an_agent_cannot_write_about_another_node(cluster: Cluster) -> None:
    with connect(cluster.kubeconfig_of(f"agent-{NODES[0]}")) as client:
        agents = kubernetes.client.CustomObjectsApi(client)

        def write_about(node: str) -> None:
            change = {"status": {"capacity": 110}}
            agents.patch_cluster_custom_object_status(GROUP, VERSION, "nodeagents", node, change)

        refused = f"the agent of node {NODES[0]} may not write NodeAgent {NODES[1]}"
        with pytest.raises(ApiException, match=refused):
            write_about(NODES[1])
        write_about(NODES[0])


def test_archives_are_given_to_agents_only(
    cluster: Cluster, objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image))
    archive = objects.ready_checkpoint("notes").status.archive
    assert archive
    objects.wait_node_checkpoints("notes", NODES)
    audience = "tryitnow-agent-transfer"
    agent = cluster.token("tryitnow-agent", audiences=[audience], node=NODES[1])
    controller = cluster.token("tryitnow-controller", audiences=[audience])
    for_the_api = cluster.token("tryitnow-agent", node=NODES[1])
    assert _fetch(nodes, archive, None) == 401
    assert _fetch(nodes, archive, "nonsense") == 401
    assert _fetch(nodes, archive, controller) == 401
    assert _fetch(nodes, archive, for_the_api) == 401, "a token is good for its audience only"
    assert _fetch(nodes, archive, agent) == 200
    other = archive.model_copy(update={"sha256": "0" * 64})
    assert _fetch(nodes, other, agent) == 404


def _fetch(nodes: LabNodes, archive: Archive, token: str | None) -> int:
    """Ask the first node's agent from the second node; without checking who answers."""
    script = (
        "import json, ssl, sys, urllib.error, urllib.request\n"
        "url, token = json.loads(sys.stdin.read())\n"
        "request = urllib.request.Request(url)\n"
        "if token: request.add_header('Authorization', 'Bearer ' + token)\n"
        "trust = ssl._create_unverified_context()\n"
        "try: print(urllib.request.urlopen(request, context=trust, timeout=10).status)\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
    )
    url = f"https://{nodes.cluster.node_address(NODES[0])}:9443/archives/{archive.sha256}"
    asked = json.dumps([url, token])
    done = nodes.cluster.exec(NODES[1], ["python3", "-c", script], input=asked)
    return int(done.stdout)
