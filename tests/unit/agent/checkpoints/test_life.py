"""A NodeCheckpoint's life: built or fetched, prepared, tested on this node, and only then Ready."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.agent.checkpoints.shop import Shop, for_a_while, until
from tests.unit.builders import PINNED, make_archive, make_export
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.checkpoints.plan import RETEST_AFTER
from tryitnow.agent.checkpoints.tools import AT_ONCE
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.names import Role, work_name
from tryitnow.api.nodecheckpoint import Fetch, NodeCheckpointPhase, Source
from tryitnow.kubernetes.errors import ConflictError
from tryitnow.podman.errors import (
    CRIUError,
    NodeLimitError,
    NoSuchImageError,
    PodmanError,
    PodmanUnreachableError,
)

Phase = NodeCheckpointPhase

RESTORE = "restore prepared"
"""How the fake Podman calls a restore into a pre-created container."""


# -- the way to Ready ------------------------------------------------------------------------------


async def test_an_order_without_a_source_is_built_prepared_and_tested(shop: Shop) -> None:
    actor = shop.order()
    await shop.until_ready()
    assert actor.is_ready
    assert actor.generation is not None
    assert shop.ready.status == "True"
    archive = shop.status.archive
    assert archive is not None
    shop.tools.archives.check(shop.file, archive)
    verify = str(work_name(Role.VERIFY, actor.resource))
    assert shop.asked(f"{RESTORE} {verify}")
    assert shop.sandboxes(Role.BUILD, Role.VERIFY, Role.PREPARE) == []
    assert shop.status.images == {"shop": PINNED}
    assert shop.status.build_duration is not None
    assert shop.status.verified_with == shop.node.health.current.versions
    assert shop.status.memory_bytes == len(b"the memory of a warm shop")


async def test_it_is_not_ready_before_the_test_restore_has_answered(
    shop: Shop, podman: FakePodman
) -> None:
    podman.delay[RESTORE] = 0.3
    actor = shop.order()
    await shop.until_phase(Phase.VERIFYING)
    assert shop.ready.status == "False"
    assert actor.generation is None, "no demo may be restored yet"
    await shop.until_ready()


async def test_the_phases_are_told_in_their_order(shop: Shop, kubernetes: FakeKubernetes) -> None:
    told: list[str] = []
    watch = kubernetes.on_write

    def seen(resource: object) -> None:
        watch(resource)  # type: ignore[arg-type]
        if not told or told[-1] != shop.status.phase:
            told.append(shop.status.phase)

    kubernetes.on_write = seen
    shop.order()
    await shop.until_ready()
    assert told == [Phase.BUILDING, Phase.PREPARING, Phase.VERIFYING, Phase.READY]


async def test_an_archive_that_is_fetched_is_tested_on_this_node_before_it_is_ready(
    shop: Shop, podman: FakePodman
) -> None:
    """The file is here already, so that nobody is asked for it."""
    content = make_export()
    shop.tools.archives.write(shop.file, iter([content]))
    actor = shop.order(fetch=_order(content))
    await shop.until_ready()
    assert shop.asked(f"{RESTORE} {work_name(Role.VERIFY, actor.resource)}")
    assert podman.pulls == []
    assert shop.asked("checkpoint") == []


async def test_a_node_on_which_the_test_restore_fails_is_not_ready(
    shop: Shop, podman: FakePodman
) -> None:
    content = make_export()
    shop.tools.archives.write(shop.file, iter([content]))
    podman.failures[RESTORE] = CRIUError("CRIU refused", "Error: another processor")
    shop.order(fetch=_order(content))
    await shop.until_phase(Phase.QUARANTINED)
    assert shop.ready.status == "False"
    assert "another processor" in shop.ready.message
    assert "QuarantinedRestoreFailed" in shop.kubernetes.reasons()
    shop.tools.archives.check(shop.file, make_archive(content))


async def test_what_cannot_be_restored_is_tested_again_after_a_while(
    shop: Shop, podman: FakePodman
) -> None:
    content = make_export()
    shop.tools.archives.write(shop.file, iter([content]))
    podman.failures[RESTORE] = CRIUError("CRIU refused", "a log")
    actor = shop.order(fetch=_order(content))
    await shop.until_phase(Phase.QUARANTINED)
    await until(lambda: actor.state.job is None)
    restores = len(shop.asked(RESTORE))
    shop.clock.forward(minutes=9)
    actor.turn()
    await for_a_while()
    assert len(shop.asked(RESTORE)) == restores, "however often it is looked at"
    shop.clock.forward(seconds=RETEST_AFTER.total_seconds())
    actor.turn()
    await until(lambda: len(shop.asked(RESTORE)) == restores + 1)
    await until(lambda: actor.state.job is None)
    assert shop.kubernetes.reasons().count("QuarantinedRestoreFailed") == 1, "it never left"
    del podman.failures[RESTORE]
    shop.clock.forward(minutes=20)
    actor.turn()
    await shop.until_ready()


async def test_it_is_tested_again_when_the_nodes_software_changed(shop: Shop) -> None:
    actor = shop.order()
    await shop.until_ready()
    restores = len(shop.asked(RESTORE))
    shop.has_software(kernel="6.19", criu="4.3")
    assert actor.is_ready, "what is here serves until the test has decided"
    await until(lambda: len(shop.asked(RESTORE)) == restores + 1)
    await until(lambda: shop.status.verified_with == shop.node.health.current.versions)
    await for_a_while()
    assert len(shop.asked(RESTORE)) == restores + 1


async def test_what_the_new_software_cannot_restore_is_taken_out_of_service_and_kept(
    shop: Shop, podman: FakePodman
) -> None:
    shop.order()
    await shop.until_ready()
    podman.failures[RESTORE] = CRIUError("CRIU refused", "a log")
    shop.has_software(kernel="6.19")
    await shop.until_phase(Phase.QUARANTINED)
    assert shop.path.exists()
    shop.clock.forward(minutes=20)
    shop.actor.turn()
    await until(lambda: shop.actor.state.job is None)
    assert shop.status.phase is Phase.QUARANTINED, "it was ready once: it is not thrown away"
    assert shop.path.exists()


async def test_without_criu_nothing_is_tested_and_what_waits_stays(shop: Shop) -> None:
    shop.order(warm=1)
    await shop.until_ready()
    await shop.until_stocked(warm=1)
    shop.has_criu(available=False)
    await for_a_while()
    assert shop.actor.warm_ready == 1
    shop.has_criu(available=True)
    assert shop.actor.is_ready


# -- builds that fail ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "reason"),
    [
        ("checkpoint", CRIUError("CRIU failed", "Error: a log"), "CheckpointFailed"),
        ("create container", PodmanError("exec: /bin/serve: not found"), "StartFailed"),
        (RESTORE, CRIUError("CRIU refused", "Error: a log"), "RestoreFailed"),
        ("pull", OSError(28, "No space left on device"), "DiskFull"),
        (
            "create container",
            NodeLimitError("no locks", limit="LocksExhausted", remedy="raise num_locks"),
            "LocksExhausted",
        ),
    ],
    ids=["checkpoint", "start", "test restore", "disk", "locks"],
)
async def test_a_build_that_fails_says_why_and_leaves_nothing(
    shop: Shop, podman: FakePodman, call: str, error: Exception, reason: str
) -> None:
    podman.failures[call] = error
    shop.order()
    await shop.until_phase(Phase.FAILED)
    assert shop.ready.reason == reason
    assert str(error).splitlines()[-1] in shop.ready.message
    await until(lambda: not shop.path.exists())
    await until(lambda: podman.containers() == [])
    assert shop.node.ports.taken == 0
    await for_a_while()
    assert shop.status.archive is None
    assert len(shop.asked("pull")) == 1, "what is next is the controller's to say"


async def test_a_build_that_podman_breaks_off_is_tried_again_and_counted(
    shop: Shop, podman: FakePodman
) -> None:
    podman.failures["checkpoint"] = PodmanUnreachableError("the connection broke")
    actor = shop.order()
    for tries in range(1, 4):
        await until(lambda: len(shop.asked("checkpoint")) == tries)  # noqa: B023 - awaited here
        await until(lambda: actor.state.job is None)
        assert shop.status.phase is not Phase.FAILED
        shop.clock.forward(minutes=10)
        actor.turn()
    await shop.until_phase(Phase.FAILED)
    assert shop.ready.reason == "PodmanUnreachable"


async def test_a_build_that_failed_stays_failed_when_the_agent_starts_again(
    shop: Shop, podman: FakePodman
) -> None:
    podman.failures["checkpoint"] = CRIUError("CRIU failed", "Error: a log")
    shop.order()
    await shop.until_phase(Phase.FAILED)
    said = shop.ready
    await shop.starts_again()
    await shop.until_calm()
    await for_a_while()
    assert shop.status.phase is Phase.FAILED
    assert (shop.ready.reason, shop.ready.message) == (said.reason, said.message)
    assert shop.asked("pull") == []


async def test_a_node_on_which_the_build_failed_fetches_what_another_has_built(
    shop: Shop, podman: FakePodman
) -> None:
    podman.failures["checkpoint"] = CRIUError("CRIU failed", "Error: a log")
    shop.order()
    await shop.until_phase(Phase.FAILED)
    await until(lambda: not shop.path.exists())
    content = make_export(b"built elsewhere")
    shop.tools.archives.write(shop.file, iter([content]))
    shop.change(fetch=_order(content))
    await shop.until_ready()


async def test_builds_that_take_their_time_keep_nobody_from_being_removed(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    podman.delay["pull"] = 60
    slow = [Shop(node, kubernetes, podman, checkpoint=f"slow-{n}") for n in range(AT_ONCE + 1)]
    registry = slow[0].registry
    for shop in slow:
        shop.registry = registry
        shop.order()
    await until(lambda: len(slow[0].asked("pull")) == AT_ONCE)
    await for_a_while(0.05)
    assert len(slow[0].asked("pull")) == AT_ONCE
    going = slow[-1].actor.resource
    kubernetes.on_write = lambda resource: registry.seen(resource)  # type: ignore[arg-type]
    await slow[-1].delete()
    await until(lambda: not kubernetes.has(going))
    await registry.stop()
    for shop in slow:
        await shop.ends()


async def test_what_is_said_on_the_way_is_not_worth_the_build(
    shop: Shop, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    """The API server is away while it is built, and there again when it is done."""
    podman.delay["checkpoint"] = 0.2
    shop.order()
    await shop.until_phase(Phase.BUILDING)
    await until(lambda: shop.asked("checkpoint"))
    kubernetes.is_down = True
    await for_a_while(0.5)
    assert shop.actor.is_ready
    kubernetes.is_down = False
    await shop.until_ready()
    assert len(shop.asked("checkpoint")) == 1


# -- damage ----------------------------------------------------------------------------------------


async def test_an_archive_with_a_flipped_byte_is_taken_out_of_service_and_removed(
    shop: Shop,
) -> None:
    actor = shop.order()
    await shop.until_ready()
    _flip_a_byte(shop)
    assert actor.is_touched()
    actor.touched()
    await shop.until_phase(Phase.QUARANTINED)
    assert shop.ready.reason == "ArchiveDamaged"
    assert shop.status.archive is None
    assert shop.registry.archive_file(make_archive(make_export()).sha256) is None
    assert not shop.path.exists()
    assert actor.generation is None
    assert not actor.is_touched(), "it was said once"


async def test_a_damaged_archive_is_fetched_again(shop: Shop) -> None:
    content = make_export()
    shop.tools.archives.write(shop.file, iter([content]))
    actor = shop.order(fetch=_order(content))
    await shop.until_ready()
    _flip_a_byte(shop)
    actor.touched()
    await until(lambda: "QuarantinedArchiveDamaged" in shop.kubernetes.reasons())
    await until(lambda: not shop.path.exists())
    shop.tools.archives.write(shop.file, iter([content]))  # what its source gives
    shop.clock.forward(minutes=10)
    actor.turn()
    await shop.until_ready()


async def test_why_a_damaged_archive_is_not_here_again_is_said_beside_the_damage(
    shop: Shop,
) -> None:
    content = make_export()
    shop.tools.archives.write(shop.file, iter([content]))
    actor = shop.order(fetch=_order(content))
    await shop.until_ready()
    _flip_a_byte(shop)
    actor.touched()
    await shop.until_phase(Phase.QUARANTINED)
    for _ in range(3):
        shop.clock.forward(minutes=10)
        actor.turn()
        await until(lambda: actor.state.failure and actor.state.failure.reason == "FetchFailed")
        await until(lambda: actor.state.job is None)
    await until(lambda: "FetchFailed" in shop.ready.message)
    assert shop.ready.reason == "ArchiveDamaged"
    assert shop.kubernetes.reasons().count("QuarantinedArchiveDamaged") == 1


async def test_a_disk_that_cannot_read_the_archive_has_damaged_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B20. No test can make a disk fail: the open of this one file is made to."""
    actor = shop.order()
    await shop.until_ready()
    path, opened = type(shop.path), type(shop.path).open

    def broken(self: object, *arguments: object, **named: object) -> object:
        if self == shop.path:
            raise OSError(5, "Input/output error")
        return opened(self, *arguments, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(path, "open", broken)
    shop.clock.forward(days=2)
    actor.turn()
    await shop.until_phase(Phase.QUARANTINED)
    assert "cannot read" in shop.ready.message


async def test_a_full_disk_does_not_damage_an_archive(shop: Shop, podman: FakePodman) -> None:
    actor = shop.order()
    await shop.until_ready()
    podman.failures["has_image"] = OSError(28, "No space left on device")
    actor.touched()
    await until(lambda: "DiskFull" in shop.kubernetes.reasons())
    assert actor.is_ready
    assert shop.path.exists()


@pytest.mark.parametrize("call", ["has_image", "build image"])
async def test_podman_that_refuses_while_nothing_of_the_application_runs_is_no_fault_of_it(
    shop: Shop, podman: FakePodman, call: str
) -> None:
    actor = shop.order()
    await shop.until_ready()
    podman.images.clear()
    podman.failures[call] = PodmanError("500: database is locked")
    actor.touched()
    await until(lambda: "PodmanFailed" in shop.kubernetes.reasons())
    assert shop.path.exists()
    assert actor.state.build_failure is None
    del podman.failures[call]
    shop.clock.forward(minutes=10)
    actor.turn()
    await shop.until_ready()


async def test_images_that_were_pruned_are_made_again(shop: Shop, podman: FakePodman) -> None:
    """`podman system prune -a` takes stopped containers, and then the images that nobody uses."""
    actor = shop.order()
    await shop.until_ready()
    await shop.until_stocked()
    for name in shop.sandboxes(Role.PRECREATED):
        await podman.remove(name)
    podman.images.clear()
    actor.look(ended=set(), gone=actor.stock_names)
    await until(lambda: podman.images)
    await shop.until_ready()
    await shop.until_stocked()
    assert shop.status.restore_failures == 0


async def test_a_restore_that_misses_its_image_quarantines_nothing(
    shop: Shop, podman: FakePodman
) -> None:
    actor = shop.order()
    await shop.until_ready()
    generation = actor.generation
    assert generation is not None
    podman.images.clear()
    for _ in range(3):
        actor.restore_failed(generation, NoSuchImageError("image not known"))
    await until(lambda: podman.images)
    await shop.until_ready()
    assert actor.generation is not None
    assert actor.generation is not generation


async def test_what_was_unpacked_and_changed_is_unpacked_again(shop: Shop) -> None:
    actor = shop.order()
    await shop.until_ready()
    generation = actor.generation
    assert generation is not None
    (generation.directory / "shop" / "checkpoint" / "pages-1.img").write_bytes(b"something else")
    assert actor.is_touched()
    actor.touched()
    await until(lambda: actor.generation not in {None, generation})
    assert shop.path.exists()
    await until(lambda: not generation.directory.exists())


# -- restores that fail ----------------------------------------------------------------------------


async def test_ten_restores_that_fail_at_once_quarantine_the_archive(shop: Shop) -> None:
    """B15: each counts."""
    actor = shop.order()
    await shop.until_ready()
    generation = actor.generation
    assert generation is not None
    for _ in range(10):
        actor.restore_failed(generation, CRIUError("CRIU refused", "a log"))
    assert not actor.is_ready
    await shop.until_phase(Phase.QUARANTINED)
    assert shop.kubernetes.reasons().count("QuarantinedRestoreFailed") == 1
    shop.tools.archives.check(shop.file, make_archive(shop.path.read_bytes()))


async def test_one_restore_that_fails_may_be_a_bad_moment(shop: Shop) -> None:
    actor = shop.order()
    await shop.until_ready()
    generation = actor.generation
    assert generation is not None
    actor.restore_failed(generation, CRIUError("CRIU refused", "a log"))
    assert actor.is_ready
    await until(lambda: shop.status.restore_failures == 1)
    actor.restore_succeeded()
    await until(lambda: shop.status.restore_failures == 0)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        NodeLimitError("no locks", limit="LocksExhausted", remedy="raise num_locks"),
        PodmanUnreachableError("Podman does not answer"),
    ],
    ids=["disk", "locks", "Podman"],
)
async def test_a_limit_of_the_node_is_not_held_against_the_archive(
    shop: Shop, error: Exception
) -> None:
    actor = shop.order()
    await shop.until_ready()
    generation = actor.generation
    assert generation is not None
    for _ in range(5):
        actor.restore_failed(generation, error)
    assert actor.is_ready
    assert actor.state.restore_failures == 0


