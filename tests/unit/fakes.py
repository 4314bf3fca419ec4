"""The two parts that no unit test has for real: a cluster and a Podman.

``FakeKubernetes`` keeps objects in memory and answers as the API server does. ``FakePodman``
keeps containers in memory, but each of them is a real HTTP server on its published ports, and it
reads and writes real archives.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from tests.unit.builders import PINNED
from tryitnow.api.checkpoint import CRIUOptions
from tryitnow.api.meta import API_VERSION, NODE_FINALIZER, Key, Resource
from tryitnow.api.template import Container
from tryitnow.background import to_its_end
from tryitnow.kubernetes.client import KubernetesApi, TokenIdentity
from tryitnow.kubernetes.errors import (
    ConflictError,
    KubernetesError,
    NotFoundError,
    RefusedError,
)
from tryitnow.kubernetes.recorded import RecordedEvent
from tryitnow.kubernetes.view import Listing, UnreadableObjectError
from tryitnow.podman.client import (
    ContainerEvent,
    ContainerEvents,
    ContainerState,
    EventAction,
    Executed,
    Image,
    NewContainer,
    Podman,
    PodState,
    PortMapping,
    PullPolicy,
    ServiceInfo,
)
from tryitnow.podman.errors import (
    NameTakenError,
    NoSuchContainerError,
    NoSuchPodError,
    PodmanUnreachableError,
)
from tryitnow.podman.registry_auth import Credentials
from tryitnow.settings import TRANSFER_AUDIENCE

NO_PROCESS = 1 << 22
"""More than the kernel's greatest PID (proc_sys_kernel(5)): whatever is done to it hits nobody."""

R = TypeVar("R", bound=Resource)
T = TypeVar("T")


def merged(target: Any, patch: Any) -> Any:
    """Apply a merge patch as RFC 7396, section 2, defines it."""
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            out.pop(name, None)
        else:
            out[name] = merged(out.get(name), value)
    return out


@dataclass(frozen=True)
class Event:
    """An Event that somebody recorded."""

    regarding: Key
    reason: str
    note: str
    is_warning: bool


