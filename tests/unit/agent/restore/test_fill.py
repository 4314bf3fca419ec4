"""Restoring into sandboxes: pre-created or made for it, and nothing is left of what failed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.unit.agent.restore.conftest import (
    AT_ONCE,
    SOON,
    assert_nothing_left,
    cancelled_at,
    make_generation,
    make_pod,
    until,
)
from tests.unit.builders import make_definition, make_demo, make_template
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.sandbox import FakeFirewall, FakeHosts, State
from tryitnow.agent.errors import (
    FirewallError,
    NodeShortError,
    NotReadyError,
    SandboxLostError,
    SourceError,
)
from tryitnow.agent.node import Node
from tryitnow.agent.restore.cold_start import cold_start
from tryitnow.agent.restore.fill import restore
from tryitnow.agent.restore.precreate import PreCreated, precreate, remove_precreated
from tryitnow.agent.restore.result import Running
from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.sandbox.names import ContainerName, Role, demo_name
from tryitnow.agent.storage.generations import Generation
from tryitnow.agent.storage.unpack import CHECKPOINT
from tryitnow.api.definition import CRIUOptions, Definition
from tryitnow.api.demoinstance import StartedBy
from tryitnow.api.meta import Key
from tryitnow.api.template import EnvVar, EnvVarSource, KeySelector
from tryitnow.podman.client import PortMapping
from tryitnow.podman.errors import (
    CRIUError,
    NameTakenError,
    NodeLimitError,
    PodmanError,
    PodmanUnreachableError,
)

SHOP = Key("default", "shop")
NAME = demo_name(make_demo())
WAITING = ContainerName(Role.PRECREATED, SHOP, "0123-1")


@pytest.fixture
def definition() -> Definition:
    return make_pod()


@pytest.fixture
def generation(node: Node, definition: Definition) -> Generation:
    return make_generation(node, definition)


async def restored(
    tools: StartTools,
    definition: Definition,
    generation: Generation,
    ready_made: PreCreated | None = None,
    *,
    ports: tuple[PortMapping, ...] = (),
    urgent: bool = True,
) -> Running:
    return await restore(
        tools, NAME, definition, generation, ready_made,
        checkpoint=SHOP, ports=ports, urgent=urgent,
    )  # fmt: skip


# -- pre-created ----------------------------------------------------------------------------------


async def test_a_precreated_sandbox_has_everything_but_processes(
    tools: StartTools, node: Node, podman: FakePodman, firewall: FakeFirewall,
    definition: Definition, generation: Generation,
) -> None:  # fmt: skip
    made = await precreate(tools, WAITING, definition, generation)
    assert podman.containers() == sorted(made.sandbox.containers(WAITING, definition).values())
    assert [new.image for new in podman.made] == ["image of database", "image of shop"]
    assert not any(line.startswith(("start ", "init ", "restore")) for line in podman.log)
    linked = podman.directory / str(WAITING) / CHECKPOINT
    assert linked.resolve() == generation.directory / "shop" / CHECKPOINT
    content = node.volumes.path(made.sandbox.pod.tag, "data") / "file"
    assert content.read_text() == "at the checkpoint"
    assert firewall.states == [State.BLOCKED], "its containers hold connections to each other"
    assert generation.leases == 1


async def test_a_precreated_sandbox_that_is_discarded_leaves_nothing(
    tools: StartTools, node: Node, podman: FakePodman,
    definition: Definition, generation: Generation,
) -> None:  # fmt: skip
    made = await precreate(tools, WAITING, definition, generation)
    await remove_precreated(tools, made)
    assert_nothing_left(node, podman)
    assert generation.leases == 0


async def test_a_lease_ends_although_podman_would_not_remove_it(
    tools: StartTools, podman: FakePodman, definition: Definition, generation: Generation
) -> None:
    made = await precreate(tools, WAITING, definition, generation)
    podman.failures["remove pod"] = PodmanUnreachableError("away")
    with pytest.raises(PodmanUnreachableError):
        await remove_precreated(tools, made)
    assert generation.leases == 0


async def test_a_lone_container_is_in_a_sandbox_too(
    tools: StartTools, node: Node, podman: FakePodman, firewall: FakeFirewall
) -> None:
    definition = make_definition(readiness=SOON)
    running = await restored(tools, definition, make_generation(node, definition))
    assert str(running.sandbox.pod) in podman.pods
    assert firewall.states == [State.CLOSED]


# -- restored -------------------------------------------------------------------------------------


async def test_a_restore_takes_over_what_was_made_ahead_of_time(
    tools: StartTools, node: Node, podman: FakePodman, firewall: FakeFirewall, hosts: FakeHosts,
    definition: Definition, generation: Generation,
) -> None:  # fmt: skip
    made = await precreate(tools, WAITING, definition, generation)
    podman.log.clear()
    running = await restored(tools, definition, generation, made)
    assert running.sandbox == made.sandbox
    assert running.started_by is StartedBy.RESTORE
    assert not any(line.startswith("create") for line in podman.log)
    assert node.ports.of(str(NAME)) == [port.host_port for port in made.sandbox.ports]
    assert node.ports.of(str(WAITING)) == []
    assert firewall.states == [State.BLOCKED, State.CLOSED], "clients wait for the hooks"
    assert sorted(hosts.carried) == [
        "192.0.2.1 partner-of-database\n",
        "192.0.2.1 partner-of-shop\n",
    ]
    assert generation.leases == 0
    assert running.timings.restore is not None
    assert running.timings.criu == timedelta(milliseconds=2)
    assert tools.sandboxes.names_in_work == frozenset()


async def test_one_that_ended_while_it_waited_is_replaced_and_blamed_on_nobody(
    tools: StartTools, node: Node, podman: FakePodman,
    definition: Definition, generation: Generation,
) -> None:  # fmt: skip
    made = await precreate(tools, WAITING, definition, generation)
    podman.end_infra(str(made.sandbox.pod))
    running = await restored(tools, definition, generation, made)
    assert running.sandbox.pod != made.sandbox.pod
    assert str(made.sandbox.pod) not in podman.pods
    assert node.volumes.tags() == {running.sandbox.pod.tag}
    assert generation.leases == 0


async def test_a_sandbox_that_ends_meanwhile_is_told_as_such(
    tools: StartTools, node: Node, podman: FakePodman,
    definition: Definition, generation: Generation,
) -> None:  # fmt: skip
    restore = podman.restore

    async def ends(name: str, options: CRIUOptions) -> timedelta:
        for pod in list(podman.pods):
            podman.end_infra(pod)
        return await restore(name, options)

    podman.restore = ends  # type: ignore[method-assign]
    with pytest.raises(SandboxLostError, match="ns/net"):
        await restored(tools, definition, generation)
    assert_nothing_left(node, podman)


async def test_without_one_a_restore_makes_its_own(
    tools: StartTools, podman: FakePodman, definition: Definition, generation: Generation
) -> None:
    running = await restored(tools, definition, generation)
    assert await tools.sandboxes.find(NAME) == running.sandbox
    assert f"create stopped {NAME}" in podman.log
    assert generation.leases == 0


async def test_all_containers_are_filled_at_once(
    tools: StartTools, podman: FakePodman, definition: Definition, generation: Generation
) -> None:
    podman.delay["restore prepared"] = 0.1
    began = asyncio.get_running_loop().time()
    await restored(tools, definition, generation)
    assert asyncio.get_running_loop().time() - began < 0.19
    assert len([line for line in podman.log if line.startswith("restore prepared")]) == 2


async def test_a_demo_has_its_ports_again(
    tools: StartTools, node: Node, definition: Definition, generation: Generation
) -> None:
    ports = (PortMapping(23017, 8080),)
    running = await restored(tools, definition, generation, ports=ports)
    assert running.sandbox.ports == ports
    assert node.ports.of(str(NAME)) == [23017]


async def test_a_port_that_somebody_has_by_now_is_a_limit_of_the_node(
    tools: StartTools, node: Node, podman: FakePodman,
    definition: Definition, generation: Generation,
) -> None:  # fmt: skip
    node.ports.keep("another", (PortMapping(23017, 8080),))
    with pytest.raises(NodeShortError, match="belongs to another"):
        await restored(tools, definition, generation, ports=(PortMapping(23017, 8080),))
    assert podman.pods == {}
    assert node.ports.of("another") == [23017]
    assert generation.leases == 0


async def test_what_is_done_ahead_of_time_waits_for_demos(
    tools: StartTools, definition: Definition, generation: Generation
) -> None:
    async with tools.turns.turn("default", urgent=True):
        assert tools.turns.has_high_priority
    await restored(tools, definition, generation, urgent=False)
    assert not tools.turns.has_high_priority


# -- what fails -----------------------------------------------------------------------------------

CALLS = ["inspect", "create pod", "create stopped", "restore prepared"]
ERRORS = [
    PodmanError("refused"),
    PodmanUnreachableError("away"),
    CRIUError("CRIU failed"),
    NodeLimitError("io_setup", limit="AioExhausted", remedy="raise fs.aio-max-nr"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", ["create pod", "create stopped", "restore prepared"])
async def test_nothing_is_left_of_a_restore_that_fails(
    tools: StartTools, node: Node, podman: FakePodman,
    definition: Definition, generation: Generation, call: str, error: Exception,
) -> None:  # fmt: skip
    podman.failures[call] = error
    with pytest.raises(type(error)):
        await restored(tools, definition, generation)
    assert_nothing_left(node, podman)
    assert generation.leases == 0


@pytest.mark.parametrize("call", ["rename", "restore prepared"])
async def test_nothing_is_left_of_a_precreated_sandbox_that_fails(
    tools: StartTools, node: Node, podman: FakePodman,
    definition: Definition, generation: Generation, call: str,
) -> None:  # fmt: skip
    made = await precreate(tools, WAITING, definition, generation)
    podman.failures[call] = PodmanError("refused")
    with pytest.raises(PodmanError, match="refused"):
        await restored(tools, definition, generation, made)
    assert_nothing_left(node, podman)
    assert generation.leases == 0


@pytest.mark.parametrize("call", ["rename", "restore prepared"])
async def test_nothing_is_left_where_podman_did_it_and_did_not_say_so(
    tools: StartTools, node: Node, podman: FakePodman,
    definition: Definition, generation: Generation, call: str,
) -> None:  # fmt: skip
    made = await precreate(tools, WAITING, definition, generation)
    podman.disconnects[call] = 1
    with pytest.raises(PodmanUnreachableError):
        await restored(tools, definition, generation, made)
    assert_nothing_left(node, podman)
    assert generation.leases == 0


@pytest.mark.parametrize("call", ["create pod", "create stopped"])
async def test_nothing_is_left_of_a_sandbox_whose_making_broke_off(
    tools: StartTools, node: Node, podman: FakePodman,
    definition: Definition, generation: Generation, call: str,
) -> None:  # fmt: skip
    podman.disconnects[call] = 1
    with pytest.raises(PodmanUnreachableError):
        await precreate(tools, WAITING, definition, generation)
    assert_nothing_left(node, podman)
    assert generation.leases == 0


async def test_half_a_container_of_a_killed_podman_is_not_in_the_way(
    tools: StartTools, node: Node, podman: FakePodman,
    definition: Definition, generation: Generation,
) -> None:  # fmt: skip
    podman.ghosts.append(str(NAME))
    with pytest.raises(NameTakenError):
        await restored(tools, definition, generation)
    assert_nothing_left(node, podman)
    assert (await restored(tools, definition, generation)).sandbox


async def test_what_does_not_answer_is_removed(
    tools: StartTools, node: Node, podman: FakePodman, generation: Generation
) -> None:
    podman.restored_status = 503
    with pytest.raises(NotReadyError, match=r"answered 503"):
        await restored(tools, make_pod(AT_ONCE), generation)
    assert_nothing_left(node, podman)
    assert generation.leases == 0


async def test_a_firewall_that_cannot_be_set_lets_nobody_in(
    tools: StartTools, node: Node, podman: FakePodman, firewall: FakeFirewall,
    definition: Definition, generation: Generation,
) -> None:  # fmt: skip
    firewall.fails = True
    with pytest.raises(FirewallError):
        await restored(tools, definition, generation)
    assert_nothing_left(node, podman)


async def test_a_secret_that_is_gone_is_named_before_anything_is_made(
    tools: StartTools, node: Node, podman: FakePodman
) -> None:
    key = EnvVarSource(secret_key_ref=KeySelector(name="database", key="password"))
    template = make_template(env=(EnvVar(name="PASSWORD", value_from=key),))
    definition = make_definition(template=template)
    generation = make_generation(node, definition)
    with pytest.raises(SourceError, match="no Secret 'database'"):
        await restored(tools, definition, generation)
    assert not any(line.startswith("create") for line in podman.log)
    assert generation.leases == 0


async def test_secrets_of_today_are_in_a_restored_sandbox(
    tools: StartTools, node: Node, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    kubernetes.data["secrets", Key("default", "database")] = {"password": b"of today"}
    key = EnvVarSource(secret_key_ref=KeySelector(name="database", key="password"))
    template = make_template(env=(EnvVar(name="PASSWORD", value_from=key),))
    definition = make_definition(template=template)
    await restored(tools, definition, make_generation(node, definition))
    assert [dict(new.env) for new in podman.made] == [{"PASSWORD": "of today"}]


async def test_files_stay_until_what_failed_is_removed(
    tools: StartTools, podman: FakePodman, definition: Definition, generation: Generation
) -> None:
    """CRIU may still read them: a restore that is cancelled goes on in Podman."""
    podman.failures["restore prepared"] = PodmanError("refused")
    podman.delay["remove pod"] = 0.05
    gone: list[list[str]] = []
    task = asyncio.create_task(restored(tools, definition, generation))
    await until(lambda: generation.leases > 0)
    generation.when_unused(lambda: gone.append(podman.containers()))
    with pytest.raises(PodmanError):
        await task
    assert gone == [[]]


# -- cancelled at each await ----------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
async def test_nothing_is_left_of_a_restore_that_is_cancelled(
    tools: StartTools, node: Node, podman: FakePodman,
    definition: Definition, generation: Generation, call: str,
) -> None:  # fmt: skip
    await cancelled_at(podman, call, restored(tools, definition, generation))
    assert_nothing_left(node, podman)
    assert generation.leases == 0
    assert not tools.turns.has_high_priority


@pytest.mark.parametrize("call", ["rename", "restore prepared", "inspect"])
async def test_nothing_is_left_of_a_precreated_sandbox_when_it_is_cancelled(
    tools: StartTools, node: Node, podman: FakePodman,
    definition: Definition, generation: Generation, call: str,
) -> None:  # fmt: skip
    made = await precreate(tools, WAITING, definition, generation)
    await cancelled_at(podman, call, restored(tools, definition, generation, made))
    assert_nothing_left(node, podman)
    assert generation.leases == 0


async def test_nothing_is_left_when_it_is_cancelled_while_it_waits_for_its_turn(
    tools: StartTools, node: Node, podman: FakePodman,
    definition: Definition, generation: Generation,
) -> None:  # fmt: skip
    made = await precreate(tools, WAITING, definition, generation)
    held = [tools.turns.turn("default", urgent=True) for _ in range(64)]
    entered = [asyncio.create_task(turn.__aenter__()) for turn in held]
    await asyncio.sleep(0.01)
    task = asyncio.create_task(restored(tools, definition, generation, made))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for each in entered:
        each.cancel()
    await asyncio.gather(*entered, return_exceptions=True)
    assert_nothing_left(node, podman)
    assert generation.leases == 0


async def test_nothing_is_left_when_it_is_cancelled_while_it_is_asked(
    tools: StartTools, node: Node, podman: FakePodman,
    definition: Definition, generation: Generation,
) -> None:  # fmt: skip
    podman.restored_status = 503
    task = asyncio.create_task(restored(tools, definition, generation))
    await until(lambda: bool(podman.requested_paths))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_nothing_left(node, podman)


# -- a demo that is there already -----------------------------------------------------------------


async def test_a_sandbox_that_has_the_name_already_is_left_alone(
    tools: StartTools, node: Node, podman: FakePodman,
    definition: Definition, generation: Generation,
) -> None:  # fmt: skip
    """Whatever went wrong before: a demo that runs, with its data, is not what failed."""
    there = await cold_start(tools, NAME, definition, {})
    data = node.volumes.path(there.running.sandbox.pod.tag, "data") / "orders"
    data.write_text("of a week")
    ports, containers = node.ports.of(str(NAME)), podman.containers()
    made = await precreate(tools, WAITING, definition, generation)
    with pytest.raises(NameTakenError):
        await restored(tools, definition, generation, made)
    with pytest.raises(NameTakenError):
        await restored(tools, definition, generation)
    with pytest.raises(NameTakenError):
        await cold_start(tools, NAME, definition, {})
    assert data.read_text() == "of a week"
    assert podman.containers() == containers
    assert node.ports.of(str(NAME)) == ports
    assert node.ports.taken == len(ports)
    assert generation.leases == 0
    assert await tools.sandboxes.is_running(NAME)
