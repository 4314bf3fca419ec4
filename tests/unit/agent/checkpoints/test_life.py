"""A NodeCheckpoint's life: built or fetched, prepared, tested on this node, and only then Ready."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.agent.checkpoints.shop import SOURCE, Shop, fetch_order, for_a_while, until
from tests.unit.builders import PINNED, make_archive, make_checkpoint_of, make_export
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.approvals import Approvals
from tryitnow.agent.checkpoints.plan import RETEST_AFTER
from tryitnow.agent.checkpoints.tools import AT_ONCE
from tryitnow.agent.node import Node
from tryitnow.agent.revisions import Revisions
from tryitnow.agent.sandbox.names import Role, work_name
from tryitnow.api.archive import Versions
from tryitnow.api.nodecheckpoint import Fetch, NodeCheckpointPhase
from tryitnow.podman.errors import (
    CRIUError,
    NodeLimitError,
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


async def test_nothing_is_built_once_its_checkpoint_is_gone(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    """Only the controller could order it then; what was approved is still restored."""
    await shop.tools.revisions.get(shop.revision.key)
    kubernetes.vanish(make_checkpoint_of(shop.revision))
    shop.order()
    await until(lambda: shop.ready.reason == "RevisionMissing")
    assert not shop.asked("pull", "create")


async def test_an_archive_that_is_too_large_is_not_fetched(shop: Shop) -> None:
    large = make_archive(unpacked_bytes=1 << 49)
    shop.order(fetch=Fetch(archive=large, sources=(SOURCE,)))
    await until(lambda: "raise agent.maxCheckpointSize" in shop.ready.message)
    assert not list(shop.tools.archives.directory.iterdir())


@pytest.mark.parametrize("fetch", [None, Fetch(archive=make_archive(), sources=(SOURCE,))])
async def test_nothing_is_made_of_a_registry_that_is_not_allowed(
    shop: Shop, node: Node, kubernetes: FakeKubernetes, fetch: Fetch | None
) -> None:
    approvals = Approvals(node.settings.revisions_path)
    strict = Revisions(kubernetes, approvals, ("allowed.example",))
    shop.tools.revisions.expect_allowed = strict.expect_allowed  # type: ignore[method-assign]
    shop.order(fetch=fetch)
    await until(lambda: shop.ready.reason == "RegistryNotAllowed")
    assert "agent.images.allowedRegistries: allowed.example" in shop.ready.message
    assert not shop.asked("pull", "create")


async def test_an_archive_of_foreign_images_is_not_fetched(shop: Shop) -> None:
    foreign = f"evil.example/shop@sha256:{'9' * 64}"
    shop.order(fetch=Fetch(archive=make_archive(image=foreign), sources=(SOURCE,)))
    await until(lambda: "which is no image of" in shop.ready.message)
    assert not shop.asked("pull", "create")


async def test_it_is_not_ready_before_the_test_restore_has_answered(
    shop: Shop, podman: FakePodman
) -> None:
    podman.delay[RESTORE] = 0.3
    actor = shop.order()
    await shop.until_phase(Phase.VERIFYING)
    assert shop.ready.status == "False"
    assert actor.generation is None, "no demo may be restored yet"
    await shop.until_ready()


async def test_the_phases_are_reported_in_their_order(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    reported: list[str] = []
    watch = kubernetes.on_write

    def seen(resource: object) -> None:
        watch(resource)  # type: ignore[arg-type]
        if not reported or reported[-1] != shop.status.phase:
            reported.append(shop.status.phase)

    kubernetes.on_write = seen
    shop.order()
    await shop.until_ready()
    assert reported == [Phase.BUILDING, Phase.PREPARING, Phase.VERIFYING, Phase.READY]


async def test_an_archive_that_is_fetched_is_tested_on_this_node_before_it_is_ready(
    shop: Shop, podman: FakePodman
) -> None:
    """The file is here already, so that nobody is asked for it."""
    content = make_export()
    shop.tools.archives.write(shop.file, iter([content]))
    actor = shop.order(fetch=fetch_order(content))
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
    shop.order(fetch=fetch_order(content))
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
    actor = shop.order(fetch=fetch_order(content))
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


@pytest.mark.parametrize(
    "changed",
    [
        {"kernel": "6.19"},
        {"criu": "4.3"},
        {"podman": "6.0"},
        {"runtime": "crun 2"},
        {"cpu_features": ("avx", "avx2", "fxsr", "xsave")},
    ],
    ids=lambda changed: str(next(iter(changed))),
)
async def test_it_is_tested_again_when_the_node_changed_and_restores_nothing_before(
    shop: Shop, podman: FakePodman, changed: dict[str, Any]
) -> None:
    actor = shop.order()
    await shop.until_ready()
    restores = len(shop.asked(RESTORE))
    podman.delay[RESTORE] = 0.1
    shop.has_software(**changed)
    assert actor.generation is None, "no demo may be restored yet"
    assert actor.is_ready, "it is held all the same: nobody builds it anew or throws it away"
    await actor.retested()
    assert actor.generation is not None
    assert len(shop.asked(RESTORE)) == restores + 1
    await until(lambda: shop.status.verified_with == shop.node.health.current.versions)
    await for_a_while()
    assert len(shop.asked(RESTORE)) == restores + 1


async def test_the_condition_says_that_a_test_is_under_way(shop: Shop, podman: FakePodman) -> None:
    shop.order()
    await shop.until_ready()
    podman.delay[RESTORE] = 0.3
    shop.has_software(kernel="6.19")
    await until(lambda: "under way" in shop.ready.message)
    assert shop.ready.status == "True"
    await until(lambda: shop.ready.message == "a test restore answered on this node")


async def test_software_that_is_not_known_is_no_other_software(shop: Shop) -> None:
    """A Podman that is too busy to say its version."""
    actor = shop.order()
    await shop.until_ready()
    restores = len(shop.asked(RESTORE))
    shop.has_software(podman="", runtime="")
    await for_a_while()
    assert actor.generation is not None
    assert len(shop.asked(RESTORE)) == restores


# -- processors ------------------------------------------------------------------------------------


async def test_what_was_made_on_another_processor_is_not_even_fetched(shop: Shop) -> None:
    order = fetch_order(b"of a newer processor")
    features = ("avx", "avx2", "avx512f", "fxsr", "xsave")
    archive = order.archive.model_copy(update={"versions": Versions(cpu_features=features)})
    shop.order(fetch=order.model_copy(update={"archive": archive}))
    await until(lambda: shop.ready.reason == "WrongProcessor")
    assert "lacks avx2, avx512f" in shop.ready.message
    assert "nodeSelector" in shop.ready.message
    assert shop.status.phase is Phase.PENDING
    await for_a_while()
    assert not shop.path.exists()
    assert shop.kubernetes.reasons().count("WrongProcessor") == 1
    shop.has_software(cpu_features=features)
    await until(lambda: shop.ready.reason != "WrongProcessor")


async def test_a_processor_that_lost_a_feature_takes_the_archive_out_of_service(
    shop: Shop,
) -> None:
    """As a virtual machine that was moved to an older machine."""
    actor = shop.order(warm=1)
    await shop.until_ready()
    await shop.until_stocked(warm=1)
    restores = len(shop.asked(RESTORE))
    shop.has_software(cpu_features=("fxsr",))
    await shop.until_phase(Phase.QUARANTINED)
    assert shop.ready.reason == "WrongProcessor"
    assert "avx, xsave" in shop.ready.message
    assert actor.generation is None
    await until(lambda: actor.stock_size == 0)
    assert len(shop.asked(RESTORE)) == restores, "nothing is tried"
    assert shop.path.exists(), "it is not thrown away"
    shop.has_software(cpu_features=("avx", "fxsr", "xsave"))
    await shop.until_ready()


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
    text = shop.ready
    await shop.starts_again()
    await shop.until_calm()
    await for_a_while()
    assert shop.status.phase is Phase.FAILED
    assert (shop.ready.reason, shop.ready.message) == (text.reason, text.message)
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
    shop.change(fetch=fetch_order(content))
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


async def test_what_is_reported_on_the_way_is_not_worth_the_build(
    shop: Shop, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    """The API server is away while it is built, and there again when it is done."""
    podman.delay["checkpoint"] = 0.2
    shop.order()
    await shop.until_phase(Phase.BUILDING)
    await until(lambda: shop.asked("checkpoint"))
    kubernetes.is_down = True
    await until(lambda: shop.actor.is_ready, "ready, though the API server is away")
    kubernetes.is_down = False
    await shop.until_ready()
    assert len(shop.asked("checkpoint")) == 1