class FakeKubernetes(KubernetesApi):
    """A cluster in memory."""

    def __init__(self, *resources: Resource) -> None:
        self._objects: dict[tuple[str, Key], dict[str, Any]] = {}
        self._versions = itertools.count(100)
        self.events: list[Event] = []
        self.tokens: dict[str, TokenIdentity] = {}
        """Whose token is whose; all are for the audience of transfers."""

        self.reviews = 0
        self.writes: list[Key] = []
        self.nodes: dict[str, dict[str, str]] = {}
        self.data: dict[tuple[str, Key], dict[str, bytes]] = {}
        """Content of Secrets and ConfigMaps ("secrets", "configmaps")."""

        self.forbidden: set[tuple[str, Key]] = set()
        self.unreadable: frozenset[Key] = frozenset()
        self.damaged: dict[Key, str] = {}
        """Why an object does not fit our model."""
        """Objects that each list is said to have and that cannot be read."""

        self.is_down = False
        self.recorded: list[RecordedEvent] = []
        """Events that somebody else recorded, as they are read."""

        self.agents_pods: dict[tuple[str, str], list[str]] = {}
        """Names of Pods by namespace and node."""

        self.watched = asyncio.Event()
        """Somebody watches an object, or did."""

        self._watches: list[tuple[type[Resource], Key, asyncio.Queue[tuple[bool, Any]]]] = []
        self.on_write: Callable[[Resource], None] = lambda _: None
        """Called after each write, as a watch would."""

        for resource in resources:
            self.put(resource)

    def put(self, resource: R) -> R:
        """Have an object in the cluster, as it is."""
        body = resource.to_api()
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self._objects[type(resource).plural, resource.key] = body
        return type(resource).model_validate(body)

    def find(self, resource: R) -> R:
        """Return the present state of an object."""
        return type(resource).model_validate(self._body(type(resource), resource.key))

    def has(self, resource: Resource) -> bool:
        """Whether the object is still there."""
        return (type(resource).plural, resource.key) in self._objects

    def reasons(self) -> list[str]:
        """Return the reasons of all Events, in order."""
        return [event.reason for event in self.events]

    def _body(self, model: type[Resource], key: Key) -> dict[str, Any]:
        if self.is_down:
            msg = "the API server does not answer"
            raise KubernetesError(msg)
        try:
            return self._objects[model.plural, key]
        except KeyError:
            msg = f"{model.plural} {key}: 404"
            raise NotFoundError(msg) from None

    def _write(self, model: type[R], key: Key, body: dict[str, Any]) -> R:
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self._objects[model.plural, key] = body
        self.writes.append(key)
        written = model.model_validate(copy.deepcopy(body))
        self._tell_watches(written, is_there=True)
        self.on_write(written)
        return written

    def _tell_watches(self, resource: Resource, *, is_there: bool) -> None:
        for model, key, changes in self._watches:
            if model is type(resource) and key == resource.key:
                changes.put_nowait((is_there, resource))

    async def watch(
        self,
        model: type[R],
        key: Key,
        since: str,
        seconds: int,  # noqa: ARG002 - it lasts as long as somebody looks
    ) -> AsyncGenerator[tuple[bool, R]]:
        if self.is_down:
            msg = "the API server does not answer"
            raise KubernetesError(msg)
        changes: asyncio.Queue[tuple[bool, R]] = asyncio.Queue()
        watch = (model, key, changes)
        self._watches.append(watch)
        self.watched.set()
        known = self._objects.get((model.plural, key))
        if known is not None and int(known["metadata"]["resourceVersion"]) > int(since):
            changes.put_nowait((True, model.model_validate(known)))
        try:
            while True:
                yield await changes.get()
        finally:
            self._watches.remove(watch)

    async def get(self, model: type[R], key: Key) -> R:
        if key in self.damaged:
            raise UnreadableObjectError(self.damaged[key])
        return model.model_validate(self._body(model, key))

    async def list_all(
        self, model: type[R], *, namespace: str = "", field_selector: str = ""
    ) -> Listing[R]:
        if self.is_down:
            msg = "the API server does not answer"
            raise KubernetesError(msg)
        path, _, value = field_selector.partition("=")
        found = []
        for (plural, key), body in self._objects.items():
            if namespace and key.namespace != namespace:
                continue
            field: Any = body
            for part in path.split(".") if path else ():
                field = field.get(part, {})
            if plural == model.plural and (not path or field == value):
                found.append(model.model_validate(body))
        return Listing(
            items=found, resource_version=next(self._versions), unreadable=self.unreadable
        )

    async def create(
        self,
        model: type[R],
        body: dict[str, Any],
        *,
        refuse_unknown: bool = False,  # noqa: ARG002 - nothing is unknown here
    ) -> R:
        metadata = body["metadata"]
        key = Key(metadata.get("namespace", ""), metadata["name"])
        if (model.plural, key) in self._objects:
            msg = f"{model.plural} {key}: 409 AlreadyExists"
            raise ConflictError(msg)
        whole = copy.deepcopy({"apiVersion": API_VERSION, "kind": model.kind_name, **body})
        whole["metadata"] |= {"uid": f"uid-{next(self._versions)}", "generation": 1}
        return self._write(model, key, whole)

    async def patch(self, model: type[R], key: Key, patch: dict[str, Any]) -> R:
        return self._write(model, key, merged(self._body(model, key), patch))

    async def patch_status(
        self, before: R, status: dict[str, Any], *, only_if_unchanged: bool = False
    ) -> R:
        model = type(before)
        body = self._body(model, before.key)
        version = body["metadata"]["resourceVersion"]
        if only_if_unchanged and version != before.metadata.resource_version:
            msg = f"{model.plural} {before.key}: 409 it changed"
            raise ConflictError(msg)
        if body.get("status") == status:
            return model.model_validate(body)  # the API server writes nothing either
        return self._write(model, before.key, {**body, "status": status})

    async def patch_status_fields(self, before: R, fields: dict[str, Any]) -> R:
        model = type(before)
        body = self._body(model, before.key)
        return self._write(model, before.key, merged(body, {"status": fields}))

    async def delete(self, resource: Resource) -> None:
        key = (type(resource).plural, resource.key)
        body = self._objects.get(key)
        if body is None or body["metadata"].get("uid") != resource.metadata.uid:
            return
        if body["metadata"].get("finalizers"):
            body["metadata"].setdefault("deletionTimestamp", "2026-01-01T12:00:00Z")
            self._write(type(resource), resource.key, body)
        else:
            del self._objects[key]
            self._tell_watches(resource, is_there=False)

    async def add_finalizer(self, resource: R) -> R:
        if resource.has_finalizer:
            return resource
        patch = {"metadata": {"finalizers": [*resource.metadata.finalizers, NODE_FINALIZER]}}
        return await self.patch(type(resource), resource.key, patch)

    async def remove_finalizer(self, resource: Resource) -> None:
        if not resource.has_finalizer:
            return
        try:
            body = self._body(type(resource), resource.key)
        except NotFoundError:
            return
        if body["metadata"]["resourceVersion"] != resource.metadata.resource_version:
            msg = f"{resource.key}: 409 it changed"
            raise ConflictError(msg)
        body["metadata"]["finalizers"].remove(NODE_FINALIZER)
        if body["metadata"].get("deletionTimestamp"):
            del self._objects[type(resource).plural, resource.key]
        else:
            self._write(type(resource), resource.key, body)

    async def data_of(self, resource: str, key: Key) -> dict[str, bytes]:
        if (resource, key) in self.forbidden:
            msg = f"{resource} {key}: 403"
            raise RefusedError(msg)
        try:
            return dict(self.data[resource, key])
        except KeyError:
            msg = f"{resource} {key}: 404"
            raise NotFoundError(msg) from None

    async def node_labels(self, *, cordoned: bool = False) -> dict[str, dict[str, str]]:
        return {} if cordoned else dict(self.nodes)

    async def node_uid(self, name: str) -> str:
        return f"uid-of-{name}"

    async def review_token(self, token: str, audience: str) -> TokenIdentity | None:
        if self.is_down:
            msg = "the API server does not answer"
            raise KubernetesError(msg)
        self.reviews += 1
        return self.tokens.get(token) if audience == TRANSFER_AUDIENCE else None

    def event(self, regarding: Resource, reason: str, note: str, *, warning: bool = False) -> None:
        self.events.append(Event(regarding.key, reason, note, warning))

    async def events_about(self, resource: Resource) -> list[RecordedEvent]:
        regarding = f"{type(resource).kind_name}/{resource.metadata.name}"
        return [event for event in self.recorded if event.regarding == regarding]

    async def events_in(self, namespace: str) -> list[RecordedEvent]:  # noqa: ARG002 - one is enough
        return list(self.recorded)

    async def pods(
        self,
        namespace: str,
        *,
        labels: Mapping[str, str],  # noqa: ARG002 - all are agents'
        node_name: str,
    ) -> list[str]:
        return self.agents_pods.get((namespace, node_name), [])

    async def server_version(self) -> str:
        return "v1.2.3"

    async def flush_events(self) -> None:
        return


