"""What an agent tells about starts, restores, copies and its node."""

from __future__ import annotations

import shutil

import pytest

from tests.unit.builders import (
    make_agent,
    make_blueprint,
    make_checkpoint,
    make_copy,
    make_instance,
)
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.metrics.scrape import Scrape, scrape
from tryitnow.agent import demoinstance
from tryitnow.agent.demoinstance import reconcile_instance
from tryitnow.agent.node import Node
from tryitnow.agent.nodecheckpoint import reconcile_copy
from tryitnow.agent.sandbox import SandboxError
from tryitnow.agent.start import Outcome
from tryitnow.agent.states import states
from tryitnow.agent.warm import reconcile_pool
from tryitnow.api.checkpoint import Compression, CRIUOptions, Pool, Versions
from tryitnow.api.demoinstance import (
    DemoInstance,
    DemoInstancePhase,
    FallbackReason,
    StartPolicy,
)
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.podman.errors import CRIUError

SHOP = {"namespace": "default", "checkpoint": "shop"}
BLUEPRINT = make_blueprint(criu=CRIUOptions(compression=Compression.NONE))


class Shop:
    """A copy of the shop on node-a, and people who want one."""

    def __init__(self, node: Node, kubernetes: FakeKubernetes) -> None:
        self.node = node
        self.kubernetes = kubernetes
        node.metrics.read_from(lambda: states(node))
        order = make_copy(phase=NodeCheckpointPhase.PENDING, blueprint=BLUEPRINT, uid="uid-of-copy")
        self.key = node.copies.update(kubernetes.put(order)).key
        kubernetes.put(make_agent("node-a"))

    async def build(self) -> NodeCheckpoint:
        await reconcile_copy(self.node, self.key)
        copy = self.node.copies.get(self.key)
        assert copy is not None
        return copy

    async def start(
        self, name: str, policy: StartPolicy = StartPolicy.PREFER_RESTORE
    ) -> DemoInstance:
        instance = make_instance(
            name, node="node-a", revision=BLUEPRINT.revision(), start=policy,
            phase=DemoInstancePhase.STARTING,
        )  # fmt: skip
        key = self.node.instances.update(self.kubernetes.put(instance)).key
        await reconcile_instance(self.node, key)
        started = self.node.instances.get(key)
        assert started is not None
        return started

    async def keep_warm(self, number: int) -> None:
        copy = self.node.copies.get(self.key)
        assert copy is not None
        spec = copy.spec.model_copy(update={"pool": Pool(warm=number)})
        self.node.copies.update(self.kubernetes.put(copy.model_copy(update={"spec": spec})))
        await reconcile_pool(self.node, self.key)

    def scrape(self) -> Scrape:
        return scrape(self.node.metrics)


@pytest.fixture
async def shop(node: Node, kubernetes: FakeKubernetes) -> Shop:
    shop = Shop(node, kubernetes)
    await shop.build()
    return shop


async def test_a_build_is_counted_and_timed(shop: Shop) -> None:
    found = shop.scrape()
    assert found.value("tryitnow_builds_total", **SHOP, result="Verified") == 1
    assert found.value("tryitnow_build_duration_seconds_count", **SHOP) == 1
    verified = {**SHOP, "purpose": "verify", "source": "Archive", "result": "Ready"}
    assert found.value("tryitnow_restores_total", **verified) == 1


