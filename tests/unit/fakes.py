"""The two parts that no unit test has for real: a cluster and a Podman.

``FakeKubernetes`` keeps objects in memory and answers as the API server does. ``FakePodman``
keeps containers in memory, but each of them is a real HTTP server on its published ports, and it
reads and writes real archives.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import time
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
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from aiohttp import web

from tests.unit.builders import PINNED, make_export, pinned
from tryitnow.api.definition import CRIUOptions
from tryitnow.api.meta import GROUP, Key, Resource, now
from tryitnow.api.template import Container
from tryitnow.background import uncancelled
from tryitnow.kubernetes.client import KubernetesApi, TokenIdentity
from tryitnow.kubernetes.clock import ServerClock
from tryitnow.kubernetes.errors import (
    ConflictError,
    KubernetesError,
    NotFoundError,
    RefusedError,
    TooOldError,
)
from tryitnow.kubernetes.event_list import EventRecord
from tryitnow.kubernetes.objects import AnyObject, read_any
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
    NoSuchImageError,
    NoSuchPodError,
    PodmanError,
    PodmanUnreachableError,
)
from tryitnow.podman.registry_auth import Credentials
from tryitnow.settings import TRANSFER_AUDIENCE

NO_PROCESS = 1 << 22
"""More than the kernel's greatest PID (proc_sys_kernel(5)): whatever is done to it hits nobody."""

_TIME = "2026-01-01T12:00:00Z"
"""When the API server of these tests made or deleted something."""

R = TypeVar("R", bound=Resource)
Objects = dict[tuple[str, Key], dict[str, Any]]
Backup = tuple[int, Objects]
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


def copied(body: T) -> T:
    """Return a copy of JSON, of which nothing is shared; quicker than ``copy.deepcopy``."""
    found: Any = body
    if isinstance(body, dict):
        found = {name: copied(value) for name, value in body.items()}
    elif isinstance(body, list):
        found = [copied(value) for value in body]
    return cast("T", found)


def _copied(objects: Objects) -> Objects:
    return {key: copied(body) for key, body in objects.items()}