@dataclass
class _Running:
    """A container of the fake, whether it runs or not."""

    state: ContainerState
    runner: web.AppRunner | None = None
    status: int | None = None
    ports: tuple[PortMapping, ...] = ()
    """Those that it listens on when it runs: its own, or those of its pod that are its own."""

    began: bool = False
    """Whether it was ever started, as Podman sees it."""

    @property
    def word(self) -> str:
        """Podman's word for its state."""
        if self.state.paused:
            return "paused"
        if self.state.running:
            return "running"
        return "exited" if self.began else "created"


@dataclass
class _FakePod:
    state: PodState
    ports: tuple[PortMapping, ...]


class FakePodman(Podman):
    """A Podman in memory whose containers really listen on their ports.

    Each call can be made to fail (``failures``), to take its time (``delay``) and to break off
    after Podman did what was asked (``disconnects``): by the name under which ``log`` has it.
    """

    def __init__(self, address: str, directory: Path) -> None:
        self._address = address
        self.directory = directory
        """What lies beside each container, by its first name."""

        self.roots: tuple[Path, Path] | None = None
        """Files of a container, and of its image."""

        self._containers: dict[str, _Running] = {}
        self._made_pods: dict[str, _FakePod] = {}
        self._followers: list[tuple[str, Collection[EventAction], ContainerEvents]] = []
        self._ids = itertools.count(1)
        self.log: list[str] = []
        """What was asked of it, such as "restore tryitnow_demo_…"."""

        self.cold_status: int | None = 200
        """What a container that was started cold answers; None: it does not listen."""

        self.thawed_status: int | None = 200
        self.frozen_bytes = b"the memory of a warm shop"
        self.failures: dict[str, Exception] = {}
        """What to raise, by the name of the call ("restore prepared" apart from "restore")."""

        self.delay: dict[str, float] = {}
        """Seconds that a call takes before it is done, by its name."""

        self.disconnects: dict[str, int] = {}
        """How many of the next calls break off after they were done, by their name."""

        self.created: list[Container] = []
        self.made: list[NewContainer] = []
        """What containers were made of, in order."""

        self.options: list[CRIUOptions] = []
        """Of each freeze and thaw."""

        self.images: set[str] = set()
        """References of images that we made, such as "repository:tag"."""

        self.pulls: list[tuple[str, PullPolicy | None, tuple[Credentials, ...]]] = []
        """Images that were asked for: by which name, when to ask, and with what."""

        self.pods: dict[str, PodState] = {}
        """Pods that somebody made, by name. Their members are those listed here and the containers
        that joined them."""

        self.executed: list[tuple[str, tuple[str, ...], dict[str, str]]] = []
        """Commands that were run: where, what, and with which environment."""

        self.outcomes: list[Executed | Exception] = []
        """What comes of the next commands; success where there is none."""

        self.environments: dict[str, dict[str, str]] = {}
        """Environment by container."""

        self.last_lines = ""
        self.requested_paths: list[str] = []
        self.ghosts: list[str] = []
        """Names of containers that a killed Podman left in its storage."""

        self.delays: dict[str, float] = {}
        """Seconds that a container takes for an answer, by its first name."""

        self.answers: dict[str, int] = {}
        """Status by path, for paths that answer otherwise."""

        self.service = ServiceInfo(
            version="5.8.6",
            graph_root=directory / "storage",
            run_root=directory / "run",
            selinux=False,
            free_locks=2048,
            event_logger="file",
        )

    # -- what tests do with it ---------------------------------------------------------------------

    def containers(self) -> list[str]:
        """Return the names of all containers."""
        return sorted(self._containers)

    def stop(self, name: str, exit_code: int = 137) -> None:
        """Have a container end."""
        running = self._containers[name]
        running.state = replace(running.state, running=False, exit_code=exit_code, pid=0)
        self._tell(running.state, EventAction.DIED)

    def add(self, state: ContainerState) -> None:
        """Have a container that somebody else made; it does not listen."""
        self._containers[state.name] = _Running(state)

    def reboot(self) -> None:
        """End all processes; what was made stays."""
        for running in self._containers.values():
            code = 0 if running.state.alive else running.state.exit_code
            running.state = replace(
                running.state, running=False, paused=False, exit_code=code, pid=0
            )
        for name, pod in self.pods.items():
            self.pods[name] = replace(pod, infra_running=False)

    async def shut(self) -> None:
        """End all containers."""
        for running in self._containers.values():
            if running.runner is not None:
                await running.runner.cleanup()
        self._containers.clear()

    # -- how each call is done ---------------------------------------------------------------------

    async def _do(
        self, call: str, name: str, work: Callable[[], Awaitable[T]], *, lets_go: bool = False
    ) -> T:
        """Do a call. One that does not let go is done to its end, as Podman's client does it."""
        self.log.append(f"{call} {name}")
        if call in self.failures:
            raise self.failures[call]

        async def done() -> T:
            if delay := self.delay.get(call):
                await asyncio.sleep(delay)
            result = await work()
            if self.disconnects.get(call):
                self.disconnects[call] -= 1
                msg = f"Podman broke off: {call} {name}"
                raise PodmanUnreachableError(msg)
            return result

        return await (done() if lets_go else to_its_end(done()))

    def _known(self, name: str) -> _Running:
        for running in self._containers.values():
            if name in {running.state.name, running.state.id}:
                return running
        msg = f'no container with name or ID "{name}" found: no such container'
        raise NoSuchContainerError(msg)

    def _tell(self, state: ContainerState, action: EventAction) -> None:
        code = state.exit_code if action is EventAction.DIED else None
        event = ContainerEvent(state.name, state.id, action, exit_code=code)
        for prefix, actions, told in self._followers:
            if action in actions and state.name.startswith(prefix):
                told.add(event)

    def _make(self, name: str, new: NewContainer) -> _Running:
        if name in self._containers or name in self.ghosts:
            msg = f'the container name "{name}" is already in use'
            raise NameTakenError(msg)
        ports, pod_id = new.ports, ""
        if new.pod is not None:
            pod = self.pods.get(new.pod)
            if pod is None:
                msg = f"no pod with name or ID {new.pod} found: no such pod"
                raise NoSuchPodError(msg)
            pod_id = pod.id
            own = {port.container_port for port in new.container.ports}
            made = self._made_pods.get(new.pod)
            ports = tuple(p for p in (made.ports if made else ()) if p.container_port in own)
        self.created.append(new.container)
        self.made.append(new)
        running = _Running(
            ContainerState(
                name=name,
                id=f"id-of-{name}",
                running=False,
                exit_code=0,
                pid=0,
                image=new.image,
                ports=self._made_pods[new.pod].ports if new.pod in self._made_pods else new.ports,
                pod=pod_id,
            ),
            ports=ports,
        )
        self._containers[name] = running
        return running

    async def _go(self, running: _Running, status: int | None) -> None:
        """Let a container run, and answer on its ports."""
        running.status, running.began = status, True
        running.state = replace(
            running.state, running=True, paused=False, exit_code=0, pid=NO_PROCESS
        )
        if running.runner is not None or status is None:
            return
        first_name = running.state.name

        async def answer(request: web.Request) -> web.Response:
            self.requested_paths.append(request.path)
            await asyncio.sleep(self.delays.get(first_name, 0))
            if not running.state.running or running.status is None:
                assert request.transport is not None
                request.transport.abort()  # nobody listens
            status = self.answers.get(request.path, running.status or 500)
            return web.Response(status=status, text="shop")

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        running.runner = web.AppRunner(app, access_log=None)
        await running.runner.setup()
        for mapping in running.ports:
            await web.TCPSite(running.runner, self._address, mapping.host_port).start()

    # -- Podman's calls ----------------------------------------------------------------------------

    def close(self) -> None:
        return

    async def ping(self) -> None:
        if "ping" in self.failures:
            raise self.failures["ping"]
        await asyncio.sleep(self.delay.get("ping", 0))

    async def info(self) -> ServiceInfo:
        async def work() -> ServiceInfo:
            return self.service

        return await self._do("info", "", work, lets_go=True)

    async def reload_network(self, *containers: str) -> None:
        async def work() -> None:
            return

        await self._do("reload network", " ".join(containers) or "--all", work)

    @contextlib.asynccontextmanager
    async def events(
        self,
        prefix: str,
        actions: Collection[EventAction] = (EventAction.DIED, EventAction.REMOVED),
    ) -> AsyncIterator[ContainerEvents]:
        if "events" in self.failures:
            raise self.failures["events"]
        follower = (prefix, actions, ContainerEvents())
        self._followers.append(follower)
        try:
            yield follower[2]
        finally:
            self._followers.remove(follower)

    async def pull(
        self,
        name: str,
        *,
        policy: PullPolicy | None = None,
        auth: Sequence[Credentials] = (),
    ) -> Image:
        async def work() -> Image:
            self.pulls.append((name, policy, tuple(auth)))
            return Image(id="sha256:1", pinned=PINNED)

        return await self._do("pull", name, work, lets_go=True)

    async def ensure_image(
        self,
        pinned: str,
        *,
        auth: Sequence[Credentials] = (),  # noqa: ARG002 - whoever asks may have it
    ) -> None:
        async def work() -> None:
            return

        await self._do("ensure_image", pinned, work, lets_go=True)

    async def has_image(self, reference: str) -> bool:
        async def work() -> bool:
            return reference in self.images

        return await self._do("has_image", reference, work, lets_go=True)

    async def images_of(self, repository: str) -> dict[str, str]:
        async def work() -> dict[str, str]:
            found = (reference.rpartition(":") for reference in self.images)
            return {tag: f"id-of-{tag}" for name, _, tag in found if name == repository}

        return await self._do("image_tags", repository, work, lets_go=True)

    async def image_tags(self, repository: str) -> set[str]:
        return set(await self.images_of(repository))

    async def remove_image(self, reference: str) -> bool:
        async def work() -> bool:
            if any(c.state.image == reference for c in self._containers.values()):
                return False
            self.images.discard(reference)
            return True

        return await self._do("remove_image", reference, work)

    async def create_and_start(self, name: str, new: NewContainer) -> None:
        async def work() -> None:
            await self._go(self._make(name, new), self.cold_status)

        await self._do("create", name, work)

    async def create_container(self, name: str, new: NewContainer) -> None:
        async def work() -> None:
            self._make(name, new)

        await self._do("create container", name, work)

    async def create_stopped(self, name: str, new: NewContainer) -> Path:
        async def work() -> Path:
            self._make(name, new).began = True
            directory = self.directory / name
            directory.mkdir(parents=True)
            return directory

        return await self._do("create stopped", name, work)

    async def init(self, name: str) -> None:
        async def work() -> None:
            running = self._known(name)
            running.state = replace(running.state, pid=NO_PROCESS)

        await self._do("init", name, work)

    async def start(self, name: str) -> None:
        async def work() -> None:
            await self._go(self._known(name), self.cold_status)

        await self._do("start", name, work)

    async def rename(self, name: str, new_name: str) -> None:
        async def work() -> None:
            running = self._known(name)
            if new_name in self._containers or new_name in self.ghosts:
                msg = f"renaming container {name}: UNIQUE constraint failed: ContainerConfig.Name"
                raise NameTakenError(msg)
            del self._containers[running.state.name]
            running.state = replace(running.state, name=new_name)
            self._containers[new_name] = running
            self._tell(running.state, EventAction.RENAMED)

        await self._do("rename", name, work)

    async def pause(self, name: str) -> None:
        async def work() -> None:
            running = self._known(name)
            running.state = replace(running.state, running=False, paused=True)

        await self._do("pause", name, work)

    async def unpause(self, name: str) -> None:
        async def work() -> None:
            running = self._known(name)
            running.state = replace(running.state, running=True, paused=False)

        await self._do("unpause", name, work)

    async def remove(self, name: str) -> None:
        async def work() -> None:
            if name in self.ghosts:
                self.ghosts.remove(name)
            running = self._containers.pop(name, None)
            if running is None:
                return
            if running.runner is not None:
                await running.runner.cleanup()
            self._tell(running.state, EventAction.REMOVED)

        await self._do("remove", name, work)

    async def inspect(self, name: str) -> ContainerState | None:
        async def work() -> ContainerState | None:
            try:
                return self._known(name).state
            except NoSuchContainerError:
                return None

        return await self._do("inspect", name, work)

    async def half_made(self, prefix: str) -> list[str]:
        return [name for name in self.ghosts if name.startswith(prefix)]

    async def list_containers(self, prefix: str) -> list[ContainerState]:
        async def work() -> list[ContainerState]:
            return [c.state for n, c in self._containers.items() if n.startswith(prefix)]

        return await self._do("list", prefix, work)

    async def log_tail(self, name: str, lines: int = 10) -> str:
        async def work() -> str:
            return "\n".join(self.last_lines.splitlines()[-lines:])

        return await self._do("logs", name, work)

    async def checkpoint(
        self, name: str, options: CRIUOptions, consume: Callable[[Iterator[bytes]], T]
    ) -> T:
        async def work() -> T:
            self.options.append(options)
            running = self._known(name)
            half = len(self.frozen_bytes) // 2
            chunks = iter([self.frozen_bytes[:half], self.frozen_bytes[half:]])
            written = await asyncio.to_thread(consume, chunks)
            self.stop(running.state.name, 0)
            return written

        return await self._do("checkpoint", name, work, lets_go=True)

    async def with_roots(self, name: str, helper: str, use: Callable[[Path, Path], T]) -> T:
        async def work() -> T:
            assert helper not in self._containers
            root, image = self.roots or (self.directory, self.directory)
            self.directory.mkdir(exist_ok=True)
            return await asyncio.to_thread(use, root, image)

        return await self._do("look into", name, work)

    async def restore_import(
        self,
        name: str,
        options: CRIUOptions,
        ports: Sequence[PortMapping],
        produce: Callable[[], Iterator[bytes]],
        *,
        pod: str | None = None,
    ) -> timedelta:
        async def work() -> timedelta:
            self.options.append(options)
            await asyncio.to_thread(lambda: b"".join(produce()))
            state = ContainerState(
                name=name,
                id=f"id-of-{name}",
                running=False,
                exit_code=0,
                pid=0,
                image=PINNED,
                ports=tuple(ports),
                pod=self.pods[pod].id if pod in self.pods else "",
            )
            self._containers[name] = _Running(state, ports=tuple(ports))
            await self._go(self._containers[name], self.thawed_status)
            return timedelta(milliseconds=1)

        return await self._do("restore" if pod is None else f"restore in {pod}", name, work)

    async def restore(self, name: str, options: CRIUOptions) -> timedelta:
        async def work() -> timedelta:
            self.options.append(options)
            await self._go(self._known(name), self.thawed_status)
            return timedelta(milliseconds=2)

        return await self._do("restore prepared", name, work, lets_go=True)

    async def create_pod(
        self,
        name: str,
        ports: tuple[PortMapping, ...],
        *,
        hostname: str | None = None,  # noqa: ARG002 - nobody sees it
        shm_bytes: int | None = None,  # noqa: ARG002
        start: bool = True,
    ) -> int:
        async def work() -> int:
            if name in self.pods:
                msg = f'failed to make pod: name "{name}" is in use: pod already exists'
                raise NameTakenError(msg)
            number = next(self._ids)
            state = PodState(name, f"pod-{number}", f"infra-{number}", infra_running=start)
            self.pods[name] = state
            self._made_pods[name] = _FakePod(state, ports)
            return NO_PROCESS if start else 0

        return await self._do("create pod", name, work)

    async def start_pod_infra(self, name: str) -> int:
        async def work() -> int:
            if name not in self.pods:
                msg = f"no pod with name or ID {name} found: no such pod"
                raise NoSuchPodError(msg)
            self.pods[name] = replace(self.pods[name], infra_running=True)
            return NO_PROCESS

        return await self._do("start infra", name, work)

    def _with_members(self, pod: PodState) -> PodState:
        joined = {n: c for n, c in self._containers.items() if c.state.pod == pod.id}
        ended = {n: c.state.exit_code for n, c in joined.items() if c.word == "exited"}
        return replace(
            pod,
            members={**pod.members, **{name: each.word for name, each in joined.items()}},
            exit_codes={**pod.exit_codes, **ended},
        )

    async def list_pods(self, prefix: str) -> list[PodState]:
        async def work() -> list[PodState]:
            found = [pod for name, pod in self.pods.items() if name.startswith(prefix)]
            return [self._with_members(pod) for pod in found]

        return await self._do("list pods", prefix, work)

    async def inspect_pod(self, name: str) -> PodState | None:
        async def work() -> PodState | None:
            found = (pod for pod in self.pods.values() if name in {pod.name, pod.id})
            pod = next(found, None)
            return self._with_members(pod) if pod else None

        return await self._do("inspect pod", name, work)

    async def remove_pod(self, name: str) -> None:
        async def work() -> None:
            pod = self.pods.pop(name, None)
            self._made_pods.pop(name, None)
            for member in self._with_members(pod).members if pod else ():
                await self.remove(member)

        await self._do("remove pod", name, work)

    async def pid_of(self, name: str) -> int:
        async def work() -> int:
            if any(pod.infra_id == name for pod in self.pods.values()):
                return NO_PROCESS
            running = self._containers.get(name)
            return running.state.pid if running else NO_PROCESS

        return await self._do("pid", name, work)

    async def execute(
        self, name: str, command: Sequence[str], env: Mapping[str, str], timeout: timedelta
    ) -> Executed:
        async def work() -> Executed:
            self.executed.append((name, tuple(command), dict(env)))
            outcome = self.outcomes.pop(0) if self.outcomes else Executed(0, "")
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        assert timeout
        return await self._do("exec", name, work, lets_go=True)

    async def environment_of(self, name: str) -> dict[str, str]:
        async def work() -> dict[str, str]:
            return self.environments.get(name, {})

        return await self._do("environment", name, work)