async def test_a_new_archive_is_not_blamed_for_its_predecessor(shop: Shop) -> None:
    """B10: a demo tells late of what it was restored from."""
    content = make_export()
    shop.tools.archives.write(shop.file, iter([content]))
    actor = shop.order(fetch=_order(content))
    await shop.until_ready()
    old = actor.generation
    assert old is not None
    newer = make_export(b"a newer shop")
    shop.tools.archives.write(shop.file, iter([newer]))
    shop.change(fetch=_order(newer))
    await until(lambda: actor.generation not in {None, old})
    for _ in range(3):
        actor.restore_failed(old, CRIUError("CRIU refused", "a log"))
    await for_a_while()
    assert actor.is_ready
    assert shop.path.read_bytes() == newer


# -- generations -----------------------------------------------------------------------------------


async def test_what_a_demo_is_being_restored_from_stays_until_it_is_done(shop: Shop) -> None:
    """B9: what was replaced gets no new leases, and goes with the last."""
    actor = shop.order()
    await shop.until_ready()
    old = actor.generation
    assert old is not None
    with old.leased():
        shop.podman.images.clear()
        actor.touched()
        await until(lambda: actor.generation not in {None, old})
        await for_a_while()
        assert old.is_intact()
    await until(lambda: not old.directory.exists())
    new = actor.generation
    assert new is not None
    assert new.is_intact()
    assert set(new.images.values()) <= shop.podman.images


