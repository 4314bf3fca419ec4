"""A fresh list makes up for what a broken watch missed, and undoes nothing newer."""

from __future__ import annotations

from tests.unit.builders import (
    make_agent,
    make_checkpoint,
    make_demo,
    make_node,
    make_node_checkpoint,
)
from tests.unit.fakes import FakeKubernetes
from tests.unit.kubernetes.test_watching import RecordingQueue
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key
from tryitnow.api.node import ClusterNode
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.resync import resync


class World:
    """A cluster, and what is known of it."""

    def __init__(self) -> None:
        self.kubernetes = FakeKubernetes()
        self.cluster = Cluster(listed=True)
        self.checkpoints, self.instances = RecordingQueue(), RecordingQueue()

    async def resync(self) -> None:
        await resync(self.kubernetes, self.cluster, self.checkpoints, self.instances)

    def is_cordoned(self) -> bool:
        node = self.cluster.nodes.get(Key("", "node-a"))
        assert node is not None
        return node.spec.unschedulable


async def test_a_list_does_not_undo_a_newer_cordon() -> None:
    world = World()
    world.kubernetes.put(make_node("node-a"))

    class News(FakeKubernetes):
        """Has a node cordoned while the list of nodes is on its way."""

        async def _request(self, what: str, *arguments: object, **options: object) -> object:
            answer = await super()._request(what, *arguments, **options)  # type: ignore[arg-type]
            if what == "list" and ClusterNode in arguments:
                cordoned = self.put(make_node("node-a", cordoned=True))
                world.cluster.nodes.update(cordoned)
            return answer

    world.kubernetes = News()
    world.kubernetes.put(make_node("node-a"))
    await world.resync()
    assert world.is_cordoned()
    await world.resync()
    assert world.is_cordoned()


async def test_what_a_watch_missed_is_known_and_queued() -> None:
    world = World()
    known = world.cluster.instances.update(world.kubernetes.put(make_demo("known")))
    gone = world.cluster.instances.update(world.kubernetes.put(make_demo("gone", node="x")))
    bound = world.cluster.instances.update(world.kubernetes.put(make_demo("bound", node="x")))
    await world.kubernetes.delete(gone)
    missed = world.kubernetes.put(make_demo("missed", node="x"))
    for resource in (make_checkpoint(), make_agent(), make_node_checkpoint(), make_node()):
        world.kubernetes.put(resource)
    await world.resync()
    cluster = world.cluster
    assert len(cluster.checkpoints) == len(cluster.agents) == len(cluster.node_checkpoints) == 1
    assert len(cluster.nodes) == 1
    asked = {key for _, key in world.instances.asked}
    assert asked == {known.key, gone.key, missed.key}, (
        "one that waits, too, but not what is as known"
    )
    assert bound.key not in asked
    assert world.checkpoints.asked == [("add", make_checkpoint().key)]


async def test_after_a_restore_from_a_backup_what_is_there_counts() -> None:
    world = World()
    instance = world.kubernetes.put(make_demo(node="node-a"))
    backup = world.kubernetes.backup()
    await world.resync()
    newer = await world.kubernetes.patch_status_fields(instance, {"url": "http://later/"})
    world.cluster.instances.update(newer)
    world.cluster.instances.update(world.kubernetes.put(make_demo("later")))
    await world.resync()
    world.kubernetes.restore(backup)
    await world.resync()
    [restored] = list(world.cluster.instances)
    assert restored.status.url is None
    # From now on versions count again, though they are lower than those before.
    written = await world.kubernetes.patch_status_fields(restored, {"url": "http://again/"})
    assert world.cluster.instances.update(written) is written


async def test_one_object_that_cannot_be_read_hides_no_other() -> None:
    world = World()
    world.kubernetes.put(make_demo("good"))
    body = {**make_demo("strange").to_api(), "spec": {}}
    world.kubernetes.put_body(DemoInstance, body)
    await world.resync()
    assert [each.metadata.name for each in world.cluster.instances] == ["good"]
    assert world.cluster.instances.unreadable(Key("default", "strange")) is not None
