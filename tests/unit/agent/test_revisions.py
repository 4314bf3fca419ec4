"""Revisions: read once, believed only when an author wrote what their identity says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.builders import (
    PINNED,
    make_checkpoint_of,
    make_definition,
    make_node_checkpoint,
    make_revision,
)
from tests.unit.fakes import FakeKubernetes
from tryitnow.agent.approvals import MOST, Approvals
from tryitnow.agent.revisions import (
    RegistryNotAllowedError,
    RevisionError,
    Revisions,
    UnconfirmedError,
)
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.nodecheckpoint import NodeCheckpointPhase
from tryitnow.kubernetes.errors import KubernetesError, NotFoundError


@pytest.fixture
def approvals(tmp_path: Path) -> Approvals:
    approvals = Approvals(tmp_path / "revisions")
    approvals.open()
    return approvals


@pytest.fixture
def revisions(kubernetes: FakeKubernetes, approvals: Approvals) -> Revisions:
    return Revisions(kubernetes, approvals)


@pytest.fixture
def written(kubernetes: FakeKubernetes) -> CheckpointRevision:
    """A revision whose definition stands in a Checkpoint."""
    revision = kubernetes.put(make_revision())
    kubernetes.put(make_checkpoint_of(revision))
    return revision


def forged(kubernetes: FakeKubernetes) -> CheckpointRevision:
    """A revision as one makes it who has the controller's token: its identity is right."""
    kubernetes.put(make_checkpoint_of(make_revision()))
    definition = make_definition(image="evil.example/shop:1")
    return kubernetes.put(make_revision(definition=definition, number=2))


async def test_a_revision_that_was_read_needs_no_api_server(
    revisions: Revisions, kubernetes: FakeKubernetes, written: CheckpointRevision
) -> None:
    assert (await revisions.get(written.key)).definition == written.definition
    kubernetes.is_down = True
    assert (await revisions.get(written.key)).definition == written.definition


async def test_its_images_are_asked_for_until_it_has_them(
    revisions: Revisions, kubernetes: FakeKubernetes, written: CheckpointRevision
) -> None:
    key = written.key
    assert (await revisions.get(key, need_images=True)).status.images == {}
    kubernetes.put(make_revision(images={"shop": PINNED}))
    assert (await revisions.get(key)).status.images == {}, "whoever needs none is not kept waiting"
    assert (await revisions.get(key, need_images=True)).status.images == {"shop": PINNED}
    kubernetes.is_down = True
    assert (await revisions.get(key, need_images=True)).status.images == {"shop": PINNED}


async def test_without_an_api_server_an_unknown_revision_is_an_error(
    revisions: Revisions, kubernetes: FakeKubernetes, written: CheckpointRevision
) -> None:
    kubernetes.is_down = True
    with pytest.raises(KubernetesError):
        await revisions.get(written.key)
    kubernetes.is_down = False
    assert await revisions.get(written.key)


async def test_one_that_is_not_there_is_not_remembered_as_such(
    revisions: Revisions, kubernetes: FakeKubernetes
) -> None:
    revision = make_revision()
    kubernetes.put(make_checkpoint_of(revision))
    with pytest.raises(NotFoundError):
        await revisions.get(revision.key)
    kubernetes.put(revision)
    assert await revisions.get(revision.key)


async def test_a_definition_that_was_changed_by_hand_is_not_run(
    revisions: Revisions, kubernetes: FakeKubernetes, written: CheckpointRevision
) -> None:
    changed = written.spec.model_copy(update={"definition": make_definition(image="evil:1")})
    kubernetes.put(written.model_copy(update={"spec": changed}))
    with pytest.raises(RevisionError, match=r"changed by hand.*Delete it"):
        await revisions.get(written.key)
    kubernetes.put(written)
    assert await revisions.get(written.key)


async def test_a_revision_under_another_ones_name_is_not_run(
    revisions: Revisions, kubernetes: FakeKubernetes, written: CheckpointRevision
) -> None:
    other = make_revision(definition=make_definition(image="evil:1"))
    kubernetes.put(other.model_copy(update={"metadata": written.metadata}))
    with pytest.raises(RevisionError, match="changed by hand"):
        await revisions.get(written.key)


async def test_those_that_are_used_are_remembered_before_others(
    revisions: Revisions, kubernetes: FakeKubernetes
) -> None:
    def put(name: str) -> CheckpointRevision:
        revision = kubernetes.put(make_revision(name))
        kubernetes.put(make_checkpoint_of(revision))
        return revision

    used = put("used").key
    await revisions.get(used)
    for number in range(600):
        await revisions.get(put(f"other-{number}").key)
        await revisions.get(used)
    kubernetes.is_down = True
    assert await revisions.get(used)
    with pytest.raises(KubernetesError):
        await revisions.get(make_revision("other-0").key)


