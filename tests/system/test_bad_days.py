"""What happens to demos on a bad day: nothing that a person did is lost, nothing dead is Ready."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import pytest

from lab.cluster import Cluster
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import Client, notes_spec, on_node, visit
from tests.system.objects import Objects, condition, is_true, wait_until
from tests.system.terminal import Terminal
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, StartedBy
from tryitnow.api.nodeagent import NodeAgent

NODE = NODES[0]

TOLD_WITHIN = 60.0
"""Seconds in which a demo that does not answer is said not to be Ready."""

BACK_WITHIN = 30.0
"""Seconds in which a demo that answers again is said to be Ready."""

HOOKS = {
    "afterRestore": [
        {"exec": {"command": ["sh", "-c", "echo $TRYITNOW_STARTED_BY >> /data/files/starts"]}}
    ]
}


@pytest.fixture(scope="module")
def checkpoint(module_objects: Objects, notes_image: str) -> Iterator[Checkpoint]:
    spec = notes_spec(notes_image, distribution=on_node(NODE), hooks=HOOKS)
    spec["readiness"]["timeout"] = "4s"
    module_objects.checkpoint("notes", spec)
    yield module_objects.ready_checkpoint("notes")
    for demo in module_objects.all(DemoInstance):
        module_objects.delete(DemoInstance, demo.metadata.name)


@pytest.fixture
def demo(
    checkpoint: Checkpoint, module_objects: Objects, request: pytest.FixtureRequest
) -> DemoInstance:
    """A demo in which a person has written something."""
    assert checkpoint
    name = request.node.name.removeprefix("test_").replace("_", "-").rstrip("]")
    # Its end tells it from the others of its kind.
    name = name.replace("[", "-")[-40:].strip("-")
    module_objects.demo(name, "notes")
    found = module_objects.ready_demo(name)
    assert visit(found).post("/notes", "precious").status_code == 201
    return found


def is_down(demo: DemoInstance) -> bool:
    return condition(demo, "Ready").status == "False"


def wait_back(objects: Objects, demo: DemoInstance, within: float = 60) -> DemoInstance:
    """Wait until a demo was started again; what was written must be there, at the same URL."""
    before = demo.status.restarts
    again = objects.wait(
        DemoInstance,
        demo.metadata.name,
        lambda d: d.status.restarts > before and d.status.phase is DemoInstancePhase.READY,
        within,
    )
    assert again.status.started_by is StartedBy.RESTART
    assert again.status.url == demo.status.url
    assert visit(again).notes() == ["precious"]
    assert visit(again).get("/files/starts").text.split()[-1] == "Restart", "hooks have run"
    assert not is_true(again.status.conditions, "DataLost")
    return again


def test_a_port_that_another_process_took_is_waited_for(
    demo: DemoInstance, module_objects: Objects, nodes: LabNodes
) -> None:
    port = demo.status.host_port
    pod = nodes.pod_of(NODE, nodes.main_container(demo))
    listen = (
        "import socket, sys, time\n"
        "for _ in range(400):\n"
        "    taken = socket.socket()\n"
        "    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        "    try:\n"
        "        taken.bind(('0.0.0.0', int(sys.argv[1])))\n"
        "    except OSError:\n"
        "        taken.close()\n"
        "        time.sleep(0.02)\n"
        "        continue\n"
        "    taken.listen()\n"
        "    time.sleep(15)\n"
        "    break\n"
    )
    thief = nodes.cluster.popen(NODE, ["python3", "-c", listen, str(port)])
    try:
        nodes.podman(NODE, "pod", "kill", pod)
        told = module_objects.wait(
            DemoInstance,
            demo.metadata.name,
            lambda d: condition(d, "Ready").reason == "PortTaken",
        )
        assert "another program of the node listens there" in condition(told, "Ready").message
        assert "Its data is kept." in condition(told, "Ready").message
    finally:
        thief.wait(30)
    wait_back(module_objects, demo)


def test_a_start_that_takes_longer_than_the_timeout_goes_on(
    demo: DemoInstance, module_objects: Objects, nodes: LabNodes
) -> None:
    assert visit(demo).post("/files/delay", "12").status_code == 201
    nodes.podman(NODE, "kill", nodes.main_container(demo))
    wait_back(module_objects, demo)


def test_a_changed_checkpoint_changes_no_demo(
    demo: DemoInstance, module_objects: Objects, nodes: LabNodes
) -> None:
    change = {"spec": {"hooks": {"afterRestore": [{"exec": {"command": ["false"]}}]}}}
    module_objects.patch(Checkpoint, "notes", change)
    try:
        nodes.podman(NODE, "kill", nodes.main_container(demo))
        again = wait_back(module_objects, demo)
        assert again.status.revision == demo.status.revision
    finally:
        module_objects.patch(Checkpoint, "notes", {"spec": {"hooks": HOOKS}})
        # Until then new demos are of the revision whose hook fails.
        module_objects.wait(
            Checkpoint, "notes", lambda c: c.status.current_revision == demo.status.revision
        )


@pytest.mark.parametrize("program", ["agent", "podman"])
def test_killed_while_a_demo_is_started_again(
    program: str, demo: DemoInstance, cluster: Cluster, module_objects: Objects, nodes: LabNodes
) -> None:
    assert visit(demo).post("/files/delay", "3").status_code == 201
    nodes.podman(NODE, "kill", nodes.main_container(demo))
    module_objects.wait(DemoInstance, demo.metadata.name, is_down)
    cluster.kill9(f"{program}-{NODE}")
    wait_back(module_objects, demo)


@pytest.mark.parametrize("how", ["503", "hang"])
def test_a_demo_that_does_not_answer_is_not_ready_and_is_again_by_itself(
    how: str, demo: DemoInstance, module_objects: Objects, nodes: LabNodes
) -> None:
    main = nodes.main_container(demo)
    nodes.podman(NODE, "exec", main, "sh", "-c", f"echo {how} > /data/files/sick")
    told = module_objects.wait(DemoInstance, demo.metadata.name, is_down, TOLD_WITHIN)
    assert told.status.phase is DemoInstancePhase.NOT_ANSWERING
    assert condition(told, "Ready").reason == "NotAnswering"
    nodes.podman(NODE, "exec", main, "rm", "/data/files/sick")
    again = module_objects.wait(
        DemoInstance,
        demo.metadata.name,
        lambda d: is_true(d.status.conditions, "Ready"),
        BACK_WITHIN,
    )
    assert again.status.restarts == 0, "it was never started again"


def test_a_demo_in_a_crash_loop_is_never_ready_and_keeps_its_data(
    demo: DemoInstance, module_objects: Objects, nodes: LabNodes
) -> None:
    name, main = demo.metadata.name, nodes.main_container(demo)
    nodes.podman(NODE, "exec", main, "sh", "-c", "echo yes > /data/files/crash")
    nodes.podman(NODE, "kill", main)
    module_objects.wait(DemoInstance, name, lambda d: condition(d, "Ready").reason == "CrashLoop")
    until = time.monotonic() + 15
    while time.monotonic() < until:
        seen = module_objects.get(DemoInstance, name)
        assert seen is not None
        assert is_down(seen), "it does not run"
        time.sleep(0.3)
    nodes.shell(NODE, f"d=$(podman mount {main}) && rm $d/data/files/crash && podman umount {main}")
    wait_back(module_objects, demo)


def test_lost_rules_of_the_nodes_firewall_are_set_again(
    demo: DemoInstance, nodes: LabNodes
) -> None:
    nodes.shell(NODE, "nft delete table inet netavark")

    def answers() -> bool:
        return Client(demo.status.url).get("/healthz", timeout=2).status_code == 200

    def answers_again() -> bool:
        try:
            return answers()
        except OSError:
            return False

    wait_until(answers_again, "the demo to answer again", TOLD_WITHIN)


def is_back_after(restarts: int, demo: DemoInstance) -> bool:
    """Whether a demo is ready after it was started again so many times."""
    return demo.status.restarts >= restarts and demo.status.phase is DemoInstancePhase.READY


def test_twelve_at_once_and_a_reboot(
    checkpoint: Checkpoint, cluster: Cluster, module_objects: Objects, nodes: LabNodes
) -> None:
    assert checkpoint
    objects, names = module_objects, [f"crowd-{number}" for number in range(12)]
    for name in names:
        objects.demo(name, "notes")
    demos = {name: objects.ready_demo(name) for name in names}
    for name, demo in demos.items():
        assert visit(demo).post("/notes", name).status_code == 201
    mains = [nodes.main_container(demo) for demo in demos.values()]
    nodes.podman(NODE, "kill", *mains)
    for restarts, cause in ((1, "the kill"), (2, "the reboot")):
        for name, demo in demos.items():
            again = objects.wait(DemoInstance, name, partial(is_back_after, restarts), 180)
            assert again.status.url == demo.status.url, cause
            assert visit(again).notes() == [name], cause
        if restarts == 1:
            # All processes of the node end, its /run is empty, its disk stays.
            cluster.kill9(NODE)
    for name in names:
        objects.delete(DemoInstance, name)
    for name in names:
        objects.wait_gone(DemoInstance, name)


def test_a_person_resets_a_demo(
    demo: DemoInstance, module_objects: Objects, terminal: Terminal
) -> None:
    name = demo.metadata.name
    told = terminal.run(f"kubectl tryitnow reset {name} --yes")
    assert told.stdout.strip() == demo.status.url
    fresh = module_objects.get(DemoInstance, name)
    assert fresh is not None
    assert fresh.status.resets == 1
    assert visit(fresh).notes() == []
    assert not is_true(fresh.status.conditions, "DataLost")


def test_a_demo_that_is_to_be_reset_when_it_crashes_is(
    checkpoint: Checkpoint, module_objects: Objects, nodes: LabNodes
) -> None:
    assert checkpoint
    module_objects.demo("fragile", "notes", onCrash="Reset")
    demo = module_objects.ready_demo("fragile")
    assert visit(demo).post("/notes", "lost").status_code == 201
    nodes.podman(NODE, "kill", nodes.main_container(demo))
    fresh = module_objects.wait(
        DemoInstance,
        "fragile",
        lambda d: d.status.resets == 1 and d.status.phase is DemoInstancePhase.READY,
    )
    assert fresh.status.url == demo.status.url
    assert visit(fresh).notes() == []


def test_a_storage_that_is_not_what_it_was_is_left_alone_until_a_person_confirms_it(
    demo: DemoInstance,
    cluster: Cluster,
    module_objects: Objects,
    nodes: LabNodes,
    terminal: Terminal,
) -> None:
    mark = "/var/lib/try-it-now/try-it-now-storage-id"
    cluster.stop(f"agent-{NODE}")
    nodes.shell(NODE, f"mv {mark} {mark}.away")
    volumes = nodes.containers(NODE, "tryitnow_")
    cluster.start(f"agent-{NODE}")

    def changed(agent: NodeAgent) -> bool:
        return any(
            c.type == "StorageChanged" and c.status == "True" for c in agent.status.conditions
        )

    module_objects.agent(NODE, changed)
    nodes.podman(NODE, "rm", "--force", "--time=0", "--depend", nodes.main_container(demo))
    told = module_objects.wait(
        DemoInstance, demo.metadata.name, lambda d: condition(d, "Ready").reason == "StorageChanged"
    )
    assert f"confirm-storage {NODE}" in condition(told, "Ready").message
    assert volumes
    terminal.run(f"kubectl tryitnow confirm-storage {NODE} --yes")
    module_objects.agent(NODE, lambda agent: not changed(agent))
    fresh = module_objects.wait(
        DemoInstance,
        demo.metadata.name,
        lambda d: d.status.resets == 1 and d.status.phase is DemoInstancePhase.READY,
    )
    assert is_true(fresh.status.conditions, "DataLost")
