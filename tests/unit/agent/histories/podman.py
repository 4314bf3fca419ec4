"""A Podman with everything that goes wrong with one: on a virtual clock, and without a socket.

It is a process of its own: what it was asked to do goes on when whoever asked is killed, and who
asked hears nothing when it is killed itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from tests.unit.agent.histories.life import LIFE, expect_alive
from tests.unit.builders import PINNED
from tests.unit.fakes import FakePodman, FakePod, Running
from tests.unit.network import HANGS, Network
from tryitnow.api.definition import CRIUOptions
from tryitnow.podman.client import (
    ContainerState,
    Executed,
    Image,
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
    PodmanBusyError,
    PodmanError,
    PodmanUnreachableError,
)
from tryitnow.podman.limits import as_node_limit
from tryitnow.podman.registry_auth import Credentials

T = TypeVar("T")

HANG_SECONDS = 60.0
"""After that long, Podman's client gives up (``podman.calls.CALL_SECONDS``)."""

_AGENT_WORKS_IN = frozenset({"build image", "checkpoint", "look into"})
"""Calls in the middle of which the agent reads and writes files: they end with it."""

_READS = frozenset(
    {
        "environment", "has_image", "image_tags", "info", "inspect", "inspect pod", "list",
        "list pods", "logs", "pid", "ping",
    }
)  # fmt: skip
"""Calls that change nothing: whether they go on without the one who asked is no matter."""

_FIRST_PID = 5 << 20
"""More than the kernel's greatest PID: whatever is done to it hits nobody."""


@dataclass
class Trouble:
    """What goes wrong with some of the calls, as long as it is there."""

    calls: Collection[str] = ()
    """Names of the calls; all where there is none."""

    error: Callable[[], Exception] | None = None
    """What is raised instead of doing it."""

    seconds: float = 0.0
    """How much longer it takes."""

    hangs: bool = False
    breaks_off: bool = False
    """Whether the connection breaks after it was done."""

    share: float = 1.0
    """Part of the calls that it befalls."""


@dataclass
class Inside:
    """What is in a container, as long as it exists."""

    written: set[str] = field(default_factory=set)
    """What people wrote into its files."""

    personalized: bool = False
    """Whether afterRestore hooks have run since its processes began."""

    answers_from: float = 0.0
    """When its application is up."""


