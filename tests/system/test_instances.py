"""How demos live and end: their ttl, many at once, what becomes of one whose container ended."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.system.conftest import Kubectl
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import notes_spec, visit
from tests.system.objects import Objects, is_true, wait_until
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, StartedBy, StartPolicy
from tryitnow.api.meta import now

AT_ONCE = 10


@pytest.fixture(scope="module")
def checkpointed(module_objects: Objects, notes_image: str) -> Iterator[Checkpoint]:
    module_objects.checkpoint("notes", notes_spec(notes_image))
    yield module_objects.ready_checkpoint("notes")
    for demo in module_objects.all(DemoInstance):
        module_objects.delete(DemoInstance, demo.metadata.name)


@pytest.mark.usefixtures("checkpointed")
def test_a_demo_is_gone_with_its_container_and_port_when_its_ttl_has_passed(
    module_objects: Objects, nodes: LabNodes
) -> None:
    objects = module_objects
    created = objects.demo("short", "notes", ttl="20s").metadata.creation_timestamp
    assert created
    demo = objects.ready_demo("short")
    assert demo.status.expires_at
    assert (demo.status.expires_at - created).total_seconds() == 20
    node, port = demo.status.node_name, demo.status.host_port
    assert node
    assert port in nodes.published_ports(node)
    client = visit(demo)
    objects.wait_gone(DemoInstance, "short")
    assert 0 <= (now() - demo.status.expires_at).total_seconds() <= 5
    assert client.is_gone()
    assert nodes.containers(node, "_short_") == []
    assert port not in nodes.published_ports(node)


@pytest.mark.usefixtures("checkpointed")
def test_raising_the_ttl_extends_the_life(module_objects: Objects) -> None:
    objects = module_objects
    objects.demo("longer", "notes", ttl="20s")
    before = objects.ready_demo("longer").status.expires_at
    assert before
    objects.patch(DemoInstance, "longer", {"spec": {"ttl": "1h"}})
    extended = objects.wait(
        DemoInstance, "longer", lambda d: bool(d.status.expires_at and d.status.expires_at > before)
    )
    assert extended.status.expires_at
    assert (extended.status.expires_at - before).total_seconds() == 3580
    time.sleep(max(0.0, (before - now()).total_seconds()) + 1)  # the old end must pass
    still_there = objects.get(DemoInstance, "longer")
    assert still_there is not None
    assert not still_there.is_deleting
    assert visit(still_there).get("/healthz").status_code == 200


@pytest.mark.usefixtures("checkpointed")
def test_ten_at_once_are_all_ready_and_deleted_at_once_leave_nothing(
    module_objects: Objects, nodes: LabNodes
) -> None:
    objects = module_objects
    names = [f"crowd-{number}" for number in range(AT_ONCE)]
    for name in names:
        objects.demo(name, "notes")
    demos = [objects.ready_demo(name) for name in names]
    assert {demo.status.started_by for demo in demos} == {StartedBy.RESTORE}
    assert {demo.status.node_name for demo in demos} == set(NODES)
    assert len({demo.status.url for demo in demos}) == AT_ONCE
    for demo in demos:
        assert visit(demo).post("/notes", demo.metadata.name).status_code == 201
    for demo in demos:
        assert visit(demo).notes() == [demo.metadata.name]
    for name in names:
        objects.delete(DemoInstance, name)
    for name in names:
        objects.wait_gone(DemoInstance, name)
    assert nodes.everywhere("_crowd-") == []
    for node in NODES:
        taken = {d.status.host_port for d in demos if d.status.node_name == node}
        assert not taken & nodes.published_ports(node)


@pytest.mark.usefixtures("checkpointed")
def test_a_demo_that_is_deleted_while_it_starts_leaves_nothing(
    module_objects: Objects, nodes: LabNodes
) -> None:
    objects = module_objects
    objects.demo("hasty", "notes")
    objects.wait(DemoInstance, "hasty", lambda d: d.status.node_name is not None)
    objects.delete(DemoInstance, "hasty")
    objects.wait_gone(DemoInstance, "hasty")
    wait_until(lambda: not nodes.everywhere("_hasty_"), "its container to go")


@pytest.mark.usefixtures("checkpointed")
def test_a_demo_whose_application_ended_is_started_again_with_its_files(
    module_objects: Objects,
) -> None:
    objects = module_objects
    objects.demo("fallen", "notes")
    client = visit(objects.ready_demo("fallen"))
    assert client.post("/notes", "kept").status_code == 201
    client.post("/exit?code=3")
    again = objects.wait(
        DemoInstance,
        "fallen",
        lambda d: d.status.restarts == 1 and d.status.phase is DemoInstancePhase.READY,
    )
    assert again.status.started_by is StartedBy.RESTART
    assert visit(again).notes() == ["kept"]
    told = objects.notes_of("fallen", "Restarting")
    assert any("exit code 3" in note for note in told)


@pytest.mark.usefixtures("checkpointed")
def test_a_demo_whose_container_was_taken_away_is_started_anew(
    module_objects: Objects, nodes: LabNodes
) -> None:
    objects = module_objects
    objects.demo("robbed", "notes")
    demo = objects.ready_demo("robbed")
    assert demo.status.node_name
    robbed = nodes.main_container(demo)
    nodes.podman(demo.status.node_name, "rm", "--force", "--time=0", robbed)
    again = objects.wait(
        DemoInstance,
        "robbed",
        lambda d: d.status.resets == 1 and d.status.phase is DemoInstancePhase.READY,
    )
    assert again.status.started_by is StartedBy.RESTORE
    assert is_true(again.status.conditions, "DataLost")
    assert again.status.url == demo.status.url
    assert visit(again).get("/healthz").status_code == 200


@pytest.mark.usefixtures("checkpointed")
def test_a_cold_start_can_be_asked_for(module_objects: Objects) -> None:
    module_objects.demo("cold", "notes", start="ColdStart")
    demo = module_objects.ready_demo("cold")
    assert demo.status.started_by is StartedBy.COLD_START
    assert demo.status.fallback_reason is None, "nothing failed: it was asked for"


def test_deleting_a_namespace_takes_its_demos_and_copies_along(
    objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image, pool={"warm": 1}))
    objects.ready_checkpoint("notes")
    objects.demo("doomed", "notes")
    client = visit(objects.ready_demo("doomed"))
    objects.delete_namespace()
    wait_until(lambda: not objects.namespace_exists(), "the namespace to be gone")
    assert client.is_gone()
    wait_until(lambda: not nodes.leftovers(objects.namespace), "nothing to be left on any node")
    objects.create_namespace()  # for the fixture, which looks whether anything is left


def test_a_container_under_our_names_without_an_owner_is_removed(
    nodes: LabNodes, notes_image: str
) -> None:
    node = NODES[0]
    name = "tryitnow_demo_nowhere_nobody_12345678"
    bystander = "somebody-elses"
    storage_only_containers = "tryitnow_demo_nowhere_half_12345678"
    # It would remove the one while the other is being made.
    nodes.cluster.stop(f"agent-{node}")
    try:
        nodes.podman(node, "run", "--detach", "--name", name, notes_image)
        nodes.podman(node, "run", "--detach", "--name", bystander, notes_image)
        nodes.podman(node, "create", "--name", storage_only_containers, notes_image)
        nodes.have_podman_forget(node, storage_only_containers)
        assert storage_only_containers in nodes.podman(node, "ps", "--all", "--external")
    finally:
        nodes.cluster.start(f"agent-{node}")
    try:
        wait_until(lambda: not nodes.containers(node, name), "the orphan to be removed")
        wait_until(
            lambda: storage_only_containers not in nodes.podman(node, "ps", "--all", "--external"),
            "what Podman does not know to be removed",
        )
        assert nodes.containers(node, bystander) == [bystander]
    finally:
        nodes.podman(node, "rm", "--force", "--ignore", "--time=0", name, bystander)


@pytest.mark.usefixtures("checkpointed")
def test_a_node_that_is_being_drained_gets_no_new_demo_and_keeps_the_old(
    module_objects: Objects, kubectl: Kubectl
) -> None:
    objects = module_objects
    objects.demo("guest", "notes")
    before = objects.ready_demo("guest")
    drained = before.status.node_name
    assert drained
    kubectl("cordon", drained)
    try:
        # The first goes to the emptier node in any case; by then the controller has heard of it.
        objects.demo("elsewhere", "notes")
        demos = [objects.ready_demo("elsewhere")]
        for number in range(3):
            objects.demo(f"elsewhere-{number}", "notes")
        demos += [objects.ready_demo(f"elsewhere-{number}") for number in range(3)]
        assert {demo.status.node_name for demo in demos} == set(NODES) - {drained}
        assert {demo.status.started_by for demo in demos} == {StartedBy.RESTORE}
        assert visit(before).get("/healthz").status_code == 200
    finally:
        kubectl("uncordon", drained)


@pytest.mark.usefixtures("checkpointed")
def test_where_memory_is_used_up_demos_go_first(module_objects: Objects, nodes: LabNodes) -> None:
    for name, start in (
        ("doomed", StartPolicy.RESTORE_ONLY),
        ("doomed-cold", StartPolicy.COLD_START),
    ):
        module_objects.demo(name, "notes", start=start)
        demo = module_objects.ready_demo(name)
        assert demo.status.node_name
        pid = nodes.inspect(demo.status.node_name, nodes.main_container(demo))["State"]["Pid"]
        score = nodes.shell(demo.status.node_name, f"cat /proc/{pid}/oom_score_adj")
        assert score.strip() == "1000", name


@pytest.mark.usefixtures("checkpointed")
def test_a_command_in_a_demo_has_the_demos_memory_score_and_limits(
    module_objects: Objects, nodes: LabNodes
) -> None:
    """Whoever runs it, and whatever score Podman has: in a critical Pod it has -997."""
    module_objects.demo("with-a-shell", "notes")
    demo = module_objects.ready_demo("with-a-shell")
    node, container = demo.status.node_name, nodes.main_container(demo)
    assert node
    look = "cat /proc/self/oom_score_adj; diff /proc/self/cgroup /proc/1/cgroup && echo the same"
    score_of_podman = "for pid in $(pidof podman); do echo %d > /proc/$pid/oom_score_adj; done"
    nodes.shell(node, score_of_podman % 300)  # a lower one needs a right that the lab may lack
    try:
        found = nodes.podman(
            node, "--remote", "--url=unix:///run/podman/podman.sock", "exec", container,
            "sh", "-c", look,
        )  # fmt: skip
    finally:
        nodes.shell(node, score_of_podman % 0)
    score, cgroup = found.split(maxsplit=1)
    assert score == "1000"
    assert cgroup.strip() == "the same", "where the limits are"
