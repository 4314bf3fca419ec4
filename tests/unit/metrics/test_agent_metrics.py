"""What an agent tells about starts, restores, archives and its node."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.unit.agent.checkpoints.shop import Shop, for_a_while, until
from tests.unit.builders import make_agent, make_demo, make_export
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.metrics.scrape import Scrape, scrape
from tryitnow.agent.demos.reconcile import reconcile_demo
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.names import Role
from tryitnow.agent.upkeep.metrics import gauges
from tryitnow.api.archive import Versions
from tryitnow.api.checkpoint import Pool
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, FallbackReason, StartPolicy
from tryitnow.api.meta import Resource
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.podman.errors import CRIUError, PodmanUnreachableError

SHOP = {"namespace": "default", "checkpoint": "shop"}
RESTORE = "restore prepared"


class Here:
    """Node-a with the shop, and people who want one."""

    def __init__(self, node: Node, kubernetes: FakeKubernetes, podman: FakePodman) -> None:
        self.node, self.kubernetes, self.podman = node, kubernetes, podman
        node.metrics.read_from(lambda: gauges(node))
        kubernetes.put(make_agent("node-a"))
        self.shop = Shop(node, kubernetes, podman)
        self.shop.registry = node.checkpoints
        kubernetes.on_write = self._seen

    def _seen(self, resource: Resource) -> None:
        if isinstance(resource, NodeCheckpoint):
            self.node.checkpoints.seen(self.node.node_checkpoints.update(resource))
        elif isinstance(resource, DemoInstance):
            self.node.demos.update(resource)

    async def build(self, *, warm: int = 0) -> None:
        """Have the revision built here, to its end."""
        actor = self.shop.order(warm=warm)
        self.node.node_checkpoints.update(actor.resource)
        await until(lambda: self.shop.status.phase in {
            NodeCheckpointPhase.READY, NodeCheckpointPhase.FAILED,
        })  # fmt: skip
        await self.shop.until_calm()
        await until(lambda: self.shop.actor.warm_ready == warm)

    async def start(
        self, name: str, policy: StartPolicy = StartPolicy.PREFER_RESTORE
    ) -> DemoInstance:
        """Have a demo started."""
        demo = make_demo(
            name, node="node-a", revision=self.shop.revision.spec.identity, start=policy,
            phase=DemoInstancePhase.STARTING, finalizer=True,
        )  # fmt: skip
        key = self.node.demos.update(self.kubernetes.put(demo)).key
        await reconcile_demo(self.node.demo_tools, key)
        started = self.node.demos.get(key)
        assert started is not None
        return started

    def scrape(self) -> Scrape:
        """Ask as Prometheus does."""
        return scrape(self.node.metrics)


@pytest.fixture
async def here(node: Node, kubernetes: FakeKubernetes, podman: FakePodman) -> AsyncIterator[Here]:
    made = Here(node, kubernetes, podman)
    yield made
    await made.shop.ends()


@pytest.fixture
async def built(here: Here) -> Here:
    await here.build()
    return here


async def test_a_build_is_counted_and_timed(built: Here) -> None:
    found = built.scrape()
    assert found.value("tryitnow_builds_total", **SHOP, result="Verified") == 1
    assert found.value("tryitnow_build_duration_seconds_count", **SHOP) == 1
    verified = {**SHOP, "purpose": "verify", "result": "Ready"}
    assert found.value("tryitnow_restores_total", **verified) == 1


async def test_a_build_that_fails_is_counted_once_by_its_reason(
    here: Here, podman: FakePodman
) -> None:
    podman.failures["checkpoint"] = CRIUError("CRIU says no")
    await here.build()
    podman.failures["inspect"] = PodmanUnreachableError("it is away")
    await here.shop.delete()
    await until(lambda: "PodmanUnreachable" in here.kubernetes.reasons())
    found = here.scrape()
    assert found.value("tryitnow_builds_total", **SHOP, result="CheckpointFailed") == 1
    assert sum(found.all("tryitnow_builds_total", **SHOP).values()) == 1
    assert not found.all("tryitnow_build_duration_seconds_count")
    podman.failures.clear()


async def test_a_first_cold_start_is_seen_to_increase_where_no_archive_ever_lay(
    here: Here, podman: FakePodman
) -> None:
    """A counter that begins with one has not increased, as Prometheus sees it."""
    podman.failures["pull"] = PodmanUnreachableError("it is away")
    demo = make_demo(
        node="node-a", phase=DemoInstancePhase.STARTING,
        revision=here.shop.revision.spec.identity, finalizer=True,
    )  # fmt: skip
    key = here.node.demos.update(here.kubernetes.put(demo)).key
    with pytest.raises(PodmanUnreachableError):
        await reconcile_demo(here.node.demo_tools, key)
    labels = {**SHOP, "policy": "PreferRestore", "method": "ColdStart"}
    for reason in FallbackReason:
        series = {**labels, "fallback_reason": str(reason)}
        assert here.scrape().value("tryitnow_starts_total", **series) == 0


async def test_a_restored_demo_is_counted_once_and_timed_by_phase(built: Here) -> None:
    started = await built.start("annas-demo")
    found = built.scrape()
    labels = {**SHOP, "policy": "PreferRestore", "method": "Restore", "fallback_reason": ""}
    assert found.value("tryitnow_starts_total", **labels) == 1
    assert sum(found.all("tryitnow_starts_total").values()) == 1
    assert found.value("tryitnow_start_duration_seconds_count", **SHOP, method="Restore") == 1
    assert started.status.timings is not None
    total = started.status.timings.total
    assert total is not None
    assert found.value(
        "tryitnow_start_duration_seconds_sum", **SHOP, method="Restore"
    ) == pytest.approx(total.total_seconds(), abs=0.01)
    for phase in ("queue", "prepare", "restore", "criu", "probe"):
        series = {"method": "Restore", "phase": phase}
        assert found.value("tryitnow_start_phase_duration_seconds_count", **series) == 1
    for_demos = found.all("tryitnow_restores_total", purpose="demo", result="Ready")
    assert sum(for_demos.values()) == 1


async def test_the_first_starts_are_seen_as_an_increase(built: Here) -> None:
    found = built.scrape()
    for method in ("Restore", "ColdStart"):
        assert found.value("tryitnow_start_duration_seconds_count", **SHOP, method=method) == 0
    cold = {"method": "ColdStart", "fallback_reason": "NotReadyHere"}
    assert found.value("tryitnow_starts_total", **SHOP, **cold) == 0
    restore = {"purpose": "demo", "result": "CRIUFailed"}
    assert found.value("tryitnow_restores_total", **SHOP, **restore) == 0


async def test_a_fallback_is_counted_by_its_reason_and_the_failed_restore_as_well(
    built: Here, podman: FakePodman
) -> None:
    podman.failures[RESTORE] = CRIUError("no")
    await built.start("annas-demo")
    found = built.scrape()
    cold = {"method": "ColdStart", "fallback_reason": "RestoreFailed"}
    assert found.value("tryitnow_starts_total", **SHOP, **cold) == 1
    failed = {"purpose": "demo", "result": "CRIUFailed"}
    assert found.value("tryitnow_restores_total", **SHOP, **failed) == 1
    lost = {"method": "ColdStart", "phase": "fallback"}
    assert found.value("tryitnow_start_phase_duration_seconds_count", **lost) == 1


async def test_who_asked_for_a_cold_start_is_no_fallback(built: Here) -> None:
    await built.start("annas-demo", StartPolicy.COLD_START)
    labels = {**SHOP, "policy": "ColdStart", "method": "ColdStart", "fallback_reason": ""}
    assert built.scrape().value("tryitnow_starts_total", **labels) == 1


async def test_a_start_that_fails_altogether_is_counted_by_its_reason(
    built: Here, podman: FakePodman
) -> None:
    podman.failures[RESTORE] = CRIUError("no")
    await built.start("annas-demo", StartPolicy.RESTORE_ONLY)
    found = built.scrape()
    assert found.value("tryitnow_start_failures_total", **SHOP, reason="RestoreFailed") == 1
    assert not any(found.all("tryitnow_starts_total").values())


async def test_claims_tell_whether_the_pool_was_large_enough(here: Here) -> None:
    await here.build(warm=1)
    assert here.scrape().value("tryitnow_agent_pool_warm", **SHOP) == 1
    assert here.scrape().value("tryitnow_agent_pool_desired_warm", **SHOP) == 1
    here.podman.delay[RESTORE] = 0.1
    await here.start("annas-demo")
    await here.start("bens-demo")
    found = here.scrape()
    assert found.value("tryitnow_claims_total", **SHOP, result="Claimed") == 1
    assert found.value("tryitnow_claims_total", **SHOP, result="Empty") == 1
    assert found.value("tryitnow_agent_pool_warm", **SHOP) == 0
    assert found.value("tryitnow_starts_total", **SHOP, method="Warm") == 1


async def test_without_a_pool_nobody_looked_for_a_warm_sandbox(built: Here) -> None:
    await built.start("annas-demo")
    assert not built.scrape().all("tryitnow_claims_total")


async def test_a_demo_of_which_a_container_ended_is_a_restart(
    built: Here, podman: FakePodman
) -> None:
    started = await built.start("annas-demo")
    [name] = built.shop.sandboxes(Role.DEMO)
    podman.stop(name)
    await reconcile_demo(built.node.demo_tools, started.key)
    assert built.scrape().value("tryitnow_restarts_total", **SHOP) == 1


async def test_a_damaged_archive_is_one_quarantine(built: Here) -> None:
    built.shop.path.write_bytes(b"something else")
    built.shop.actor.archive_changed()
    await built.shop.until_phase(NodeCheckpointPhase.QUARANTINED)
    built.shop.actor.turn()
    await for_a_while(0.05)
    found = built.scrape()
    assert found.value("tryitnow_quarantines_total", **SHOP, reason="ArchiveDamaged") == 1
    assert found.value("tryitnow_agent_node_checkpoints", phase="Quarantined") == 1
    assert found.value("tryitnow_agent_prepared") == 0


async def test_a_node_tells_what_it_holds_and_runs(built: Here) -> None:
    await built.start("annas-demo")
    health = built.node.health
    versions = Versions(kernel="6.1", criu="4.2.1", podman="5.8.6", runtime="crun")
    health.current = replace(health.current, versions=versions)
    found = built.scrape()
    assert found.value("tryitnow_agent_instances", phase="Ready") == 1
    assert found.value("tryitnow_agent_instances", phase="Failed") == 0
    assert found.value("tryitnow_agent_node_checkpoints", phase="Ready") == 1
    assert found.value("tryitnow_agent_prepared") == 1
    assert found.value("tryitnow_agent_archive_bytes") == len(make_export())
    assert found.value("tryitnow_agent_ports_taken") == built.node.ports.taken
    assert found.value("tryitnow_agent_ports_limit") == built.node.ports.limit
    size = shutil.disk_usage(built.node.archives.directory).total
    assert found.value("tryitnow_checkpoint_directory_size_bytes") == size
    assert found.value("tryitnow_agent_software_info", criu="4.2.1", kernel="6.1") == 1
    assert found.value("tryitnow_agent_storage_changed") == 0


async def test_a_disk_that_is_away_hides_nothing_else(built: Here) -> None:
    shutil.rmtree(built.node.archives.directory)
    found = built.scrape()
    assert found.value("tryitnow_checkpoint_directory_free_bytes") is None
    assert found.value("tryitnow_agent_node_checkpoints", phase="Ready") == 1


async def test_no_series_names_a_demo(built: Here) -> None:
    await built.start("annas-demo")
    for name in built.scrape().names():
        for labels in built.scrape().all(name):
            assert "annas-demo" not in labels


async def test_the_series_of_a_checkpoint_end_with_its_last_revision(built: Here) -> None:
    await built.start("annas-demo")
    built.shop.change(pool=Pool(warm=1))
    gone = built.shop.actor.resource
    await built.shop.delete()
    await until(lambda: not built.kubernetes.has(gone))
    await until(lambda: len(built.node.checkpoints) == 0)
    found = built.scrape()
    assert not found.all("tryitnow_builds_total", **SHOP)
    assert not found.all("tryitnow_starts_total", **SHOP)
