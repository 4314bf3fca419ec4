"""From the request to a demo that is ready, or to a reason that a caller can act on."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.builders import make_demo
from tests.unit.client.cluster import READY, answer, failing, refuse
from tests.unit.fakes import FakeKubernetes
from tryitnow.api.demoinstance import DemoInstance, StartedBy
from tryitnow.api.meta import Key, Resource
from tryitnow.client import (
    AsyncClient,
    CheckpointNotFoundError,
    Client,
    ClusterUnreachableError,
    DemoError,
    DemoExpiredError,
    DemoFailedError,
    DemoGoneError,
    DemoTimeoutError,
    InvalidRequestError,
    NameTakenError,
    NotAllowedError,
    QuotaExceededError,
    demo,
)
from tryitnow.client.starting import wait_ready
from tryitnow.kubernetes.errors import (
    ConflictError,
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    RefusedError,
    TooOldError,
)

KEY = Key("shops", "annas")


async def test_it_is_ready_with_its_url_and_gone_after_the_block(reached: FakeKubernetes) -> None:
    answer(reached, READY)
    async with demo("shop", name="annas", ttl="10m") as running:
        assert running.url == "http://node-a:20000"
        assert (running.namespace, running.name, running.node) == ("shops", "annas", "node-a")
        assert running.started_by is StartedBy.WARM
        stored = await reached.get(DemoInstance, KEY)
        assert stored.spec.ttl == timedelta(minutes=10)
    assert not reached.has(running.instance)


def test_without_asyncio_it_is_the_same(reached: FakeKubernetes) -> None:
    answer(reached, READY)
    with demo("shop", name="annas") as running:
        assert running.url == "http://node-a:20000"
        assert [d.metadata.name for d in Client().demos()] == ["annas"]
    assert not reached.has(running.instance)


async def test_without_asyncio_it_does_not_block_a_running_loop(reached: FakeKubernetes) -> None:
    with pytest.raises(RuntimeError, match="async with"), demo("shop"):
        pass
    assert reached.writes == []


@pytest.mark.usefixtures("reached")
async def test_it_is_gone_after_a_block_that_failed(reached: FakeKubernetes) -> None:
    answer(reached, READY)
    with pytest.raises(ZeroDivisionError):
        async with demo("shop", name="annas"):
            raise ZeroDivisionError
    assert (await reached.list_all(DemoInstance)).items == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (failing("Ready", "CheckpointNotFound"), CheckpointNotFoundError),
        (failing("Stalled", "InvalidParameters"), InvalidRequestError),
        (failing("Stalled", "ImagePullFailed"), DemoFailedError),
    ],
)
async def test_one_that_never_will_be_ready_is_reported_and_deleted(
    reached: FakeKubernetes, status: dict[str, Any], expected: type[DemoError]
) -> None:
    answer(reached, status)
    with pytest.raises(expected, match="look here"):
        async with demo("shop"):
            pass
    assert (await reached.list_all(DemoInstance)).items == []


async def test_a_late_one_says_what_it_waits_for(reached: FakeKubernetes) -> None:
    answer(reached, failing("Ready", "NoRoom"))
    with pytest.raises(DemoTimeoutError, match="NoRoom: look here") as reported:
        async with demo("shop", timeout="500ms"):
            pass
    assert reported.value.reason == "NoRoom"
    assert (await reached.list_all(DemoInstance)).items == []


async def test_a_late_one_can_be_left_for_inspection(reached: FakeKubernetes) -> None:
    answer(reached, failing("Ready", "NoRoom"))
    async with AsyncClient() as client:
        with pytest.raises(DemoTimeoutError):
            await client.start("shop", timeout="50ms", keep_failed=True)
        assert len(await client.demos()) == 1


async def test_one_whose_caller_gives_up_is_deleted(reached: FakeKubernetes) -> None:
    async with AsyncClient() as client:
        starting = asyncio.create_task(client.start("shop", keep_failed=True))
        await reached.watched.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert await client.demos() == []


@pytest.mark.parametrize("name", [None, "annas"])
async def test_one_whose_creation_was_not_answered_is_not_left_behind(
    reached: FakeKubernetes, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    create = reached.create

    async def unanswered(*args: Any, **words: Any) -> None:
        await create(*args, **words)
        msg = "the API server does not answer"
        raise KubernetesError(msg)

    monkeypatch.setattr(reached, "create", unanswered)
    async with AsyncClient() as client:
        with pytest.raises(ClusterUnreachableError):
            await client.start("shop", name=name)
        left = [found.metadata.name for found in await client.demos()]
    assert left == ([] if name is None else [name]), "one of a given name may be another's"


async def test_whoever_is_cancelled_again_and_again_leaves_nothing(
    reached: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As anyio cancels: at each step, until the task has ended."""
    answer(reached, READY)
    delete = reached.delete

    async def slowly(resource: Resource) -> None:
        await asyncio.sleep(0.05)
        await delete(resource)

    monkeypatch.setattr(reached, "delete", slowly)
    inside = asyncio.Event()

    async def visit() -> None:
        async with demo("shop", name="annas"):
            inside.set()
            await asyncio.Event().wait()

    visiting = asyncio.create_task(visit())
    await inside.wait()
    while not visiting.done():
        visiting.cancel()
        await asyncio.sleep(0)
    assert reached.writes
    with pytest.raises(NotFoundError):
        await reached.get(DemoInstance, KEY)


