"""The end of an agent while demos are started: none of them fails for it."""

from __future__ import annotations

import asyncio

from tests.unit.agent.demos.shop import Shop
from tests.unit.conftest import healthy_node
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.sandbox import FakeFirewall, FakeHosts
from tryitnow.agent.demos.reconcile import reconcile_demo
from tryitnow.agent.main import drain
from tryitnow.agent.node import Node
from tryitnow.api.meta import Key
from tryitnow.settings import AgentSettings
from tryitnow.workqueue import WorkQueue


async def test_starts_that_are_at_work_finish_and_the_others_are_left_to_the_next_agent(
    node: Node,
    settings: AgentSettings,
    kubernetes: FakeKubernetes,
    podman: FakePodman,
    firewall: FakeFirewall,
    hosts: FakeHosts,
) -> None:
    shop = Shop(node, kubernetes, podman, firewall, hosts)
    at_work, began = asyncio.Event(), list[Key]()

    async def reconcile(key: Key) -> None:
        began.append(key)
        at_work.set()
        await reconcile_demo(shop.tools, key)

    podman.delay["start"] = 0.1
    queue = WorkQueue("DemoInstance", reconcile, expected=(), concurrency=1)
    first, second = shop.ordered("first"), shop.ordered("second")
    for demo in (first, second):
        queue.add(demo.key)
    await at_work.wait()
    await drain(node, queue)
    assert shop.seen(first).was_ready
    assert began == [first.key]
    assert shop.ready_of(first)[0] == "True"
    assert not shop.seen(second).status.conditions, "nothing was said of it, and nothing failed"
    async with healthy_node(settings, kubernetes, podman, firewall, hosts) as following:
        await shop.follow(following)
        await shop.resync(second)
        assert shop.seen(second).was_ready
        assert shop.letter(first).parent.is_dir()


async def test_what_hangs_is_cancelled_in_time_and_started_by_the_next_agent(
    node: Node,
    kubernetes: FakeKubernetes,
    podman: FakePodman,
    firewall: FakeFirewall,
    hosts: FakeHosts,
) -> None:
    shop = Shop(node, kubernetes, podman, firewall, hosts)
    at_work = asyncio.Event()

    async def hang(_: Key) -> None:
        at_work.set()
        await asyncio.sleep(3600)

    queue = WorkQueue("DemoInstance", hang, expected=(), concurrency=1)
    demo = shop.ordered()
    queue.add(demo.key)
    await at_work.wait()
    async with asyncio.timeout(60):
        await drain(node, queue)
    await shop.resync(demo)
    assert shop.seen(demo).was_ready