class StrictPodman(FakePodman):
    """Podman of a node in a history."""

    def __init__(self, directory: Path, chance: random.Random) -> None:
        super().__init__("127.0.0.1", directory)
        self.chance = chance
        self.network = Network(self._answer)
        self.troubles: list[Trouble] = []
        self.inside: dict[str, Inside] = {}
        """By the container's ID."""

        self.statuses: dict[str, int] = {}
        """What a container's application answers instead of 200, by the container's ID."""

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

        self.on_asked: Callable[[str, str, asyncio.Task[object]], None] = lambda *_: None
        """Called with each call, and what is done about it."""

        self._context = contextvars.Context()
        self._in_flight: dict[asyncio.Task[object], str] = {}
        self._kills = 0
        self._numbers = itertools.count(1)
        self._turns: dict[str, asyncio.Lock] = {}
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

    def is_killed(self) -> None:
        """Have the service killed, and started again: who waits for an answer gets none."""
        self._kills += 1
        for task, call in list(self._in_flight.items()):
            name = call.partition(" tryitnow")[2]
            task.cancel()
            if call.startswith("create") and self.chance.random() < 0.5 and "pod" not in call:
                self.ghosts.append(f"tryitnow{name}")
        self.ghosts = [name for name in dict.fromkeys(self.ghosts) if name not in self._containers]

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

    # -- how each call is done ---------------------------------------------------------------------

    async def _do(
        self, call: str, name: str, work: Callable[[], Awaitable[T]], *, lets_go: bool = False
    ) -> T:
        expect_alive()
        if call in _READS:
            return await self._read(call, name, work)
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._serve(call, name, work), context=self._context)
        self._in_flight[task] = f"{call} {name}"
        task.add_done_callback(lambda _: self._in_flight.pop(task))
        self.on_asked(call, name, task)
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = error
                life = LIFE.get()
                is_dead = life is not None and life.has_ended
                if call in _AGENT_WORKS_IN or (lets_go and self.chance.random() < 0.5):
                    task.cancel()
                if is_dead or (lets_go and call not in _AGENT_WORKS_IN):
                    task.add_done_callback(_forget)
                    raise
        if cancelled is not None:
            _forget(task)
            raise cancelled
        if task.cancelled():
            msg = f"Podman broke off: {call} {name}"
            raise PodmanUnreachableError(msg)
        return task.result()

    async def _read(self, call: str, name: str, work: Callable[[], Awaitable[T]]) -> T:
        before = self._kills
        result = await self._serve(call, name, work)
        expect_alive()
        if before != self._kills:
            msg = f"Podman broke off: {call} {name}"
            raise PodmanUnreachableError(msg)
        return result

    async def _serve(self, call: str, name: str, work: Callable[[], Awaitable[T]]) -> T:
        trouble = next((t for t in self.troubles if not t.calls or call in t.calls), None)
        if trouble is not None and self.chance.random() > trouble.share:
            trouble = None
        async with self._turn(name):
            await asyncio.sleep(self.chance.random() * 0.03)
            if trouble is not None:
                await asyncio.sleep(HANG_SECONDS if trouble.hangs else trouble.seconds)
                if trouble.hangs:
                    msg = f"Podman is busy: {call} {name}"
                    raise PodmanBusyError(msg)
                if trouble.error is not None:
                    raise trouble.error()
            result = await work()
            if trouble is not None and trouble.breaks_off:
                msg = f"Podman broke off: {call} {name}"
                raise PodmanUnreachableError(msg)
            return result

    @contextlib.asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        """Hold the lock of a container's pod, or of the container."""
        running = self._containers.get(name)
        key = (self.pod_of(running) if running is not None else "") or name
        if not key.startswith("tryitnow_") or key.endswith("_"):
            yield
            return
        async with self._turns.setdefault(key, asyncio.Lock()):
            yield

    # -- containers --------------------------------------------------------------------------------

    def _make(self, name: str, new: NewContainer) -> Running:
        own = new.image.startswith("localhost/")
        if not own and new.image not in self.local_images:
            msg = f"{new.image}: image not known"
            raise NoSuchImageError(msg)
        running = super()._make(name, new)
        id_ = f"container-{next(self._numbers)}"
        running.state = replace(running.state, id=id_)
        self.inside[id_] = Inside()
        return running

    async def _go(self, running: Running, status: int | None) -> None:
        pod = self.pod_of(running)
        if not self.pods[pod].infra_running:
            self._begin(pod)
        id_, loop = running.state.id, asyncio.get_running_loop()
        running.status, running.began = status, True
        running.state = replace(
            running.state, running=True, paused=False, exit_code=0, pid=self.pids[pod]
        )
        self.inside[id_].personalized = False
        if id_ in self.crashing:
            loop.call_later(self.chance.random(), lambda: self.end_container(running.state.name, 1))

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

    async def restore(self, name: str, options: CRIUOptions) -> timedelta:
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
        self, name: str, command: Sequence[str], env: Mapping[str, str], timeout: timedelta
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
        hostname: str | None = None,
        shm_bytes: int | None = None,
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

    async def reload_network(self, *containers: str) -> None:
        async def work() -> None:
            self.network.set_rules()

        await self._do("reload network", "--all", work)

    # -- images ------------------------------------------------------------------------------------

    async def pull(
        self,
        name: str,
        *,
        policy: PullPolicy | None = None,
        auth: Sequence[Credentials] = (),
    ) -> Image:
        async def work() -> Image:
            self._have(name)
            return Image(id="sha256:1", pinned=PINNED)

        return await self._do("pull", name, work, lets_go=True)

    async def ensure_image(self, pinned: str, *, auth: Sequence[Credentials] = ()) -> None:
        async def work() -> None:
            self._have(pinned)

        await self._do("ensure_image", pinned, work, lets_go=True)

    def _have(self, name: str) -> None:
        if PINNED not in self.local_images:
            if self.registry_is_away:
                msg = f"{name}: the registry does not answer"
                raise ImagePullError(msg)
            self.local_images.add(PINNED)

    async def ping(self) -> None:
        async def work() -> None:
            return

        await self._do("ping", "", work)


def _forget(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()