async def test_a_build_that_fails_is_counted_by_its_reason(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    podman.failures["checkpoint"] = CRIUError("CRIU says no")
    shop = Shop(node, kubernetes)
    await shop.build()
    found = shop.scrape()
    assert found.value("tryitnow_builds_total", **SHOP, result="CheckpointFailed") == 1
    assert not found.all("tryitnow_build_duration_seconds_count")


async def test_a_first_cold_start_is_seen_to_increase_where_no_copy_ever_lay(
    node: Node, kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A counter that begins with one has not increased, as Prometheus sees it."""
    kubernetes.put(make_checkpoint())
    at_its_start: list[Scrape] = []

    async def start(*_: object) -> Outcome:
        at_its_start.append(scrape(node.metrics))
        msg = "it ends here"
        raise SandboxError(msg)

    monkeypatch.setattr(demoinstance, "start", start)
    demo = make_instance(node="node-a", phase=DemoInstancePhase.STARTING)
    await reconcile_instance(node, node.instances.update(kubernetes.put(demo)).key)
    labels = {**SHOP, "policy": "PreferRestore", "method": "ColdStart"}
    for reason in FallbackReason:
        series = {**labels, "fallback_reason": str(reason)}
        assert at_its_start[0].value("tryitnow_starts_total", **series) == 0


async def test_a_restored_demo_is_counted_once_and_timed_by_phase(shop: Shop) -> None:
    started = await shop.start("annas-demo")
    found = shop.scrape()
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
    source = str(started.status.restored_from)
    for phase in ("queue", "prepare", "restore", "criu", "probe"):
        labels = {"method": "Restore", "source": source, "phase": phase}
        assert found.value("tryitnow_start_phase_duration_seconds_count", **labels) == 1
    for_demos = found.all("tryitnow_restores_total", purpose="demo", result="Ready")
    assert sum(for_demos.values()) == 1


async def test_the_first_starts_are_seen_as_an_increase(shop: Shop) -> None:
    found = shop.scrape()
    for method in ("Restore", "ColdStart"):
        assert found.value("tryitnow_start_duration_seconds_count", **SHOP, method=method) == 0
    cold = {"method": "ColdStart", "fallback_reason": "NoCopy"}
    assert found.value("tryitnow_starts_total", **SHOP, **cold) == 0
    for source in ("Prepared", "Archive"):
        restore = {"source": source, "purpose": "demo", "result": "CRIUFailed"}
        assert found.value("tryitnow_restores_total", **SHOP, **restore) == 0


async def test_a_fallback_is_counted_by_its_reason_and_the_failed_restore_as_well(
    shop: Shop, podman: FakePodman
) -> None:
    podman.failures["restore"] = CRIUError("no")
    await shop.start("annas-demo")
    found = shop.scrape()
    cold = {"method": "ColdStart", "fallback_reason": "RestoreFailed"}
    assert found.value("tryitnow_starts_total", **SHOP, **cold) == 1
    failed = found.all("tryitnow_restores_total", purpose="demo", result="CRIUFailed")
    assert sum(failed.values()) >= 1
    lost = {"method": "ColdStart", "phase": "fallback"}
    assert found.value("tryitnow_start_phase_duration_seconds_count", **lost) == 1


async def test_who_asked_for_a_cold_start_is_no_fallback(shop: Shop) -> None:
    await shop.start("annas-demo", StartPolicy.COLD_START)
    labels = {**SHOP, "policy": "ColdStart", "method": "ColdStart", "fallback_reason": ""}
    assert shop.scrape().value("tryitnow_starts_total", **labels) == 1


async def test_a_start_that_fails_altogether_is_counted_by_its_reason(
    shop: Shop, podman: FakePodman
) -> None:
    podman.failures["restore"] = CRIUError("no")
    await shop.start("annas-demo", StartPolicy.RESTORE_ONLY)
    found = shop.scrape()
    assert found.value("tryitnow_start_failures_total", **SHOP, reason="RestoreFailed") == 1
    assert not any(found.all("tryitnow_starts_total").values())


async def test_claims_tell_whether_the_pool_was_large_enough(shop: Shop) -> None:
    await shop.keep_warm(1)
    assert shop.scrape().value("tryitnow_agent_pool_copies", **SHOP) == 1
    assert shop.scrape().value("tryitnow_agent_pool_desired_copies", **SHOP) == 1
    await shop.start("annas-demo")
    await shop.start("bens-demo")
    found = shop.scrape()
    assert found.value("tryitnow_claims_total", **SHOP, result="Claimed") == 1
    assert found.value("tryitnow_claims_total", **SHOP, result="Empty") == 1
    assert found.value("tryitnow_agent_pool_copies", **SHOP) == 0
    assert found.value("tryitnow_starts_total", **SHOP, method="Warm") == 1


async def test_without_a_pool_nobody_looked_for_a_warm_copy(shop: Shop) -> None:
    await shop.start("annas-demo")
    assert not shop.scrape().all("tryitnow_claims_total")


async def test_a_demo_whose_container_vanished_is_a_restart(shop: Shop, podman: FakePodman) -> None:
    started = await shop.start("annas-demo")
    (name,) = [c for c in podman.containers() if "_demo_" in c]
    await podman.remove(name)
    await reconcile_instance(shop.node, started.key)
    assert shop.scrape().value("tryitnow_restarts_total", **SHOP) == 1


async def test_a_damaged_copy_is_a_quarantine(shop: Shop, node: Node) -> None:
    for path in node.archives.directory.glob("*.tar"):
        path.write_bytes(b"something else")
    await reconcile_copy(node, shop.key)
    found = shop.scrape()
    assert found.value("tryitnow_quarantines_total", **SHOP, reason="DigestMismatch") == 1
    assert found.value("tryitnow_agent_copies", phase="Quarantined") == 1


async def test_a_node_tells_what_it_holds_and_runs(shop: Shop, podman: FakePodman) -> None:
    await shop.start("annas-demo")
    shop.node.health.versions = Versions(kernel="6.1", criu="4.2.1", podman="5.8.6", runtime="crun")
    found = shop.scrape()
    assert found.value("tryitnow_agent_instances", phase="Ready") == 1
    assert found.value("tryitnow_agent_instances", phase="Failed") == 0
    assert found.value("tryitnow_agent_copies", phase="Prepared") == 1
    assert found.value("tryitnow_agent_copy_bytes") == len(podman.frozen_bytes)
    assert found.value("tryitnow_agent_ports_taken") == 1
    assert found.value("tryitnow_agent_ports_limit") == 20
    size = shutil.disk_usage(shop.node.archives.directory).total
    assert found.value("tryitnow_checkpoint_directory_size_bytes") == size
    assert found.value("tryitnow_agent_software_info", criu="4.2.1", kernel="6.1") == 1


async def test_a_disk_that_is_away_hides_nothing_else(shop: Shop, node: Node) -> None:
    shutil.rmtree(node.archives.directory)
    found = shop.scrape()
    assert found.value("tryitnow_checkpoint_directory_free_bytes") is None
    assert found.value("tryitnow_agent_copies", phase="Prepared") == 1


async def test_no_series_names_an_instance(shop: Shop) -> None:
    await shop.start("annas-demo")
    for name in shop.scrape().names():
        for labels in shop.scrape().all(name):
            assert "annas-demo" not in labels


async def test_the_series_of_a_checkpoint_end_with_its_last_copy(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    await shop.start("annas-demo")
    copy = shop.node.copies.get(shop.key)
    assert copy is not None
    await kubernetes.delete(copy)
    shop.node.copies.update(kubernetes.find(copy))
    await reconcile_copy(shop.node, shop.key)
    found = shop.scrape()
    assert not found.all("tryitnow_builds_total", **SHOP)
    assert not found.all("tryitnow_starts_total", **SHOP)