async def test_the_end_of_a_generation_takes_no_image_of_the_next(
    shop: Shop, podman: FakePodman
) -> None:
    actor = shop.order()
    await shop.until_ready()
    old = actor.generation
    assert old is not None
    podman.delay["remove_image"] = 0.2
    (old.directory / "shop" / "checkpoint" / "added").touch()
    actor.touched()
    await until(lambda: actor.generation not in {None, old})
    await until(lambda: not old.directory.exists())
    new = actor.generation
    assert new is not None
    assert set(new.images.values()) <= podman.images


# -- deletion --------------------------------------------------------------------------------------


async def test_a_deletion_removes_all_that_the_node_has_and_lets_the_object_go(
    shop: Shop, podman: FakePodman
) -> None:
    actor = shop.order(warm=2)
    await shop.until_ready()
    await shop.until_stocked(warm=2)
    gone = actor.resource
    await shop.delete()
    await until(lambda: not shop.kubernetes.has(gone))
    await until(lambda: len(shop.registry) == 0)
    assert podman.containers() == []
    assert podman.pods == {}
    assert podman.images == set()
    assert shop.node.ports.taken == 0
    assert list(shop.tools.archives.directory.iterdir()) == []
    assert list(shop.tools.generations.directory.iterdir()) == []
    assert list(shop.node.volumes.directory.iterdir()) == []


