"""A Podman as strict as the real one about names, ports, images and states, without a socket."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from tests.unit.agent.histories.life import expect_alive
from tests.unit.agent.histories.service import Service
from tests.unit.builders import pinned
from tests.unit.fakes import FakePod, Running
from tests.unit.network import HANGS, Network
from tryitnow.api.definition import CRIUOptions
from tryitnow.podman.client import (
    ContainerState,
    Executed,
    Image,
    Mount,
    NewContainer,
    PodState,
    PortMapping,
    PullPolicy,
)
from tryitnow.podman.errors import (
    CRIUError,
    ImagePullError,
    NameTakenError,
    NoSuchImageError,
    NoSuchPodError,
    PodmanError,
)
from tryitnow.podman.limits import as_node_limit
from tryitnow.podman.registry_auth import Credentials

T = TypeVar("T")

_FIRST_PID = 5 << 20
"""More than the kernel's greatest PID: whatever is done to it hits nobody."""


@dataclass
class Inside:
    """What is in a container, as long as it exists."""

    mounts: tuple[Path, ...] = ()
    """Directories of the node that it has mounted."""

    written: set[str] = field(default_factory=set)
    """What people wrote into its files."""

    personalized: bool = False
    """Whether afterRestore hooks have run since its processes began."""

    answers_from: float = 0.0
    """When its application is up."""


