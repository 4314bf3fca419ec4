"""Hooks: what they are told, in which order, and what is told of their failures."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.builders import make_blueprint, make_copy, make_instance, make_template
from tests.unit.fakes import FakePodman
from tryitnow.agent.before_delete import run_before_delete
from tryitnow.agent.hooks import (
    SECRET,
    HookError,
    instance_environment,
    run_hooks,
    start_environment,
)
from tryitnow.agent.inside import published
from tryitnow.agent.names import demo_container
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox import Sandbox
from tryitnow.api.checkpoint import Blueprint
from tryitnow.api.demoinstance import DemoInstance, StartedBy
from tryitnow.api.hooks import Hook, Hooks, Parameter
from tryitnow.api.template import EnvVar, EnvVarSource, Exec, KeySelector
from tryitnow.podman.client import ContainerState, Executed, PortMapping
from tryitnow.podman.errors import ExecTimeoutError, PodmanError

SANDBOX = Sandbox((PortMapping(20001, 8080),), pid=1)


def hook(*command: str) -> Hook:
    return Hook(exec=Exec(command=command))


def blueprint(*hooks: Hook, **changes: object) -> Blueprint:
    whole = make_blueprint().model_copy(update={"hooks": Hooks(after_restore=hooks), **changes})
    return Blueprint.model_validate(whole.to_api())


def instance(**spec: object) -> DemoInstance:
    found = make_instance(node="node-a")
    return found.model_copy(update={"spec": found.spec.model_copy(update=spec)})


async def run(node: Node, whole: Blueprint) -> timedelta:
    env = instance_environment(node, instance(), whole, SANDBOX)
    env |= start_environment(StartedBy.RESTORE)
    name = demo_container(instance())
    hooks = whole.hooks.after_restore
    return await run_hooks(node, "afterRestore", hooks, name, whole, SANDBOX, env)


def test_a_copy_is_told_who_it_is(node: Node) -> None:
    parameters = (Parameter(name="theme-color", default="red"), Parameter(name="title"))
    whole = blueprint(parameters=parameters)
    env = instance_environment(node, instance(parameters={"title": "Anna's"}), whole, SANDBOX)
    reached = f"{node.settings.node_address}:20001"
    assert env == {
        "TRYITNOW_NAME": "annas-demo",
        "TRYITNOW_NAMESPACE": "default",
        "TRYITNOW_UID": instance().metadata.uid,
        "TRYITNOW_HOST": reached,
        "TRYITNOW_URL": f"http://{reached}",
        "TRYITNOW_NODE": "node-a",
        "TRYITNOW_PORT": "20001",
        "TRYITNOW_PARAM_THEME_COLOR": "red",
        "TRYITNOW_PARAM_TITLE": "Anna's",
    }
    hosted = instance_environment(node, instance(host="shop.example"), whole, SANDBOX)
    assert hosted["TRYITNOW_URL"] == "http://shop.example"


def test_a_copy_is_told_and_asked_by_the_name_that_visitors_use(node: Node) -> None:
    node.settings = replace(node.settings, public_host="node-a.demos.example.com")
    env = instance_environment(node, instance(), blueprint(), SANDBOX)
    assert env["TRYITNOW_URL"] == "http://node-a.demos.example.com:20001"
    target = published(node, blueprint(), SANDBOX)
    assert target.base_url == f"http://{node.settings.node_address}:20001"
    assert target.headers == {"Host": "node-a.demos.example.com:20001"}


def test_a_copy_of_an_earlier_revision_is_where_it_was_published(node: Node) -> None:
    """Or it could not be deleted: the Checkpoint has another port by now."""
    whole = make_blueprint(template=make_template(ports=[9090]))
    env = instance_environment(node, instance(), whole, SANDBOX)
    assert env["TRYITNOW_PORT"] == "20001"


def test_each_start_has_a_secret_of_its_own() -> None:
    first, second = (start_environment(StartedBy.WARM) for _ in range(2))
    assert first[SECRET] != second[SECRET]
    assert len(first[SECRET]) == 64


async def test_hooks_run_in_order_in_the_main_container(node: Node, podman: FakePodman) -> None:
    await run(node, blueprint(hook("first"), hook("second")))
    name = str(demo_container(instance()))
    assert [(where, what) for where, what, _ in podman.executed] == [
        (name, ("first",)),
        (name, ("second",)),
    ]


async def test_one_that_fails_ends_the_row_and_shows_what_it_wrote(
    node: Node, podman: FakePodman
) -> None:
    podman.outcomes = [Executed(3, "no such table")]
    with pytest.raises(HookError) as caught:
        await run(node, blueprint(hook("first"), hook("second")))
    assert str(caught.value) == (
        "spec.hooks.afterRestore[0] in container shop failed with exit status 3; it wrote:\n"
        "no such table"
    )
    assert len(podman.executed) == 1


async def test_one_that_hangs_says_so(node: Node, podman: FakePodman) -> None:
    podman.outcomes = [ExecTimeoutError(timedelta(seconds=2), "waiting for the lock")]
    with pytest.raises(HookError, match=r"hangs: it did not end within 2 s.*\nwaiting for the"):
        await run(node, blueprint(hook("first")))


async def test_one_that_cannot_be_run_names_its_field(node: Node, podman: FakePodman) -> None:
    podman.outcomes = [PodmanError("executable file `nope` not found")]
    with pytest.raises(HookError, match=r"spec\.hooks\.afterRestore\[0\] .* `nope` not found"):
        await run(node, blueprint(hook("nope")))


async def test_no_secret_is_shown_even_where_the_output_is_cut(
    node: Node, podman: FakePodman
) -> None:
    selector = EnvVarSource(secret_key_ref=KeySelector(name="shop", key="password"))
    template = make_template(env=(EnvVar(name="PASSWORD", value_from=selector),))
    name = str(demo_container(instance()))
    podman.environments[name] = {"PASSWORD": "correct horse", "LANG": "C"}
    output = "correct horse" + "x" * 995  # cut in the middle of it
    podman.outcomes = [Executed(1, output)]
    with pytest.raises(HookError) as caught:
        await run(node, blueprint(hook("env"), template=template))
    assert "horse" not in str(caught.value)


async def test_the_secret_of_the_start_is_not_shown(node: Node, podman: FakePodman) -> None:
    whole = blueprint(hook("env"))
    env = start_environment(StartedBy.RESTORE)
    podman.outcomes = [Executed(1, f"secret={env[SECRET]}")]
    with pytest.raises(HookError, match=r"secret=\*\*\*"):
        await run_hooks(
            node, "afterRestore", whole.hooks.after_restore, demo_container(instance()),
            whole, SANDBOX, env,
        )  # fmt: skip


# -- beforeDelete ---------------------------------------------------------------------------------


@pytest.fixture
def dying(node: Node, podman: FakePodman) -> DemoInstance:
    """An instance whose Checkpoint drops its database at the end."""
    whole = make_blueprint().model_copy(
        update={"hooks": Hooks(before_delete=(hook("drop-database"),))}
    )
    copy = make_copy(blueprint=whole)
    node.copies.update(copy)
    found = make_instance(node="node-a", revision=copy.spec.revision, deleting=True)
    podman.add(
        ContainerState(
            name=str(demo_container(found)),
            id="1",
            running=True,
            exit_code=0,
            pid=1,
            image="",
            ports=(PortMapping(20001, 8080),),
        )
    )
    return found


async def test_the_last_hooks_are_told_who_but_no_secret(
    node: Node, podman: FakePodman, dying: DemoInstance
) -> None:
    assert await run_before_delete(node, dying) is None
    [(_, command, env)] = podman.executed
    assert command == ("drop-database",)
    assert env["TRYITNOW_NAME"] == "annas-demo"
    assert SECRET not in env


async def test_deleting_ends_although_the_hook_never_succeeds(
    node: Node, podman: FakePodman, dying: DemoInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = timedelta(seconds=5)
    looks = iter([None, pause, pause, None, pause, None])
    monkeypatch.setattr(node.backoff, "remaining", lambda _: next(looks))
    podman.outcomes = [Executed(1, "the database is away")]
    assert await run_before_delete(node, dying) == pause
    assert await run_before_delete(node, dying) == pause, "not before it is over"
    podman.outcomes = [Executed(1, "the database is away")]
    assert await run_before_delete(node, dying) == pause
    podman.outcomes = [Executed(1, "the database is away")]
    assert await run_before_delete(node, dying) is None
    [event] = node.kubernetes.events  # type: ignore[attr-defined]
    assert event.reason == "BeforeDeleteFailed"
    assert "the database is away" in event.note


async def test_a_demo_that_does_not_run_is_removed_without(
    node: Node, podman: FakePodman, dying: DemoInstance
) -> None:
    podman.stop(str(demo_container(dying)))
    assert await run_before_delete(node, dying) is None
    assert podman.executed == []
