"""The share of a node that the demos of one namespace may take, as the agent holds it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.unit.agent.demos.shop import Shop
from tests.unit.builders import NOW, make_demo
from tests.unit.conftest import healthy_node
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.sandbox import FakeFirewall, FakeHosts
from tryitnow.api.meta import ConditionStatus
from tryitnow.settings import AgentSettings

LATER = NOW + timedelta(minutes=1)


async def test_one_beyond_the_share_of_its_namespace_waits(shop: Shop) -> None:
    shop.tools = replace(shop.tools, settings=replace(shop.tools.settings, namespace_share=5))
    first = await shop.ready("first")
    second = shop.ordered("second", created=LATER)
    assert await shop.resync(second), "it is tried again"
    assert shop.ready_of(second) == (ConditionStatus.FALSE, "CapacityFull")
    assert "runs 1 demos of namespace default, and one namespace may have 1" in (
        shop.condition(second).message
    )
    await shop.delete(first)
    await shop.resync(first)
    while (wait := await shop.resync(second)) is not None:
        shop.clock.wait(wait)
    assert shop.seen(second).was_ready


async def test_what_runs_stays_when_the_share_is_lowered(shop: Shop) -> None:
    demos = [await shop.ready(name, created=LATER) for name in ("first", "second")]
    shop.tools = replace(shop.tools, settings=replace(shop.tools.settings, namespace_share=5))
    for demo in demos:
        await shop.resync(demo)
        assert shop.ready_of(demo)[0] is ConditionStatus.TRUE


async def test_of_two_that_are_to_be_started_the_older_one_is(shop: Shop) -> None:
    shop.tools = replace(shop.tools, settings=replace(shop.tools.settings, namespace_share=5))
    younger, older = shop.ordered("younger", created=LATER), shop.ordered("older", created=NOW)
    await shop.resync(younger)
    await shop.resync(older)
    assert not shop.seen(younger).was_ready
    assert shop.seen(older).was_ready


async def test_demos_leave_less_for_warm_sandboxes_of_their_own_namespace(
    settings: AgentSettings,
    kubernetes: FakeKubernetes,
    podman: FakePodman,
    firewall: FakeFirewall,
    hosts: FakeHosts,
) -> None:
    sharing = replace(settings, max_instances=5, namespace_share=60)
    async with healthy_node(sharing, kubernetes, podman, firewall, hosts) as node:
        for number, namespace in enumerate(("shops", "shops", "notes")):
            node.demos.update(make_demo(f"demo-{number}", namespace=namespace, node="node-a"))
        free = node.demo_tools.warm.free_capacity
        assert {name: free(name) for name in ("shops", "notes", "other")} == {
            "shops": 1,
            "notes": 2,
            "other": 2,
        }