async def test_without_asyncio_it_is_deleted_though_a_loop_has_begun_to_run(
    reached: FakeKubernetes,
) -> None:
    """Playwright's, for one, which runs on in the thread of its caller."""
    answer(reached, READY)
    running = await asyncio.to_thread(Client().start, "shop", name="annas")
    Client().delete(running.instance)
    assert not reached.has(running.instance)


@pytest.mark.parametrize(
    ("ttl", "expected"), [(timedelta(seconds=1), DemoExpiredError), (None, DemoGoneError)]
)
async def test_one_that_is_deleted_meanwhile_is_reported(
    kubernetes: FakeKubernetes, ttl: timedelta | None, expected: type[DemoError]
) -> None:
    instance = kubernetes.put(make_demo("annas", ttl=ttl))
    waiting = asyncio.create_task(wait_ready(kubernetes, instance, timedelta(seconds=5)))
    await kubernetes.watched.wait()
    await kubernetes.delete(instance)
    with pytest.raises(DemoGoneError) as reported:
        await waiting
    assert type(reported.value) is expected


async def test_one_of_the_same_name_is_another(kubernetes: FakeKubernetes) -> None:
    instance = kubernetes.put(make_demo("annas"))
    waiting = asyncio.create_task(wait_ready(kubernetes, instance, timedelta(seconds=5)))
    await kubernetes.watched.wait()
    another = kubernetes.put(make_demo("annas", uid="another"))
    await kubernetes.patch_status_fields(another, READY)
    with pytest.raises(DemoGoneError):
        await waiting


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ForbiddenError("forbidden: exceeded quota: demos, requested: 1"), QuotaExceededError),
        (ForbiddenError("anna cannot create demoinstances"), NotAllowedError),
        (RefusedError("spec.ttl: must be a duration"), InvalidRequestError),
        (ConflictError("already exists"), NameTakenError),
        (NotFoundError("namespaces not found"), InvalidRequestError),
        (KubernetesError("no answer"), ClusterUnreachableError),
    ],
)
async def test_a_refusal_is_what_the_caller_can_do_about_it(
    reached: FakeKubernetes,
    monkeypatch: pytest.MonkeyPatch,
    error: KubernetesError,
    expected: type[DemoError],
) -> None:
    monkeypatch.setattr(reached, "create", refuse(error))
    with pytest.raises(DemoError) as reported:
        async with demo("shop"):
            pass
    assert type(reported.value) is expected
    assert str(error) in str(reported.value)


async def test_a_watch_that_is_too_old_begins_anew(
    reached: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(reached, READY)
    watch = reached.watch
    failures = [TooOldError("too old")]

    async def flaky(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        async for change in watch(*arguments):
            yield change

    monkeypatch.setattr(reached, "watch", flaky)
    async with demo("shop") as running:
        assert running.url
    assert not failures


async def test_an_api_server_that_comes_back_is_waited_for(
    reached: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tryitnow.client.following.RECONNECT_SECONDS", 0)
    answer(reached, READY)
    get, failures = reached.get, [KubernetesError("away"), KubernetesError("away")]

    async def flaky(*_: Any) -> Any:
        raise failures.pop() if failures else TooOldError("too old")
        yield

    monkeypatch.setattr(reached, "watch", flaky)
    monkeypatch.setattr(reached, "get", get)
    async with demo("shop") as running:
        assert running.url
    assert not failures


async def test_an_api_server_that_stays_away_is_reported(reached: FakeKubernetes) -> None:
    def switch_off(_: Resource) -> None:
        reached.is_down = True

    reached.on_write = switch_off
    with pytest.raises(ClusterUnreachableError, match="does not answer"):
        async with demo("shop", timeout="50ms"):
            pass
