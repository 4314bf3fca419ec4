"""Building an archive: the application starts, gets warm, is checkpointed; or it says why not."""

from __future__ import annotations

import contextlib
import tarfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.checkpoints.shop import Shop, shop_definition
from tests.unit.builders import IMAGE, PINNED, make_export, make_node_checkpoint, make_template
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.sandbox import FakeFirewall, FakeHosts, FakeOutbound, State
from tryitnow.agent.checkpoints.build import Built, build
from tryitnow.agent.checkpoints.checkpoint import measure
from tryitnow.agent.checkpoints.failures import BuildError
from tryitnow.agent.errors import NodeShortError, NotReadyError, SourceError
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.egress import EgressProblem, EgressReason
from tryitnow.agent.sandbox.names import Role, work_name
from tryitnow.agent.storage.ledger import Ledger
from tryitnow.api.archive import Versions
from tryitnow.api.definition import HTTPGet, Readiness, WarmUp
from tryitnow.api.limits import CHECKPOINT_TOO_LARGE, DISK_FULL
from tryitnow.api.network import EgressRule, Network
from tryitnow.api.template import EmptyDir, EnvVar, EnvVarSource, KeySelector, Volume, VolumeMount
from tryitnow.podman.errors import CRIUError, ImagePullError, PodmanError, PodmanUnreachableError

SOON = timedelta(milliseconds=150)


class Work:
    """One build on node-a."""

    def __init__(
        self, node: Node, kubernetes: FakeKubernetes, podman: FakePodman, **definition: Any
    ) -> None:
        self.podman, self.node = podman, node
        self.shop = Shop(node, kubernetes, podman, definition=shop_definition(**definition))
        self.order = make_node_checkpoint(revision=self.shop.revision.spec.identity)
        self.name = str(work_name(Role.BUILD, self.order))
        self.reported: list[str] = []

    async def done(self) -> Built:
        """Build."""
        return await build(
            self.shop.tools, self.order, self.shop.revision, self.shop.file, self.reported.append
        )

    async def fails(self, error: type[Exception]) -> Exception:
        """Build, which must fail, and leave nothing behind."""
        with pytest.raises(error) as caught:
            await self.done()
        assert list(self.shop.tools.archives.directory.iterdir()) == []
        self.assert_nothing_left()
        return caught.value

    def assert_nothing_left(self) -> None:
        """See that no sandbox, port, reservation or file is left of the work."""
        assert self.podman.containers() == []
        assert self.podman.pods == {}
        assert self.node.ports.taken == 0
        assert self.node.disk.reserved_bytes == 0
        assert list(self.node.volumes.directory.iterdir()) == []
        assert list(self.node.generations.directory.iterdir()) == []


@pytest.fixture
def work(node: Node, kubernetes: FakeKubernetes, podman: FakePodman) -> Work:
    return Work(node, kubernetes, podman)


# -- the good way ---------------------------------------------------------------------------------


async def test_what_was_checkpointed_lies_on_the_disk_and_is_described(
    work: Work, podman: FakePodman
) -> None:
    health = work.node.health
    health.current = replace(health.current, versions=Versions(criu="4.2.1", podman="5.8.6"))
    built = await work.done()
    archive, archives = built.archive, work.shop.tools.archives
    archives.check(work.shop.file, archive)
    assert archives.path(work.shop.file).read_bytes() == podman.export_bytes
    assert archive.size_bytes == len(podman.export_bytes)
    assert archive.image == PINNED
    assert built.images == {"shop": PINNED}
    assert archive.versions.criu == "4.2.1"
    described = (archives.directory / f"{work.shop.file.stem}.md").read_text()
    assert archive.sha256 in described
    work.assert_nothing_left()


async def test_what_unpacking_will_need_travels_with_the_archive(work: Work) -> None:
    archive = (await work.done()).archive
    assert archive.unpacked_bytes == len(make_export())
    assert archive.entries == 2
    assert archive.memory_bytes == len(b"the memory of a warm shop")


async def test_it_is_checkpointed_while_it_runs_with_all_tcp_blocked_and_then_removed(
    work: Work, podman: FakePodman, firewall: FakeFirewall
) -> None:
    await work.done()
    wanted = ("pull", "create container", "start", "checkpoint", "look into")
    steps = [line.split(" tryitnow")[0] for line in podman.log if line.startswith(wanted)]
    assert steps == [f"pull {IMAGE}", "create container", "start", "checkpoint", "look into"]
    assert podman.options == [work.shop.definition.criu_options]
    assert firewall.states == [State.CLOSED, State.BLOCKED], "nobody ever came in"
    assert f"remove {work.name}" in podman.log or "remove pod" in " ".join(podman.log)


