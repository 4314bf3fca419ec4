"""Writes reach the object that they are meant for, as it is by now, or nothing at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.builders import make_condition, make_demo, make_node_checkpoint
from tests.unit.fakes import FakeKubernetes
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import NODE_FINALIZER
from tryitnow.kubernetes.errors import (
    ConflictError,
    NamesakeError,
    NotFoundError,
    RefusedError,
)
from tryitnow.kubernetes.objects import UnreadableObject, read_any

READY = DemoInstancePhase.READY


def ready(instance: DemoInstance, **changes: Any) -> dict[str, Any]:
    update = {"phase": READY, "url": "http://a/", **changes}
    return instance.status.model_copy(update=update).to_api()


def replaced(kubernetes: FakeKubernetes, name: str = "demo") -> tuple[DemoInstance, DemoInstance]:
    """An object as it was last seen, and the namesake that somebody made since."""
    seen = kubernetes.put(make_demo(name, uid="first", finalizer=True))
    return seen, kubernetes.put(make_demo(name, uid="second", finalizer=True))


# -- namesakes ------------------------------------------------------------------------------------


async def test_a_status_is_never_written_to_a_namesake(kubernetes: FakeKubernetes) -> None:
    seen, namesake = replaced(kubernetes)
    for write in (
        kubernetes.patch_status(seen, ready(seen)),
        kubernetes.patch_status(seen, ready(seen), only_if_unchanged=True),
        kubernetes.patch_status_fields(seen, {"restarts": 3}),
        kubernetes.patch(seen, {"metadata": {"labels": {"a": "b"}}}),
        kubernetes.add_finalizer(seen.model_copy(update={"metadata": bare(seen)})),
    ):
        with pytest.raises((NotFoundError, ConflictError)):
            await write
    await kubernetes.remove_finalizer(seen)
    await kubernetes.delete(seen)
    await kubernetes.delete(seen, only_if_unchanged=True)
    assert kubernetes.writes == []
    assert kubernetes.find(namesake) == namesake


def bare(instance: DemoInstance) -> Any:
    return instance.metadata.model_copy(update={"finalizers": ()})


async def test_a_namesake_means_that_ours_is_gone(kubernetes: FakeKubernetes) -> None:
    seen, _ = replaced(kubernetes)
    with pytest.raises(NamesakeError, match="another object has its name"):
        await kubernetes.patch_status(seen, ready(seen))
    with pytest.raises(NamesakeError):
        await kubernetes.patch(seen, {"metadata": {"labels": {"a": "b"}}})
    assert issubclass(NamesakeError, NotFoundError), "who expects it to go expects this"


async def test_a_status_write_to_what_is_gone_says_so(kubernetes: FakeKubernetes) -> None:
    seen = make_demo()
    with pytest.raises(NotFoundError):
        await kubernetes.patch_status(seen, ready(seen))


# -- writers beside each other --------------------------------------------------------------------


async def test_what_another_writer_wrote_meanwhile_stays(kubernetes: FakeKubernetes) -> None:
    seen = kubernetes.put(make_demo(node="node-a"))
    await kubernetes.patch_status_fields(seen, {"expiresAt": "2026-01-01T13:00:00Z"})
    written = await kubernetes.patch_status(seen, ready(seen))
    assert written.status.expires_at is not None
    assert (written.status.phase, written.status.node_name) == (READY, "node-a")


async def test_a_status_that_may_not_have_changed_is_refused_when_it_did(
    kubernetes: FakeKubernetes,
) -> None:
    seen = kubernetes.put(make_demo())
    await kubernetes.patch_status_fields(seen, {"restarts": 1})
    with pytest.raises(ConflictError, match="the object has been modified"):
        await kubernetes.patch_status(seen, ready(seen), only_if_unchanged=True)
    assert kubernetes.find(seen).status.url is None


async def test_many_writers_of_one_object_lose_nothing(kubernetes: FakeKubernetes) -> None:
    seen = kubernetes.put(make_node_checkpoint())
    condition = make_condition("Ready").to_api()
    writes: list[dict[str, Any]] = [
        {"restoreFailures": 1},
        {"warmReady": 2},
        {"memoryBytes": 3},
        {"conditions": [condition]},
    ]
    await asyncio.gather(*(kubernetes.patch_status_fields(seen, fields) for fields in writes))
    status = kubernetes.find(seen).status
    assert (status.restore_failures, status.warm_ready, status.memory_bytes) == (1, 2, 3)


async def test_what_is_as_it_should_be_is_not_written(kubernetes: FakeKubernetes) -> None:
    seen = kubernetes.put(make_demo(phase=READY, url="http://a/"))
    assert await kubernetes.patch_status(seen, ready(seen)) is seen
    assert kubernetes.writes == []


async def test_a_finalizer_leaves_those_of_others(kubernetes: FakeKubernetes) -> None:
    seen = kubernetes.put(make_demo())
    metadata = seen.metadata.model_copy(update={"finalizers": ("example.com/theirs",)})
    kubernetes.put(seen.model_copy(update={"metadata": metadata}))
    held = await kubernetes.add_finalizer(seen)
    assert held.metadata.finalizers == ("example.com/theirs", NODE_FINALIZER)
    assert await kubernetes.add_finalizer(held) is held
    await kubernetes.remove_finalizer(held)
    assert kubernetes.find(seen).metadata.finalizers == ("example.com/theirs",)


async def test_letting_go_of_what_changed_is_for_the_next_look(kubernetes: FakeKubernetes) -> None:
    seen = kubernetes.put(make_demo(finalizer=True))
    await kubernetes.patch_status_fields(seen, {"restarts": 1})
    with pytest.raises(ConflictError):
        await kubernetes.remove_finalizer(seen)


# -- deletion -------------------------------------------------------------------------------------


async def test_what_changed_since_is_not_deleted_where_that_matters(
    kubernetes: FakeKubernetes,
) -> None:
    seen = kubernetes.put(make_demo())
    await kubernetes.patch_status_fields(seen, {"restarts": 1})
    with pytest.raises(ConflictError):
        await kubernetes.delete(seen, only_if_unchanged=True)
    assert kubernetes.has(seen)
    await kubernetes.delete(seen)
    assert not kubernetes.has(seen)
    await kubernetes.delete(seen)


async def test_an_object_that_cannot_be_read_is_let_go_by_its_metadata(
    kubernetes: FakeKubernetes,
) -> None:
    instance = make_demo(finalizer=True, deleting=True)
    body = {**instance.to_api(), "spec": {"of": "a newer version"}}
    kubernetes.put_body(DemoInstance, body)
    [strange] = (await kubernetes.list_all(DemoInstance)).unreadable_objects
    assert strange.problem.startswith("spec.checkpointRef: Field required")
    await kubernetes.remove_finalizer(strange)
    assert not kubernetes.has(instance)
    await kubernetes.remove_finalizer(strange)


async def test_what_is_created_has_no_status_and_no_namesake(kubernetes: FakeKubernetes) -> None:
    body = make_demo(phase=READY).to_api()
    made = await kubernetes.create(DemoInstance, body)
    assert made.status.phase is DemoInstancePhase.PENDING
    with pytest.raises(ConflictError, match="already exists"):
        await kubernetes.create(DemoInstance, body)


async def test_a_refusal_is_no_namesake(kubernetes: FakeKubernetes) -> None:
    kubernetes.refusals["PATCH", "demoinstances"] = RefusedError("no", fields=("spec.ttl",))
    with pytest.raises(RefusedError):
        await kubernetes.patch(kubernetes.put(make_demo()), {"spec": {"ttl": "-1s"}})


# -- lists ----------------------------------------------------------------------------------------


async def test_a_long_list_comes_in_pages(
    kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tryitnow.kubernetes.reading.PAGE_SIZE", 3)
    for number in range(10):
        kubernetes.put(make_demo(f"demo-{number}", namespace="a" if number < 4 else "b"))
    found = await kubernetes.list_all(DemoInstance)
    assert len(found.items) == 10
    assert len((await kubernetes.list_all(DemoInstance, namespace="a")).items) == 4


async def test_a_list_whose_rest_was_forgotten_is_read_anew(
    kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tryitnow.kubernetes.reading.PAGE_SIZE", 3)
    for number in range(10):
        kubernetes.put(make_demo(f"demo-{number}"))
    listing = asyncio.create_task(kubernetes.list_all(DemoInstance))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    kubernetes.forget_pages()
    assert len((await listing).items) == 10


async def test_a_cluster_that_goes_back_was_restored(kubernetes: FakeKubernetes) -> None:
    old = kubernetes.put(make_demo("old"))
    backup = kubernetes.backup()
    assert not (await kubernetes.list_all(DemoInstance)).was_restored
    kubernetes.put(make_demo("new"))
    newest = await kubernetes.list_all(DemoInstance)
    assert not newest.was_restored
    kubernetes.restore(backup)
    listing = await kubernetes.list_all(DemoInstance)
    assert listing.was_restored
    assert listing.resource_version < newest.resource_version
    assert [each.key for each in listing.items] == [old.key]
    assert not (await kubernetes.list_all(DemoInstance)).was_restored, "it is said once"


def test_metadata_is_read_of_whatever_there_is() -> None:
    body = {"metadata": {"name": "x", "uid": "1", "resourceVersion": "7"}}
    found = read_any(DemoInstance, body)
    assert isinstance(found, UnreadableObject)
    assert (found.key.name, found.is_deleting, found.has_finalizer) == ("x", False, False)


# -- what others wrote ----------------------------------------------------------------------------


async def test_no_status_steers_a_terminal(kubernetes: FakeKubernetes) -> None:
    hostile = make_condition("Ready", message="it said \x1b[2J\u202eok\nand more")
    seen = kubernetes.put(make_demo())
    whole = await kubernetes.patch_status(seen, ready(seen, conditions=(hostile,)))
    (condition,) = whole.status.conditions
    assert condition.message == "it said ok\nand more"
    count = len(kubernetes.writes)
    assert await kubernetes.patch_status(whole, ready(whole, conditions=(hostile,))) == whole
    assert len(kubernetes.writes) == count, "the same again is no write"
    fields = {"conditions": [hostile.model_dump(mode="json", by_alias=True, exclude_none=True)]}
    part = await kubernetes.patch_status_fields(seen, fields)
    assert part.status.conditions[0].message == "it said ok\nand more"
