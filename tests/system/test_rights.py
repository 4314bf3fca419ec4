"""What the programs may do: what they need, about their own node, and nothing else."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import kubernetes
import pytest
from kubernetes.client.exceptions import ApiException

from lab.cluster import Cluster
from tests.system.conftest import Kubectl
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import notes_spec, on_node
from tests.system.objects import Objects, connect
from tryitnow.api.archive import Archive
from tryitnow.api.meta import GROUP, VERSION
from tryitnow.api.nodecheckpoint import NodeCheckpoint

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


def test_an_archive_is_given_to_the_node_that_is_to_fetch_it_and_to_nobody_else(
    cluster: Cluster, objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image))
    status = objects.ready_checkpoint("notes").status
    archive, revision = status.archive, status.current_revision
    assert archive
    assert revision
    objects.wait_node_checkpoints("notes", NODES)
    (giver,) = [c.spec.node_name for c in objects.all(NodeCheckpoint) if c.spec.fetch is None]
    (taker,) = set(NODES) - {giver}
    audience = "tryitnow-agent-transfer"
    agent = cluster.token("tryitnow-agent", audiences=[audience], node=taker)
    itself = cluster.token("tryitnow-agent", audiences=[audience], node=giver)
    of_no_node = cluster.token("tryitnow-agent", audiences=[audience])
    controller = cluster.token("tryitnow-controller", audiences=[audience])
    for_the_api = cluster.token("tryitnow-agent", node=taker)
    seen = len(audited(nodes, giver))
    fetch = partial(_fetch, nodes, giver, taker, revision, archive)
    assert fetch(None) == 401
    assert fetch("nonsense") == 401
    assert fetch(controller) == 401
    assert fetch(for_the_api) == 401, "a token is good for its audience only"
    assert fetch(of_no_node) == 403
    assert fetch(itself) == 403, "it has no order to fetch what it built"
    assert fetch(agent) == 200
    other = archive.model_copy(update={"sha256": "0" * 64})
    assert _fetch(nodes, giver, taker, revision, other, agent) == 404
    assert _fetch(nodes, giver, taker, "0" * 32, archive, agent) == 403, "of another revision"
    lines = audited(nodes, giver)[seen:]
    # Whoever shows no token is not written down.
    assert [line["outcome"] for line in lines] == ["refused"] * 5 + ["given", "refused"]
    assert (lines[5]["node"], lines[5]["sha256"]) == (taker, archive.sha256)
    assert all(line.get("why") for line in lines if line["outcome"] == "refused")


def test_an_archive_of_one_node_is_not_given_to_another(
    cluster: Cluster, objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    """A Checkpoint that stays on some nodes stays there, whatever agents ask for."""
    objects.checkpoint("here", notes_spec(notes_image, distribution=on_node(NODES[0])))
    status = objects.ready_checkpoint("here").status
    assert status.archive
    assert status.current_revision
    audience = "tryitnow-agent-transfer"
    agent = cluster.token("tryitnow-agent", audiences=[audience], node=NODES[1])
    assert _fetch(nodes, NODES[0], NODES[1], status.current_revision, status.archive, agent) == 403


def audited(nodes: LabNodes, node: str) -> list[dict[str, str]]:
    """The audit log of a node's agent."""
    found = re.findall(r'\{"event": "archive".*\}', nodes.agent_log(node))
    return [json.loads(line) for line in found]


def _fetch(
    nodes: LabNodes, giver: str, taker: str, revision: str, archive: Archive, token: str | None
) -> int:
    """Ask a node's agent from another node; without checking who answers.

    An address that shows many tokens at once is asked to wait (429).
    """
    script = (
        "import json, ssl, sys, time, urllib.error, urllib.request\n"
        "url, token, revision = json.loads(sys.stdin.read())\n"
        "request = urllib.request.Request(url, headers={'Tryitnow-Revision': revision})\n"
        "if token: request.add_header('Authorization', 'Bearer ' + token)\n"
        "trust = ssl._create_unverified_context()\n"
        "code, until = 429, time.monotonic() + 60\n"
        "while code == 429 and time.monotonic() < until:\n"
        "    try: code = urllib.request.urlopen(request, context=trust, timeout=10).status\n"
        "    except urllib.error.HTTPError as error: code = error.code\n"
        "    time.sleep(code == 429)\n"
        "print(code)\n"
    )
    url = f"https://{nodes.cluster.node_address(giver)}:9443/archives/{archive.sha256}"
    asked = json.dumps([url, token, revision])
    done = nodes.cluster.exec(taker, ["python3", "-c", script], input=asked)
    return int(done.stdout)
