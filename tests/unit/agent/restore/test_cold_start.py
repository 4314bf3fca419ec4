"""Cold starts: from pinned images, in their order, behind the firewall; the last resort."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import timedelta

import pytest

from tests.unit.agent.restore.conftest import (
    AT_ONCE,
    assert_nothing_left,
    cancelled_at,
    make_pod,
    until,
)
from tests.unit.builders import IMAGE, PINNED, make_definition, make_demo, make_template
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.sandbox import FakeFirewall, FakeHosts, State
from tryitnow.agent.errors import ContainerDiedError, NotReadyError, SourceError
from tryitnow.agent.node import Node
from tryitnow.agent.restore.cold_start import ColdStarted, cold_start
from tryitnow.agent.restore.images import ensure_images
from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.sandbox.names import demo_name
from tryitnow.api.definition import Definition
from tryitnow.api.demoinstance import StartedBy
from tryitnow.api.meta import Key
from tryitnow.api.template import (
    EnvVar,
    EnvVarSource,
    Exec,
    KeySelector,
    LocalReference,
    StartupProbe,
)
from tryitnow.podman.client import Executed, PortMapping, PullPolicy
from tryitnow.podman.errors import (
    ImagePullError,
    NodeLimitError,
    PodmanError,
    PodmanUnreachableError,
)

NAME = demo_name(make_demo())
OF_THE_BUILD = f"registry.example/shop@sha256:{'b' * 64}"


async def started(
    tools: StartTools, definition: Definition, host: str | None = None
) -> ColdStarted:
    return await cold_start(tools, NAME, definition, {}, host=host)


# -- images ---------------------------------------------------------------------------------------


async def test_a_demo_starts_from_the_images_of_its_revision(
    tools: StartTools, podman: FakePodman
) -> None:
    """Whatever the tag means by now; and a registry is asked for what is missing only."""
    await cold_start(tools, NAME, make_definition(), {"shop": OF_THE_BUILD})
    assert [(name, policy) for name, policy, _ in podman.pulls] == [
        (OF_THE_BUILD, PullPolicy.MISSING)
    ]


async def test_before_the_first_build_the_registry_is_asked_once_and_what_it_gave_serves(
    tools: StartTools, podman: FakePodman
) -> None:
    await cold_start(tools, NAME, make_definition(), {})
    await tools.sandboxes.remove(NAME)
    podman.made.clear()
    cold = await cold_start(tools, NAME, make_definition(), {})
    assert [(name, policy) for name, policy, _ in podman.pulls] == [
        (IMAGE, PullPolicy.ALWAYS),
        (PINNED, PullPolicy.MISSING),
    ]
    assert cold.images == {"shop": PINNED}
    assert [new.image for new in podman.made] == [PINNED]


async def test_a_first_build_asks_for_the_newest_and_a_later_one_for_its_own(
    tools: StartTools, podman: FakePodman
) -> None:
    await cold_start(tools, NAME, make_definition(), {}, newest=True)
    await tools.sandboxes.remove(NAME)
    await cold_start(tools, NAME, make_definition(), {"shop": OF_THE_BUILD}, newest=True)
    assert [(name, policy) for name, policy, _ in podman.pulls] == [
        (IMAGE, PullPolicy.ALWAYS),
        (OF_THE_BUILD, PullPolicy.MISSING),
    ]


async def test_an_image_that_another_namespace_was_given_proves_nothing(
    tools: StartTools, podman: FakePodman
) -> None:
    """It lies on the node: only the registry knows whether this namespace may have it."""
    other = demo_name(make_demo(namespace="other"))
    for name in (NAME, other):
        await cold_start(tools, name, make_definition(), {})
        await tools.sandboxes.remove(name)
    await cold_start(tools, other, make_definition(), {}, newest=True)
    assert [(name, policy) for name, policy, _ in podman.pulls] == [(IMAGE, PullPolicy.ALWAYS)] * 3


async def test_the_images_of_an_archive_are_pulled_with_the_credentials_of_its_namespace(
    tools: StartTools, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    auth = base64.b64encode(b"anna:correct horse").decode()
    config = json.dumps({"auths": {"registry.example": {"auth": auth}}}).encode()
    template = make_template().model_copy(
        update={"image_pull_secrets": (LocalReference(name="pull"),)}
    )
    definition = make_definition(template=template)
    with pytest.raises(SourceError, match=r"imagePullSecrets\[pull\]: there is no Secret"):
        await ensure_images(tools, "default", definition, [OF_THE_BUILD])
    kubernetes.data["secrets", Key("default", "pull")] = {".dockerconfigjson": config}
    await ensure_images(tools, "default", definition, [OF_THE_BUILD, OF_THE_BUILD])
    [(image, [credentials])] = podman.ensured
    assert (image, credentials.username) == (OF_THE_BUILD, "anna")
    podman.images.add(OF_THE_BUILD)
    del kubernetes.data["secrets", Key("default", "pull")]
    await ensure_images(tools, "default", definition, [OF_THE_BUILD])


async def test_an_image_that_cannot_be_had_is_named_by_its_field(
    tools: StartTools, node: Node, podman: FakePodman
) -> None:
    podman.failures["pull"] = ImagePullError("the registry is away")
    with pytest.raises(
        ImagePullError, match=r"template\.initContainers\[0\]\.image: the registry is away"
    ):
        await started(tools, make_pod())
    assert_nothing_left(node, podman)


async def test_images_are_pulled_with_the_credentials_of_their_namespace(
    tools: StartTools, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    auth = base64.b64encode(b"anna:correct horse").decode()
    config = json.dumps({"auths": {"registry.example": {"auth": auth}}}).encode()
    kubernetes.data["secrets", Key("default", "pull")] = {".dockerconfigjson": config}
    template = make_template().model_copy(
        update={"image_pull_secrets": (LocalReference(name="pull"),)}
    )
    await started(tools, make_definition(template=template))
    [(_, _, credentials)] = podman.pulls
    assert [(each.username, each.password) for each in credentials] == [("anna", "correct horse")]


async def test_credentials_that_cannot_be_read_are_named(
    tools: StartTools, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    kubernetes.data["secrets", Key("default", "pull")] = {".dockerconfigjson": b"{"}
    template = make_template().model_copy(
        update={"image_pull_secrets": (LocalReference(name="pull"),)}
    )
    with pytest.raises(SourceError, match=r"imagePullSecrets: a Secret cannot be used"):
        await started(tools, make_definition(template=template))
    assert podman.pulls == []


# -- the way of a start ---------------------------------------------------------------------------


async def test_containers_start_in_their_order(tools: StartTools, podman: FakePodman) -> None:
    podman.outcomes = [Executed(1, "not yet")]
    cold = await started(tools, make_pod())
    pod = cold.running.sandbox.pod
    setup, database = pod.member("setup"), pod.member("database")
    steps = [line for line in podman.log if line.startswith(("start try", "exec", "remove try"))]
    assert steps == [
        f"start {setup}",
        f"remove {setup}",
        f"start {database}",
        f"exec {database}",
        f"exec {database}",
        f"start {NAME}",
    ]
    assert cold.running.started_by is StartedBy.COLD_START
    assert cold.running.timings.cold_start is not None


async def test_an_init_container_that_fails_says_why(
    tools: StartTools, node: Node, podman: FakePodman
) -> None:
    podman.last_lines = "no such table"
    podman.ends["_setup"] = 3
    with pytest.raises(
        ContainerDiedError, match=r"initContainers\[setup\] ended with exit code 3\n"
    ) as caught:
        await started(tools, make_pod())
    assert "no such table" in str(caught.value)
    assert_nothing_left(node, podman)


async def test_nobody_gets_in_while_it_starts(
    tools: StartTools, podman: FakePodman, firewall: FakeFirewall
) -> None:
    cold = await started(tools, make_definition())
    assert firewall.states == [State.CLOSED]
    assert podman.log.index(f"create pod {cold.running.sandbox.pod}") < podman.log.index(
        f"start {NAME}"
    )


async def test_the_host_has_its_name_before_a_program_begins(
    tools: StartTools, podman: FakePodman, hosts: FakeHosts
) -> None:
    await started(tools, make_definition(), host="annas-demo")
    assert hosts.names == ["annas-demo"]
    assert hosts.files == ["annas-demo"]
    own = str(NAME)
    steps = [line for line in podman.log if line in {f"init {own}", f"pid {own}", f"start {own}"}]
    assert steps == [f"init {own}", f"pid {own}", f"start {own}"]


async def test_a_demo_has_its_ports_again(tools: StartTools, node: Node) -> None:
    ports = (PortMapping(23017, 8080),)
    cold = await cold_start(tools, NAME, make_definition(), {}, ports=ports)
    assert cold.running.sandbox.ports == ports
    assert node.ports.of(str(NAME)) == [23017]


# -- what fails -----------------------------------------------------------------------------------


async def test_what_does_not_answer_says_its_last_words_and_is_removed(
    tools: StartTools, node: Node, podman: FakePodman
) -> None:
    podman.cold_status = 503
    podman.last_lines = "waiting for the database"
    with pytest.raises(NotReadyError, match=r"(?s)answered 503.*waiting for the database"):
        await started(tools, make_definition(readiness=AT_ONCE))
    assert_nothing_left(node, podman)


async def test_no_secret_is_shown_even_where_a_commands_output_is_cut(
    tools: StartTools, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    secret = "s3cret" * 100
    podman.outcomes = [Executed(1, f"wrong password: {secret}") for _ in range(100)]
    podman.last_lines = f"connecting with {secret}"
    probe = StartupProbe(exec=Exec(command=("check",)), timeout=timedelta(milliseconds=50))
    key = EnvVarSource(secret_key_ref=KeySelector(name="database", key="password"))
    kubernetes.data["secrets", Key("default", "database")] = {"password": secret.encode()}
    template = make_template(startup_probe=probe, env=(EnvVar(name="PASSWORD", value_from=key),))
    with pytest.raises(NotReadyError) as caught:
        await started(tools, make_definition(template=template))
    assert "containers[shop].startupProbe" in str(caught.value)
    assert "exit status 1: wrong password: ***" in str(caught.value)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("call", ["create pod", "create container", "init", "pid", "start"])
@pytest.mark.parametrize(
    "error", [PodmanError("refused"), PodmanUnreachableError("away")], ids=["refused", "away"]
)
async def test_nothing_is_left_of_a_start_that_fails(
    tools: StartTools, node: Node, podman: FakePodman, call: str, error: Exception
) -> None:
    podman.failures[call] = error
    with pytest.raises(type(error), match=str(error)):
        await started(tools, make_definition(), host="annas-demo")
    assert_nothing_left(node, podman)


async def test_a_container_that_cannot_be_started_is_named_by_its_field(
    tools: StartTools, podman: FakePodman
) -> None:
    podman.failures["start"] = PodmanError("no such program")
    with pytest.raises(
        PodmanError, match=r"template\.containers\[0\]: the container does not start: no"
    ):
        await started(tools, make_definition())


async def test_a_limit_of_the_node_stays_one(
    tools: StartTools, node: Node, podman: FakePodman
) -> None:
    podman.failures["start"] = NodeLimitError("in use", limit="PortTaken", remedy="free the port")
    with pytest.raises(NodeLimitError) as caught:
        await started(tools, make_definition())
    assert caught.value.limit == "PortTaken"
    assert_nothing_left(node, podman)


@pytest.mark.parametrize(
    "call", ["pull", "inspect", "create pod", "create container", "init", "pid", "start"]
)
async def test_nothing_is_left_of_a_start_that_is_cancelled(
    tools: StartTools, node: Node, podman: FakePodman, call: str
) -> None:
    work = started(tools, make_definition(), host="annas-demo")
    await cancelled_at(podman, call, work)
    assert_nothing_left(node, podman)


async def test_nothing_is_left_of_a_start_that_is_cancelled_while_it_is_asked(
    tools: StartTools, node: Node, podman: FakePodman
) -> None:
    podman.cold_status = 503
    task = asyncio.create_task(started(tools, make_definition()))
    await until(lambda: bool(podman.requested_paths))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_nothing_left(node, podman)
