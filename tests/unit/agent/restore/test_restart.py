"""Started again: with its files, in its order, behind its firewall, and nothing is removed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.agent.restore.conftest import AT_ONCE, cancelled_at, make_pod, until
from tests.unit.builders import make_container, make_definition, make_demo, make_template
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.sandbox import FakeFirewall, FakeHosts, FakeOutbound, State
from tryitnow.agent.errors import (
    ContainerDiedError,
    FirewallError,
    NotReadyError,
    SandboxError,
    VolumeError,
)
from tryitnow.agent.node import Node
from tryitnow.agent.restore.cold_start import cold_start
from tryitnow.agent.restore.restart import restart
from tryitnow.agent.restore.result import Running
from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import demo_name
from tryitnow.agent.turns import ShortTurns
from tryitnow.api.definition import Definition, Readiness
from tryitnow.api.demoinstance import StartedBy
from tryitnow.api.meta import Key
from tryitnow.api.template import (
    EmptyDir,
    EnvVar,
    EnvVarSource,
    Exec,
    KeySelector,
    StartupProbe,
    Template,
    Volume,
    VolumeMount,
)
from tryitnow.podman.client import Executed
from tryitnow.podman.errors import NodeLimitError, PodmanError, PodmanUnreachableError

NAME = demo_name(make_demo())
HOST = "annas-demo"


@pytest.fixture
def definition() -> Definition:
    return make_pod()


@pytest.fixture
async def sandbox(
    tools: StartTools, node: Node, podman: FakePodman, firewall: FakeFirewall,
    hosts: FakeHosts, definition: Definition,
) -> Sandbox:  # fmt: skip
    """A demo that was ready, with data of its own."""
    started = await cold_start(tools, NAME, definition, {}, host=HOST)
    found = started.running.sandbox
    await tools.sandboxes.firewall.open(found.pid, (8080,))
    data_of(node, found).write_text("orders of a week")
    podman.requested_paths.clear()
    for remembered in (podman.log, podman.executed, firewall.states, hosts.names, hosts.files):
        remembered.clear()
    return found


def data_of(node: Node, sandbox: Sandbox) -> Path:
    return node.volumes.path(sandbox.pod.tag, "data") / "orders"


def end_all(podman: FakePodman, sandbox: Sandbox, definition: Definition) -> None:
    for own in sandbox.containers(NAME, definition).values():
        podman.stop(own)
    podman.log.clear()


async def again(tools: StartTools, definition: Definition, sandbox: Sandbox) -> Running:
    return await restart(tools, NAME, definition, sandbox, HOST)


def assert_nothing_removed(
    node: Node, podman: FakePodman, sandbox: Sandbox, definition: Definition
) -> None:
    assert not any(line.startswith(("remove", "create", "stop")) for line in podman.log)
    assert podman.containers() == sorted(sandbox.containers(NAME, definition).values())
    assert data_of(node, sandbox).read_text() == "orders of a week"
    assert node.ports.of(str(NAME)) == [port.host_port for port in sandbox.ports]


# -- the way of a restart -------------------------------------------------------------------------


async def test_a_demo_is_started_again_with_its_files_at_its_ports(
    tools: StartTools, node: Node, podman: FakePodman, definition: Definition, sandbox: Sandbox
) -> None:
    end_all(podman, sandbox, definition)
    running = await again(tools, definition, sandbox)
    assert running.started_by is StartedBy.RESTART
    assert running.sandbox.ports == sandbox.ports
    assert running.timings.restart is not None
    assert await tools.sandboxes.is_running(NAME)
    assert_nothing_removed(node, podman, sandbox, definition)


async def test_the_database_is_awaited_before_the_application_begins(
    tools: StartTools, podman: FakePodman, definition: Definition, sandbox: Sandbox
) -> None:
    end_all(podman, sandbox, definition)
    podman.outcomes = [Executed(1, "not yet"), Executed(1, "not yet")]
    await again(tools, definition, sandbox)
    database = sandbox.pod.member("database")
    started = podman.log.index(f"start {NAME}")
    assert podman.log.index(f"start {database}") < started
    asked = [i for i, line in enumerate(podman.log) if line == f"exec {database}"]
    assert len(asked) == 3
    assert asked[-1] < started


async def test_a_container_that_runs_is_left_alone(
    tools: StartTools, podman: FakePodman, definition: Definition, sandbox: Sandbox
) -> None:
    podman.stop(str(NAME))
    podman.log.clear()
    await again(tools, definition, sandbox)
    assert [line for line in podman.log if line.startswith(("init ", "start tryitnow"))] == [
        f"init {NAME}",
        f"start {NAME}",
    ]


async def test_what_ran_to_its_end_at_the_first_start_does_not_run_again(
    tools: StartTools, podman: FakePodman, definition: Definition, sandbox: Sandbox
) -> None:
    end_all(podman, sandbox, definition)
    await again(tools, definition, sandbox)
    assert not any("setup" in line for line in podman.log)


async def test_nobody_gets_in_before_the_hooks_have_run(
    tools: StartTools, podman: FakePodman, firewall: FakeFirewall,
    definition: Definition, sandbox: Sandbox,
) -> None:  # fmt: skip
    end_all(podman, sandbox, definition)
    closed_before: list[str] = []
    close = firewall.close

    async def noted(pid: int, *, tcp_blocked: bool = False) -> None:
        closed_before.extend(line for line in podman.log if line.startswith(("init", "start try")))
        await close(pid, tcp_blocked=tcp_blocked)

    firewall.close = noted  # type: ignore[method-assign]
    await again(tools, definition, sandbox)
    assert closed_before == [], "no program begins while clients can come in"
    assert firewall.states == [State.CLOSED]


async def test_the_host_has_its_name_before_a_program_begins(
    tools: StartTools, podman: FakePodman, hosts: FakeHosts,
    definition: Definition, sandbox: Sandbox,
) -> None:  # fmt: skip
    end_all(podman, sandbox, definition)
    await again(tools, definition, sandbox)
    assert hosts.names == [HOST]
    assert hosts.files == [HOST, HOST], "of each container, between its files and its program"
    own = str(NAME)
    steps = [line for line in podman.log if line in {f"init {own}", f"pid {own}", f"start {own}"}]
    assert steps == [f"init {own}", f"pid {own}", f"start {own}"]


async def test_after_a_reboot_the_pod_is_set_up_first(
    tools: StartTools, node: Node, podman: FakePodman, definition: Definition, sandbox: Sandbox
) -> None:
    podman.reboot()
    podman.log.clear()
    found = await tools.sandboxes.find(NAME)
    assert found is not None
    assert found.pid == 0
    running = await again(tools, definition, found)
    assert running.sandbox.pid
    assert podman.log.index(f"start infra {sandbox.pod}") < podman.log.index(f"start {NAME}")
    assert await tools.sandboxes.is_running(NAME)
    assert_nothing_removed(node, podman, sandbox, definition)


async def test_a_link_in_the_place_of_a_sub_path_starts_nothing(
    tools: StartTools, node: Node, podman: FakePodman, tmp_path: Path
) -> None:
    mount = VolumeMount(name="data", mount_path="/data", sub_path="orders")
    template = Template(
        containers=(make_container(volume_mounts=(mount,)),),
        volumes=(Volume(name="data", empty_dir=EmptyDir()),),
    )
    definition = make_definition(template=template)
    sandbox = (await cold_start(tools, NAME, definition, {})).running.sandbox
    try:
        podman.stop(str(NAME))
        await again(tools, definition, sandbox)
        podman.stop(str(NAME))
        podman.log.clear()
        orders = data_of(node, sandbox)
        orders.rmdir()
        orders.symlink_to(tmp_path)
        with pytest.raises(VolumeError, match="is a link"):
            await again(tools, definition, sandbox)
        assert not any(line.startswith(("init", "start try")) for line in podman.log)
    finally:
        await tools.sandboxes.remove(NAME)


# -- what fails, is slow, or is interrupted -------------------------------------------------------

CALLS = ["start infra", "inspect", "init", "pid", "start", "exec"]


@pytest.mark.parametrize(
    "error",
    [
        PodmanError("refused"),
        PodmanUnreachableError("away"),
        NodeLimitError("address already in use", limit="PortTaken", remedy="free the port"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("call", [call for call in CALLS if call != "exec"])
async def test_nothing_is_removed_whatever_fails(
    tools: StartTools, node: Node, podman: FakePodman, definition: Definition, sandbox: Sandbox,
    call: str, error: Exception,
) -> None:  # fmt: skip
    end_all(podman, sandbox, definition)
    podman.failures[call] = error
    with pytest.raises(type(error)):
        await again(tools, definition, sandbox)
    del podman.failures[call]
    assert_nothing_removed(node, podman, sandbox, definition)
    await again(tools, definition, sandbox)
    assert await tools.sandboxes.is_running(NAME)
    assert_nothing_removed(node, podman, sandbox, definition)


@pytest.mark.parametrize("call", CALLS)
async def test_nothing_is_removed_when_it_is_interrupted(
    tools: StartTools, node: Node, podman: FakePodman, definition: Definition, sandbox: Sandbox,
    call: str,
) -> None:  # fmt: skip
    end_all(podman, sandbox, definition)
    await cancelled_at(podman, call, again(tools, definition, sandbox))
    assert_nothing_removed(node, podman, sandbox, definition)
    await again(tools, definition, sandbox)
    assert await tools.sandboxes.is_running(NAME)
    assert_nothing_removed(node, podman, sandbox, definition)


@pytest.mark.parametrize("call", CALLS)
async def test_nothing_is_removed_where_podman_did_it_and_did_not_say_so(
    tools: StartTools, node: Node, podman: FakePodman, definition: Definition, sandbox: Sandbox,
    call: str,
) -> None:  # fmt: skip
    end_all(podman, sandbox, definition)
    podman.disconnects[call] = 1
    try:
        await again(tools, definition, sandbox)
    except PodmanUnreachableError:
        await again(tools, definition, sandbox)
    assert await tools.sandboxes.is_running(NAME)
    assert_nothing_removed(node, podman, sandbox, definition)


async def test_a_firewall_that_cannot_be_closed_starts_nothing(
    tools: StartTools, node: Node, podman: FakePodman, firewall: FakeFirewall,
    definition: Definition, sandbox: Sandbox,
) -> None:  # fmt: skip
    end_all(podman, sandbox, definition)
    firewall.fails = True
    with pytest.raises(FirewallError):
        await again(tools, definition, sandbox)
    assert not await tools.sandboxes.is_running(NAME)
    assert_nothing_removed(node, podman, sandbox, definition)


async def test_a_sandbox_that_is_gone_meanwhile_is_no_failure_of_the_disk(
    tools: StartTools, podman: FakePodman, hosts: FakeHosts,
    definition: Definition, sandbox: Sandbox,
) -> None:  # fmt: skip
    end_all(podman, sandbox, definition)

    def gone(pid: int, name: str) -> None:
        raise ProcessLookupError(3, f"process {pid} is in no sandbox any more, {name}")

    hosts.set_name = gone  # type: ignore[method-assign]
    with pytest.raises(SandboxError, match="in no sandbox any more"):
        await again(tools, definition, sandbox)


async def test_a_container_that_somebody_removed_is_named(
    tools: StartTools, node: Node, podman: FakePodman, definition: Definition, sandbox: Sandbox
) -> None:
    await podman.remove(sandbox.pod.member("database"))
    end_all(podman, sandbox, make_definition())
    with pytest.raises(PodmanError, match="container database is gone"):
        await again(tools, definition, sandbox)
    assert data_of(node, sandbox).exists()


async def test_one_that_takes_longer_than_its_time_goes_on_starting(
    tools: StartTools, node: Node, podman: FakePodman, sandbox: Sandbox
) -> None:
    slow = make_pod(AT_ONCE)
    end_all(podman, sandbox, slow)
    podman.cold_status = 503
    for _ in range(3):
        with pytest.raises(NotReadyError, match="answered 503"):
            await again(tools, slow, sandbox)
    assert podman.log.count(f"start {NAME}") == 1, "it is not started over and over"
    podman.answers["/"] = 200
    await again(tools, slow, sandbox)
    assert podman.log.count(f"start {NAME}") == 1
    assert_nothing_removed(node, podman, sandbox, slow)


async def test_one_that_ends_again_says_its_last_words(
    tools: StartTools, node: Node, podman: FakePodman, sandbox: Sandbox
) -> None:
    crashing = make_pod(Readiness(timeout=timedelta(seconds=10)))
    end_all(podman, sandbox, crashing)
    podman.cold_status = 503
    podman.last_lines = "cannot open the database"
    task = asyncio.create_task(again(tools, crashing, sandbox))
    await until(lambda: bool(podman.requested_paths))
    podman.stop(str(NAME), exit_code=1)
    with pytest.raises(ContainerDiedError, match="cannot open the database"):
        await task
    assert_nothing_removed(node, podman, sandbox, crashing)


async def test_no_secret_is_shown_by_a_restart(
    tools: StartTools, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    secret = "s3cret" * 100
    kubernetes.data["secrets", Key("default", "database")] = {"password": secret.encode()}
    key = EnvVarSource(secret_key_ref=KeySelector(name="database", key="password"))
    probe = StartupProbe(exec=Exec(command=("check",)), timeout=timedelta(milliseconds=100))
    template = make_template(startup_probe=probe, env=(EnvVar(name="PASSWORD", value_from=key),))
    definition = make_definition(template=template)
    started = await cold_start(tools, NAME, definition, {})
    podman.environments[str(NAME)] = {"PASSWORD": secret}
    podman.outcomes = [Executed(1, f"wrong password: {secret}") for _ in range(100)]
    podman.last_lines = f"connecting with {secret}"
    podman.stop(str(NAME))
    with pytest.raises(NotReadyError) as caught:
        await again(tools, definition, started.running.sandbox)
    assert "exit status 1: wrong password: ***" in str(caught.value)
    assert "connecting with ***" in str(caught.value)
    assert "cret" not in str(caught.value)


async def test_one_that_hangs_holds_up_no_other(
    tools: StartTools, podman: FakePodman, definition: Definition, sandbox: Sandbox
) -> None:
    end_all(podman, sandbox, definition)
    turns = ShortTurns(1, 0.05)
    few = replace(tools, restarts=turns)
    podman.delay["start infra"] = 0.3
    hanging = asyncio.create_task(again(few, definition, sandbox))
    await asyncio.sleep(0)
    async with asyncio.timeout(0.2), turns.turn("default"):
        assert not hanging.done()
    await hanging


async def test_what_goes_out_is_closed_before_anything_is_started(
    tools: StartTools, podman: FakePodman, outbound: FakeOutbound,
    definition: Definition, sandbox: Sandbox,
) -> None:  # fmt: skip
    outbound.fails = True
    podman.stop(str(NAME))
    podman.log.clear()
    with pytest.raises(FirewallError):
        await restart(tools, NAME, definition, sandbox, HOST)
    assert not any(line.startswith("start tryitnow") for line in podman.log)