async def test_it_is_reported_what_is_being_done(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    work = Work(node, kubernetes, podman, warm_up=WarmUp(paths=("/", "/shop")))
    await work.done()
    assert work.reported == [
        f"starting {IMAGE} and waiting until it is ready",
        "warming up with 2 paths",
        "checkpointing",
    ]


async def test_all_paths_are_asked_for_in_order_as_often_as_told(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    readiness = Readiness(http_get=HTTPGet(path="/health"))
    warm_up = WarmUp(paths=("/", "/shop"), rounds=2)
    await Work(node, kubernetes, podman, warm_up=warm_up, readiness=readiness).done()
    assert podman.requested_paths == ["/health", "/", "/shop", "/", "/shop"]


@pytest.mark.parametrize("status", [301, 403, 404])
async def test_a_page_that_is_not_there_is_warm_enough(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman, status: int
) -> None:
    podman.answers["/old"] = status
    assert await Work(node, kubernetes, podman, warm_up=WarmUp(paths=("/old",))).done()


async def test_what_an_earlier_build_left_is_no_obstacle(work: Work, podman: FakePodman) -> None:
    podman.delay["checkpoint"] = 60
    earlier = Work(work.node, work.shop.kubernetes, podman)
    podman.failures["remove pod"] = PodmanUnreachableError("killed")
    podman.failures["checkpoint"] = PodmanUnreachableError("killed")
    with pytest.raises(PodmanUnreachableError):
        await earlier.done()
    assert podman.containers() == [work.name]
    podman.failures.clear()
    podman.delay.clear()
    await work.done()
    work.assert_nothing_left()


async def test_a_finished_checkpoint_is_not_lost_because_its_sandbox_cannot_be_removed(
    work: Work, podman: FakePodman
) -> None:
    """It is removed before the next work of that name, at the latest."""
    checkpoint = podman.checkpoint

    async def checkpoint_then_hang(*arguments: Any) -> Any:
        written = await checkpoint(*arguments)
        podman.failures["remove pod"] = PodmanError("500: database is locked")
        return written

    podman.checkpoint = checkpoint_then_hang  # type: ignore[method-assign, assignment]
    built = await work.done()
    work.shop.tools.archives.check(work.shop.file, built.archive)


async def test_hosts_and_volumes_travel_with_the_archive(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman, hosts: FakeHosts
) -> None:
    hosts.hosts = "127.0.0.1 shop.internal\n"
    template = make_template(volume_mounts=(VolumeMount(name="data", mount_path="/data"),))
    template = template.model_copy(update={"volumes": (Volume(name="data", empty_dir=EmptyDir()),)})
    work = Work(node, kubernetes, podman, template=template)
    archive = (await work.done()).archive
    with tarfile.open(work.shop.path) as bundle:
        assert bundle.getnames() == ["containers/shop.tar", "volumes/data.tar"]
        part = bundle.extractfile("containers/shop.tar")
        with tarfile.open(fileobj=part) as inner:
            assert "tryitnow-hosts" in inner.getnames()
    assert archive.entries == 4  # of the container three, and the volume's root
    work.assert_nothing_left()


# -- each way to fail -----------------------------------------------------------------------------


async def test_an_image_that_cannot_be_had_names_its_field(work: Work, podman: FakePodman) -> None:
    podman.failures["pull"] = ImagePullError(f"image '{IMAGE}' cannot be pulled: manifest unknown")
    error = await work.fails(ImagePullError)
    assert str(error).startswith("spec.template.containers[0].image: ")
    assert "manifest unknown" in str(error)


async def test_a_container_that_does_not_start_names_its_field(
    work: Work, podman: FakePodman
) -> None:
    podman.failures["create container"] = PodmanError("exec: /bin/serve: not found")
    error = await work.fails(PodmanError)
    assert str(error).startswith("spec.template.containers[0]: ")
    assert "/bin/serve: not found" in str(error)


async def test_an_application_that_never_becomes_ready_shows_its_last_words(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    podman.cold_status = 503
    podman.last_lines = "Starting…\nfatal: no database"
    work = Work(node, kubernetes, podman, readiness=Readiness(timeout=SOON))
    error = await work.fails(NotReadyError)
    assert "answered 503, not 200" in str(error)
    assert str(error).endswith("The last lines of container shop:\nStarting…\nfatal: no database")


async def test_without_a_free_port_it_says_so(work: Work) -> None:
    ports = work.node.ports
    with contextlib.suppress(NodeShortError):
        for number in range(ports.limit):  # other programs may have some of them
            ports.take(f"somebody {number}", [8080])
    with pytest.raises(NodeShortError, match="no free port") as caught:
        await work.done()
    assert caught.value.limit == "NoPort"
    assert work.podman.containers() == []


@pytest.mark.parametrize("status", [500, 502])
async def test_a_page_that_fails_during_the_warm_up_is_named(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman, status: int
) -> None:
    podman.answers["/shop"] = status
    work = Work(node, kubernetes, podman, warm_up=WarmUp(paths=("/", "/shop")))
    error = await work.fails(BuildError)
    assert isinstance(error, BuildError)
    assert error.reason == "WarmUpFailed"
    assert str(error).startswith(f"spec.warmUp.paths: /shop answered {status}")


async def test_what_criu_refuses_comes_with_the_tail_of_its_log(
    work: Work, podman: FakePodman
) -> None:
    podman.failures["checkpoint"] = CRIUError("CRIU failed", "Error: Connected TCP socket")
    assert "Error: Connected TCP socket" in str(await work.fails(CRIUError))


async def test_a_disk_without_room_is_reported_before_anything_is_stopped(
    work: Work, podman: FakePodman
) -> None:
    work.shop.tools = replace(
        work.shop.tools, disk=Ledger(DISK_FULL, "disk", lambda: -1, reserve_bytes=0)
    )
    error = await work.fails(NodeShortError)
    assert isinstance(error, NodeShortError)
    assert error.limit == DISK_FULL
    assert not work.shop.asked("checkpoint")
    assert podman.options == []


async def test_a_checkpoint_that_is_too_large_for_nodes_leaves_nothing(work: Work) -> None:
    bounded = replace(work.shop.tools.settings, max_checkpoint_bytes=1000)
    work.shop.tools = replace(work.shop.tools, settings=bounded)
    error = await work.fails(NodeShortError)
    assert isinstance(error, NodeShortError)
    assert error.limit == CHECKPOINT_TOO_LARGE
    assert "raise agent.maxCheckpointSize" in str(error)


@pytest.mark.parametrize("call", ["pull", "create container", "checkpoint"])
async def test_podman_that_is_away_is_no_fault_of_the_build(
    work: Work, podman: FakePodman, call: str
) -> None:
    podman.failures[call] = PodmanUnreachableError("Podman does not answer")
    await work.fails(PodmanUnreachableError)


async def test_a_secret_that_is_missing_is_named(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    selector = EnvVarSource(secret_key_ref=KeySelector(name="shop", key="password"))
    template = make_template(env=(EnvVar(name="PASSWORD", value_from=selector),))
    error = await Work(node, kubernetes, podman, template=template).fails(SourceError)
    assert "there is no Secret 'shop'" in str(error)


def test_an_archive_is_measured_by_its_headers(tmp_path: Path) -> None:
    part = tmp_path / "shop.tar"
    part.write_bytes(make_export(b"12345", files={"rootfs-diff.tar": b"not pages"}))
    found = measure({"containers/shop.tar": part})
    assert (found.entries, found.memory_bytes) == (3, 5)
    assert found.unpacked_bytes == part.stat().st_size


async def test_more_than_the_administrator_allows_is_not_built(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman, outbound: FakeOutbound
) -> None:
    egress = EgressRule.model_validate({"cidr": "192.0.2.0/24", "ports": [443]})
    outbound.problems = (EgressProblem(EgressReason.NOT_ALLOWED, "spec.network.egress[0]: …"),)
    work = Work(node, kubernetes, podman, network=Network(egress=(egress,)))
    refused = await work.fails(BuildError)
    assert isinstance(refused, BuildError)
    assert refused.reason == "EgressNotAllowed"
    assert "spec.network.egress[0]" in str(refused)
    assert not any(line.startswith(("pull", "create")) for line in podman.log)
