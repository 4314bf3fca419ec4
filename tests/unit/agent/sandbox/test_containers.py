"""What containers of a sandbox are made of; their order is in the tests of the restore room."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from tests.unit.builders import PINNED, make_container, make_definition, make_demo
from tests.unit.fakes import FakePodman
from tests.unit.sandbox import FakeHosts
from tryitnow.agent.errors import NodeShortError
from tryitnow.agent.health import Health
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.bounds import Bounds
from tryitnow.agent.sandbox.containers import Containers
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import demo_name
from tryitnow.agent.sandbox.secrets import Sources
from tryitnow.api.definition import Definition
from tryitnow.api.limits import NODE_LIMITS
from tryitnow.api.template import (
    EmptyDir,
    ResourceLimits,
    Resources,
    Template,
    Volume,
    VolumeMount,
)
from tryitnow.podman.client import Mount, NewContainer
from tryitnow.settings import ContainerSettings

NAME = demo_name(make_demo())
DEFAULT = ResourceLimits(memory="4Gi", pids=2048)


@pytest.fixture
def containers(node: Node) -> Containers:
    return node.demo_tools.start.containers


@pytest.fixture
def definition() -> Definition:
    mount = VolumeMount(name="data", mount_path="/data")
    limits = Resources(limits=ResourceLimits(memory="1Gi", cpu="2"))
    database = make_container("database", ports=(), volume_mounts=(mount,))
    template = Template(
        containers=(make_container(volume_mounts=(mount,), resources=limits), database),
        volumes=(Volume(name="data", empty_dir=EmptyDir()),),
    )
    return make_definition(template=template)


async def make(node: Node, definition: Definition) -> Sandbox:
    async with node.sandboxes.create(NAME, definition) as sandbox:
        own_names = sandbox.containers(NAME, definition)
        for container in definition.template.members:
            new = NewContainer(container, PINNED, {}, pod=str(sandbox.pod))
            await node.podman.create_and_start(own_names[container.name], new)
    return sandbox


async def test_a_container_is_made_of_the_definition_and_of_nothing_else(
    containers: Containers, node: Node, definition: Definition
) -> None:
    sandbox = await make(node, definition)
    sources = Sources(env={"shop": {"PASSWORD": "x"}})
    new = containers.new(definition, sandbox, definition.main, PINNED, sources)
    assert new.container == definition.main
    assert new.image == PINNED
    assert new.env == {"PASSWORD": "x"}
    assert new.pod == str(sandbox.pod)
    [mount] = new.mounts
    assert isinstance(mount, Mount)
    assert mount.source == node.volumes.path(sandbox.pod.tag, "data")
    assert not new.selinux


async def test_a_limit_that_the_node_cannot_hold_starts_nothing_unless_that_is_allowed(
    containers: Containers, node: Node, definition: Definition
) -> None:
    sandbox = await make(node, definition)
    node.health.current = Health(controllers=frozenset({"memory"}), selinux=True)
    with pytest.raises(
        NodeShortError, match=r"containers\[shop\] has limits for cpu, pids"
    ) as caught:
        containers.new(definition, sandbox, definition.main, PINNED, Sources())
    assert caught.value.limit in NODE_LIMITS, "the node's fault, not the application's"
    assert "agent.allowUnenforcedLimits" in str(caught.value)
    lenient = ContainerSettings(default_limits=DEFAULT, allow_unenforced_limits=True)
    containers = replace(containers, bounds=Bounds(lenient, node.health))
    new = containers.new(definition, sandbox, definition.main, PINNED, Sources())
    assert new.limits == ResourceLimits(memory="1Gi")
    assert new.selinux, "binds are relabelled where SELinux is enforcing"


async def test_running_containers_get_another_name_of_their_host(
    containers: Containers, node: Node, hosts: FakeHosts, definition: Definition
) -> None:
    sandbox = await make(node, definition)
    pids = await containers.pids_of(NAME, definition, sandbox)
    await containers.name_host(sandbox, pids, "annas-demo")
    assert hosts.names == ["annas-demo"]
    assert hosts.files == ["annas-demo", "annas-demo"]


async def test_a_process_that_ended_is_passed_over(
    containers: Containers, node: Node, hosts: FakeHosts, definition: Definition
) -> None:
    sandbox = await make(node, definition)
    await containers.name_host(sandbox, (0, sandbox.pid), "annas-demo")
    assert hosts.files == ["annas-demo"]


async def test_an_image_without_a_hosts_file_is_no_failure(
    containers: Containers, node: Node, hosts: FakeHosts, definition: Definition,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    hosts.has_files = False
    sandbox = await make(node, definition)
    pids = await containers.pids_of(NAME, definition, sandbox)
    await containers.name_host(sandbox, pids, "annas-demo")
    with caplog.at_level(logging.WARNING):
        await containers.carry_hosts(str(NAME), pids[0], "192.0.2.1 partner\n")
    assert "cannot be brought back" in caplog.text


async def test_nothing_is_carried_where_the_application_wrote_nothing(
    containers: Containers, hosts: FakeHosts
) -> None:
    await containers.carry_hosts(str(NAME), 4711, "")
    assert hosts.carried == []


async def test_the_words_are_those_of_the_container_that_ended(
    containers: Containers, node: Node, podman: FakePodman, definition: Definition
) -> None:
    sandbox = await make(node, definition)
    podman.last_lines = "\x1b[31mout of memory\x1b[0m"
    podman.stop(sandbox.pod.member("database"))
    message = await containers.silent_words(NAME, definition, sandbox)
    assert message == "\nThe last lines of container database:\nout of memory"
    podman.last_lines = ""
    assert await containers.silent_words(NAME, definition, sandbox) == ""
