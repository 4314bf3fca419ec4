"""Preparing is all or nothing, also where it is broken off."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from tryitnow.agent.prepare import prepare
from tryitnow.agent.unpack import UnpackError

from tests.unit.builders import make_archive, make_copy
from tryitnow.agent import prepare as module
from tryitnow.agent.node import Node
from tryitnow.agent.restore import archive_name


def lying(node: Node) -> list[str]:
    return [path.name for path in node.data.directory.iterdir()]


async def test_nothing_is_left_of_what_was_broken_off_while_it_was_unpacked(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacking, go_on = threading.Event(), threading.Event()

    def lay_out(*arguments: object) -> None:
        *_, target = arguments
        assert isinstance(target, Path)
        unpacking.set()
        go_on.wait(5)
        (target / "late").mkdir()

    monkeypatch.setattr(module, "_lay_out", lay_out)
    copy = make_copy(archive=make_archive())
    work = asyncio.create_task(prepare(node, copy, archive_name(copy), make_archive()))
    await asyncio.to_thread(unpacking.wait, 5)
    # Its NodeCheckpoint was deleted.
    work.cancel()
    await asyncio.sleep(0)
    assert not work.done(), "it has to wait for what still writes"
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert lying(node) == []
    assert node.preparing == set()


async def test_nothing_is_left_of_what_cannot_be_prepared(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_lay_out", lambda *_: None)
    copy = make_copy(archive=make_archive())
    with pytest.raises(UnpackError, match="not laid out as"):
        await prepare(node, copy, archive_name(copy), make_archive())
    assert lying(node) == []
