"""What is damaged is found and made again; what is not is never blamed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.agent.checkpoints.shop import Shop, fetch_order, for_a_while, until
from tests.unit.builders import make_archive, make_export
from tests.unit.fakes import FakePodman
from tryitnow.agent.sandbox.names import Role
from tryitnow.api.nodecheckpoint import NodeCheckpointPhase
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


# -- damage ----------------------------------------------------------------------------------------


async def test_an_archive_with_a_flipped_byte_is_taken_out_of_service_and_removed(
    shop: Shop,
) -> None:
    actor = shop.order()
    await shop.until_ready()
    _flip_a_byte(shop)
    assert actor.is_touched()
    actor.archive_changed()
    await shop.until_phase(Phase.QUARANTINED)
    assert shop.ready.reason == "ArchiveDamaged"
    assert shop.status.archive is None
    assert shop.registry.find_archive(make_archive(make_export()).sha256) is None
    assert not shop.path.exists()
    assert actor.generation is None
    assert not actor.is_touched(), "it was said once"


async def test_a_damaged_archive_is_fetched_again(shop: Shop) -> None:
    content = make_export()
    shop.tools.archives.write(shop.file, iter([content]))
    actor = shop.order(fetch=fetch_order(content))
    await shop.until_ready()
    _flip_a_byte(shop)
    actor.archive_changed()
    await until(lambda: "QuarantinedArchiveDamaged" in shop.kubernetes.reasons())
    await until(lambda: not shop.path.exists())
    shop.tools.archives.write(shop.file, iter([content]))  # what its source gives
    shop.clock.forward(minutes=10)
    actor.turn()
    await shop.until_ready()


async def test_why_a_damaged_archive_is_not_here_again_is_reported_beside_the_damage(
    shop: Shop,
) -> None:
    content = make_export()
    shop.tools.archives.write(shop.file, iter([content]))
    actor = shop.order(fetch=fetch_order(content))
    await shop.until_ready()
    _flip_a_byte(shop)
    actor.archive_changed()
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
    actor.archive_changed()
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
    actor.archive_changed()
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
    actor.resync(ended=set(), gone=actor.stock_names)
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
    actor.archive_changed()
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
    actor = shop.order(fetch=fetch_order(content))
    await shop.until_ready()
    old = actor.generation
    assert old is not None
    newer = make_export(b"a newer shop")
    shop.tools.archives.write(shop.file, iter([newer]))
    shop.change(fetch=fetch_order(newer))
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
        actor.archive_changed()
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
    actor.archive_changed()
    await until(lambda: actor.generation not in {None, old})
    await until(lambda: not old.directory.exists())
    new = actor.generation
    assert new is not None
    assert set(new.images.values()) <= podman.images


async def test_the_scrub_comes_now_and_then(shop: Shop) -> None:
    actor = shop.order()
    await shop.until_ready()
    read_at = actor.state.checked_at
    shop.clock.forward(seconds=shop.tools.settings.scrub_interval.total_seconds())
    actor.turn()
    await until(lambda: actor.state.checked_at > read_at)
    await until(lambda: actor.state.job is None)
    assert shop.clock() - actor.state.checked_at < timedelta(minutes=1).total_seconds()


def _flip_a_byte(shop: Shop) -> None:
    content = bytearray(shop.path.read_bytes())
    content[600] ^= 1
    shop.path.write_bytes(content)
