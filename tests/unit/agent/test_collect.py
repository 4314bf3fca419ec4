"""What nobody owns is removed, what should run and does not is looked at, all else is left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.builders import make_archive, make_copy, make_instance
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.collect import collect, ended
from tryitnow.agent.names import Role, demo_container, slot_container, work_container
from tryitnow.agent.node import Node
from tryitnow.agent.orphans import headless, orphaned_files, orphans
from tryitnow.agent.pool import Slot
from tryitnow.agent.prepared import REPOSITORY, Prepared, image_tag
from tryitnow.agent.restore import archive_name
from tryitnow.agent.sandbox import Sandbox
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.podman.client import ContainerState, PodState, PortMapping
from tryitnow.workqueue import WorkQueue

Phase = NodeCheckpointPhase

Look = Callable[[], Awaitable[None]]

DEMO = make_instance(node="node-a", phase=DemoInstancePhase.READY)
COPY = make_copy("node-a")
STEM = archive_name(COPY).stem


def container(
    name: object, *, running: bool = True, ports: tuple[PortMapping, ...] = ()
) -> ContainerState:
    return ContainerState(
        name=str(name),
        id=f"id-of-{name}",
        running=running,
        exit_code=0,
        pid=1,
        image="shop",
        ports=ports,
    )


# -- orphans --------------------------------------------------------------------------------------


def _orphans(
    containers: list[ContainerState], wanted: list[DemoInstance], held: list[NodeCheckpoint]
) -> list[str]:
    names = [container.name for container in containers]
    return [str(name) for name in orphans(names, wanted, held)]


def test_a_demo_without_an_instance_is_an_orphan() -> None:
    name = str(demo_container(DEMO))
    assert _orphans([container(name)], [], []) == [name]
    assert _orphans([container(name)], [DEMO], []) == []


def test_a_demo_of_an_earlier_namesake_is_an_orphan() -> None:
    earlier = make_instance(uid="0123456789abcdef")
    name = str(demo_container(earlier))
    assert _orphans([container(name)], [DEMO], []) == [name]


def test_a_demo_that_is_being_deleted_still_has_its_owner() -> None:
    deleting = make_instance(deleting=True, finalizer=True)
    assert _orphans([container(demo_container(deleting))], [deleting], []) == []


@pytest.mark.parametrize("role", [Role.BUILD, Role.VERIFY])
@pytest.mark.parametrize(
    ("phase", "is_orphan"),
    [
        (Phase.PENDING, False),
        (Phase.BUILDING, False),
        (Phase.VERIFYING, False),
        (Phase.QUARANTINED, False),  # a test restore may be under way
        (Phase.PREPARED, True),
    ],
)
def test_a_work_container_belongs_to_a_copy_that_is_not_finished(
    role: Role, phase: NodeCheckpointPhase, *, is_orphan: bool
) -> None:
    copy = make_copy(phase=phase)
    name = str(work_container(role, copy))
    assert _orphans([container(name)], [], [copy]) == ([name] if is_orphan else [])


def test_a_work_container_of_no_copy_is_an_orphan() -> None:
    name = str(work_container(Role.BUILD, make_copy(revision="0123456789")))
    assert _orphans([container(name)], [], [make_copy(phase=Phase.BUILDING)]) == [name]


@pytest.mark.parametrize(
    "name", ["postgres", "tryitnow", "tryitnow_", "tryitnow_demo_default_anna", "my_demo_a_b_c",
             "tryitnow_other_default_anna_12345678"],
)  # fmt: skip
def test_what_does_not_have_one_of_our_names_is_never_touched(name: str) -> None:
    assert _orphans([container(name)], [], []) == []


# -- orphaned_files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ending", [".md", ".tar", ".tar.zst"],
)  # fmt: skip
def test_archive_files_belong_to_their_copy(ending: str) -> None:
    assert orphaned_files({f"{STEM}{ending}"}, [COPY]) == []
    assert orphaned_files({f"{STEM}{ending}"}, []) == [f"{STEM}{ending}"]


def test_a_partial_download_belongs_to_its_copy() -> None:
    partial = f".{STEM}.tar.zst.0123456789abcdef.partial"
    assert orphaned_files({partial}, [COPY]) == []
    assert orphaned_files({partial}, []) == [partial]


def test_files_of_another_revision_namespace_or_checkpoint_are_orphans() -> None:
    others = {
        archive_name(make_copy(revision="0123456789")).stem,
        archive_name(make_copy(namespace="elsewhere")).stem,
        archive_name(make_copy(checkpoint="blog")).stem,
    }
    files = {f"{stem}.tar.zst" for stem in others}
    assert orphaned_files(files | {f"{STEM}.tar.zst"}, [COPY]) == sorted(files)


@pytest.mark.parametrize(
    "file", ["notes.md", "README", "backup_of_shop.tar", "default_shop_rev.tar.zst",
             f"{STEM}.tar.zst.bak", f"{STEM}.tar.gz", f"copy of {STEM}.tar"],
)  # fmt: skip
def test_a_persons_own_files_are_never_touched(file: str) -> None:
    assert orphaned_files({file}, []) == []


# -- ended ----------------------------------------------------------------------------------------


def test_a_ready_demo_whose_container_does_not_run_has_ended() -> None:
    name = demo_container(DEMO)
    assert ended([DEMO], []) == [DEMO.key]
    assert ended([DEMO], [container(name, running=False)]) == [DEMO.key]
    assert ended([DEMO], [container(name)]) == []


@pytest.mark.parametrize(
    "phase", [DemoInstancePhase.PENDING, DemoInstancePhase.STARTING, DemoInstancePhase.FAILED]
)
def test_one_that_is_not_ready_has_not_ended(phase: DemoInstancePhase) -> None:
    assert ended([make_instance(phase=phase)], []) == []


# -- everything with everything -------------------------------------------------------------------


class Looked(WorkQueue):
    """A queue that only remembers what was to be looked at."""

    def __init__(self) -> None:
        super().__init__("test", self._look, expected=())
        self.keys: set[Key] = set()

    async def _look(self, key: Key) -> timedelta | None:
        raise NotImplementedError(key)

    def add(self, key: Key) -> None:
        self.keys.add(key)


@pytest.fixture
def instances() -> Looked:
    return Looked()


@pytest.fixture
def copies() -> Looked:
    return Looked()


@pytest.fixture
def look(node: Node, instances: Looked, copies: Looked) -> Look:
    """Compare the node with the cluster once."""
    return lambda: collect(node, instances, copies)


async def test_what_nobody_owns_is_removed_and_its_ports_are_free(
    node: Node, podman: FakePodman, look: Look
) -> None:
    mapping = PortMapping(node.settings.first_port, 8080)
    orphan = container("tryitnow_demo_default_nobody_12345678", ports=(mapping,))
    foreign = container("postgres")
    podman.add(orphan)
    podman.add(foreign)
    node.ports.adopt([orphan])
    (node.archives.directory / f"{STEM}.tar.zst").touch()
    (node.archives.directory / "notes.md").touch()
    node.data.path(STEM).mkdir()
    podman.images = {f"{REPOSITORY}:{image_tag('0' * 64, 'shop')}"}
    await look()
    assert podman.containers() == ["postgres"]
    assert node.ports.taken == 0
    assert node.archives.names() == {"notes.md"}
    assert node.data.stems() == set()
    assert podman.images == set()


async def test_what_somebody_owns_stays(
    node: Node,
    podman: FakePodman,
    kubernetes: FakeKubernetes,
    instances: Looked,
    copies: Looked,
    look: Look,
) -> None:
    kubernetes.put(DEMO)
    kubernetes.put(COPY)
    podman.add(container(demo_container(DEMO)))
    (node.archives.directory / f"{STEM}.tar.zst").touch()
    node.data.path(STEM).mkdir()
    podman.images = {f"{REPOSITORY}:{image_tag(make_archive().sha256, 'shop')}"}
    await look()
    assert podman.containers() == [str(demo_container(DEMO))]
    assert node.archives.names() == {f"{STEM}.tar.zst"}
    assert node.data.stems() == {STEM}
    assert podman.images
    assert instances.keys == copies.keys == set(), "nor is it looked at"


async def test_objects_of_other_nodes_own_nothing_here(
    node: Node, podman: FakePodman, kubernetes: FakeKubernetes, look: Look
) -> None:
    elsewhere = kubernetes.put(make_instance(node="node-b", phase=DemoInstancePhase.READY))
    kubernetes.put(make_copy("node-b"))
    podman.add(container(demo_container(elsewhere)))
    (node.archives.directory / f"{STEM}.md").touch()
    await look()
    assert podman.containers() == []
    assert node.archives.names() == set()
    assert len(node.instances) == len(node.copies) == 0


async def test_without_an_answer_of_the_cluster_nothing_is_removed(
    node: Node, podman: FakePodman, kubernetes: FakeKubernetes, look: Look
) -> None:
    podman.add(container("tryitnow_demo_default_nobody_12345678"))
    (node.archives.directory / f"{STEM}.md").touch()
    kubernetes.is_down = True
    with pytest.raises(KubernetesError):
        await look()
    assert podman.containers()
    assert node.archives.names() == {f"{STEM}.md"}


async def test_where_an_object_cannot_be_read_nothing_is_anybodys_to_remove(
    node: Node,
    podman: FakePodman,
    kubernetes: FakeKubernetes,
    caplog: pytest.LogCaptureFixture,
    look: Look,
) -> None:
    podman.add(container(demo_container(DEMO)))
    (node.archives.directory / f"{STEM}.md").touch()
    node.instances.update(DEMO)
    kubernetes.unreadable = frozenset({DEMO.key})
    await look()
    assert podman.containers() == [str(demo_container(DEMO))]
    assert node.archives.names() == {f"{STEM}.md"}
    assert node.instances.get(DEMO.key) is not None, "it is there, whatever it says"
    assert str(DEMO.key) in caplog.text


async def test_ports_of_what_was_to_wait_and_could_not_be_made_are_given_back(
    node: Node, kubernetes: FakeKubernetes, look: Look
) -> None:
    kubernetes.put(COPY)
    failed, being_made, waiting = (slot_container(COPY) for _ in range(3))
    demo = str(demo_container(DEMO))
    for owner in (failed, being_made, waiting, demo):
        node.ports.take(str(owner), [8080])
    node.filling.add(str(being_made))
    node.slots.add(COPY.key, Slot(waiting, Sandbox(())))
    await look()
    assert node.ports.owners() == {str(being_made), str(waiting), demo}


async def test_what_waits_of_a_copy_whose_deletion_was_missed_goes_with_it(
    node: Node, podman: FakePodman, look: Look
) -> None:
    node.copies.update(COPY)
    slot = slot_container(COPY)
    podman.add(container(slot))
    node.slots.add(COPY.key, Slot(slot, Sandbox(())))
    sha256 = make_archive().sha256
    node.prepared[COPY.key] = Prepared(Path("nowhere"), sha256, {}, "seal")
    podman.images = {f"{REPOSITORY}:{image_tag(sha256, 'shop')}"}
    changed: list[Key] = []
    node.pool.changed = changed.append
    await look()
    assert podman.containers() == []
    assert not podman.images
    assert not node.prepared
    assert changed == [COPY.key], "its pool is looked at"


async def test_what_a_killed_podman_left_half_made_is_removed(
    node: Node, podman: FakePodman, kubernetes: FakeKubernetes, look: Look
) -> None:
    kubernetes.put(COPY)
    podman.pods[POD.name] = replace(POD, members={str(slot_container(COPY)): "created"})
    making = [str(slot_container(COPY)), f"{POD.name}_db", str(demo_container(DEMO))]
    kubernetes.put(DEMO)
    node.filling.add(making[0])
    left = [str(slot_container(COPY)), f"tryitnow_pod_{'1' * 16}_db"]
    foreign = ["postgres", "tryitnow_pod_of_mine", "tryitnow_pod_of_mine_db"]
    podman.ghosts = [*making, *left, *foreign]
    await look()
    assert podman.ghosts == [*making, *foreign]


async def test_an_image_that_was_just_made_stays_before_its_copy_says_so(
    node: Node, podman: FakePodman, look: Look
) -> None:
    sha256 = "0" * 64
    podman.images = {f"{REPOSITORY}:{image_tag(sha256, 'shop')}"}
    node.prepared[COPY.key] = Prepared(Path("nowhere"), sha256, {}, "seal")
    await look()
    assert podman.images
    node.prepared.clear()
    await look()
    assert not podman.images


async def test_a_container_in_which_an_image_is_being_made_stays(
    node: Node, podman: FakePodman, look: Look
) -> None:
    name = str(work_container(Role.PREPARE, COPY))
    podman.add(container(name))
    node.preparing.add(name)
    await look()
    assert podman.containers() == [name]
    node.preparing.clear()
    await look()
    assert podman.containers() == []


async def test_what_should_go_on_is_looked_at(
    kubernetes: FakeKubernetes, instances: Looked, copies: Looked, look: Look
) -> None:
    phase = DemoInstancePhase
    wanted = [
        make_instance("ended", node="node-a", phase=phase.READY),
        make_instance("starting", node="node-a", phase=phase.STARTING),
        make_instance("going", node="node-a", phase=phase.FAILED, deleting=True, finalizer=True),
    ]
    held = [
        make_copy(checkpoint="building", phase=Phase.BUILDING),
        make_copy(checkpoint="going", deleting=True),
    ]
    for resource in (*wanted, *held):
        kubernetes.put(resource)
    kubernetes.put(make_instance("failed", node="node-a", phase=phase.FAILED))
    kubernetes.put(make_copy(checkpoint="good"))
    await look()
    assert {key.name for key in instances.keys} == {"ended", "starting", "going"}
    assert copies.keys == {copy.key for copy in held}


# -- pods -----------------------------------------------------------------------------------------

POD = PodState(f"tryitnow_pod_{'0' * 16}", "id-of-pod", "infra", {"tryitnow_pod_x_db": "running"})


def test_a_pod_without_its_main_container_is_headless() -> None:
    assert [str(pod) for pod in headless([POD])] == [POD.name]
    whole = replace(POD, members={str(demo_container(DEMO)): "running"})
    assert headless([whole]) == []
    assert headless([replace(POD, name="tryitnow_pod_of_mine")]) == []


async def test_a_pod_that_was_made_whole_since_all_were_listed_stays_with_its_volumes(
    node: Node, podman: FakePodman, monkeypatch: pytest.MonkeyPatch, look: Look
) -> None:
    """A slot that was being made when Podman was asked, and is ready when the cluster answers."""
    slot = slot_container(COPY)
    listed, unlisted = POD, replace(POD, name=f"tryitnow_pod_{'1' * 16}", id="another")
    podman.pods[POD.name] = replace(listed, members={str(slot): "created"})
    podman.pods[unlisted.name] = replace(unlisted, members={str(slot_container(COPY)): "created"})

    async def as_they_were(_: str) -> list[PodState]:
        return [listed]

    monkeypatch.setattr(podman, "list_pods", as_they_were)
    for tag in ("0" * 16, "1" * 16):
        (node.volumes.directory / tag).mkdir()
    await look()
    assert podman.pods.keys() == {POD.name, unlisted.name}
    assert node.volumes.tags() == {"0" * 16, "1" * 16}


def test_a_demo_of_which_one_container_ended_is_looked_at() -> None:
    ready = make_instance(node="node-a", phase=DemoInstancePhase.READY)
    main = replace(container(demo_container(ready)), pod="1")
    other = replace(container("tryitnow_pod_x_db"), pod="1")
    assert ended([ready], [main, other]) == []
    assert ended([ready], [main, replace(other, running=False)]) == [ready.key]
    assert ended([ready], [main, replace(other, running=False, pod="2")]) == []


async def test_volumes_and_pods_of_nobody_are_removed(
    node: Node, podman: FakePodman, look: Look
) -> None:
    podman.pods[POD.name] = POD
    for tag in ("0" * 16, "1" * 16, "2" * 16):
        (node.volumes.directory / tag).mkdir()
    node.pods_in_work.add(f"tryitnow_pod_{'2' * 16}")
    await look()
    assert podman.pods == {}
    assert node.volumes.tags() == {"2" * 16}
