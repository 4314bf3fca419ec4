"""What a copy lives in is removed whole, also by whoever is interrupted at it."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.builders import PORT, make_instance
from tests.unit.fakes import FakePodman
from tryitnow.agent.names import demo_container
from tryitnow.agent.node import Node
from tryitnow.agent.sandboxes import discard
from tryitnow.api.checkpoint import CRIUOptions


async def test_an_interrupted_removal_gives_the_ports_back(
    node: Node, podman: FakePodman, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = demo_container(make_instance())
    ports = node.ports.take(str(name), [PORT])
    await podman.restore_import(str(name), CRIUOptions(), ports, lambda: iter([b""]))
    removing, go_on = asyncio.Event(), asyncio.Event()
    remove = podman.remove

    async def slowly(what: str) -> None:
        removing.set()
        await go_on.wait()
        await remove(what)

    monkeypatch.setattr(podman, "remove", slowly)
    work = asyncio.create_task(discard(node, name))
    await removing.wait()
    work.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert podman.containers() == []
    assert node.ports.of(str(name)) == []
