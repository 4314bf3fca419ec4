"""What nobody owns is removed, after a while and by way of the trash; all else is left."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.agent.demos.shop import LETTER, Clock, Shop
from tests.unit.builders import REVISION, make_archive, make_demo, make_node_checkpoint
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.names import Role, demo_name, parse, stock_name, work_name
from tryitnow.agent.storage.generations import REPOSITORY, image_tag
from tryitnow.agent.upkeep.garbage import collect
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import Fetch, NodeCheckpoint, NodeCheckpointPhase
from tryitnow.kubernetes.errors import ForbiddenError, KubernetesError
from tryitnow.podman.client import ContainerState, PodState, PortMapping
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError

GRACE = timedelta(minutes=10)

STEM = f"default_shop_{REVISION}"
NOBODYS = "tryitnow_demo_default_nobody_12345678"
POD = PodState(
    f"tryitnow_pod_{'0' * 16}", "id-of-pod", "infra", members={"tryitnow_pod_x_db": "running"}
)


def container(name: object, *, ports: tuple[PortMapping, ...] = ()) -> ContainerState:
    return ContainerState(
        name=str(name), id=f"id-of-{name}", running=True, exit_code=0, pid=1, image="", ports=ports
    )


async def collect_twice(node: Node, clock: Clock) -> None:
    """Look twice, with the grace period in between."""
    await collect(node)
    clock.wait(GRACE)
    await collect(node)


def orphaned(kubernetes: FakeKubernetes, demo: DemoInstance) -> None:
    """Have the object vanish, as by a person who took its finalizer off."""
    kubernetes.vanish(demo)


# -- sandboxes ------------------------------------------------------------------------------------


async def test_nothing_is_removed_at_the_first_look(
    node: Node, podman: FakePodman, clock: Clock
) -> None:
    podman.add(container(NOBODYS))
    (node.archives.directory / f"{STEM}.md").touch()
    await collect(node)
    clock.wait(GRACE - timedelta(seconds=1))
    await collect(node)
    assert podman.containers() == [NOBODYS]
    assert node.archives.names() == {f"{STEM}.md"}


async def test_a_demo_that_nobody_owns_goes_to_the_trash_with_its_files(
    shop: Shop, podman: FakePodman, kubernetes: FakeKubernetes, clock: Clock
) -> None:
    kept = await shop.ready("bens-demo")
    demo = await shop.ready()
    letter = shop.letter(demo)
    orphaned(kubernetes, demo)
    await collect_twice(shop.node, clock)
    names = [name for c in podman.containers() if (name := parse(c)) is not None]
    [thrown_away] = [name for name in names if name.role is Role.TRASH]
    assert thrown_away.owner == demo.key
    assert not podman.state(str(thrown_away)).alive, "it is stopped"
    assert letter.exists(), "in case somebody misses it"
    assert shop.node.ports.owners() == {shop.main(kept)}, "its port is for others"
    assert podman.state(shop.main(kept)).alive
    await collect(shop.node)
    clock.wait(timedelta(hours=23))
    await collect(shop.node)
    assert letter.exists()
    clock.wait(timedelta(hours=2))
    await collect(shop.node)
    assert not letter.exists()
    assert str(thrown_away) not in podman.containers()
    assert shop.is_kept(kept)


async def test_a_full_disk_empties_the_trash_before_its_time(
    shop: Shop, kubernetes: FakeKubernetes, clock: Clock
) -> None:
    demo = await shop.ready()
    letter = shop.letter(demo)
    orphaned(kubernetes, demo)
    await collect_twice(shop.node, clock)
    assert letter.exists()
    with shop.node.disk.counted(shop.node.disk.available_bytes + (1 << 40)):
        await collect(shop.node)
    assert not letter.exists()


async def test_what_somebody_owns_stays(
    node: Node, podman: FakePodman, kubernetes: FakeKubernetes, shop: Shop, clock: Clock
) -> None:
    demo = await shop.ready()
    held = kubernetes.put(make_node_checkpoint(phase=NodeCheckpointPhase.FAILED))
    podman.add(container(work_name(Role.BUILD, held)))
    foreign = container("postgres")
    podman.add(foreign)
    (node.archives.directory / f"{STEM}.tar.zst").touch()
    (node.archives.directory / "notes.md").touch()
    before = podman.containers()
    for _ in range(3):
        await collect_twice(node, clock)
    assert shop.is_kept(demo)
    assert podman.containers() == before
    assert {"notes.md", f"{STEM}.tar.zst"} <= node.archives.names()
    assert kubernetes.has(demo)


async def test_objects_of_other_nodes_own_nothing_here(
    node: Node, podman: FakePodman, kubernetes: FakeKubernetes, clock: Clock
) -> None:
    elsewhere = kubernetes.put(make_demo(node="node-b", phase=DemoInstancePhase.READY))
    kubernetes.put(make_node_checkpoint("node-b"))
    podman.add(container(demo_name(elsewhere)))
    (node.archives.directory / f"{STEM}.md").touch()
    await collect_twice(node, clock)
    assert podman.containers() == []
    assert node.archives.names() == set()
    assert len(node.demos) == len(node.node_checkpoints) == 0


async def test_what_is_being_made_is_nobodys_garbage(
    node: Node, podman: FakePodman, clock: Clock
) -> None:
    name = work_name(Role.BUILD, make_node_checkpoint())
    podman.add(container(name))
    async with node.sandboxes.in_work(name):
        await collect_twice(node, clock)
        assert podman.containers() == [str(name)]
    await collect(node)
    assert podman.containers() == []


async def test_one_that_cannot_be_removed_keeps_no_other_here(
    node: Node, podman: FakePodman, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    podman.add(container(NOBODYS))
    podman.failures["remove"] = PodmanError("device or resource busy")
    (node.archives.directory / f"{STEM}.md").touch()
    await collect_twice(node, clock)
    assert "device or resource busy" in caplog.text
    assert node.archives.names() == set()


async def test_every_demo_is_reconciled_whatever_is_removed(
    shop: Shop, podman: FakePodman, clock: Clock
) -> None:
    demo = await shop.ready()
    looked: list[Key] = []
    shop.node.queue_demo = looked.append
    podman.add(container(NOBODYS))
    podman.failures["remove"] = PodmanUnreachableError("it broke off")
    await collect(shop.node)
    clock.wait(GRACE)
    with pytest.raises(PodmanUnreachableError):
        await collect(shop.node)
    assert looked == [demo.key, demo.key]


# -- warm and pre-created sandboxes ---------------------------------------------------------------


async def test_one_that_is_being_restored_or_was_just_claimed_is_no_leftover(
    node: Node, podman: FakePodman, kubernetes: FakeKubernetes, clock: Clock
) -> None:
    """Between the restore and the first answer nothing tells that somebody works on it."""
    kubernetes.put(make_node_checkpoint(phase=NodeCheckpointPhase.FAILED))
    await collect(node)
    for actor in node.checkpoints:
        actor.state.adopted = True
    name = stock_name(Role.WARM, make_node_checkpoint())
    podman.add(container(name))
    for _ in range(3):
        await collect(node)
        clock.wait(30)
    assert podman.containers() == [str(name)]
    clock.wait(GRACE)
    await collect(node)
    assert podman.containers() == [], "what nobody knows for that long was interrupted"


# -- objects that cannot be read ------------------------------------------------------------------


def put_unreadable(
    kubernetes: FakeKubernetes, resource: DemoInstance | NodeCheckpoint, **spec: Any
) -> None:
    body = resource.to_api()
    body["spec"] |= spec
    kubernetes.put_body(type(resource), body)


async def test_one_object_that_cannot_be_read_switches_nothing_off_for_the_rest(
    node: Node, podman: FakePodman, kubernetes: FakeKubernetes, clock: Clock, shop: Shop
) -> None:
    """B17."""
    demo = await shop.ready()
    put_unreadable(kubernetes, shop.seen(demo), start="ByMagic")
    put_unreadable(kubernetes, make_node_checkpoint(), pool="many")
    podman.add(container(NOBODYS))
    others = f"default_blog_{REVISION}"
    for stem in (STEM, others):
        (node.archives.directory / f"{stem}.md").touch()
    await collect_twice(node, clock)
    assert shop.is_kept(demo)
    assert NOBODYS not in podman.containers()
    assert node.archives.names() == {f"{STEM}.md"}


async def test_archives_stay_where_an_object_does_not_even_tell_whose_it_is(
    node: Node, podman: FakePodman, kubernetes: FakeKubernetes, clock: Clock
) -> None:
    put_unreadable(kubernetes, make_node_checkpoint(), revision={"of": "another kind"})
    podman.add(container(NOBODYS))
    (node.archives.directory / f"{STEM}.md").touch()
    podman.images = {f"{REPOSITORY}:{image_tag('0' * 64, 1, 'shop')}"}
    await collect_twice(node, clock)
    assert node.archives.names() == {f"{STEM}.md"}
    assert podman.images
    assert podman.containers() == []


async def test_a_node_checkpoint_that_cannot_be_read_can_be_deleted(
    node: Node, kubernetes: FakeKubernetes, clock: Clock
) -> None:
    held = make_node_checkpoint(deleting=True)
    put_unreadable(kubernetes, held, pool="many")
    (node.archives.directory / f"{STEM}.md").touch()
    await collect(node)
    assert not kubernetes.has(held)
    await collect_twice(node, clock)
    assert node.archives.names() == set()


async def test_one_that_may_not_be_let_go_switches_nothing_off(
    node: Node, podman: FakePodman, kubernetes: FakeKubernetes, clock: Clock
) -> None:
    put_unreadable(kubernetes, make_node_checkpoint(deleting=True), pool="many")
    kubernetes.refusals["PATCH", "nodecheckpoints"] = ForbiddenError("a policy says no")
    podman.add(container(NOBODYS))
    await collect_twice(node, clock)
    assert podman.containers() == []


async def test_a_demo_that_cannot_be_read_and_goes_is_reconciled(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    demo = await shop.ready()
    await kubernetes.delete(demo)
    put_unreadable(kubernetes, shop.seen(demo), start="ByMagic")
    looked: list[Key] = []
    shop.node.queue_demo = looked.append
    await collect(shop.node)
    assert looked == [demo.key]
    await shop.resync(demo)
    assert not kubernetes.has(demo)


# -- when nothing may be removed ------------------------------------------------------------------


async def test_without_an_answer_of_the_cluster_nothing_is_removed(
    node: Node, podman: FakePodman, kubernetes: FakeKubernetes, clock: Clock
) -> None:
    podman.add(container(NOBODYS))
    await collect(node)
    clock.wait(GRACE)
    kubernetes.is_down = True
    with pytest.raises(KubernetesError):
        await collect(node)
    assert podman.containers()


async def test_a_podman_that_lists_nothing_has_no_volume_removed(
    shop: Shop, podman: FakePodman, clock: Clock
) -> None:
    """security.md 3."""
    demo = await shop.ready()
    letter = shop.letter(demo)
    bring_back = podman.lose_all()
    for _ in range(3):
        await collect_twice(shop.node, clock)
    assert letter.exists()
    problem = shop.node.guard.problem
    assert problem is not None
    assert "lists none of this node's containers, though 1 demos were ready" in problem
    bring_back()
    await collect(shop.node)
    assert shop.node.guard.problem is None
    assert shop.is_kept(demo)


async def test_what_was_suspected_before_the_storage_changed_is_not_removed_at_once_after(
    shop: Shop, podman: FakePodman, clock: Clock
) -> None:
    await shop.ready()
    podman.add(container(NOBODYS))
    await collect(shop.node)
    bring_back = podman.lose_all()
    clock.wait(GRACE)
    await collect(shop.node)
    bring_back()
    await collect(shop.node)
    assert NOBODYS in podman.containers()
    clock.wait(GRACE)
    await collect(shop.node)
    assert NOBODYS not in podman.containers()


async def test_a_cluster_that_was_restored_from_a_snapshot_costs_no_file(
    shop: Shop, kubernetes: FakeKubernetes, podman: FakePodman, clock: Clock
) -> None:
    """security.md 22: the demo is younger than the snapshot."""
    yesterday = kubernetes.backup()
    demo = await shop.ready()
    await collect(shop.node)
    kubernetes.restore(yesterday)
    for _ in range(3):
        await collect_twice(shop.node, clock)
    assert shop.is_kept(demo)
    assert podman.state(shop.main(demo)).alive
    problem = shop.node.guard.problem
    assert problem is not None
    assert "went back in time" in problem


async def test_an_agent_that_is_started_after_the_cluster_was_restored_knows_it_as_well(
    shop: Shop,
    kubernetes: FakeKubernetes,
    next_agent: Any,
) -> None:
    yesterday = kubernetes.backup()
    demo = await shop.ready()
    await collect(shop.node)
    kubernetes.restore(yesterday)
    await next_agent()
    shop.node.suspects = type(shop.node.suspects).with_grace(timedelta(), timedelta(), Clock())
    await collect(shop.node)
    assert shop.node.guard.problem is not None, "at its first look"
    assert shop.is_kept(demo)


async def test_a_snapshot_that_others_have_soon_overtaken_is_noticed_as_well(
    shop: Shop, kubernetes: FakeKubernetes, clock: Clock
) -> None:
    """Found by a seed: the demo was ready, and in the cluster of before it had not begun."""
    demo = shop.ordered()
    before = kubernetes.backup()
    await collect(shop.node)
    await shop.resync(demo)
    shop.letter(demo).write_bytes(LETTER)
    kubernetes.restore(before)
    for number in range(30):
        kubernetes.put(make_demo(f"other-{number}", node="node-b"))
    await collect_twice(shop.node, clock)
    assert not shop.seen(demo).was_ready
    await shop.resync(shop.seen(demo))
    assert shop.is_kept(demo)
    problem = shop.node.guard.problem
    assert problem is not None
    assert "went back in time" in problem


async def test_the_first_demo_of_a_node_is_no_sign_of_a_lost_podman(
    shop: Shop, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    """It becomes ready between the list of containers and the list of demos."""
    demo = await shop.ready()
    bring_back = podman.lose_all()
    asked = 0

    def back_when_the_cluster_is_asked() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            bring_back()

    kubernetes.on_request = back_when_the_cluster_is_asked
    await collect(shop.node)
    assert shop.node.guard.problem is None
    assert shop.is_kept(demo)


# -- pods, volumes, images, files -----------------------------------------------------------------


async def test_volumes_and_pods_of_nobody_are_removed(
    node: Node, podman: FakePodman, clock: Clock
) -> None:
    podman.pods[POD.name] = POD
    busy = replace(POD, name=f"tryitnow_pod_{'2' * 16}", id="busy")
    for tag in ("1" * 16, "2" * 16):
        (node.volumes.directory / tag).mkdir()
    (node.volumes.directory / ("1" * 16) / "letter.txt").write_text("dear Ben")
    main = {str(demo_name(make_demo("new"))): "running"}
    await collect(node)
    podman.pods[busy.name] = replace(busy, members=main)
    clock.wait(GRACE)
    await collect(node)
    assert podman.pods.keys() == {busy.name}
    assert node.volumes.tags() == {"2" * 16}
    [kept] = node.trash.entries()
    assert (node.trash.directory / kept / "letter.txt").read_text() == "dear Ben"


async def test_the_volumes_of_a_pod_without_its_main_container_go_to_the_trash_with_it(
    node: Node, podman: FakePodman, clock: Clock
) -> None:
    podman.pods[POD.name] = POD
    volumes = node.volumes.directory / POD.name.removeprefix("tryitnow_pod_")
    volumes.mkdir()
    await collect_twice(node, clock)
    assert not podman.pods
    assert node.volumes.tags() == set(), "what was nobody's before is nobody's now"
    assert len(node.trash.entries()) == 1


async def test_what_a_killed_podman_left_incomplete_is_removed(
    node: Node, podman: FakePodman, kubernetes: FakeKubernetes, clock: Clock
) -> None:
    demo = kubernetes.put(make_demo(node="node-a"))
    podman.pods[POD.name] = replace(POD, members={str(demo_name(demo)): "created"})
    owned = [f"{POD.name}_db", str(demo_name(demo))]
    left = [NOBODYS, f"tryitnow_pod_{'1' * 16}_db"]
    foreign = ["postgres", "tryitnow_pod_of_mine", "tryitnow_pod_of_mine_db"]
    podman.ghosts = [*owned, *left, *foreign]
    await collect_twice(node, clock)
    assert podman.ghosts == [*owned, *foreign]


async def test_files_of_nobody_go_to_the_trash_and_a_persons_own_stay(
    node: Node, clock: Clock
) -> None:
    (node.archives.directory / f"{STEM}.tar.zst").write_bytes(b"memory")
    (node.archives.directory / "notes.md").touch()
    (node.generations.directory / STEM / "1").mkdir(parents=True)
    await collect_twice(node, clock)
    assert node.archives.names() == {"notes.md"}
    assert node.generations.stems() == set()
    [entry] = node.trash.entries()
    assert entry.endswith(f"_{STEM}.tar.zst")
    clock.wait(timedelta(hours=24))
    await collect(node)
    clock.wait(timedelta(hours=24))
    await collect(node)
    assert node.trash.entries() == set()


async def test_images_of_no_archive_are_removed(
    node: Node, podman: FakePodman, kubernetes: FakeKubernetes, clock: Clock
) -> None:
    archive = make_archive()
    kubernetes.put(make_node_checkpoint(fetch=Fetch(archive=archive)))
    mine = f"{REPOSITORY}:{image_tag(archive.sha256, 1, 'shop')}"
    podman.images = {mine, f"{REPOSITORY}:{image_tag('0' * 64, 1, 'shop')}"}
    await collect_twice(node, clock)
    assert podman.images == {mine}


# -- ports ----------------------------------------------------------------------------------------


async def test_ports_of_a_sandbox_that_somebody_removed_are_free_after_two_looks(
    node: Node, podman: FakePodman, clock: Clock
) -> None:
    """Found by a seed: its removal failed, and then it went with its storage."""
    [port] = node.ports.take("tryitnow_warm_default_shop_1f2e-1", [8080])
    held = container(NOBODYS, ports=(PortMapping(23001, 8080),))
    podman.add(held)
    node.ports.adopt([held])
    await collect(node)
    assert node.ports.owners() == {"tryitnow_warm_default_shop_1f2e-1", NOBODYS}
    clock.wait(timedelta(seconds=30))
    await collect(node)
    assert node.ports.owners() == {NOBODYS}
    assert port.host_port != 23001


async def test_ports_of_a_sandbox_that_is_being_made_are_its_own(node: Node, clock: Clock) -> None:
    demo = demo_name(make_demo())
    async with node.sandboxes.in_work(demo):
        node.ports.take(str(demo), [8080])
        await collect_twice(node, clock)
    assert node.ports.owners() == {str(demo)}
