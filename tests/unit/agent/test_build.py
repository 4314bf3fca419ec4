"""Building a checkpoint: the application starts, gets warm, is frozen; or it is said why not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from tryitnow.agent.build import BuildError, build
from tryitnow.agent.names import Role, work_container

from tests.unit.builders import IMAGE, PINNED, make_blueprint, make_copy, make_template
from tests.unit.fakes import FakePodman
from tryitnow.agent.node import Node
from tryitnow.agent.restore import archive_name
from tryitnow.api.checkpoint import (
    Compression,
    CRIUOptions,
    HTTPGet,
    Readiness,
    Versions,
    WarmUp,
)
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.api.template import EnvVar, EnvVarSource, KeySelector
from tryitnow.controller.retry import is_final
from tryitnow.podman.client import NewContainer, PortMapping
from tryitnow.podman.errors import (
    CRIUError,
    ImagePullError,
    PodmanError,
    PodmanUnreachableError,
)

SOON = timedelta(milliseconds=150)


def order(*, warm_up: WarmUp | None = None, readiness: Readiness | None = None) -> NodeCheckpoint:
    return make_copy(
        phase=NodeCheckpointPhase.PENDING,
        blueprint=make_blueprint(
            warm_up=warm_up,
            readiness=readiness,
            criu=CRIUOptions(compression=Compression.NONE),
        ),
    )


class Told:
    """Remembers what the cluster was told."""

    def __init__(self) -> None:
        self.progress: list[str] = []

    async def __call__(self, progress: str) -> None:
        self.progress.append(progress)


@pytest.fixture
def tell() -> Told:
    return Told()


def assert_nothing_left(node: Node, podman: FakePodman) -> None:
    assert podman.containers() == []
    assert node.ports.taken == 0


# -- the good way ---------------------------------------------------------------------------------


async def test_what_was_frozen_lies_on_the_disk_and_is_described(
    node: Node, podman: FakePodman, tell: Told
) -> None:
    node.health.versions = Versions(criu="4.2.1", podman="5.8.6")
    copy = order()
    archive = await build(node, copy, tell)
    name = archive_name(copy)
    node.archives.check(name, archive)
    assert node.archives.path(name).read_bytes() == podman.frozen_bytes
    assert archive.size_bytes == len(podman.frozen_bytes)
    assert archive.image == PINNED
    assert archive.versions.criu == "4.2.1"
    described = (node.archives.directory / f"{name.stem}.md").read_text()
    assert archive.sha256 in described
    assert_nothing_left(node, podman)


async def test_it_is_frozen_while_it_runs_and_then_removed(
    node: Node, podman: FakePodman, tell: Told
) -> None:
    copy = order()
    name = str(work_container(Role.BUILD, copy))
    await build(node, copy, tell)
    steps = [entry for entry in podman.log if entry.split()[0] not in {"inspect"}]
    # What is in the way of the name is removed before.
    done = [step for step in steps if step != f"remove {name}"]
    assert done == [f"pull {IMAGE}", f"create {name}", f"checkpoint {name}", f"look into {name}"]
    assert steps[-1] == f"remove {name}"
    assert podman.options == [copy.spec.blueprint.freezing]


async def test_it_is_said_what_is_being_done(node: Node, tell: Told) -> None:
    await build(node, order(warm_up=WarmUp(paths=("/", "/shop"))), tell)
    assert tell.progress == [
        f"starting {IMAGE} and waiting until it is ready",
        "warming up with 2 paths",
        "freezing",
    ]


async def test_all_paths_are_asked_for_in_order_as_often_as_told(
    node: Node, podman: FakePodman, tell: Told
) -> None:
    readiness = Readiness(http_get=HTTPGet(path="/health"))
    warm_up = WarmUp(paths=("/", "/shop"), rounds=2)
    await build(node, order(warm_up=warm_up, readiness=readiness), tell)
    assert podman.requested_paths == ["/health", "/", "/shop", "/", "/shop"]


@pytest.mark.parametrize("status", [301, 403, 404])
async def test_a_page_that_is_not_there_is_warm_enough(
    node: Node, podman: FakePodman, tell: Told, status: int
) -> None:
    podman.answers["/old"] = status
    assert await build(node, order(warm_up=WarmUp(paths=("/old",))), tell)


async def test_what_an_earlier_build_left_is_no_obstacle(
    node: Node, podman: FakePodman, tell: Told
) -> None:
    copy = order()
    name = str(work_container(Role.BUILD, copy))
    ports = (PortMapping(node.settings.first_port, 8080),)
    await podman.create_and_start(name, NewContainer(copy.spec.blueprint.main, IMAGE, ports=ports))
    node.ports.adopt(await podman.list_containers(name))
    await build(node, copy, tell)
    assert_nothing_left(node, podman)


# -- each way to fail -----------------------------------------------------------------------------


async def fails(node: Node, podman: FakePodman, tell: Told, copy: NodeCheckpoint) -> BuildError:
    """Build, which must fail, and leave nothing behind."""
    with pytest.raises(BuildError) as caught:
        await build(node, copy, tell)
    assert_nothing_left(node, podman)
    assert node.archives.names() == set()
    return caught.value


async def test_an_image_that_cannot_be_had_names_its_field(
    node: Node, podman: FakePodman, tell: Told
) -> None:
    podman.failures["pull"] = ImagePullError(f"image '{IMAGE}' cannot be pulled: manifest unknown")
    error = await fails(node, podman, tell, order())
    assert error.reason == "ImagePullFailed"
    assert str(error).startswith("spec.template.containers[0].image: ")
    assert "manifest unknown" in str(error)


async def test_a_container_that_does_not_start_names_its_field(
    node: Node, podman: FakePodman, tell: Told
) -> None:
    podman.failures["create"] = PodmanError("exec: /bin/serve: not found")
    error = await fails(node, podman, tell, order())
    assert error.reason == "StartFailed"
    assert str(error).startswith("spec.template.containers[0]: ")
    assert "/bin/serve: not found" in str(error)


async def test_an_application_that_never_becomes_ready_shows_its_last_words(
    node: Node, podman: FakePodman, tell: Told
) -> None:
    podman.cold_status = 503
    podman.last_lines = "Starting…\nfatal: no database"
    error = await fails(node, podman, tell, order(readiness=Readiness(timeout=SOON)))
    assert error.reason == "ApplicationNotReady"
    assert "answered 503, not 200" in str(error)
    assert str(error).endswith("The last lines of container shop:\nStarting…\nfatal: no database")


async def test_without_a_free_port_it_says_so(node: Node, podman: FakePodman, tell: Told) -> None:
    settings = node.settings
    node.ports.take("somebody", range(settings.last_port - settings.first_port + 1))
    with pytest.raises(BuildError, match="no free port") as caught:
        await build(node, order(), tell)
    assert caught.value.reason == "NoPort"
    assert podman.containers() == []


@pytest.mark.parametrize("status", [500, 502])
async def test_a_page_that_fails_during_the_warm_up_is_named(
    node: Node, podman: FakePodman, tell: Told, status: int
) -> None:
    podman.answers["/shop"] = status
    error = await fails(node, podman, tell, order(warm_up=WarmUp(paths=("/", "/shop"))))
    assert error.reason == "WarmUpFailed"
    assert str(error).startswith(f"spec.warmUp.paths: /shop answered {status}")


async def test_what_criu_refuses_comes_with_the_tail_of_its_log(
    node: Node, podman: FakePodman, tell: Told
) -> None:
    podman.failures["checkpoint"] = CRIUError("CRIU failed", "Error: Connected TCP socket")
    error = await fails(node, podman, tell, order())
    assert error.reason == "CheckpointFailed"
    assert str(error).startswith("CRIU cannot freeze it: ")
    assert "Error: Connected TCP socket" in str(error)


async def test_a_freeze_that_podman_refuses_is_not_blamed_on_criu(
    node: Node, podman: FakePodman, tell: Told
) -> None:
    podman.failures["checkpoint"] = PodmanError("container is not running")
    error = await fails(node, podman, tell, order())
    assert error.reason == "CheckpointFailed"
    assert "CRIU" not in str(error)


async def test_a_full_disk_says_where_and_how_much_is_free(
    node: Node, podman: FakePodman, tell: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object, chunks: Iterator[bytes]) -> None:
        del chunks
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(node.archives, "write", full)
    error = await fails(node, podman, tell, order())
    assert error.reason == "WriteFailed"
    assert "No space left on device" in str(error)
    assert str(node.archives.directory) in str(error)
    assert "MiB are free there" in str(error)


@pytest.mark.parametrize("call", ["pull", "create", "checkpoint"])
async def test_podman_that_is_away_is_no_fault_of_the_build(
    node: Node, podman: FakePodman, tell: Told, call: str
) -> None:
    podman.failures[call] = PodmanUnreachableError("Podman does not answer")
    with pytest.raises(PodmanUnreachableError):
        await build(node, order(), tell)


async def test_a_secret_that_is_missing_is_waited_for(
    node: Node, podman: FakePodman, tell: Told
) -> None:
    selector = EnvVarSource(secret_key_ref=KeySelector(name="shop", key="password"))
    template = make_template(env=(EnvVar(name="PASSWORD", value_from=selector),))
    blueprint = make_blueprint(template=template)
    copy = make_copy(phase=NodeCheckpointPhase.PENDING, blueprint=blueprint)
    error = await fails(node, podman, tell, copy)
    assert error.reason == "SourceMissing"
    assert not is_final(error.reason, 1000)
    assert "there is no Secret 'shop'" in str(error)
