"""Sandboxes are made whole or not at all, found again, renamed at one stroke, removed whole."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.unit.builders import PINNED, make_container, make_definition, make_demo
from tests.unit.fakes import FakePodman
from tests.unit.sandbox import FakeFirewall, FakeMail, FakeOutbound, State
from tryitnow.agent.errors import FirewallError, NodeShortError
from tryitnow.agent.mail.mailbox import Envelope, Mailbox
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.lifecycle import Sandboxes
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import ContainerName, Role, demo_name
from tryitnow.api.definition import Definition
from tryitnow.api.meta import Key
from tryitnow.api.network import EgressRule, Mail, Network
from tryitnow.api.template import EmptyDir, Template, Volume
from tryitnow.podman.client import NewContainer, PortMapping
from tryitnow.podman.errors import NameTakenError, PodmanError, PodmanUnreachableError

NAME = demo_name(make_demo())
WARM = ContainerName(Role.WARM, Key("default", "shop"), "0123-1")


@pytest.fixture
def sandboxes(node: Node) -> Sandboxes:
    return node.sandboxes


@pytest.fixture
def definition() -> Definition:
    volume = Volume(name="data", empty_dir=EmptyDir())
    return make_definition(template=Template(containers=(make_container(),), volumes=(volume,)))


async def make(sandboxes: Sandboxes, definition: Definition, name: ContainerName = NAME) -> Sandbox:
    """Make a sandbox whose containers run."""
    async with sandboxes.create(name, definition) as sandbox:
        for own in sandbox.containers(name, definition).values():
            new = NewContainer(definition.main, PINNED, {}, pod=str(sandbox.pod))
            await sandboxes.podman.create_and_start(own, new)
    return sandbox


def assert_nothing_left(node: Node, podman: FakePodman) -> None:
    assert podman.containers() == []
    assert podman.pods == {}
    assert node.volumes.tags() == set()
    assert node.ports.taken == 0


# -- made -----------------------------------------------------------------------------------------


async def test_a_sandbox_is_closed_before_anything_is_in_it(
    sandboxes: Sandboxes, node: Node, firewall: FakeFirewall, definition: Definition
) -> None:
    async with sandboxes.create(NAME, definition) as sandbox:
        assert firewall.states == [State.CLOSED]
        assert sandboxes.names_in_work == {str(NAME)}
        assert sandboxes.pods_in_work == {str(sandbox.pod)}
        assert node.volumes.path(sandbox.pod.tag, "data").is_dir()
        new = NewContainer(definition.main, PINNED, {}, pod=str(sandbox.pod))
        await sandboxes.podman.create_and_start(str(NAME), new)
    assert sandboxes.names_in_work == frozenset()
    assert sandboxes.pods_in_work == frozenset()
    assert await sandboxes.find(NAME) == sandbox


async def test_nothing_is_let_out_of_a_sandbox_before_anything_is_in_it(
    sandboxes: Sandboxes, podman: FakePodman, outbound: FakeOutbound, definition: Definition
) -> None:
    egress = EgressRule.model_validate({"host": "api.example.com", "ports": [443]})
    definition = definition.model_copy(update={"network": Network(egress=(egress,))})
    async with sandboxes.create(NAME, definition) as sandbox:
        assert outbound.networks == [definition.network]
        assert podman.dns_servers_of(str(sandbox.pod)) == ("127.0.0.1",)


async def test_without_a_firewall_for_what_goes_out_there_is_no_sandbox(
    sandboxes: Sandboxes, node: Node, podman: FakePodman, outbound: FakeOutbound,
    definition: Definition,
) -> None:  # fmt: skip
    outbound.fails = True
    with pytest.raises(FirewallError):
        async with sandboxes.create(NAME, definition):
            pass
    assert_nothing_left(node, podman)


async def test_connections_inside_can_be_held_as_well(
    sandboxes: Sandboxes, firewall: FakeFirewall, definition: Definition
) -> None:
    async with sandboxes.create(NAME, definition, tcp_blocked=True):
        assert firewall.states == [State.BLOCKED]


async def test_nothing_is_left_of_a_sandbox_whose_block_fails(
    sandboxes: Sandboxes, node: Node, podman: FakePodman, definition: Definition
) -> None:
    with pytest.raises(ValueError, match="broken"):
        async with sandboxes.create(NAME, definition):
            raise ValueError("broken")
    assert_nothing_left(node, podman)


async def test_nothing_is_left_where_the_disk_is_full(
    sandboxes: Sandboxes, node: Node, podman: FakePodman, definition: Definition
) -> None:
    node.volumes.directory.rmdir()
    node.volumes.directory.write_text("no directory")
    with pytest.raises(OSError, match="Not a directory"):
        await make(sandboxes, definition)
    node.volumes.directory.unlink()
    node.volumes.open()
    assert_nothing_left(node, podman)


async def test_without_a_firewall_there_is_no_sandbox(
    sandboxes: Sandboxes, node: Node, podman: FakePodman, firewall: FakeFirewall,
    definition: Definition,
) -> None:  # fmt: skip
    firewall.fails = True
    with pytest.raises(FirewallError):
        await make(sandboxes, definition)
    assert_nothing_left(node, podman)


async def test_without_a_port_there_is_no_sandbox(
    sandboxes: Sandboxes, node: Node, podman: FakePodman, definition: Definition
) -> None:
    node.ports.keep("another", (PortMapping(p, p) for p in range(23000, 23040)))
    with pytest.raises(NodeShortError):
        await make(sandboxes, definition)
    assert podman.pods == {}
    assert not any(line.startswith("create") for line in podman.log)


async def test_ports_stay_taken_while_podman_would_not_remove(
    sandboxes: Sandboxes, node: Node, podman: FakePodman, definition: Definition
) -> None:
    """Podman may still hold them: the next sandbox would be refused."""
    podman.failures["remove pod"] = PodmanUnreachableError("away")
    with pytest.raises(PodmanUnreachableError):
        async with sandboxes.create(NAME, definition):
            raise ValueError("broken")
    assert node.ports.taken == 1
    del podman.failures["remove pod"]
    await sandboxes.remove(NAME)
    assert node.ports.taken == 0


async def test_another_sandbox_of_the_name_keeps_its_data_and_its_ports(
    sandboxes: Sandboxes, node: Node, podman: FakePodman, definition: Definition
) -> None:
    there = await make(sandboxes, definition)
    with pytest.raises(NameTakenError):
        await make(sandboxes, definition)
    assert await sandboxes.is_running(NAME)
    assert node.volumes.tags() == {there.pod.tag}
    assert node.ports.of(str(NAME)) == [there.ports[0].host_port]
    assert len(podman.pods) == 1


async def test_a_name_that_is_taken_in_the_middle_is_left_to_the_other(
    sandboxes: Sandboxes, node: Node, podman: FakePodman, definition: Definition
) -> None:
    warm = await make(sandboxes, definition, WARM)

    async def overtaken() -> None:
        async with sandboxes.create(NAME, definition) as sandbox:
            await sandboxes.rename(WARM, NAME)
            new = NewContainer(definition.main, PINNED, {}, pod=str(sandbox.pod))
            await podman.create_container(str(NAME), new)

    with pytest.raises(NameTakenError):
        await overtaken()
    assert node.volumes.tags() == {warm.pod.tag}
    assert await sandboxes.is_running(NAME)
    assert warm.ports[0].host_port in node.ports.of(str(NAME))


# -- found ----------------------------------------------------------------------------------------


async def test_a_sandbox_whose_pod_has_ended_is_found_without_a_process(
    sandboxes: Sandboxes, podman: FakePodman, definition: Definition
) -> None:
    made = await make(sandboxes, definition)
    podman.reboot()
    found = await sandboxes.find(NAME)
    assert found == Sandbox(made.pod, made.ports, pid=0)
    assert not await sandboxes.is_running(NAME)


async def test_nobody_knows_while_podman_does_not_answer(
    sandboxes: Sandboxes, podman: FakePodman, definition: Definition
) -> None:
    await make(sandboxes, definition)
    podman.failures["inspect"] = PodmanUnreachableError("away")
    with pytest.raises(PodmanUnreachableError):
        await sandboxes.find(NAME)
    with pytest.raises(PodmanUnreachableError):
        await sandboxes.is_running(NAME)


async def test_what_is_in_no_pod_of_ours_is_no_sandbox(
    sandboxes: Sandboxes, podman: FakePodman, definition: Definition
) -> None:
    await podman.create_and_start(str(NAME), NewContainer(definition.main, PINNED, {}))
    assert await sandboxes.find(NAME) is None


async def test_all_of_them_are_listed_by_their_main_containers(
    sandboxes: Sandboxes, podman: FakePodman, definition: Definition
) -> None:
    await make(sandboxes, definition)
    await make(sandboxes, definition, WARM)
    await podman.create_and_start("somebody-elses", NewContainer(definition.main, PINNED, {}))
    assert {name for name, _ in await sandboxes.list_all()} == {NAME, WARM}


# -- renamed --------------------------------------------------------------------------------------


async def test_a_rename_takes_the_ports_along(
    sandboxes: Sandboxes, node: Node, definition: Definition
) -> None:
    made = await make(sandboxes, definition, WARM)
    await sandboxes.rename(WARM, NAME)
    assert await sandboxes.find(WARM) is None
    assert await sandboxes.find(NAME) == made
    assert node.ports.of(str(WARM)) == []
    assert node.ports.of(str(NAME)) == [made.ports[0].host_port]


async def test_a_taken_name_leaves_both_as_they_are(
    sandboxes: Sandboxes, node: Node, definition: Definition
) -> None:
    there, warm = await make(sandboxes, definition), await make(sandboxes, definition, WARM)
    with pytest.raises(NameTakenError):
        await sandboxes.rename(WARM, NAME)
    assert await sandboxes.find(NAME) == there
    assert await sandboxes.find(WARM) == warm
    assert node.ports.of(str(WARM)) == [warm.ports[0].host_port]
    assert sandboxes.names_in_work == frozenset()


# -- removed --------------------------------------------------------------------------------------


async def test_removing_takes_all_of_one_and_nothing_of_others(
    sandboxes: Sandboxes, node: Node, podman: FakePodman, definition: Definition
) -> None:
    await make(sandboxes, definition)
    other = await make(sandboxes, definition, WARM)
    await sandboxes.remove(NAME)
    await sandboxes.remove(NAME)
    assert podman.containers() == [str(WARM)]
    assert node.volumes.tags() == {other.pod.tag}
    assert node.ports.taken == 1


async def test_half_a_container_of_a_killed_podman_is_removed(
    sandboxes: Sandboxes, podman: FakePodman
) -> None:
    podman.ghosts.append(str(NAME))
    await sandboxes.remove(NAME)
    assert podman.ghosts == []


async def test_volumes_go_after_the_containers_that_have_them_mounted(
    sandboxes: Sandboxes, node: Node, podman: FakePodman, definition: Definition
) -> None:
    made = await make(sandboxes, definition)
    podman.failures["remove pod"] = PodmanError("busy")
    with pytest.raises(PodmanError):
        await sandboxes.remove(NAME)
    assert node.volumes.tags() == {made.pod.tag}
    assert node.ports.taken == 1


@pytest.mark.parametrize("call", ["inspect", "inspect pod", "remove pod"])
async def test_an_interrupted_removal_is_done_to_its_end(
    sandboxes: Sandboxes, node: Node, podman: FakePodman, definition: Definition, call: str
) -> None:
    await make(sandboxes, definition)
    podman.delay[call] = 0.05
    podman.log.clear()
    work = asyncio.create_task(sandboxes.remove(NAME))
    await asyncio.sleep(0.02)
    for _ in range(3):  # by an impatient one
        work.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await work
    assert_nothing_left(node, podman)
    assert sandboxes.pods_in_work == frozenset()


async def test_a_demo_has_the_ports_that_it_had(
    sandboxes: Sandboxes, node: Node, definition: Definition
) -> None:
    wanted = (PortMapping(23011, 8080),)
    async with sandboxes.create(NAME, definition, ports=wanted) as sandbox:
        assert sandbox.ports == wanted
    assert node.ports.of(str(NAME)) == [23011]


# -- its mail -------------------------------------------------------------------------------------


@pytest.fixture
def mail() -> FakeMail:
    return FakeMail()


@pytest.fixture
def mailing(sandboxes: Sandboxes, mail: FakeMail) -> Sandboxes:
    return replace(sandboxes, mail=mail)


@pytest.fixture
def sending(definition: Definition) -> Definition:
    return definition.model_copy(update={"network": Network(mail=Mail.SINK)})


async def test_a_demos_mail_is_kept_from_its_beginning_until_it_is_removed(
    mailing: Sandboxes, mail: FakeMail, sending: Definition
) -> None:
    async with mailing.create(NAME, sending) as sandbox:
        assert mail.keeps == {str(NAME): True}
        assert mailing.guards(NAME, sandbox, sending.network)
        new = NewContainer(sending.main, PINNED, {}, pod=str(sandbox.pod))
        await mailing.podman.create_and_start(str(NAME), new)
    await mailing.remove(NAME)
    assert mail.keeps == {}


async def test_a_warm_sandboxs_mail_is_kept_once_it_is_a_demos(
    mailing: Sandboxes, mail: FakeMail, sending: Definition
) -> None:
    await make(mailing, sending, WARM)
    assert mail.keeps == {str(WARM): False}
    await mailing.rename(WARM, NAME)
    assert mail.keeps == {str(NAME): True}


@pytest.mark.parametrize("role", sorted(set(Role) - {Role.DEMO, Role.WARM}))
async def test_nobody_elses_mail_is_kept(
    mailing: Sandboxes, mail: FakeMail, sending: Definition, role: Role
) -> None:
    name = replace(WARM, role=role)
    async with mailing.create(name, sending):
        assert mail.keeps == {str(name): False}


async def test_a_sandbox_whose_mail_cannot_be_taken_is_not_made(
    mailing: Sandboxes, node: Node, podman: FakePodman, mail: FakeMail, sending: Definition
) -> None:
    mail.fails = True
    with pytest.raises(FirewallError, match=r"spec\.network\.mail"):
        await make(mailing, sending)
    assert_nothing_left(node, podman)


async def test_a_demos_mails_go_with_it(
    mailing: Sandboxes, node: Node, sending: Definition
) -> None:
    sandbox = await make(mailing, sending)
    Mailbox(node.volumes.directory / sandbox.pod.tag).add(Envelope("a@b", ("c@d",)), b"hello")
    await mailing.remove(NAME)
    assert node.volumes.tags() == set()
