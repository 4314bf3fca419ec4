"""The chart as a release: tested, upgraded, rolled back, uninstalled, installed again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from charts import schemas
from charts.check import value_sets
from charts.render import template
from lab import images
from lab.cluster import CHECKOUT, Cluster
from tests.pages import blocks, walkthrough
from tests.system.conftest import Kubectl
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import notes_spec, visit
from tests.system.objects import Objects, wait_until
from tests.system.terminal import Terminal
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint

CHANGED = ("--set=agent.maxInstances=7", "--set=controller.podAnnotations.example=changed")
"""Other values, for which all Pods are made anew."""

CAPACITY = 110

MOST_AT_ONCE = 8
"""Demos of a stream, of which the oldest is deleted for each new one."""

STREAM_PAUSE_SECONDS = 0.5


def test_helm_test_says_who_leads_and_which_nodes_serve(cluster: Cluster) -> None:
    assert "Succeeded" in cluster.helm("test", "try-it-now", "--timeout=60s")
    told = cluster.log("tryitnow-test").read_text()
    assert "leads" in told
    for node in NODES:
        assert f"node {node}: checkpoints and restores" in told


@pytest.mark.parametrize(("name", "files"), value_sets().items(), ids=list(value_sets()))
def test_the_api_server_takes_each_set_of_values(
    name: str, files: tuple[Path, ...], cluster: Cluster, kubectl: Kubectl
) -> None:
    if name == "everything":
        for crd in schemas.monitoring_crds():
            done = kubectl("apply", "--server-side", "--filename", crd)
            assert done.returncode == 0, done.stderr
        wait_until(
            lambda: "prometheusrules" in kubectl("api-resources", "-o", "name").stdout,
            "the Prometheus operator's kinds",
        )
    rendered = template(files=files)
    # In Helm's name, so that what these values leave out goes, as in an upgrade to them.
    words = ("apply", "--server-side", "--force-conflicts", "--field-manager=helm")
    done = kubectl(*words, "--dry-run=server", "--filename=-", stdin=rendered)
    assert done.returncode == 0, done.stderr
    assert cluster.api.ready()


def test_demos_run_on_through_an_upgrade_and_a_rollback(
    cluster: Cluster, objects: Objects, notes_image: str
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image))
    objects.ready_checkpoint("notes")
    objects.demo("steady", "notes")
    demo = objects.ready_demo("steady")
    client = visit(demo)
    assert client.post("/notes", "kept").status_code == 201

    def capacity() -> set[int]:
        agents = [objects.get(NodeAgent, node) for node in NODES]
        return {agent.status.capacity for agent in agents if agent is not None}

    assert capacity() == {CAPACITY}
    for change, expected in (
        (lambda: cluster.install(*CHANGED), 7),
        (lambda: cluster.helm("rollback", "try-it-now", "--wait", "--timeout=120s"), CAPACITY),
    ):
        change()
        wait_until(lambda expected=expected: capacity() == {expected}, f"capacity {expected}")  # type: ignore[misc]
        assert client.notes() == ["kept"]
        after = objects.get(DemoInstance, "steady")
        assert after
        assert after.status.restarts == 0
        assert after.status.url == demo.status.url
    objects.demo("another", "notes")
    assert visit(objects.ready_demo("another")).get("/healthz").status_code == 200


def test_no_start_fails_while_agents_are_replaced(
    cluster: Cluster, objects: Objects, notes_image: str
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image))
    objects.ready_checkpoint("notes")
    names: list[str] = []
    with ThreadPoolExecutor(1) as beside:
        upgrade = beside.submit(cluster.install, "--set=agent.podAnnotations.example=replaced")
        while not upgrade.done():
            name = f"stream-{len(names)}"
            objects.demo(name, "notes", start="RestoreOnly")
            names.append(name)
            if len(names) > MOST_AT_ONCE:
                oldest = names[-1 - MOST_AT_ONCE]
                objects.ready_demo(oldest)
                _expect_no_failed_start(objects, oldest)
                objects.delete(DemoInstance, oldest)
            time.sleep(STREAM_PAUSE_SECONDS)
        upgrade.result()
    assert len(names) > MOST_AT_ONCE, "there was a stream"
    for name in names[-MOST_AT_ONCE:]:
        objects.ready_demo(name)
        _expect_no_failed_start(objects, name)


def _expect_no_failed_start(objects: Objects, name: str) -> None:
    demo = objects.get(DemoInstance, name)
    assert demo
    assert demo.status.fallback_reason is None, demo.status.fallback_message
    failed = [reason for reason, _ in objects.events(name) if "Failed" in reason]
    assert failed == [], name


@pytest.fixture
def empty(cluster: Cluster, kubectl: Kubectl) -> Iterator[None]:
    """A cluster that has never seen the operator; afterwards the lab's own is back."""
    cluster.uninstall()
    try:
        removed = kubectl("delete", "--kustomize", CHECKOUT / "crds", "--timeout=60s")
        assert removed.returncode == 0, removed.stderr
        _without_namespace(kubectl)
        yield
    finally:
        _without_namespace(kubectl)
        cluster.install()