class FakeKubernetes(KubernetesApi):
    """A cluster in memory: all that the real class makes of a request is real, the answer is ours.

    It is as strict as the API server (1.37): versions and UIDs, preconditions, subresources,
    generations, finalizers. The texts of its refusals are the API server's.
    """

    def __init__(self, *resources: Resource) -> None:
        self.clock = ServerClock()
        self.now: Callable[[], datetime] = now
        """What time it is on the API server."""

        self.monotonic: Callable[[], float] = time.monotonic
        self._tell_time()
        self._listed = {}
        self._objects: Objects = {}
        self._version = 100
        self._pages: dict[str, list[dict[str, Any]]] = {}
        self.events: list[Event] = []
        self.tokens: dict[str, TokenIdentity] = {}
        """Whose token is whose; all are for the audience of transfers."""

        self.reviews = 0
        self.writes: list[Key] = []
        self.data: dict[tuple[str, Key], dict[str, bytes]] = {}
        """Content of Secrets and ConfigMaps ("secrets", "configmaps")."""

        self.forbidden: set[tuple[str, Key]] = set()
        self.unreadable: frozenset[Key] = frozenset()
        """Objects that each list is said to have and that cannot be read."""

        self.refusals: dict[tuple[str, str], KubernetesError] = {}
        """What is answered to a method about a kind, such as "PATCH" of "demoinstances/status"."""

        self.is_down = False
        self.on_request: Callable[[], None] = lambda: None
        """Called before each request about an object of ours."""

        self.recorded: list[EventRecord] = []
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

    # -- what a test does to the cluster ----------------------------------------------------------

    def put(self, resource: R) -> R:
        """Have an object in the cluster, as it is."""
        body = resource.to_api()
        self.put_body(type(resource), body)
        return type(resource).model_validate(body)

    def put_body(self, model: type[Resource], body: dict[str, Any]) -> None:
        """Have an object in the cluster that need not fit our model."""
        body["metadata"]["resourceVersion"] = self._next_version()
        self._objects[model.plural, Resource.key_of(body["metadata"])] = body

    def find(self, resource: R) -> R:
        """Return the present state of an object."""
        return type(resource).model_validate(self._body(type(resource), resource.key))

    def has(self, resource: Resource) -> bool:
        """Whether the object is still there."""
        return (type(resource).plural, resource.key) in self._objects

    def vanish(self, resource: Resource) -> None:
        """Have an object go, whatever finalizers it has, as after a person took them off."""
        self._drop(type(resource), resource.key)

    def reasons(self) -> list[str]:
        """Return the reasons of all Events, in order."""
        return [event.reason for event in self.events]

    def forget_pages(self) -> None:
        """Forget what lists were half read, as after a compaction of etcd."""
        self._pages.clear()

    def backup(self) -> Backup:
        """Return what ``restore`` brings back, as a snapshot of etcd has it."""
        return self._version, _copied(self._objects)

    def restore(self, backup: Backup) -> None:
        """Bring back an older state of the cluster, versions included."""
        self._version, self._objects = backup[0], _copied(backup[1])

    def _tell_time(self) -> None:
        self.clock.observe(format_datetime(self.now(), usegmt=True), self.monotonic())

    # -- the API server ---------------------------------------------------------------------------

    def _next_version(self) -> str:
        self._version += 1
        return str(self._version)

    def _body(self, model: type[Resource], key: Key) -> dict[str, Any]:
        try:
            return self._objects[model.plural, key]
        except KeyError:
            msg = f'{model.plural}.{GROUP} "{key.name}" not found'
            raise NotFoundError(msg) from None

    async def _request(
        self,
        what: str,
        method: str,
        model: type[Resource],
        key: Key,
        *,
        subresource: str = "",
        query: dict[str, str] | None = None,
        body: Any = None,
    ) -> Any:
        await asyncio.sleep(0)  # others go on meanwhile
        self.on_request()
        if self.is_down:
            msg = f"{what}: the API server does not answer"
            raise KubernetesError(msg)
        self._tell_time()
        about = f"{model.plural}/{subresource}" if subresource else model.plural
        if (method, about) in self.refusals:
            raise self.refusals[method, about]
        match method:
            case "GET" if key.name:
                return copied(self._body(model, key))
            case "GET":
                return self._page(model, key.namespace, query or {})
            case "POST":
                return self._create(model, copied(body))
            case "PATCH":
                return self._merge(model, key, subresource, copied(body))
            case "DELETE":
                return self._delete(model, key, body["preconditions"])
        raise AssertionError(method)

    def _page(self, model: type[Resource], namespace: str, query: dict[str, str]) -> Any:
        if "continue" in query:
            if query["continue"] not in self._pages:
                msg = "the provided continue parameter is too old to display a consistent list"
                raise TooOldError(msg)
            found, version = self._pages.pop(query["continue"]), query["continue"].split("/")[0]
        else:
            found, version = self._select(model, namespace, query), str(self._version)
        limit = int(query.get("limit", len(found)))
        page, rest = found[:limit], found[limit:]
        metadata = {"resourceVersion": version}
        if rest:
            metadata["continue"] = f"{version}/{len(rest)}"
            self._pages[metadata["continue"]] = rest
        return {"items": page, "metadata": metadata}

    def _select(
        self, model: type[Resource], namespace: str, query: dict[str, str]
    ) -> list[dict[str, Any]]:
        path, _, value = query.get("fieldSelector", "").partition("=")
        found = []
        for (plural, key), body in self._objects.items():
            if plural != model.plural or key in self.unreadable:
                continue
            if namespace and key.namespace != namespace:
                continue
            field: Any = body
            for part in path.split(".") if path else ():
                field = field.get(part, {})
            if not path or field == value:
                found.append(copied(body))
        strange = [
            {"metadata": {"namespace": key.namespace, "name": key.name, "uid": f"uid-of-{key}"}}
            for key in self.unreadable
        ]
        return found + strange

    def _create(self, model: type[Resource], body: dict[str, Any]) -> dict[str, Any]:
        key = Resource.key_of(body["metadata"])
        if (model.plural, key) in self._objects:
            msg = f'{model.plural}.{GROUP} "{key.name}" already exists'
            raise ConflictError(msg)
        body.pop("status", None)
        uid = f"uid-{self._version + 1}"
        body["metadata"] |= {"uid": uid, "generation": 1, "creationTimestamp": _TIME}
        return self._write(model, key, body)

    def _merge(
        self, model: type[Resource], key: Key, subresource: str, patch: dict[str, Any]
    ) -> dict[str, Any]:
        before = self._body(model, key)
        metadata = patch.get("metadata", {})
        version = metadata.pop("resourceVersion", None)
        if version not in {None, before["metadata"]["resourceVersion"]}:
            msg = (
                f'Operation cannot be fulfilled on {model.plural}.{GROUP} "{key.name}": the object '
                "has been modified; please apply your changes to the latest version and try again"
            )
            raise ConflictError(msg)
        if subresource:
            # All other fields, metadata included, are taken from what is there.
            after = {**before, "status": merged(before.get("status"), patch["status"])}
        else:
            uid = before["metadata"].get("uid")
            if metadata.get("uid", uid) != uid:
                msg = f'{model.kind_name}.{GROUP} "{key.name}" is invalid: metadata.uid'
                raise RefusedError(msg, fields=("metadata.uid",))
            patch.pop("status", None)
            after = merged(before, patch)
        if after == before:
            return copied(before)  # the API server writes nothing either
        if after.get("spec") != before.get("spec"):
            after["metadata"]["generation"] = before["metadata"].get("generation", 0) + 1
        if after["metadata"].get("deletionTimestamp"):
            finalizers = after["metadata"].get("finalizers", [])
            if set(finalizers) - set(before["metadata"].get("finalizers", [])):
                msg = "no new finalizers can be added if the object is being deleted"
                raise RefusedError(msg, fields=("metadata.finalizers",))
            if not finalizers:
                self._drop(model, key)
                return after
        return self._write(model, key, after)

    def _delete(
        self, model: type[Resource], key: Key, preconditions: dict[str, str]
    ) -> dict[str, Any]:
        body = self._body(model, key)
        for name, wanted in preconditions.items():
            if body["metadata"].get(name) != wanted:
                msg = (
                    f'Operation cannot be fulfilled on {model.kind_name}.{GROUP} "{key.name}": the '
                    f"{name} in the precondition ({wanted}) does not match the one in record"
                )
                raise ConflictError(msg)
        if not body["metadata"].get("finalizers"):
            self._drop(model, key)
            return body
        metadata = {**body["metadata"]}
        metadata.setdefault("deletionTimestamp", _TIME)
        return self._write(model, key, {**body, "metadata": metadata})

    def _write(self, model: type[Resource], key: Key, body: dict[str, Any]) -> dict[str, Any]:
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": self._next_version()}}
        self._objects[model.plural, key] = body
        self.writes.append(key)
        seen = read_any(model, copied(body))
        if isinstance(seen, Resource):
            self._tell_watches(seen, is_there=True)
            self.on_write(seen)
        return copied(body)

    def _drop(self, model: type[Resource], key: Key) -> None:
        body = self._objects.pop((model.plural, key))
        self._next_version()
        seen = read_any(model, body)
        if isinstance(seen, Resource):
            self._tell_watches(seen, is_there=False)

    def _tell_watches(self, resource: Resource, *, is_there: bool) -> None:
        for model, key, changes in self._watches:
            if model is type(resource) and key == resource.key:
                changes.put_nowait((is_there, resource))

    # -- what is no object of ours ----------------------------------------------------------------

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

    async def data_of(self, resource: str, key: Key) -> dict[str, bytes]:
        if (resource, key) in self.forbidden:
            msg = f"{resource} {key}: 403"
            raise RefusedError(msg)
        try:
            return dict(self.data[resource, key])
        except KeyError:
            msg = f"{resource} {key}: 404"
            raise NotFoundError(msg) from None

    async def namespace_uid(self, name: str) -> str:
        return f"uid-of-{name}"

    async def node_uid(self, name: str) -> str:
        return f"uid-of-{name}"

    async def review_token(self, token: str, audience: str) -> TokenIdentity | None:
        if self.is_down:
            msg = "the API server does not answer"
            raise KubernetesError(msg)
        self.reviews += 1
        return self.tokens.get(token) if audience == TRANSFER_AUDIENCE else None

    def event(self, regarding: AnyObject, reason: str, note: str, *, warning: bool = False) -> None:
        self.events.append(Event(regarding.key, reason, note, warning))

    async def events_about(self, resource: Resource) -> list[EventRecord]:
        regarding = f"{type(resource).kind_name}/{resource.metadata.name}"
        return [event for event in self.recorded if event.regarding == regarding]

    async def events_in(self, namespace: str) -> list[EventRecord]:  # noqa: ARG002 - one is enough
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
class Running:
    """A container of the fake, whether it runs or not."""

    state: ContainerState
    runner: web.AppRunner | None = None
    status: int | None = None
    ports: tuple[PortMapping, ...] = ()
    """Those that it listens on when it runs: its own, or those of its pod that are its own."""

    began: bool = False
    """Whether it was ever started, as Podman sees it."""

    home: Path | None = None
    """What Podman keeps beside it, until it is removed."""

    @property
    def word(self) -> str:
        """Podman's word for its state."""
        if self.state.paused:
            return "paused"
        if self.state.running:
            return "running"
        return "exited" if self.began else "created"


