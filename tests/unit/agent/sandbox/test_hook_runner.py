"""Hooks: what they are told, in which order, and what is told of their failures."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.builders import make_definition, make_demo, make_template
from tests.unit.fakes import FakePodman
from tryitnow.agent.errors import HookError
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.hooks import AT_ONCE, SECRET, demo_environment, start_environment
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import PodName, demo_name
from tryitnow.api.definition import Definition, HTTPGet, Readiness
from tryitnow.api.demoinstance import DemoInstance, StartedBy
from tryitnow.api.hooks import Hook, Hooks, Parameter
from tryitnow.api.template import (
    EnvVar,
    EnvVarSource,
    Exec,
    KeySelector,
    Scheme,
    SecretVolume,
    Volume,
)
from tryitnow.podman.client import Executed, PortMapping
from tryitnow.podman.errors import ExecTimeoutError, NoSuchContainerError, PodmanError
from tryitnow.settings import AgentSettings

SANDBOX = Sandbox(PodName("0" * 16), (PortMapping(20001, 8080),), pid=1)


def hook(*command: str) -> Hook:
    return Hook(exec=Exec(command=command))


def define(*hooks: Hook, **changes: Any) -> Definition:
    whole = make_definition().model_copy(update={"hooks": Hooks(after_restore=hooks), **changes})
    return Definition.model_validate(whole.to_api())


def demo(**spec: object) -> DemoInstance:
    found = make_demo(node="node-a")
    return found.model_copy(update={"spec": found.spec.model_copy(update=spec)})


async def run(node: Node, whole: Definition, env: dict[str, str] | None = None) -> timedelta:
    env = env or (
        demo_environment(node.settings, demo(), whole, SANDBOX)
        | start_environment(StartedBy.RESTORE)
    )
    hooks = node.demo_tools.start.hooks
    return await hooks.run(
        "afterRestore", whole.hooks.after_restore, demo_name(demo()), whole, SANDBOX, env
    )


# -- what they are told ---------------------------------------------------------------------------


def test_a_demo_is_reported_who_it_is(settings: AgentSettings) -> None:
    parameters = (Parameter(name="theme-color", default="red"), Parameter(name="title"))
    whole = define(parameters=parameters)
    env = demo_environment(settings, demo(parameters={"title": "Anna's"}), whole, SANDBOX)
    reached = f"{settings.node_address}:20001"
    assert env == {
        "TRYITNOW_NAME": "annas-demo",
        "TRYITNOW_NAMESPACE": "default",
        "TRYITNOW_UID": demo().metadata.uid,
        "TRYITNOW_HOST": reached,
        "TRYITNOW_URL": f"http://{reached}",
        "TRYITNOW_NODE": "node-a",
        "TRYITNOW_PORT": "20001",
        "TRYITNOW_PARAM_THEME_COLOR": "red",
        "TRYITNOW_PARAM_TITLE": "Anna's",
    }
    hosted = demo_environment(settings, demo(host="shop.example"), whole, SANDBOX)
    assert hosted["TRYITNOW_URL"] == "http://shop.example"


def test_a_demo_is_reported_the_name_that_clients_use(settings: AgentSettings) -> None:
    public = replace(settings, public_host="node-a.demos.example.com")
    env = demo_environment(public, demo(), define(), SANDBOX)
    assert env["TRYITNOW_URL"] == "http://node-a.demos.example.com:20001"


def test_a_demo_of_https_is_reported_so(settings: AgentSettings) -> None:
    whole = make_definition(readiness=Readiness(http_get=HTTPGet(scheme=Scheme.HTTPS)))
    assert demo_environment(settings, demo(), whole, SANDBOX)["TRYITNOW_URL"].startswith("https://")


@pytest.mark.parametrize("started_by", StartedBy)
def test_each_start_says_how_it_was_made_and_has_a_secret_of_its_own(
    started_by: StartedBy,
) -> None:
    first, second = (start_environment(started_by) for _ in range(2))
    assert first["TRYITNOW_STARTED_BY"] == str(started_by)
    assert first[SECRET] != second[SECRET]
    assert len(first[SECRET]) == 64


async def test_hooks_that_hang_hold_up_no_other_namespace_and_no_other_kind(node: Node) -> None:
    hooks = node.demo_tools.start.hooks
    hangs = asyncio.Event()

    async def wait_in(turn: str) -> None:
        async with hooks.turns[turn].turn("hangs"):
            await hangs.wait()

    held = [asyncio.create_task(wait_in("afterRestore")) for _ in range(3 * AT_ONCE)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await run(node, define(hook("first")))
        async with hooks.turns["beforeDelete"].turn("hangs"):
            pass
    hangs.set()
    await asyncio.gather(*held)


# -- how they run ---------------------------------------------------------------------------------


async def test_hooks_run_in_order_in_the_main_container(node: Node, podman: FakePodman) -> None:
    await run(node, define(hook("first"), hook("second")))
    name = str(demo_name(demo()))
    assert [(where, what) for where, what, _ in podman.executed] == [
        (name, ("first",)),
        (name, ("second",)),
    ]


async def test_one_that_fails_ends_the_row_and_shows_what_it_wrote(
    node: Node, podman: FakePodman
) -> None:
    podman.outcomes = [Executed(3, "no such table")]
    with pytest.raises(HookError) as caught:
        await run(node, define(hook("first"), hook("second")))
    assert str(caught.value) == (
        "spec.hooks.afterRestore[0] in container shop failed with exit status 3; it wrote:\n"
        "no such table"
    )
    assert len(podman.executed) == 1


async def test_one_that_hangs_says_so(node: Node, podman: FakePodman) -> None:
    podman.outcomes = [ExecTimeoutError(timedelta(seconds=2), "waiting for the lock")]
    with pytest.raises(HookError, match=r"hangs: it did not end within 2 s.*\nwaiting for the"):
        await run(node, define(hook("first")))


async def test_one_that_cannot_be_run_names_its_field(node: Node, podman: FakePodman) -> None:
    podman.outcomes = [PodmanError("executable file `nope` not found")]
    with pytest.raises(HookError, match=r"spec\.hooks\.afterRestore\[0\] .* `nope` not found"):
        await run(node, define(hook("nope")))


async def test_a_container_that_is_gone_is_no_failure_of_the_hook(
    node: Node, podman: FakePodman
) -> None:
    podman.outcomes = [NoSuchContainerError("gone")]
    with pytest.raises(NoSuchContainerError):
        await run(node, define(hook("first")))


# -- what is not shown ----------------------------------------------------------------------------


async def test_no_secret_is_shown_even_where_the_output_is_cut(
    node: Node, podman: FakePodman
) -> None:
    selector = EnvVarSource(secret_key_ref=KeySelector(name="shop", key="password"))
    template = make_template(env=(EnvVar(name="PASSWORD", value_from=selector),))
    name = str(demo_name(demo()))
    podman.environments[name] = {"PASSWORD": "correct horse", "LANG": "C"}
    output = "correct horse" + "x" * 995  # cut in the middle of it
    podman.outcomes = [Executed(1, output)]
    with pytest.raises(HookError) as caught:
        await run(node, define(hook("env"), template=template))
    assert "horse" not in str(caught.value)


async def test_the_secret_of_the_start_is_not_shown(node: Node, podman: FakePodman) -> None:
    env = start_environment(StartedBy.RESTORE)
    podman.outcomes = [Executed(1, f"secret={env[SECRET]}")]
    with pytest.raises(HookError, match=r"secret=\*\*\*"):
        await run(node, define(hook("env")), env)


async def test_the_content_of_a_secret_volume_is_not_shown(node: Node, podman: FakePodman) -> None:
    volume = Volume(name="keys", secret=SecretVolume(secret_name="shop"))
    template = make_template().model_copy(update={"volumes": (volume,)})
    node.volumes.make(SANDBOX.pod.tag, template)
    node.volumes.write(SANDBOX.pod.tag, {"keys": {"tls.key": b"first line\nsecond line"}})
    podman.outcomes = [Executed(1, "I read: second line")]
    with pytest.raises(HookError, match=r"I read: \*\*\*"):
        await run(node, define(hook("cat"), template=template))


async def test_what_a_hook_writes_steers_no_terminal(node: Node, podman: FakePodman) -> None:
    podman.outcomes = [Executed(1, "\x1b[2Jcleared")]
    with pytest.raises(HookError) as caught:
        await run(node, define(hook("env")))
    assert "\x1b" not in str(caught.value)