def _without_namespace(kubectl: Kubectl) -> None:
    gone = kubectl("delete", "namespace", "tryitnow-system", "--ignore-not-found", "--timeout=60s")
    assert gone.returncode == 0, gone.stderr


@pytest.mark.usefixtures("empty")
def test_from_nothing_to_a_demo_and_back_as_the_pages_say(
    cluster: Cluster, terminal: Terminal, kubectl: Kubectl
) -> None:
    """With the values that ship, word for word, then by kustomize."""
    _, by_helm, by_kustomize = blocks("install.md")
    upgrade, roll_back, uninstall, remove_crds, kustomize_away = blocks("upgrade.md")
    told = terminal.run(by_helm).stdout
    assert told.count("Phase:          Succeeded") == 1
    assert "STATUS: deployed" in told
    _a_sample_answers(cluster, terminal)

    terminal.run("kubectl create namespace demos\n" + walkthrough("security.md"))
    secrets = (
        "kubectl auth can-i get secrets --as=system:serviceaccount:tryitnow-system:tryitnow-agent"
    )
    # The API server's own view of roles follows them, if mostly at once.
    allowed = f"{secrets} -n demos || true"
    wait_until(lambda: terminal.run(allowed).stdout == "yes\n", "the agents to be let in")
    assert terminal.run(f"{secrets} -n default || true").stdout == "no\n"

    terminal.run("kubectl delete namespace demos")

    terminal.run(upgrade)
    terminal.run(roll_back)
    assert "uninstalled" in terminal.run(uninstall).stdout
    terminal.run(remove_crds)
    _without_namespace(kubectl)

    [kustomization] = blocks("install.md", "yaml")
    (terminal.directory / "cluster").mkdir()
    (terminal.directory / "cluster/kustomization.yaml").write_text(kustomization)
    told = terminal.run(by_kustomize).stdout
    assert "successfully rolled out" in told
    _a_sample_answers(cluster, terminal)
    terminal.run(kustomize_away)
    kept = kubectl("get", "customresourcedefinitions,clusterroles,namespaces", "-o", "name").stdout
    assert "tryitnow" not in kept


def _a_sample_answers(cluster: Cluster, terminal: Terminal) -> None:
    """What the first page after the installation comes to."""
    # The values that ship are for nodes with cgroup controllers, which the lab's have not.
    for node in NODES:
        cluster.restart(f"agent-{node}", env={"ALLOW_UNENFORCED_LIMITS": "true"})
    images.ensure(cluster, "wordpress")
    told = terminal.run(
        "kubectl apply -f manifests/samples/wordpress.yaml\n"
        "kubectl wait -n default --for=condition=Ready checkpoint/wordpress --timeout=180s\n"
        "kubectl apply -f manifests/samples/demo-wordpress.yaml\n"
        "kubectl wait -n default --for=condition=Ready demoinstance/wordpress-1 --timeout=60s\n"
        "curl --fail --silent $(kubectl get demo -n default wordpress-1 -o jsonpath={.status.url})"
    ).stdout
    assert "<title>Lab Shop" in told


def test_uninstalled_with_demos_and_installed_again(
    cluster: Cluster, objects: Objects, notes_image: str, nodes: LabNodes, kubectl: Kubectl
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image, pool={"warm": 1}))
    objects.ready_checkpoint("notes")
    objects.demo("running", "notes")
    client = visit(objects.ready_demo("running"))
    cluster.uninstall()
    try:
        assert objects.all(DemoInstance) == []
        assert objects.all(NodeCheckpoint) == []
        assert objects.get(Checkpoint, "notes") is not None
        assert client.is_gone()
        assert nodes.leftovers(objects.namespace) == []
        workloads = ("-n", "tryitnow-system", "get", "pods,deployments,daemonsets,jobs")
        wait_until(
            lambda: kubectl(*workloads, "-o", "name").stdout == "", "all workloads to be gone"
        )
        # Nobody is there to take a finalizer off, and nothing needs one taken off.
        other = Objects(cluster.kubeconfig, f"{objects.namespace}-left")
        other.create_namespace()
        other.checkpoint("notes", notes_spec(notes_image))
        other.demo("never", "notes")
        other.delete_namespace()
        other.close()
        gone = kubectl("wait", "--for=delete", f"namespace/{other.namespace}", "--timeout=60s")
        assert gone.returncode == 0, gone.stderr
    finally:
        cluster.install()
    objects.demo("again", "notes")
    assert visit(objects.ready_demo("again", 120)).get("/healthz").status_code == 200
