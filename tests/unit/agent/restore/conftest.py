"""Parts for tests of the ways to bring an application up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.builders import PORT, make_container, make_definition
from tests.unit.fakes import FakePodman
from tryitnow.agent.node import Node
from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.storage.generations import CHECKPOINTED_VOLUMES, Generation
from tryitnow.agent.storage.unpack import CHECKPOINT, HOSTS
from tryitnow.api.definition import Definition, Readiness
from tryitnow.api.template import (
    EmptyDir,
    Exec,
    InitContainer,
    RestartPolicy,
    StartupProbe,
    Template,
    Volume,
    VolumeMount,
)

SHA256 = "a" * 64
SOON = Readiness(timeout=timedelta(seconds=10), restore_timeout=timedelta(seconds=10))
AT_ONCE = Readiness(
    timeout=timedelta(milliseconds=300), restore_timeout=timedelta(milliseconds=300)
)


@pytest.fixture
def tools(node: Node) -> StartTools:
    return node.demo_tools.start


@pytest.fixture
def podman(podman: FakePodman) -> FakePodman:
    """A Podman whose init containers, called ``setup``, do their work and end."""
    podman.ends["_setup"] = 0
    return podman


def make_pod(readiness: Readiness = SOON) -> Definition:
    """Describe a shop with a database, which starts first, and a volume that both see."""
    mount = VolumeMount(name="data", mount_path="/data")
    database = InitContainer(
        name="database",
        image="registry.example/database:1",
        restart_policy=RestartPolicy.ALWAYS,
        startup_probe=StartupProbe(exec=Exec(command=("ping",)), timeout=timedelta(seconds=5)),
        volume_mounts=(mount,),
    )
    setup = InitContainer(name="setup", image="registry.example/setup:1")
    template = Template(
        init_containers=(setup, database),
        containers=(make_container(ports=(PORT,), volume_mounts=(mount,)),),
        volumes=(Volume(name="data", empty_dir=EmptyDir()),),
    )
    return make_definition(template=template, readiness=readiness)


def make_generation(node: Node, definition: Definition) -> Generation:
    """Have the archive of a definition unpacked on the node."""
    unfinished = node.generations.begin("default_shop_0123")
    images = {}
    for container in definition.template.members:
        (unfinished / container.name / CHECKPOINT).mkdir(parents=True)
        (unfinished / container.name / CHECKPOINT / "pages-1.img").write_bytes(bytes(100))
        (unfinished / container.name / HOSTS).write_text(f"192.0.2.1 partner-of-{container.name}\n")
        images[container.name] = f"image of {container.name}"
    for volume in definition.template.volumes:
        content = unfinished / CHECKPOINTED_VOLUMES / volume.name
        content.mkdir(parents=True)
        (content / "file").write_text("at the checkpoint")
    return node.generations.finish(unfinished, SHA256, images)


def assert_nothing_left(node: Node, podman: FakePodman) -> None:
    """Nothing of any sandbox is on the node."""
    assert podman.containers() == []
    assert podman.pods == {}
    assert node.volumes.tags() == set()
    assert node.ports.taken == 0
    assert node.sandboxes.names_in_work == frozenset()
    assert node.sandboxes.pods_in_work == frozenset()


async def cancelled_at(podman: FakePodman, call: str, work: Coroutine[Any, Any, object]) -> None:
    """Cancel work in the middle of a call of Podman's."""
    podman.delay[call] = 0.05
    podman.log.clear()
    task = asyncio.create_task(work)
    async with asyncio.timeout(5):
        while not any(line.startswith(f"{call} ") for line in podman.log):
            assert not task.done(), f"{call} was never asked for: {task.exception()}"
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del podman.delay[call]


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(5):
        while True:
            if holds():
                return
            await asyncio.sleep(0.001)
