"""A deletion ends, and leaves nothing; storage that is not what it was is left alone."""

from __future__ import annotations

import pytest

from tests.unit.agent.checkpoints.shop import Shop, for_a_while, until
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.sandbox.names import Role
from tryitnow.api.nodecheckpoint import NodeCheckpointPhase
from tryitnow.kubernetes.errors import ConflictError
from tryitnow.podman.errors import (
    CRIUError,
    PodmanUnreachableError,
)

Phase = NodeCheckpointPhase

RESTORE = "restore prepared"
"""How the fake Podman calls a restore into a pre-created container."""


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


async def test_a_deletion_waits_for_what_goes_late(shop: Shop, podman: FakePodman) -> None:
    """Found by a seed: it took the files of a namesake, which has the same names."""
    actor = shop.order()
    await shop.until_ready()
    generation, gone = actor.generation, actor.resource
    assert generation is not None
    podman.delay["remove_image"] = 0.3
    with generation.leased():
        shop.path.unlink()
        actor.archive_changed()
        await shop.until_phase(Phase.QUARANTINED)
        await shop.delete()
        await for_a_while()
        assert shop.kubernetes.has(gone), "a demo is being restored from it"
    await for_a_while()
    assert shop.kubernetes.has(gone), "its images are being removed"
    await until(lambda: not shop.kubernetes.has(gone))
    assert not generation.directory.exists()
    assert podman.images == set()


async def test_a_deletion_removes_what_an_agent_before_left_waiting(
    shop: Shop, podman: FakePodman
) -> None:
    """It was deleted while no agent ran: the next one has not looked through what waits."""
    gone = shop.order(warm=1).resource
    await shop.until_ready()
    await shop.until_stocked(warm=1)
    await shop.ends()
    await shop.delete()
    shop.new_agent().seen(shop.kubernetes.find(gone))
    await until(lambda: not shop.kubernetes.has(gone))
    assert podman.containers() == []
    assert podman.pods == {}
    assert list(shop.node.volumes.directory.iterdir()) == []


async def test_a_deletion_goes_on_when_a_warm_sandbox_ends_meanwhile(
    shop: Shop, podman: FakePodman, caplog: pytest.LogCaptureFixture
) -> None:
    actor = shop.order(warm=2)
    await shop.until_ready()
    await shop.until_stocked(warm=2)
    gone, names = actor.resource, shop.sandboxes(Role.WARM)
    podman.delay["remove pod"] = 0.05
    await shop.delete()
    await until(lambda: shop.node.sandboxes.pods_in_work)
    actor.resync(ended=set(names), gone=set())
    await until(lambda: not shop.kubernetes.has(gone))
    assert "unexpected error" not in caplog.text
    assert podman.pods == {}


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


async def test_one_that_ends_while_what_waits_is_being_removed_hinders_nothing(
    shop: Shop, podman: FakePodman, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by a seed: the removal took the next one for the one that had just been removed."""
    actor = shop.order(warm=1)
    await shop.until_ready()
    await shop.until_stocked(warm=1)
    [warm] = shop.sandboxes(Role.WARM)
    podman.delay["remove pod"] = 0.2
    podman.log.clear()
    await shop.delete()
    await until(lambda: shop.asked("remove pod"))
    actor.resync(ended={warm}, gone=set())
    await until(lambda: not shop.kubernetes.has(actor.resource))
    assert "unexpected error" not in caplog.text
