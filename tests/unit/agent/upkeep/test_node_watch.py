"""What happened on a node without anybody saying so; its metrics, its memory."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.agent.demos.kept import Kept, until
from tests.unit.agent.demos.shop import Clock, Shop
from tests.unit.builders import make_demo
from tests.unit.fakes import FakePodman
from tests.unit.metrics.scrape import Scrape, scrape
from tryitnow.agent.demos.network import NetworkRepair
from tryitnow.agent.sandbox.names import demo_name
from tryitnow.agent.upkeep.memory import available_memory_bytes
from tryitnow.agent.upkeep.metrics import gauges
from tryitnow.agent.upkeep.watch import NodeWatch, ended
from tryitnow.api.archive import Versions
from tryitnow.api.demoinstance import DemoInstancePhase
from tryitnow.api.meta import Key
from tryitnow.podman.client import ContainerState

Phase = DemoInstancePhase

DEMO = make_demo(node="node-a", phase=Phase.READY)
MAIN = ContainerState(
    name=str(demo_name(DEMO)),
    id="main",
    running=True,
    exit_code=0,
    pid=1,
    image="",
    ports=(),
    pod="pod",
)
OTHER = replace(MAIN, name="tryitnow_pod_x_db", id="db")


def test_a_ready_demo_whose_container_does_not_run_has_ended() -> None:
    assert ended([DEMO], []) == [DEMO.key]
    assert ended([DEMO], [replace(MAIN, running=False)]) == [DEMO.key]
    assert ended([DEMO], [MAIN]) == []


def test_one_that_somebody_paused_has_not_ended() -> None:
    assert ended([DEMO], [replace(MAIN, running=False, paused=True)]) == []


def test_a_demo_of_which_one_container_ended_has_ended() -> None:
    assert ended([DEMO], [MAIN, OTHER]) == []
    assert ended([DEMO], [MAIN, replace(OTHER, running=False)]) == [DEMO.key]
    assert ended([DEMO], [MAIN, replace(OTHER, running=False, pod="another")]) == []


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.STARTING, Phase.RESTARTING, Phase.FAILED])
def test_what_is_not_up_cannot_end(phase: DemoInstancePhase) -> None:
    assert ended([make_demo(phase=phase)], []) == []


def test_one_that_did_not_answer_ends_like_any_other() -> None:
    silent = make_demo(phase=Phase.NOT_ANSWERING)
    assert ended([silent], []) == [silent.key]


@pytest.fixture
def looked(shop: Shop) -> list[Key]:
    """The demos that were to be looked at."""
    keys: list[Key] = []
    shop.node.queue_demo = keys.append
    return keys


async def test_the_end_of_a_container_is_noticed(shop: Shop, looked: list[Key]) -> None:
    demo = await shop.ready()
    await shop.ready("bens-demo")
    watch = NodeWatch(shop.node)
    await watch.check_containers()
    assert looked == []
    shop.podman.stop(shop.database(demo))
    await watch.check_containers()
    assert looked == [demo.key]


async def test_what_is_being_made_during_a_look_is_not_taken_for_ended(
    shop: Shop, podman: FakePodman
) -> None:
    """Bench: warm sandboxes were made, and thrown away by a list from before."""
    actor = await Kept(shop).keep(warm=1)
    taken = actor.take_warm()
    assert taken is not None
    await until(lambda: actor.stock_size == 1)
    podman.delay["list"] = 0.2
    await NodeWatch(shop.node).check_containers()
    await until(lambda: actor.warm_ready == 1)
    assert not any("removing the warm sandbox" in line for line in podman.log)
    assert len([n for n in podman.containers() if "_warm_" in n]) == 2


async def test_a_waiting_sandbox_whose_namespaces_ended_is_replaced(
    shop: Shop, podman: FakePodman
) -> None:
    actor = await Kept(shop).keep()
    before = actor.waiting_names
    pod = next(iter(podman.pods))
    podman.end_infra(pod)
    await NodeWatch(shop.node).check_containers()
    await until(lambda: pod not in podman.pods)
    await until(lambda: len(actor.waiting_names) >= len(before))
    assert actor.state.restore_failures == 0
    assert actor.is_ready


async def test_lost_rules_of_the_network_are_noticed_where_demos_run(
    shop: Shop, podman: FakePodman
) -> None:
    tables = "table inet netavark\n"

    async def list_tables() -> str:
        return tables

    network = NetworkRepair(podman, list_tables, Clock())
    shop.node.demo_tools = replace(shop.node.demo_tools, network=network)
    watch = NodeWatch(shop.node)
    await watch.check_network()
    demo = await shop.ready()
    await watch.check_network()
    tables = "table inet filter\n"
    await watch.check_network()
    assert "reload network --all" in podman.log
    assert shop.seen(demo).status.phase is Phase.READY


# -- metrics --------------------------------------------------------------------------------------


def reported(shop: Shop) -> Scrape:
    return scrape(shop.node.metrics)


@pytest.fixture
def measured(shop: Shop) -> Shop:
    shop.node.metrics.read_from(lambda: gauges(shop.node))
    return shop


async def test_a_node_tells_what_it_runs(measured: Shop) -> None:
    shop = measured
    demo = await shop.ready()
    going = await shop.ready("bens-demo")
    await shop.delete(going)
    versions = Versions(kernel="6.1", criu="4.2.1", podman="5.8.6", runtime="crun")
    shop.node.health.current = replace(shop.node.health.current, versions=versions)
    found = reported(shop)
    assert found.value("tryitnow_agent_instances", phase="Ready") == 1
    assert found.value("tryitnow_agent_instances", phase="Terminating") == 1
    assert found.value("tryitnow_agent_instances", phase="Failed") == 0
    assert found.value("tryitnow_agent_ports_taken") == 2
    assert found.value("tryitnow_agent_software_info", criu="4.2.1", kernel="6.1") == 1
    size = shutil.disk_usage(shop.node.archives.directory).total
    assert found.value("tryitnow_checkpoint_directory_size_bytes") == size
    for name in found.names():
        for labels in found.all(name):
            assert demo.metadata.name not in labels, "no series names a demo"


async def test_a_node_tells_what_is_wrong_with_it(measured: Shop, names: tuple[str, str]) -> None:
    shop = measured
    silent, changed = names
    assert reported(shop).value(silent) == reported(shop).value(changed) == 0
    shop.node.demo_tools.verdicts.note("uid", "no answer")
    for _ in range(3):
        shop.node.demo_tools.verdicts.note("uid", "no answer")
    shop.node.guard.seen_containers(listed=0, ready_demos=1)
    assert reported(shop).value(silent) == reported(shop).value(changed) == 1


@pytest.fixture
def names(measured: Shop) -> tuple[str, str]:
    """Names of the two gauges."""
    found = reported(measured).names()
    [silent] = [name for name in found if "not_answering" in name]
    [changed] = [name for name in found if "storage_changed" in name]
    return silent, changed


async def test_a_disk_that_is_away_hides_nothing_else(measured: Shop) -> None:
    shutil.rmtree(measured.node.archives.directory)
    found = reported(measured)
    assert found.value("tryitnow_checkpoint_directory_free_bytes") is None
    assert found.value("tryitnow_agent_instances", phase="Ready") == 0


# -- memory ---------------------------------------------------------------------------------------


def test_memory_is_what_new_processes_can_have(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  16 kB\nMemFree:  1 kB\nMemAvailable:    8 kB\n")
    assert available_memory_bytes(meminfo) == 8 << 10
    meminfo.write_text("MemTotal:  16 kB\n")
    assert available_memory_bytes(meminfo) == 0


def test_this_machine_has_memory() -> None:
    assert 1 << 20 < available_memory_bytes() < 1 << 50
