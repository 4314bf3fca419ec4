"""Nothing is removed or started anew while storage, cluster or Podman are not what they were."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.builders import make_agent
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.storage.guard import StorageGuard
from tryitnow.agent.storage.identity import FILE, Mark, read_mark
from tryitnow.api.nodeagent import CONFIRM_STORAGE_ANNOTATION, NodeAgent, Storage


class Machine:
    """A node's data directory, its Podman and its cluster; agents come and go."""

    def __init__(self, directory: Path, kubernetes: FakeKubernetes, podman: FakePodman) -> None:
        self.data = directory / "try-it-now"
        self.data.mkdir()
        self.kubernetes = kubernetes
        self.podman = podman
        self.kubernetes.put(make_agent())
        self.guard = self.next_agent()

    def next_agent(self) -> StorageGuard:
        """Begin as an agent that was just started does."""
        self.guard = StorageGuard(self.kubernetes, self.podman, "node-a", self.data)
        return self.guard

    async def check(self, *, at_stake: bool = True) -> str | None:
        """Have the guard look, and return what it found."""
        await self.guard.examine(anything_at_stake=at_stake)
        return self.guard.problem

    def agent(self) -> NodeAgent:
        return self.kubernetes.find(make_agent())

    def report(self) -> None:
        """Have the NodeAgent's status say what is here, as the next report does."""
        agent = self.agent()
        status = agent.status.model_copy(update={"storage": self.guard.storage})
        self.kubernetes.put(agent.model_copy(update={"status": status}))

    def confirm(self) -> None:
        """Have a person confirm the storage as it is."""
        agent = self.agent()
        annotations = {CONFIRM_STORAGE_ANNOTATION: agent.status.storage.id}
        metadata = agent.metadata.model_copy(update={"annotations": annotations})
        self.kubernetes.put(agent.model_copy(update={"metadata": metadata}))

    async def settle(self) -> str:
        """Give the node its identity, and return it."""
        assert await self.check(at_stake=False) is None
        self.report()
        return self.guard.storage.id


@pytest.fixture
def machine(tmp_path: Path, kubernetes: FakeKubernetes, podman: FakePodman) -> Machine:
    return Machine(tmp_path, kubernetes, podman)


def test_before_the_first_look_nothing_may_be_done(machine: Machine) -> None:
    assert machine.guard.problem is not None
    assert "has not been examined yet" in machine.guard.problem
    assert "confirm-storage" not in machine.guard.problem, "there is nothing to confirm"
    assert not machine.guard.is_examined


async def test_a_new_node_gets_an_identity_in_all_three_places(machine: Machine) -> None:
    found = await machine.settle()
    assert len(found) == 32
    found_there = read_mark(machine.data), read_mark(machine.podman.service.graph_root)
    assert found_there == (Mark(found), Mark(found))
    assert machine.agent().status.storage == Storage(id=found, cluster_uid="uid-of-kube-system")


async def test_the_next_agent_finds_all_as_it_was(machine: Machine) -> None:
    found = await machine.settle()
    machine.next_agent()
    assert await machine.check() is None
    assert machine.guard.storage.id == found


async def test_a_second_look_before_the_report_finds_no_change(machine: Machine) -> None:
    machine.kubernetes.put(
        make_agent().model_copy(
            update={"status": make_agent().status.model_copy(update={"storage": Storage(id="old")})}
        )
    )
    assert await machine.check(at_stake=False) is None
    assert await machine.check() is None, "the NodeAgent still has the old identity"


@pytest.mark.parametrize("lost", ["data", "podman", "both"])
async def test_a_directory_that_is_not_mounted_is_noticed(machine: Machine, lost: str) -> None:
    await machine.settle()
    roots = {"data": machine.data, "podman": machine.podman.service.graph_root}
    for name, root in roots.items():
        if lost in {name, "both"}:
            (root / FILE).unlink()
    machine.next_agent()
    problem = await machine.check()
    assert problem is not None
    assert ("the data directory" in problem) is (lost != "podman")
    assert ("Podman's storage" in problem) is (lost != "data")
    assert "kubectl tryitnow confirm-storage node-a" in problem
    assert read_mark(machine.data) is None or lost == "podman", "nothing is written over it"


