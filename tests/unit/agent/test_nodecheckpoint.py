"""The life of a copy on a node, as far as others are concerned by it."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.builders import make_archive, make_blueprint, make_copy
from tests.unit.fakes import FakeKubernetes
from tryitnow.agent import nodecheckpoint
from tryitnow.agent.build import BuildError
from tryitnow.agent.node import BUILDS_AT_ONCE, Node
from tryitnow.agent.nodecheckpoint import MAX_UNREACHABLE, RETRY_QUARANTINED, reconcile_copy
from tryitnow.agent.prepared import Prepared
from tryitnow.agent.quarantine import RESTORE_FAILED
from tryitnow.agent.restore import archive_name
from tryitnow.agent.upkeep import keep_prepared
from tryitnow.api.checkpoint import Archive, Compression, CRIUOptions
from tryitnow.api.meta import now
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.podman.errors import PodmanUnreachableError

Phase = NodeCheckpointPhase


def put(node: Node, kubernetes: FakeKubernetes, copy: NodeCheckpoint) -> NodeCheckpoint:
    return node.copies.update(kubernetes.put(copy))


async def test_builds_that_take_their_time_keep_nobody_from_being_removed(
    node: Node, kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    busy = asyncio.Event()

    async def build(_node: Node, copy: NodeCheckpoint, _tell: object) -> Archive:
        begun.append(copy.metadata.name)
        if len(begun) == BUILDS_AT_ONCE:
            busy.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(nodecheckpoint, "build", build)
    slow = [
        put(node, kubernetes, make_copy(checkpoint=f"slow-{number}", phase=Phase.PENDING))
        for number in range(BUILDS_AT_ONCE + 1)
    ]
    going = put(node, kubernetes, make_copy(checkpoint="going", deleting=True))
    tasks = [asyncio.create_task(reconcile_copy(node, copy.key)) for copy in slow]
    try:
        async with asyncio.timeout(5):
            await busy.wait()
            await reconcile_copy(node, going.key)
        assert node.copies.get(going.key) is None
        assert len(begun) == BUILDS_AT_ONCE
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_what_is_said_on_the_way_is_not_worth_the_build(
    node: Node, kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server is away while it is built, and there again when it is done."""
    copy = put(node, kubernetes, make_copy(phase=Phase.PENDING))

    async def build(_node: Node, _copy: NodeCheckpoint, tell: object) -> Archive:
        kubernetes.is_down = True
        with pytest.raises(KubernetesError):
            await kubernetes.get(NodeCheckpoint, copy.key)
        assert callable(tell)
        await tell("pulling")
        await tell("starting")
        kubernetes.is_down = False
        return make_archive()

    async def nothing(*_: object) -> None:
        return

    monkeypatch.setattr(nodecheckpoint, "build", build)
    monkeypatch.setattr(nodecheckpoint, "verify", nothing)
    monkeypatch.setattr(nodecheckpoint, "keep_prepared", nothing)
    await reconcile_copy(node, copy.key)
    assert kubernetes.find(copy).is_prepared


async def test_what_is_known_of_its_size_is_not_worth_the_build_either(
    node: Node, kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = put(node, kubernetes, make_copy())
    archive = make_archive()
    whole = Prepared(Path("nowhere"), archive.sha256, {}, "seal")
    node.prepared[copy.key] = whole
    monkeypatch.setattr(Prepared, "is_intact", lambda _: True)
    monkeypatch.setattr(Prepared, "memory_bytes", lambda _: 300 << 20)
    kubernetes.is_down = True
    await keep_prepared(node, copy, archive)
    kubernetes.is_down = False
    await keep_prepared(node, copy, archive)
    assert kubernetes.find(copy).status.memory_bytes == 300 << 20


async def test_a_build_that_podman_breaks_over_each_time_is_counted(
    node: Node, kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = put(node, kubernetes, make_copy(phase=Phase.PENDING))
    monkeypatch.setattr(node.backoff, "remaining", lambda _: None)

    async def build(*_: object) -> Archive:
        msg = "the connection broke"
        raise PodmanUnreachableError(msg)

    monkeypatch.setattr(nodecheckpoint, "build", build)
    for _ in range(MAX_UNREACHABLE - 1):
        with pytest.raises(PodmanUnreachableError):
            await reconcile_copy(node, copy.key)
        assert kubernetes.find(copy).status.phase is Phase.PENDING
    await reconcile_copy(node, copy.key)
    assert kubernetes.find(copy).status.phase is Phase.FAILED


async def test_a_copy_in_quarantine_is_tried_now_and_then_however_often_it_is_looked_at(
    node: Node, kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = now() - timedelta(hours=1)
    put(node, kubernetes, copy := make_copy(
        phase=Phase.QUARANTINED, reason=RESTORE_FAILED, since=since, archive=make_archive(b"x"),
        blueprint=make_blueprint(criu=CRIUOptions(compression=Compression.NONE)),
    ))  # fmt: skip
    node.archives.write(archive_name(copy), iter([b"x"]))
    tries = 0

    async def verify(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise BuildError("VerifyFailed", "CRIU refused")

    monkeypatch.setattr(nodecheckpoint, "verify", verify)
    assert await reconcile_copy(node, copy.key) == RETRY_QUARANTINED
    again = await reconcile_copy(node, copy.key)
    assert again is not None
    assert RETRY_QUARANTINED - timedelta(minutes=1) < again < RETRY_QUARANTINED
    assert tries == 1
    node.retried[copy.key] -= RETRY_QUARANTINED.total_seconds()
    await reconcile_copy(node, copy.key)
    assert tries == 2