class StrictPodman(Service):
    """Podman of a node in a history."""

    def __init__(self, directory: Path, chance: random.Random) -> None:
        super().__init__(directory, chance)
        self.network = Network(self._answer)
        self.inside: dict[str, Inside] = {}
        """By the container's ID."""

        self.statuses: dict[str, int] = {}
        """What a container's application answers instead of 200, by the container's ID."""

        self.on_crash: Callable[[Running], None] = lambda _: None
        """Called with a container that is about to end by itself."""

        self.crashing: set[str] = set()
        """IDs of containers that end soon after each start."""

        self.is_blind = False
        """Whether it lists nothing, as with a broken database."""

        self.registry_is_away = False
        self.hooks_fail = False
        self.commands: dict[tuple[str, ...], Callable[[str], bool]] = {}
        """What commands do in a container, by its ID; whether they succeed."""

        self.local_images: set[str] = set()
        self.pids: dict[str, int] = {}
        """Process that holds a pod's namespaces, by the pod's name."""

        self._numbers = itertools.count(1)
        self._elsewhere: tuple[dict[str, Running], dict[str, FakePod], dict[str, PodState]] = (
            {},
            {},
            {},
        )
        """What lies in the storage that is away."""

        self.service.graph_root.mkdir(parents=True)

    # -- what a test sees --------------------------------------------------------------------------

    def everything(self) -> dict[str, Running]:
        """Return all containers, also those in a storage that is away."""
        return {**self._elsewhere[0], **self._containers}

    def everywhere(self) -> dict[str, PodState]:
        """Return all pods, also those in a storage that is away."""
        return {**self._elsewhere[2], **self.pods}

    def pod_of(self, running: Running) -> str:
        """Return the name of a container's pod."""
        pods = self.everywhere().values()
        return next((pod.name for pod in pods if pod.id == running.state.pod), "")

    def members(self, pod: str) -> list[Running]:
        """Return the containers of a pod."""
        known = self.everywhere().get(pod)
        each = self.everything().values()
        return [one for one in each if known is not None and one.state.pod == known.id]

    def _answer(self, pod: str, port: int) -> int | None:
        now = asyncio.get_running_loop().time()
        members = self.members(pod)
        for one in members:
            if all(port != mapping.container_port for mapping in one.ports):
                continue
            if one.state.paused:
                return HANGS
            if not one.state.running or now < self.inside[one.state.id].answers_from:
                return None
            if not all(other.state.running for other in members):
                return 503  # without its database
            return self.statuses.get(one.state.id, 200)
        return None

    # -- what happens to it ------------------------------------------------------------------------

    def boots(self) -> None:
        """Have the node booted: no process is left."""
        self.is_killed()
        self.reboot()
        for space in list(self.network.namespaces):
            self.network.drop(space)
        self.pids.clear()

    def loses_storage(self) -> None:
        """Have another, empty storage mounted in the place of Podman's. What runs goes on."""
        self._elsewhere = self._containers, self._made_pods, self.pods
        self._containers, self._made_pods, self.pods = {}, {}, {}
        root = self.service.graph_root
        root.rename(root.with_name("away"))
        root.mkdir()

    def has_lost_storage(self) -> bool:
        """Whether its storage is away."""
        return self.service.graph_root.with_name("away").exists()

    def finds_storage(self) -> None:
        """Have its storage back."""
        for name in list(self.pods):
            if name in self.pids:
                self.network.drop(self.pids.pop(name))
        self._containers, self._made_pods, self.pods = self._elsewhere
        self._elsewhere = ({}, {}, {})
        root = self.service.graph_root
        shutil.rmtree(root)
        root.with_name("away").rename(root)

    def prune(self) -> list[Running]:
        """Remove what does not run, as ``podman system prune -a`` does; return what was removed."""
        gone = [one for one in self._containers.values() if not one.state.alive]
        for one in gone:
            self._drop(one.state.name)
        for name in [n for n, pod in self.pods.items() if not pod.infra_running]:
            if not any(one.state.alive for one in self.members(name)):
                del self.pods[name], self._made_pods[name]
        used = {one.state.image for one in self._containers.values()}
        self.images &= used
        self.local_images &= used
        return gone

    def end_container(self, name: str, exit_code: int = 137) -> None:
        """Have a container end, where it runs."""
        found = self._containers.get(name)
        if found is not None and found.state.alive:
            found.state = replace(found.state, paused=False)
            self.stop(name, exit_code)

    # -- containers --------------------------------------------------------------------------------

    def _make(self, name: str, new: NewContainer) -> Running:
        own = new.image.startswith("localhost/")
        if not own and new.image not in self.local_images:
            msg = f"{new.image}: image not known"
            raise NoSuchImageError(msg)
        running = super()._make(name, new)
        id_ = f"container-{next(self._numbers)}"
        running.state = replace(running.state, id=id_)
        sources = tuple(mount.source for mount in new.mounts if isinstance(mount, Mount))
        self.inside[id_] = Inside(mounts=sources)
        return running

    async def _go(self, running: Running, status: int | None) -> None:
        pod = self.pod_of(running)
        if not self.pods[pod].infra_running:
            self._begin(pod)
        id_, loop = running.state.id, asyncio.get_running_loop()
        for source in self.inside[id_].mounts:
            if not source.exists():
                msg = f"crun: mount {source}: no such file or directory: OCI runtime attempted"
                raise PodmanError(msg)
        running.status, running.began = status, True
        running.state = replace(
            running.state, running=True, paused=False, exit_code=0, pid=self.pids[pod]
        )
        self.inside[id_].personalized = False
        if id_ in self.crashing:
            loop.call_later(self.chance.random(), self._crash, running)

    def _crash(self, running: Running) -> None:
        if running.state.id in self.inside and running.state.alive:
            self.on_crash(running)
            self.end_container(running.state.name, 1)

    async def create_stopped(self, name: str, new: NewContainer) -> Path:
        async def work() -> Path:
            running = self._make(name, new)
            running.began = True
            running.home = self.directory / running.state.id
            running.home.mkdir(parents=True)
            return running.home

        return await self._do("create stopped", name, work)

    async def init(self, name: str) -> None:
        async def work() -> None:
            running = self._known(name)
            pod = self.pod_of(running)
            if not self.pods[pod].infra_running:
                self._begin(pod)
            running.state = replace(running.state, pid=self.pids[pod])

        await self._do("init", name, work)

    async def start(self, name: str) -> None:
        async def work() -> None:
            running = self._known(name)
            await self._go(running, 200)
            up = asyncio.get_running_loop().time() + self.chance.random() * 2
            self.inside[running.state.id].answers_from = up

        await self._do("start", name, work)

    async def restore(self, name: str, options: CRIUOptions) -> timedelta:  # noqa: ARG002
        async def work() -> timedelta:
            running = self._known(name)
            if running.home is None or not (running.home / "checkpoint/inventory.img").exists():
                msg = f"restoring {name}: no such file or directory"
                raise CRIUError(msg, "Error (criu): Can't open inventory.img")
            if running.state.alive:
                msg = f"container {name} is running: it cannot be restored"
                raise PodmanError(msg)
            await self._go(running, 200)
            up = asyncio.get_running_loop().time() + self.chance.random() * 0.1
            self.inside[running.state.id].answers_from = up
            return timedelta(milliseconds=2)

        return await self._do("restore prepared", name, work, lets_go=True)

    async def _take_away(self, name: str) -> None:
        if name in self.ghosts:
            self.ghosts.remove(name)
        if name in self._containers:
            self._drop(name)

    def _drop(self, name: str) -> None:
        gone = self._containers.pop(name)
        del self.inside[gone.state.id]
        if gone.home is not None:
            shutil.rmtree(gone.home)

    async def list_containers(self, prefix: str) -> list[ContainerState]:
        found = await super().list_containers(prefix)
        return [] if self.is_blind else found

    async def storage_only_containers(self, prefix: str) -> list[str]:
        expect_alive()
        return await super().storage_only_containers(prefix)

    async def pid_of(self, name: str) -> int:
        async def work() -> int:
            for pod in self.pods.values():
                if pod.infra_id == name:
                    return self.pids.get(pod.name, 0)
            return self._known(name).state.pid

        return await self._do("pid", name, work)

    async def execute(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],  # noqa: ARG002
        timeout: timedelta,  # noqa: ARG002
    ) -> Executed:
        async def work() -> Executed:
            running = self._known(name)
            if not running.state.running:
                msg = (
                    "can only create exec sessions on running containers: container state improper"
                )
                raise PodmanError(msg)
            succeeds = self.commands[tuple(command)](running.state.id)
            return Executed(0 if succeeds else 1, "")

        return await self._do("exec", name, work, lets_go=True)

    # -- pods --------------------------------------------------------------------------------------

    def _begin(self, name: str) -> int:
        """Start what holds the namespaces of a pod."""
        if self.pods[name].infra_running:
            return self.pids[name]
        ports = {p.host_port: p.container_port for p in self._made_pods[name].ports}
        for port in ports:
            if self.network.holder(port) is not None:
                limit = as_node_limit(f"listen tcp4 :{port}: bind: address already in use")
                assert limit is not None
                raise limit
        self.pids[name] = pid = _FIRST_PID + next(self._numbers)
        self.pods[name] = replace(self.pods[name], infra_running=True)
        self.network.add(pid, name, ports)
        return pid

    def _halt(self, name: str) -> None:
        self.pods[name] = replace(self.pods[name], infra_running=False)
        if name in self.pids:
            self.network.drop(self.pids.pop(name))

    async def create_pod(
        self,
        name: str,
        ports: tuple[PortMapping, ...],
        *,
        hostname: str | None = None,  # noqa: ARG002
        shm_bytes: int | None = None,  # noqa: ARG002
        dns_servers: Sequence[str] = (),  # noqa: ARG002
        start: bool = True,
    ) -> int:
        async def work() -> int:
            if name in self.pods:
                msg = f'failed to make pod: name "{name}" is in use: pod already exists'
                raise NameTakenError(msg)
            number = next(self._ids)
            state = PodState(name, f"pod-{number}", f"infra-{number}")
            self.pods[name] = state
            self._made_pods[name] = FakePod(state, ports)
            return self._begin(name) if start else 0

        return await self._do("create pod", name, work)

    async def start_pod_infra(self, name: str) -> int:
        async def work() -> int:
            if name not in self.pods:
                msg = f"no pod with name or ID {name} found: no such pod"
                raise NoSuchPodError(msg)
            return self._begin(name)

        return await self._do("start infra", name, work)

    async def stop_pod(self, name: str) -> None:
        async def work() -> None:
            found = next((p.name for p in self.pods.values() if name in {p.name, p.id}), None)
            if found is None:
                msg = f"no pod with name or ID {name} found: no such pod"
                raise NoSuchPodError(msg)
            for member in self.members(found):
                self.end_container(member.state.name)
            self._halt(found)

        await self._do("stop pod", name, work)

    async def remove_pod(self, name: str) -> None:
        async def work() -> None:
            found = next((p.name for p in self.pods.values() if name in {p.name, p.id}), None)
            if found is None:
                return
            for member in self.members(found):
                self._drop(member.state.name)
            self._halt(found)
            del self.pods[found], self._made_pods[found]

        await self._do("remove pod", name, work)

    async def list_pods(self, prefix: str) -> list[PodState]:
        found = await super().list_pods(prefix)
        return [] if self.is_blind else found

    async def reload_network(self, *containers: str) -> None:  # noqa: ARG002
        async def work() -> None:
            self.network.set_rules()

        await self._do("reload network", "--all", work)

    # -- images ------------------------------------------------------------------------------------

    async def pull(
        self,
        name: str,
        *,
        policy: PullPolicy | None = None,  # noqa: ARG002
        auth: Sequence[Credentials] = (),  # noqa: ARG002
    ) -> Image:
        async def work() -> Image:
            self._have(name)
            return Image(id="sha256:1", pinned=pinned(name))

        return await self._do("pull", name, work, lets_go=True)

    async def ensure_image(self, pinned: str, *, auth: Sequence[Credentials] = ()) -> None:  # noqa: ARG002
        async def work() -> None:
            self._have(pinned)

        await self._do("ensure_image", pinned, work, lets_go=True)

    def _have(self, name: str) -> None:
        image = pinned(name)
        if image not in self.local_images:
            if self.registry_is_away:
                msg = f"{name}: the registry does not answer"
                raise ImagePullError(msg)
            self.local_images.add(image)

    async def ping(self) -> None:
        async def work() -> None:
            return

        await self._do("ping", "", work)