async def test_it_is_well_again_when_the_directory_is_back(machine: Machine) -> None:
    await machine.settle()
    mark = machine.data / FILE
    away = mark.rename(mark.with_name("away"))
    assert await machine.check() is not None
    away.rename(mark)
    assert await machine.check() is None


async def test_another_storage_is_taken_on_where_nothing_can_be_lost(machine: Machine) -> None:
    before = await machine.settle()
    (machine.data / FILE).unlink()
    machine.next_agent()
    assert await machine.check(at_stake=False) is None
    assert machine.guard.storage.id != before


async def test_an_agent_that_is_killed_before_it_reports_finds_what_it_took_on(
    machine: Machine,
) -> None:
    before = await machine.settle()
    (machine.data / FILE).unlink()
    machine.next_agent()
    assert await machine.check(at_stake=False) is None
    taken_on = machine.guard.storage.id
    machine.next_agent()
    assert machine.agent().status.storage.id == before
    assert await machine.check() is None
    assert machine.guard.storage.id == taken_on != before


async def test_a_person_confirms_one_change_and_not_the_next(machine: Machine) -> None:
    await machine.settle()
    (machine.data / FILE).unlink()
    machine.next_agent()
    assert await machine.check() is not None
    machine.confirm()
    assert await machine.check() is None
    machine.report()
    (machine.data / FILE).unlink()
    machine.next_agent()
    assert await machine.check() is not None, "the annotation is of the last time"


async def test_another_cluster_is_noticed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await machine.settle()

    async def of_another(name: str) -> str:
        return f"another {name}"

    monkeypatch.setattr(machine.kubernetes, "namespace_uid", of_another)
    machine.next_agent()
    problem = await machine.check()
    assert problem is not None
    assert "was in the cluster uid-of-kube-system" in problem


# -- the cluster goes back in time ----------------------------------------------------------------


async def test_a_list_of_an_older_version_is_of_a_restored_cluster(machine: Machine) -> None:
    await machine.settle()
    await machine.guard.seen_version(5000)
    await machine.guard.seen_version(4000)
    problem = await machine.check()
    assert problem is not None
    assert "objects have version 4000, and 5000 was seen before" in problem
    await machine.guard.seen_version(6000)
    assert await machine.check() is not None, "the objects in between are lost all the same"
    machine.confirm()
    assert await machine.check() is None
    await machine.guard.seen_version(6000)
    assert await machine.check() is None


async def test_the_next_agent_knows_the_highest_version(machine: Machine) -> None:
    await machine.settle()
    await machine.guard.seen_version(5000)
    machine.next_agent()
    await machine.guard.seen_version(4000)
    assert await machine.check() is not None


async def test_the_same_version_is_no_way_back(machine: Machine) -> None:
    await machine.settle()
    for version in (5000, 5000, 5001):
        await machine.guard.seen_version(version)
    assert await machine.check() is None


# -- a Podman that lists nothing ------------------------------------------------------------------


async def test_a_podman_without_any_of_what_runs_gives_no_answer(machine: Machine) -> None:
    await machine.settle()
    machine.guard.seen_containers(listed=0, ready_demos=3)
    problem = await machine.check()
    assert problem is not None
    assert "3 demos were ready here" in problem
    machine.guard.seen_containers(listed=9, ready_demos=3)
    assert await machine.check() is None


async def test_a_node_without_ready_demos_may_have_no_containers(machine: Machine) -> None:
    await machine.settle()
    machine.guard.seen_containers(listed=0, ready_demos=0)
    assert await machine.check() is None


async def test_a_loss_that_was_confirmed_is_not_asked_about_again(machine: Machine) -> None:
    """Until the first demo is started afresh, Podman goes on listing nothing."""
    await machine.settle()
    machine.guard.seen_containers(listed=0, ready_demos=3)
    assert await machine.check() is not None
    machine.confirm()
    assert await machine.check() is None
    machine.report()
    machine.guard.seen_containers(listed=0, ready_demos=2)
    assert await machine.check() is None
    machine.guard.seen_containers(listed=1, ready_demos=1)
    machine.guard.seen_containers(listed=0, ready_demos=1)
    assert await machine.check() is not None, "a loss of its own"


async def test_many_who_look_at_once_agree(machine: Machine) -> None:
    await asyncio.gather(*(machine.guard.examine(anything_at_stake=True) for _ in range(5)))
    assert machine.guard.problem is None
    assert read_mark(machine.data) == Mark(machine.guard.storage.id)