@dataclass
class FakePod:
    state: PodState
    ports: tuple[PortMapping, ...]
    dns_servers: tuple[str, ...] = ()


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

        self._containers: dict[str, Running] = {}
        self._made_pods: dict[str, FakePod] = {}
        self._followers: list[tuple[str, Collection[EventAction], ContainerEvents]] = []
        self._ids = itertools.count(1)
        self.log: list[str] = []
        """What was asked of it, such as "restore tryitnow_demo_…"."""

        self.cold_status: int | None = 200
        """What a container that was started cold answers; None: it does not listen."""

        self.restored_status: int | None = 200
        self.export_bytes = make_export()
        self.failures: dict[str, Exception] = {}
        """What to raise, by the name of the call ("restore prepared" apart from "restore")."""

        self.delay: dict[str, float] = {}
        """Seconds that a call takes before it is done, by its name."""

        self.on_call: Callable[[], None] = lambda: None
        """Called before each call."""

        self.disconnects: dict[str, int] = {}
        """How many of the next calls break off after they were done, by their name."""

        self.created: list[Container] = []
        self.made: list[NewContainer] = []
        """What containers were made of, in order."""

        self.options: list[CRIUOptions] = []
        """Of each checkpoint and restore."""

        self.images: set[str] = set()
        """References of images that we made, such as "repository:tag"."""

        self.pulls: list[tuple[str, PullPolicy | None, tuple[Credentials, ...]]] = []
        self.ensured: list[tuple[str, tuple[Credentials, ...]]] = []
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

        self.ends: dict[str, int] = {}
        """Exit code by the end of a name: containers that end as soon as they were started."""

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

    def state(self, name: str) -> ContainerState:
        """Return how a container is, without asking Podman."""
        return self._known(name).state

    def stop(self, name: str, exit_code: int = 137) -> None:
        """Have a container end."""
        running = self._containers[name]
        running.state = replace(running.state, running=False, exit_code=exit_code, pid=0)
        self._emit(running.state, EventAction.DIED)

    def add(self, state: ContainerState) -> None:
        """Have a container that somebody else made; it does not listen."""
        self._containers[state.name] = Running(state)

    def lose_all(self) -> Callable[[], None]:
        """List nothing any more, as with another storage; what is returned brings all back."""
        before = self._containers, self._made_pods, self.pods

        def bring_back() -> None:
            self._containers, self._made_pods, self.pods = before

        self._containers, self._made_pods, self.pods = {}, {}, {}
        return bring_back

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
        self.on_call()
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

        return await (done() if lets_go else uncancelled(done()))

    def _known(self, name: str) -> Running:
        for running in self._containers.values():
            if name in {running.state.name, running.state.id}:
                return running
        msg = f'no container with name or ID "{name}" found: no such container'
        raise NoSuchContainerError(msg)

    def _emit(self, state: ContainerState, action: EventAction) -> None:
        code = state.exit_code if action is EventAction.DIED else None
        event = ContainerEvent(state.name, state.id, action, exit_code=code)
        for prefix, actions, reported in self._followers:
            if action in actions and state.name.startswith(prefix):
                reported.add(event)

    def _make(self, name: str, new: NewContainer) -> Running:
        if name in self._containers or name in self.ghosts:
            msg = f'the container name "{name}" is already in use'
            raise NameTakenError(msg)
        if new.image.startswith("localhost/") and new.image not in self.images:
            # One of ours is in no registry.
            msg = f"{new.image}: image not known"
            raise NoSuchImageError(msg)
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
        running = Running(
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

    async def _go(self, running: Running, status: int | None) -> None:
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
        running.runner = runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            for mapping in running.ports:
                # Whole: an aiohttp that is cancelled here forgets a socket that listens.
                site = web.TCPSite(runner, self._address, mapping.host_port)
                await uncancelled(site.start())
        finally:
            if running not in self._containers.values():
                await runner.cleanup()  # it was removed meanwhile

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
            return Image(id="sha256:1", pinned=pinned(name))

        return await self._do("pull", name, work, lets_go=True)

    async def ensure_image(
        self,
        pinned: str,
        *,
        auth: Sequence[Credentials] = (),
    ) -> None:
        async def work() -> None:
            self.ensured.append((pinned, tuple(auth)))

        await self._do("ensure_image", pinned, work, lets_go=True)

    async def build_image(
        self, name: str, base: str, repository: str, tag: str, fill: Callable[[Path], None]
    ) -> str:
        async def work() -> str:
            assert name not in self._containers
            root = self.directory / f"root-of-{tag}"
            root.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(fill, root)
            self.images.add(f"{repository}:{tag}")
            return f"id-of-{tag}"

        await self.ensure_image(base)
        return await self._do("build image", f"{repository}:{tag}", work)

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
            running = self._make(name, new)
            running.began = True
            running.home = self.directory / name
            # A container that was removed leaves nothing to one of the same name.
            shutil.rmtree(running.home, ignore_errors=True)
            running.home.mkdir(parents=True)
            return running.home

        return await self._do("create stopped", name, work)

    async def init(self, name: str) -> None:
        async def work() -> None:
            running = self._known(name)
            running.state = replace(running.state, pid=NO_PROCESS)

        await self._do("init", name, work)

    async def start(self, name: str) -> None:
        async def work() -> None:
            await self._go(self._known(name), self.cold_status)
            for ending, code in self.ends.items():
                if name.endswith(ending):
                    self.stop(name, code)

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
            self._emit(running.state, EventAction.RENAMED)

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
        await self._do("remove", name, lambda: self._take_away(name))

    async def _take_away(self, name: str) -> None:
        if name in self.ghosts:
            self.ghosts.remove(name)
        running = self._containers.pop(name, None)
        if running is None:
            return
        if running.runner is not None:
            await running.runner.cleanup()
        if running.home is not None:
            shutil.rmtree(running.home)
        self._emit(running.state, EventAction.REMOVED)

    async def inspect(self, name: str) -> ContainerState | None:
        async def work() -> ContainerState | None:
            try:
                return self._known(name).state
            except NoSuchContainerError:
                return None

        return await self._do("inspect", name, work)

    async def storage_only_containers(self, prefix: str) -> list[str]:
        return [name for name in self.ghosts if name.startswith(prefix)]

    async def list_containers(self, prefix: str) -> list[ContainerState]:
        async def work() -> list[ContainerState]:
            own = [c.state for n, c in self._containers.items() if n.startswith(prefix)]
            return [*own, *(state for state in self._infra() if state.name.startswith(prefix))]

        return await self._do("list", prefix, work)

    def _infra(self) -> Iterator[ContainerState]:
        """The containers that hold the namespaces of pods: libpod lists them like any other."""
        for name, pod in self.pods.items():
            made = self._made_pods.get(name)
            yield ContainerState(
                name=f"{name}-infra",
                id=pod.infra_id,
                running=pod.infra_running,
                exit_code=0,
                pid=NO_PROCESS if pod.infra_running else 0,
                image="",
                ports=made.ports if made is not None else (),
                pod=pod.id,
            )

    def end_infra(self, name: str) -> None:
        """Have a pod's namespaces end: the container that holds them was killed."""
        self.pods[name] = replace(self.pods[name], infra_running=False)

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
            half = len(self.export_bytes) // 2
            chunks = iter([self.export_bytes[:half], self.export_bytes[half:]])
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
            self._containers[name] = Running(state, ports=tuple(ports))
            await self._go(self._containers[name], self.restored_status)
            return timedelta(milliseconds=1)

        return await self._do("restore" if pod is None else f"restore in {pod}", name, work)

    async def restore(self, name: str, options: CRIUOptions) -> timedelta:
        async def work() -> timedelta:
            self.options.append(options)
            running = self._known(name)
            pods = {pod.id: pod for pod in self.pods.values()}
            pod = pods.get(running.state.pod)
            if pod is not None and not pod.infra_running:
                msg = "crun: open `/proc/4295/ns/net`: No such file or directory"
                raise PodmanError(msg)
            await self._go(running, self.restored_status)
            return timedelta(milliseconds=2)

        return await self._do("restore prepared", name, work, lets_go=True)

    async def create_pod(
        self,
        name: str,
        ports: tuple[PortMapping, ...],
        *,
        hostname: str | None = None,  # noqa: ARG002 - nobody sees it
        shm_bytes: int | None = None,  # noqa: ARG002
        dns_servers: Sequence[str] = (),
        start: bool = True,
    ) -> int:
        async def work() -> int:
            if name in self.pods:
                msg = f'failed to make pod: name "{name}" is in use: pod already exists'
                raise NameTakenError(msg)
            number = next(self._ids)
            state = PodState(name, f"pod-{number}", f"infra-{number}", infra_running=start)
            self.pods[name] = state
            self._made_pods[name] = FakePod(state, ports, tuple(dns_servers))
            return NO_PROCESS if start else 0

        return await self._do("create pod", name, work)

    def dns_servers_of(self, pod: str) -> tuple[str, ...]:
        """Return the DNS servers that a pod was made with."""
        return self._made_pods[pod].dns_servers

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

    async def stop_pod(self, name: str) -> None:
        async def work() -> None:
            for member in self._with_members(self.pods[name]).members:
                self.stop(member)
            self.pods[name] = replace(self.pods[name], infra_running=False)

        await self._do("stop pod", name, work)

    async def remove_pod(self, name: str) -> None:
        async def work() -> None:
            pod = self.pods.pop(name, None)
            self._made_pods.pop(name, None)
            # One call for all of them: Podman goes on though nobody waits for it any more.
            for member in self._with_members(pod).members if pod else ():
                await self._take_away(member)

        await self._do("remove pod", name, work)

    async def pid_of(self, name: str) -> int:
        async def work() -> int:
            if any(pod.infra_id == name for pod in self.pods.values()):
                return NO_PROCESS
            return self._known(name).state.pid

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
