"""The Podman that other tests work with is no kinder than the real one."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from tests.unit.builders import make_template
from tests.unit.conftest import ADDRESS
from tests.unit.fakes import FakePodman
from tryitnow.podman.client import EventAction, NewContainer, PortMapping
from tryitnow.podman.errors import (
    NameTakenError,
    NoSuchContainerError,
    NoSuchPodError,
    PodmanUnreachableError,
)

POD = "tryitnow_pod_1"
ANNA, BEN = "tryitnow_anna", "tryitnow_ben"
[CONTAINER] = make_template().containers
PORT = PortMapping(23080, CONTAINER.ports[0].container_port)
NEW = NewContainer(CONTAINER, "1f2e")
MEMBER = NewContainer(CONTAINER, "1f2e", pod=POD)


async def test_a_name_is_taken_once(podman: FakePodman) -> None:
    await podman.create_container(ANNA, NEW)
    await podman.create_container(BEN, NEW)
    with pytest.raises(NameTakenError):
        await podman.create_and_start(ANNA, NEW)
    with pytest.raises(NameTakenError):
        await podman.rename(BEN, ANNA)
    assert podman.containers() == [ANNA, BEN]
    await podman.create_pod(POD, ())
    with pytest.raises(NameTakenError):
        await podman.create_pod(POD, ())


async def test_what_is_not_there_cannot_be_started_or_joined(podman: FakePodman) -> None:
    with pytest.raises(NoSuchContainerError):
        await podman.start(ANNA)
    with pytest.raises(NoSuchPodError):
        await podman.create_container(ANNA, MEMBER)
    with pytest.raises(NoSuchPodError):
        await podman.start_pod_infra(POD)


async def test_a_call_takes_its_time(podman: FakePodman) -> None:
    podman.delay["list"] = 0.05
    began = time.monotonic()
    await podman.list_containers("")
    assert time.monotonic() - began >= 0.05


async def test_a_quick_call_is_done_though_its_caller_was_cancelled(podman: FakePodman) -> None:
    await podman.create_container(ANNA, NEW)
    podman.delay["rename"] = 0.02
    renaming = asyncio.create_task(podman.rename(ANNA, BEN))
    await asyncio.sleep(0.01)
    renaming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await renaming
    assert podman.containers() == [BEN]


async def test_podman_may_break_off_after_it_did_what_was_asked(podman: FakePodman) -> None:
    podman.disconnects["create container"] = 1
    with pytest.raises(PodmanUnreachableError):
        await podman.create_container(ANNA, NEW)
    assert podman.containers() == [ANNA]
    with pytest.raises(NameTakenError):
        await podman.create_container(ANNA, NEW)


async def test_members_of_a_pod_are_what_joined_it(podman: FakePodman) -> None:
    await podman.create_pod(POD, (PORT,))
    await podman.create_container(ANNA, MEMBER)
    await podman.create_and_start(BEN, MEMBER)
    podman.stop(BEN, 3)
    pod = await podman.inspect_pod(POD)
    assert pod is not None
    assert pod.members == {ANNA: "created", BEN: "exited"}
    assert pod.exit_codes == {BEN: 3}
    assert pod.infra_running
    state = await podman.inspect(ANNA)
    assert state is not None
    assert (state.pod, state.ports) == (pod.id, (PORT,))
    await podman.remove_pod(POD)
    assert podman.containers() == []


async def test_a_container_that_ended_answers_nobody_until_it_is_started_again(
    podman: FakePodman,
) -> None:
    await podman.create_and_start(ANNA, NewContainer(CONTAINER, "1f2e", ports=(PORT,)))
    url = f"http://{ADDRESS}:{PORT.host_port}/"
    async with aiohttp.ClientSession() as session:
        assert (await session.get(url)).status == 200
        podman.stop(ANNA)
        with pytest.raises(aiohttp.ClientError):
            await session.get(url)
        await podman.start(ANNA)
        assert (await session.get(url)).status == 200


async def test_a_boot_ends_everything_and_loses_nothing(podman: FakePodman) -> None:
    await podman.create_pod(POD, (PORT,))
    await podman.create_and_start(ANNA, MEMBER)
    podman.reboot()
    [pod] = await podman.list_pods("tryitnow_")
    assert not pod.infra_running
    assert pod.members == {ANNA: "exited"}
    assert await podman.start_pod_infra(POD)
    [pod] = await podman.list_pods("tryitnow_")
    assert pod.infra_running


async def test_ends_and_removals_are_reported(podman: FakePodman) -> None:
    await podman.create_and_start(ANNA, NEW)
    async with podman.events("tryitnow_") as events:
        podman.stop(ANNA, 7)
        await podman.remove(ANNA)
        found = [await anext(events) for _ in range(2)]
    assert [(e.name, e.action, e.exit_code) for e in found] == [
        (ANNA, EventAction.DIED, 7),
        (ANNA, EventAction.REMOVED, None),
    ]