@pytest.mark.parametrize("call", ["pull", "checkpoint", "build image", RESTORE])
async def test_a_deletion_breaks_off_what_is_being_done(
    shop: Shop, podman: FakePodman, call: str
) -> None:
    podman.delay[call] = 0.5
    gone = shop.order().resource
    await until(lambda: shop.asked(call))
    await shop.delete()
    await until(lambda: not shop.kubernetes.has(gone))
    assert podman.containers() == []
    assert podman.pods == {}
    assert list(shop.tools.archives.directory.iterdir()) == []
    assert list(shop.tools.generations.directory.iterdir()) == []
    assert shop.node.disk.reserved_bytes == 0
    assert shop.node.memory.reserved_bytes == 0


async def test_a_deletion_waits_for_a_demo_that_is_being_restored(shop: Shop) -> None:
    actor = shop.order()
    await shop.until_ready()
    generation = actor.generation
    assert generation is not None
    with generation.leased():
        await shop.delete()
        await for_a_while()
        assert generation.is_intact()
    await until(lambda: not generation.directory.exists())


async def test_a_deletion_while_what_waited_is_being_removed_leaves_none_of_it(
    shop: Shop, podman: FakePodman
) -> None:
    """And its leases end, or the deletion would wait for ever."""
    actor = shop.order(warm=2)
    await shop.until_ready()
    await shop.until_stocked(warm=2)
    generation = actor.generation
    assert generation is not None
    for _ in range(2):
        actor.restore_failed(generation, CRIUError("CRIU refused", "a log"))
    gone = actor.resource
    await shop.delete()
    await until(lambda: not shop.kubernetes.has(gone))
    assert podman.containers() == []
    assert generation.leases == 0


