"""What a node tells the cluster about itself."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.conftest import ADDRESS
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.health import Health
from tryitnow.agent.node import Node
from tryitnow.agent.storage.guard import StorageGuard
from tryitnow.agent.storage.ledger import Ledger
from tryitnow.agent.transfer.certificate import Certificates
from tryitnow.agent.upkeep.heartbeat import (
    EXAMINE_BROKEN_EVERY_SECONDS,
    EXAMINE_EVERY_SECONDS,
    EXAMINE_UNKNOWN_EVERY_SECONDS,
    Reporter,
    examine_node,
    pause_until_examination,
)
from tryitnow.api.archive import Versions
from tryitnow.api.meta import Condition, ConditionStatus, Key, find_condition, now
from tryitnow.api.nodeagent import LIMIT_REACHED, STORAGE_CHANGED, Check, NodeAgent, Verdict
from tryitnow.doctor import Examination
from tryitnow.doctor.checks import CheckName
from tryitnow.kubernetes.errors import KubernetesError, NotFoundError
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError
from tryitnow.settings import AgentSettings

URL = f"https://{ADDRESS}:9443/archives"
GIB = 1 << 30

GOOD = tuple(Check(name=name, verdict=Verdict.PASS, found="good") for name in CheckName)
WITHOUT_CRIU = tuple(
    check.model_copy(update={"verdict": Verdict.FAIL, "found": "criu is not installed"})
    if check.name == CheckName.CRIU_VERSION
    else check
    for check in GOOD
)


class Doctor:
    """Finds what it is told to find."""

    def __init__(self) -> None:
        self.checks = GOOD
        self.visits = 0

    async def examine(
        self, settings: AgentSettings, previous: Examination | None = None
    ) -> Examination:
        del settings, previous
        self.visits += 1
        return Examination(self.checks, Versions(criu="4.2.1"), frozenset({"memory"}))


@pytest.fixture(scope="module")
def certificate() -> Certificates:
    return Certificates(ADDRESS)


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Doctor:
    doctor = Doctor()
    monkeypatch.setattr("tryitnow.agent.upkeep.heartbeat.examine", doctor.examine)
    return doctor


@pytest.fixture
def reporter(node: Node, certificate: Certificates) -> Reporter:
    return Reporter(node, URL, certificate)


async def reported(kubernetes: FakeKubernetes) -> NodeAgent:
    return await kubernetes.get(NodeAgent, Key("", "node-a"))


def condition(agent: NodeAgent, type_: str) -> Condition:
    found = find_condition(agent.status.conditions, type_)
    assert found is not None
    return found


# -- reports --------------------------------------------------------------------------------------


async def test_the_first_report_makes_the_object_and_it_goes_with_its_node(
    reporter: Reporter, kubernetes: FakeKubernetes
) -> None:
    await reporter.report()
    agent = await reported(kubernetes)
    assert agent.spec.node_name == "node-a"
    [owner] = agent.metadata.owner_references
    assert (owner.kind, owner.name, owner.uid) == ("Node", "node-a", "uid-of-node-a")


async def test_a_report_says_all_that_others_decide_by(
    node: Node, reporter: Reporter, kubernetes: FakeKubernetes, certificate: Certificates
) -> None:
    node.health.current = replace(node.health.current, versions=Versions(criu="4.2.1"), checks=GOOD)
    await reporter.report()
    agent = await reported(kubernetes)
    status = agent.status
    assert agent.can_restore(now())
    assert status.address == ADDRESS
    assert (status.transfer_url, status.transfer_certificate) == (URL, certificate.pem)
    assert status.capacity == node.settings.capacity
    assert status.disk_available_bytes > 0
    assert status.versions.criu == "4.2.1"
    assert status.checks == GOOD
    assert status.storage == node.guard.storage
    assert status.storage.id
    assert condition(agent, STORAGE_CHANGED).status is ConditionStatus.FALSE


async def test_a_report_is_a_sign_of_life(reporter: Reporter, kubernetes: FakeKubernetes) -> None:
    await reporter.report()
    agent = await reported(kubernetes)
    assert not agent.is_lost(now())
    assert agent.is_lost(now() + timedelta(seconds=45))


async def test_an_agent_that_starts_again_goes_on_with_its_object(
    node: Node, reporter: Reporter, kubernetes: FakeKubernetes, certificate: Certificates
) -> None:
    await reporter.report()
    before = await reported(kubernetes)
    await Reporter(node, URL, certificate).report()
    after = await reported(kubernetes)
    assert after.metadata.uid == before.metadata.uid
    assert (
        condition(after, "Ready").last_transition_time
        == condition(before, "Ready").last_transition_time
    )


@pytest.mark.parametrize("namesake", [False, True])
async def test_an_object_that_somebody_deleted_is_made_anew(
    node: Node,
    reporter: Reporter,
    kubernetes: FakeKubernetes,
    certificate: Certificates,
    *,
    namesake: bool,
) -> None:
    await reporter.report()
    before = await reported(kubernetes)
    await kubernetes.delete(before)
    node.health.current = replace(node.health.current, versions=Versions(criu="4.3"))
    if namesake:
        await Reporter(node, URL, certificate).report()
        node.health.current = replace(node.health.current, versions=Versions(criu="4.4"))
    with pytest.raises(NotFoundError):
        await reporter.report()
    await reporter.report()
    assert (await reported(kubernetes)).can_run(now())
    assert (await reported(kubernetes)).metadata.uid != before.metadata.uid


async def test_an_api_server_that_is_away_is_reported_later(
    reporter: Reporter, kubernetes: FakeKubernetes
) -> None:
    kubernetes.is_down = True
    with pytest.raises(KubernetesError):
        await reporter.report()
    kubernetes.is_down = False
    await reporter.report()
    assert (await reported(kubernetes)).can_run(now())


async def test_the_reserve_of_memory_is_not_offered(
    node: Node, reporter: Reporter, kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = "tryitnow.agent.upkeep.heartbeat.available_memory_bytes"
    monkeypatch.setattr(free, lambda: 3 * GIB)
    node.settings = replace(node.settings, memory_reserve_bytes=GIB)
    await reporter.report()
    assert (await reported(kubernetes)).status.memory_available_bytes == 2 * GIB
    node.settings = replace(node.settings, memory_reserve_bytes=4 * GIB)
    await reporter.report()
    assert (await reported(kubernetes)).status.memory_available_bytes == 0


async def test_what_is_reserved_of_the_disk_is_not_offered_and_the_reserve_is_reported(
    node: Node, reporter: Reporter, kubernetes: FakeKubernetes
) -> None:
    node.settings = replace(node.settings, disk_reserve_bytes=2 * GIB)
    node.disk = Ledger("DiskFull", "disk", lambda: 9 * GIB, 2 * GIB)
    with node.disk.reserved(3 * GIB, "an unpacking"):
        await reporter.report()
    status = (await reported(kubernetes)).status
    assert status.disk_available_bytes == 6 * GIB
    assert status.disk_reserve_bytes == 2 * GIB


async def test_a_limit_that_doctor_found_leaves_no_room(
    node: Node, reporter: Reporter, kubernetes: FakeKubernetes
) -> None:
    full = Check(name=CheckName.LOCKS, verdict=Verdict.FAIL, found="2048 of 2048 taken")
    node.health.current = replace(node.health.current, can_run=True, checks=(*GOOD, full))
    await reporter.report()
    agent = await reported(kubernetes)
    assert agent.is_fit, "what runs goes on"
    assert agent.has_reached_limit
    assert "2048 of 2048 taken" in condition(agent, LIMIT_REACHED).message
    node.health.current = replace(node.health.current, checks=GOOD)
    await reporter.report()
    assert not (await reported(kubernetes)).has_reached_limit


async def test_a_report_before_the_storage_was_examined_forgets_no_identity(
    node: Node, reporter: Reporter, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    """Found by a seed: without it, a storage that has lost all its marks would pass for a new one.

    An agent reports as soon as it is started, and examines the storage a little later.
    """
    await reporter.report()
    known = node.guard.storage
    node.guard = StorageGuard(kubernetes, podman, node.name, node.settings.checkpoint_path.parent)
    await reporter.report()
    assert (await reported(kubernetes)).status.storage == known


# -- what is wrong --------------------------------------------------------------------------------


async def test_a_storage_that_changed_is_reported_with_the_way_out(
    node: Node, reporter: Reporter, kubernetes: FakeKubernetes
) -> None:
    node.guard.seen_containers(listed=0, ready_demos=1)
    await reporter.report()
    result = condition(await reported(kubernetes), STORAGE_CHANGED)
    assert (result.status, result.reason) == (ConditionStatus.TRUE, "StorageChanged")
    assert "kubectl tryitnow confirm-storage node-a" in result.message


@pytest.mark.parametrize(
    "error", [PodmanUnreachableError("Podman does not answer"), PodmanError("a broken database")]
)
async def test_while_podman_is_away_nothing_can_run(
    reporter: Reporter,
    podman: FakePodman,
    kubernetes: FakeKubernetes,
    doctor: Doctor,
    error: Exception,
) -> None:
    podman.failures["ping"] = error
    await reporter.ask_podman()
    await reporter.report()
    agent = await reported(kubernetes)
    assert not agent.can_run(now())
    ready = condition(agent, "Ready")
    assert (ready.status, ready.message) == (ConditionStatus.FALSE, str(error))
    assert doctor.visits == 0


async def test_a_podman_that_hangs_does_not_make_the_node_silent(
    reporter: Reporter,
    podman: FakePodman,
    kubernetes: FakeKubernetes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    podman.delay["ping"] = 60
    monkeypatch.setattr("tryitnow.agent.upkeep.heartbeat.SILENCE_SECONDS", 0.01)
    asking = asyncio.create_task(reporter.ask_podman())
    await asyncio.sleep(0.02)
    await reporter.report()
    asking.cancel()
    agent = await reported(kubernetes)
    assert not agent.is_lost(now())
    assert "Podman has not answered for" in condition(agent, "Ready").message


async def test_an_agent_that_ends_gets_nothing_new_until_the_next_one_reports(
    node: Node, reporter: Reporter, kubernetes: FakeKubernetes, certificate: Certificates
) -> None:
    await reporter.report_stopping()  # before it said that it is there
    await reporter.report()
    await reporter.report_stopping()
    agent = await reported(kubernetes)
    assert agent.can_restore(now()), "what is there stays as it is"
    assert not agent.can_take(now())
    await Reporter(node, URL, certificate).report()
    assert (await reported(kubernetes)).can_take(now())


async def test_an_agent_ends_though_the_api_server_is_away(
    reporter: Reporter, kubernetes: FakeKubernetes, caplog: pytest.LogCaptureFixture
) -> None:
    await reporter.report()
    kubernetes.is_down = True
    await reporter.report_stopping()
    assert "cannot say that this agent ends" in caplog.text


async def test_as_soon_as_podman_is_back_the_node_is_examined_and_runs(
    reporter: Reporter, podman: FakePodman, kubernetes: FakeKubernetes, doctor: Doctor
) -> None:
    podman.failures["ping"] = PodmanUnreachableError("Podman does not answer")
    await reporter.ask_podman()
    await reporter.report()
    del podman.failures["ping"]
    await reporter.ask_podman()
    await reporter.report()
    assert doctor.visits == 1
    assert (await reported(kubernetes)).can_run(now())


async def test_without_criu_it_runs_but_does_not_restore(
    node: Node, reporter: Reporter, kubernetes: FakeKubernetes, doctor: Doctor
) -> None:
    doctor.checks = WITHOUT_CRIU
    await examine_node(node)
    await reporter.report()
    agent = await reported(kubernetes)
    assert agent.can_run(now())
    assert not agent.can_restore(now())
    available = condition(agent, "CRIUAvailable")
    assert available.reason == "CRIUNotAvailable"
    assert "criu is not installed" in available.message


async def test_what_is_missing_is_logged_once_and_again_after_it_had_worked(
    node: Node, doctor: Doctor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    node.health.current = Health()
    output = "CRIU not available - will use cold start"
    doctor.checks = WITHOUT_CRIU
    for _ in range(3):
        await examine_node(node)
    assert caplog.text.count(output) == 1
    assert "criu is not installed" in caplog.text
    doctor.checks = GOOD
    await examine_node(node)
    assert node.health.current.criu_available
    doctor.checks = WITHOUT_CRIU
    await examine_node(node)
    assert caplog.text.count(output) == 2


# -- when the node is examined again --------------------------------------------------------------

WELL = Health(can_run=True, criu_available=True)
EXAMINED = Examination(GOOD, Versions(), frozenset())


@pytest.mark.parametrize(
    ("health", "examination", "seconds"),
    [
        (WELL, EXAMINED, EXAMINE_EVERY_SECONDS),
        (replace(WELL, criu_available=False), EXAMINED, EXAMINE_BROKEN_EVERY_SECONDS),
        (replace(WELL, can_run=False), EXAMINED, EXAMINE_BROKEN_EVERY_SECONDS),
        # A slow answer keeps what is known.
        (WELL, replace(EXAMINED, unanswered={"criu check": 1}), EXAMINE_BROKEN_EVERY_SECONDS),
        # Nothing is known that could be kept: demos start cold until it is.
        (
            replace(WELL, criu_available=False),
            replace(EXAMINED, unanswered={"criu check": 1}, busy=frozenset({"criu check"})),
            EXAMINE_UNKNOWN_EVERY_SECONDS,
        ),
        (Health(), None, EXAMINE_UNKNOWN_EVERY_SECONDS),
    ],
    ids=["well", "no CRIU", "no Podman", "slow", "busy from the start", "not examined"],
)
def test_what_is_not_known_is_asked_for_soon(
    health: Health, examination: Examination | None, seconds: float
) -> None:
    assert pause_until_examination(health, examination) == seconds
