"""A demo that is ready: found running, or not, when its agent looks again."""

from __future__ import annotations

from tests.unit.builders import PORT, make_condition, make_copy, make_instance
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.demoinstance import reconcile_instance
from tryitnow.agent.names import demo_container
from tryitnow.agent.node import Node
from tryitnow.api.checkpoint import CRIUOptions
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, StartedBy
from tryitnow.api.meta import ConditionStatus, find_condition


async def running(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman, *, ready: bool | None
) -> DemoInstance:
    """A demo whose container runs, and what its condition says."""
    node.copies.update(kubernetes.put(make_copy()))
    instance = make_instance(
        node="node-a", revision=make_copy().spec.revision, phase=DemoInstancePhase.READY,
        started_by=StartedBy.RESTORE,
        conditions=(make_condition("Ready", holds=ready, reason="NodeLost"),),
    )  # fmt: skip
    name = str(demo_container(instance))
    ports = node.ports.take(name, [PORT])
    await podman.restore_import(name, CRIUOptions(), ports, lambda: iter([b""]))
    return node.instances.update(kubernetes.put(instance))


async def test_a_demo_that_ran_on_while_its_agent_was_silent_is_ready_again(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    instance = await running(node, kubernetes, podman, ready=None)
    await reconcile_instance(node, instance.key)
    found = node.instances.get(instance.key)
    assert found is not None
    ready = find_condition(found.status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == (ConditionStatus.TRUE, "Restore")
    assert found.status.phase is DemoInstancePhase.READY
    assert found.status.restarts == 0


async def test_nothing_is_written_about_a_demo_that_is_as_it_was(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    instance = await running(node, kubernetes, podman, ready=True)
    await reconcile_instance(node, instance.key)
    found = node.instances.get(instance.key)
    assert found is not None
    assert found.metadata.resource_version == instance.metadata.resource_version