async def test_images_of_other_repositories_are_not_started(
    revisions: Revisions, kubernetes: FakeKubernetes, written: CheckpointRevision
) -> None:
    """The controller writes the status of a revision, and cold starts use its images."""
    kubernetes.put(make_revision(images={"shop": f"evil.example/shop@sha256:{'9' * 64}"}))
    with pytest.raises(RevisionError, match="which is no image of"):
        await revisions.get(written.key)
    kubernetes.put(make_revision(images={"shop": PINNED}))
    assert await revisions.get(written.key)


# -- who vouches for one --------------------------------------------------------------------------


async def test_what_only_the_controller_says_is_not_run(
    revisions: Revisions, kubernetes: FakeKubernetes
) -> None:
    revision = forged(kubernetes)
    with pytest.raises(UnconfirmedError, match="nobody confirms that an author wrote it"):
        await revisions.get(revision.key)


async def test_nor_with_a_node_checkpoint_that_the_controller_ordered(
    revisions: Revisions, kubernetes: FakeKubernetes
) -> None:
    revision = forged(kubernetes)
    for phase in set(NodeCheckpointPhase) - {NodeCheckpointPhase.READY}:
        kubernetes.put(make_node_checkpoint("node-b", revision=revision.spec.identity, phase=phase))
        with pytest.raises(UnconfirmedError):
            await revisions.get(revision.key)


async def test_nor_for_a_checkpoint_that_does_not_exist(
    revisions: Revisions, kubernetes: FakeKubernetes
) -> None:
    revision = kubernetes.put(make_revision())
    with pytest.raises(NotFoundError):
        await revisions.get(revision.key)
    # Another Checkpoint of the name of one that was deleted.
    kubernetes.put(make_checkpoint_of(make_revision(uid="another-uid")))
    with pytest.raises(NotFoundError, match="is gone"):
        await revisions.get(revision.key)


async def test_nor_while_the_checkpoint_cannot_be_read(
    revisions: Revisions, kubernetes: FakeKubernetes, written: CheckpointRevision
) -> None:
    body = make_checkpoint_of(written).to_api()
    body["spec"]["template"] = "of a newer version"
    kubernetes.put_body(Checkpoint, body)
    with pytest.raises(UnconfirmedError, match="does not fit this version"):
        await revisions.get(written.key)


async def test_an_older_revision_is_one_that_another_agent_restored(
    revisions: Revisions, kubernetes: FakeKubernetes
) -> None:
    """It serves until the next is built, also on a node that is new."""
    older = kubernetes.put(make_revision())
    kubernetes.put(
        make_checkpoint_of(make_revision(definition=make_definition(image="shop:2"), number=2))
    )
    with pytest.raises(UnconfirmedError):
        await revisions.get(older.key)
    kubernetes.put(make_node_checkpoint("node-b", revision=older.spec.identity))
    assert await revisions.get(older.key)


async def test_what_was_approved_outlives_its_checkpoint_and_the_agent(
    revisions: Revisions,
    kubernetes: FakeKubernetes,
    approvals: Approvals,
    written: CheckpointRevision,
) -> None:
    await revisions.get(written.key)
    kubernetes.vanish(make_checkpoint_of(written))
    next_agent = Revisions(kubernetes, approvals)
    assert await next_agent.get(written.key), "its demos run on, and have hooks"
    with pytest.raises(NotFoundError):
        await next_agent.expect_live(written)


def test_approvals_are_forgotten_when_there_are_many_and_nothing_needs_them(
    approvals: Approvals, tmp_path: Path
) -> None:
    approvals.add("needed")
    approvals.add("once")
    approvals.trim({"needed"})
    assert approvals.has("once"), "there are few"
    for number in range(MOST):
        (tmp_path / "revisions" / f"{number:032x}").touch()  # as add, without its fsync
    approvals.trim({"needed"})
    assert approvals.has("needed")
    assert not approvals.has("once")


def test_an_image_of_another_registry_is_refused_with_the_way_out(
    kubernetes: FakeKubernetes, approvals: Approvals
) -> None:
    shop = make_revision(definition=make_definition(image="evil.example/shop:1"))
    allowed = ("registry.example", "docker.io/library")
    with pytest.raises(RegistryNotAllowedError) as refused:
        Revisions(kubernetes, approvals, allowed).expect_allowed(shop)
    assert str(refused.value) == (
        "spec.template.containers[0].image: evil.example/shop:1 is of no registry that the "
        "administrator allows (agent.images.allowedRegistries: registry.example, "
        "docker.io/library). Use an image of one of these, or have an administrator add its "
        "registry"
    )
    Revisions(kubernetes, approvals, (*allowed, "evil.example")).expect_allowed(shop)
    Revisions(kubernetes, approvals).expect_allowed(shop)
