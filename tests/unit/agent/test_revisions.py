"""Revisions: read once, believed only when they are what their identity says."""

from __future__ import annotations

import pytest

from tests.unit.builders import PINNED, make_definition, make_revision
from tests.unit.fakes import FakeKubernetes
from tryitnow.agent.revisions import RevisionError, Revisions
from tryitnow.kubernetes.errors import KubernetesError, NotFoundError


@pytest.fixture
def revisions(kubernetes: FakeKubernetes) -> Revisions:
    return Revisions(kubernetes)


async def test_a_revision_that_was_read_needs_no_api_server(
    revisions: Revisions, kubernetes: FakeKubernetes
) -> None:
    revision = kubernetes.put(make_revision())
    assert (await revisions.get(revision.key)).definition == revision.definition
    kubernetes.is_down = True
    assert (await revisions.get(revision.key)).definition == revision.definition


async def test_its_images_are_asked_for_until_it_has_them(
    revisions: Revisions, kubernetes: FakeKubernetes
) -> None:
    key = kubernetes.put(make_revision()).key
    assert (await revisions.get(key, need_images=True)).status.images == {}
    kubernetes.put(make_revision(images={"shop": PINNED}))
    assert (await revisions.get(key)).status.images == {}, "whoever needs none is not kept waiting"
    assert (await revisions.get(key, need_images=True)).status.images == {"shop": PINNED}
    kubernetes.is_down = True
    assert (await revisions.get(key, need_images=True)).status.images == {"shop": PINNED}


async def test_without_an_api_server_an_unknown_revision_is_an_error(
    revisions: Revisions, kubernetes: FakeKubernetes
) -> None:
    key = kubernetes.put(make_revision()).key
    kubernetes.is_down = True
    with pytest.raises(KubernetesError):
        await revisions.get(key)
    kubernetes.is_down = False
    assert await revisions.get(key)


async def test_one_that_is_not_there_is_not_remembered_as_such(
    revisions: Revisions, kubernetes: FakeKubernetes
) -> None:
    revision = make_revision()
    with pytest.raises(NotFoundError):
        await revisions.get(revision.key)
    kubernetes.put(revision)
    assert await revisions.get(revision.key)


async def test_a_definition_that_was_changed_by_hand_is_not_run(
    revisions: Revisions, kubernetes: FakeKubernetes
) -> None:
    revision = make_revision()
    changed = revision.spec.model_copy(update={"definition": make_definition(image="evil:1")})
    kubernetes.put(revision.model_copy(update={"spec": changed}))
    with pytest.raises(RevisionError, match=r"changed by hand.*Delete it"):
        await revisions.get(revision.key)
    kubernetes.put(revision)
    assert await revisions.get(revision.key)


async def test_those_that_are_used_are_remembered_before_others(
    revisions: Revisions, kubernetes: FakeKubernetes
) -> None:
    used = kubernetes.put(make_revision("used")).key
    await revisions.get(used)
    for number in range(600):
        await revisions.get(kubernetes.put(make_revision(f"other-{number}")).key)
        await revisions.get(used)
    kubernetes.is_down = True
    assert await revisions.get(used)
    with pytest.raises(KubernetesError):
        await revisions.get(make_revision("other-0").key)