async def test_a_deletion_that_podman_hinders_is_tried_again_after_a_pause(
    shop: Shop, podman: FakePodman
) -> None:
    shop.order()
    await shop.until_ready()
    gone = shop.actor.resource
    podman.failures["inspect"] = PodmanUnreachableError("Podman does not answer")
    tries = len(shop.asked("inspect"))
    await shop.delete()
    await until(lambda: "PodmanUnreachable" in shop.kubernetes.reasons())
    await for_a_while()
    assert len(shop.asked("inspect")) - tries < 10, "it must not spin"
    del podman.failures["inspect"]
    shop.clock.forward(minutes=10)
    shop.actor.turn()
    await until(lambda: not shop.kubernetes.has(gone))


async def test_a_deletion_ends_where_the_revision_is_gone(shop: Shop) -> None:
    await shop.kubernetes.delete(shop.revision)
    gone = shop.order().resource
    await until(lambda: "RevisionMissing" in shop.kubernetes.reasons())
    await shop.delete()
    await until(lambda: not shop.kubernetes.has(gone))


async def test_a_change_at_the_last_moment_does_not_hold_up_a_deletion(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    shop.order()
    await shop.until_ready()
    gone = shop.actor.resource
    kubernetes.refusals["PATCH", "nodecheckpoints"] = ConflictError("it has been modified")
    await shop.delete()
    await until(lambda: shop.actor.state.failures == 1)
    kubernetes.refusals.clear()
    shop.clock.forward(minutes=1)
    shop.actor.turn()
    await until(lambda: not kubernetes.has(gone))


# -- storage ---------------------------------------------------------------------------------------


async def test_nothing_is_begun_while_the_storage_is_not_what_it_was(
    shop: Shop, podman: FakePodman
) -> None:
    shop.storage_ok = False
    podman.log.clear()
    shop.order()
    await until(lambda: shop.ready.reason == "StorageChanged")
    await for_a_while()
    assert podman.log == []
    assert "nodeagent node-a" in shop.ready.message
    shop.storage_ok = True
    shop.registry.turn_all()
    await shop.until_ready()


async def test_what_waits_and_lies_here_stays_while_the_storage_is_not_what_it_was(
    shop: Shop,
) -> None:
    actor = shop.order(warm=1)
    await shop.until_ready()
    await shop.until_stocked(warm=1)
    shop.storage_ok = False
    shop.registry.turn_all()
    await until(lambda: shop.ready.reason == "StorageChanged")
    assert actor.generation is None, "no demo is restored"
    assert shop.status.archive is not None
    assert actor.warm_ready == 1
    shop.storage_ok = True
    shop.registry.turn_all()
    await shop.until_ready()


SOURCE = Source(node_name="node-b", url="https://127.0.0.1:1/archives", certificate="none")
"""It gives nothing."""


def _order(content: bytes) -> Fetch:
    return Fetch(archive=make_archive(content), sources=(SOURCE,))


def _flip_a_byte(shop: Shop) -> None:
    content = bytearray(shop.path.read_bytes())
    content[600] ^= 1
    shop.path.write_bytes(content)


async def test_the_scrub_comes_now_and_then(shop: Shop) -> None:
    actor = shop.order()
    await shop.until_ready()
    read_at = actor.state.checked_at
    shop.clock.forward(seconds=shop.tools.settings.scrub_interval.total_seconds())
    actor.turn()
    await until(lambda: actor.state.checked_at > read_at)
    await until(lambda: actor.state.job is None)
    assert shop.clock() - actor.state.checked_at < timedelta(minutes=1).total_seconds()
