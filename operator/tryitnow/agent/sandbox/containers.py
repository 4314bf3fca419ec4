"""Making the containers of a sandbox, and starting them in their order, as a Pod does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp

from tryitnow.agent.errors import ContainerDiedError, NotReadyError, SandboxError
from tryitnow.agent.health import LastHealth
from tryitnow.agent.sandbox.bounds import Bounds
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import ContainerName
from tryitnow.agent.sandbox.namespaces import Hosts
from tryitnow.agent.sandbox.probe import LOOPBACK, Prober, wait_until
from tryitnow.agent.sandbox.secrets import Redacted, Sources, secrets_of
from tryitnow.agent.storage.volumes import VolumeStore
from tryitnow.api.definition import Definition
from tryitnow.api.template import Container, InitContainer, StartupProbe
from tryitnow.background import gather_results, in_thread
from tryitnow.podman.client import NewContainer, Podman
from tryitnow.podman.errors import ExecTimeoutError, NodeLimitError, PodmanError
from tryitnow.printable import printable

logger = logging.getLogger(__name__)

_SHOWN = 300
"""Characters of a command's output that a message shows, from its end."""

_COMMAND_SECONDS = timedelta(seconds=10)
"""For one try of a startup probe's command, as for one answer of readiness."""


@dataclass(frozen=True)
class Containers:
    """Makes and starts containers on this node."""

    podman: Podman
    volumes: VolumeStore
    health: LastHealth
    prober: Prober
    hosts: Hosts
    bounds: Bounds

    def new(
        self,
        definition: Definition,
        sandbox: Sandbox,
        container: Container,
        image: str,
        sources: Sources,
    ) -> NewContainer:
        """Return what a container of a sandbox is made of. Blocking.

        Raises:
            VolumeError: a volume cannot be mounted.
            NotAllowedError: it asks for more than the administrator allows.
            NodeShortError: the node cannot hold one of its limits.

        """
        privileges = self.bounds.privileges(container)
        return NewContainer(
            container,
            image,
            sources.env.get(container.name, {}),
            pod=str(sandbox.pod),
            mounts=self.volumes.mounts(sandbox.pod.tag, definition.template, container),
            limits=self.bounds.limits(container),
            cap_add=privileges.add,
            cap_drop=privileges.drop,
            no_new_privileges=privileges.no_new_privileges,
            selinux=self.health.current.selinux,
        )

    async def create_stopped(
        self,
        definition: Definition,
        sandbox: Sandbox,
        container: Container,
        podman_name: str,
        image: str,
        sources: Sources,
    ) -> Path:
        """Make a container that has never run and can be restored into.

        Returns the directory in which Podman looks for what is to be restored in it.

        Raises:
            Any error of ``new``.
            PodmanError: Podman refuses.

        """
        new = await asyncio.to_thread(self.new, definition, sandbox, container, image, sources)
        return await self.podman.create_stopped(podman_name, new)

    async def start_cold(
        self,
        name: ContainerName,
        definition: Definition,
        sandbox: Sandbox,
        images: Mapping[str, str],
        sources: Sources,
        host: str | None,
    ) -> None:
        """Make and start init containers one after the other, then all others at once.

        Args:
            name: Name of the sandbox.
            definition: What runs in it.
            sandbox: The sandbox, new and empty.
            images: Pinned images by container.
            sources: Secrets and ConfigMaps.
            host: Name of the host that the containers see from their first moment.

        Raises:
            PodmanError: one cannot be started.
            NotReadyError: one did not start, or not end, in its time.
            SandboxError: a volume cannot be mounted, the sandbox is gone, or a container asks for
                more than the administrator allows.
            NodeShortError: the node cannot hold one of its limits.

        """
        if host is not None:
            await self._set_name(sandbox, host)
        own_names = sandbox.containers(name, definition)
        fields = {container.name: field for field, container in definition.template.by_field()}

        async def begin(container: Container) -> str:
            own = own_names.get(container.name) or sandbox.pod.member(container.name)
            image = images[container.name]
            new = await asyncio.to_thread(self.new, definition, sandbox, container, image, sources)
            try:
                await self.podman.create_container(own, new)
                await self._start(own, host)
            except NodeLimitError:
                raise
            except PodmanError as error:
                msg = f"{fields[container.name]}: the container does not start: {error}"
                raise PodmanError(msg) from error
            return own

        for container in definition.template.init_containers:
            own = await begin(container)
            if container.is_sidecar:
                await self._wait_started(sandbox, container, own, sources.redacted)
            else:
                await self._wait_ended(container, own, definition.readiness.timeout)
                await self.podman.remove(own)

        async def begin_and_wait(container: Container) -> None:
            own = await begin(container)
            await self._wait_started(sandbox, container, own, sources.redacted)

        await gather_results(begin_and_wait(c) for c in definition.template.containers)

    async def start_again(
        self,
        name: ContainerName,
        definition: Definition,
        sandbox: Sandbox,
        host: str,
        redacted: Redacted,
    ) -> None:
        """Start those containers that have ended, in the order of a cold start.

        Their files are as they left them. Init containers that run to their end do not run again.

        Args:
            name: Name of the sandbox.
            definition: What runs in it.
            sandbox: The sandbox.
            host: Name of the host that the containers see from their first moment.
            redacted: Keeps the secrets that they were made with out of messages (``secrets_of``).

        Raises:
            SandboxError: the sandbox is gone, or a subPath leads out of its volume by now.
            PodmanError: one cannot be started.
            NotReadyError: one did not start in its time.
            OSError: the disk is full or broken.

        """
        await self._set_name(sandbox, host)
        own_names = sandbox.containers(name, definition)

        async def begin(container: Container) -> None:
            own = own_names[container.name]
            state = await self.podman.inspect(own)
            if state is None:
                msg = f"container {container.name} is gone; somebody removed it"
                raise PodmanError(msg)
            if not state.alive:
                # What runs beside it, or ran in it, may have put links there meanwhile.
                await in_thread(self.volumes.hold_sub_paths, sandbox.pod.tag, container)
                await self._start(own, host)
            await self._wait_started(sandbox, container, own, redacted)

        sidecars = [c for c in definition.template.init_containers if c.is_sidecar]
        for container in sidecars:
            await begin(container)
        await gather_results(begin(container) for container in definition.template.containers)

    async def _set_name(self, sandbox: Sandbox, host: str) -> None:
        try:
            await in_thread(self.hosts.set_name, sandbox.pid, host)
        except OSError as error:
            # No error of the disk: the process that holds the namespaces has ended.
            msg = f"the host of sandbox {sandbox.pod} cannot be named: {error}"
            raise SandboxError(msg) from error

    async def secrets_of(
        self, name: ContainerName, definition: Definition, sandbox: Sandbox
    ) -> Redacted:
        """Return everything secret that a sandbox was made with.

        Raises:
            PodmanError: a container is gone.
            OSError: a volume is gone.

        """
        return await secrets_of(self.podman, self.volumes, name, definition, sandbox)

    async def _start(self, own: str, host: str | None) -> None:
        if host is not None:
            # Between both, its files are there and its program has not begun.
            await self.podman.init(own)
            pid = await self.podman.pid_of(own)
            await self._write_host(own, pid, host)
        await self.podman.start(own)

    async def pids_of(
        self, name: ContainerName, definition: Definition, sandbox: Sandbox
    ) -> tuple[int, ...]:
        """Return a process of each container; 0 for one that does not run.

        Raises:
            PodmanError: a container is gone.

        """
        own_names = sandbox.containers(name, definition).values()
        return tuple(await gather_results(self.podman.pid_of(own) for own in own_names))

    async def name_host(self, sandbox: Sandbox, pids: Iterable[int], host: str) -> None:
        """Give the host that running containers see another name.

        Args:
            sandbox: The sandbox.
            pids: A process of each container. One that has ended is passed over, whoever has its
                number by now.
            host: The name.

        Raises:
            OSError: the sandbox is gone.

        """
        await in_thread(self.hosts.set_name, sandbox.pid, host)
        for pid in pids:
            if await in_thread(self.hosts.is_shared, pid, sandbox.pid):
                await self._write_host(str(sandbox.pod), pid, host)

    async def _write_host(self, own: str, pid: int, host: str) -> None:
        try:
            await in_thread(self.hosts.write_files, pid, host)
        except OSError as error:
            # An image may have none, or links: the kernel's name is what counts.
            logger.debug("%s: its /etc/hostname or /etc/hosts stays as it is: %s", own, error)

    async def carry_hosts(self, own: str, pid: int, hosts: str) -> None:
        """Add the lines that the application had in /etc/hosts at the checkpoint.

        Args:
            own: Podman's name of the container, for the log.
            pid: A process of it.
            hosts: The lines, or nothing.

        """
        if not hosts:
            return
        try:
            await in_thread(self.hosts.carry, pid, hosts)
        except OSError as error:
            logger.warning("%s: its /etc/hosts cannot be brought back: %s", own, error)

    async def _wait_started(
        self, sandbox: Sandbox, container: Container, own: str, redacted: Redacted
    ) -> None:
        probe = container.startup_probe
        if probe is None:
            return

        async def runs() -> bool:
            state = await self.podman.inspect(own)
            return state is not None and state.running

        async with self.prober.session_inside(sandbox) as session:
            probe_once = self._prober(own, probe, session, redacted)
            try:
                await wait_until(probe_once, probe.timeout, runs)
            except NotReadyError as error:
                words = await self.last_words(own, container.name)
                msg = f"containers[{container.name}].startupProbe: {error}{words}"
                raise type(error)(msg) from error

    def _prober(
        self, own: str, probe: StartupProbe, session: aiohttp.ClientSession, redacted: Redacted
    ) -> Callable[[], Awaitable[str | None]]:
        if probe.exec is not None:
            command = probe.exec.command
            return lambda: self._probe_by_command(own, command, redacted)
        if probe.http_get is not None:
            get = probe.http_get
            url = f"{get.scheme.lower()}://{LOOPBACK}:{get.port}{get.path}"
            return lambda: _probe_by_request(session, url)
        assert probe.tcp_socket is not None, "a rule of the schema"
        port = probe.tcp_socket.port
        return lambda: _probe_by_connection(port, session)

    async def _probe_by_command(
        self, own: str, command: tuple[str, ...], redacted: Redacted
    ) -> str | None:
        try:
            done = await self.podman.execute(own, command, {}, _COMMAND_SECONDS)
        except ExecTimeoutError as error:
            return f"the command hangs: {error}"
        except PodmanError as error:
            return f"the command cannot be run: {error}"
        if done.exit_code == 0:
            return None
        # In this order: what is left of a secret that was cut could not be told any more.
        return f"exit status {done.exit_code}: {redacted.text(done.output)[-_SHOWN:]}"

    async def _wait_ended(self, container: InitContainer, own: str, deadline: timedelta) -> None:
        code: int | None = None

        async def probe_once() -> str | None:
            nonlocal code
            state = await self.podman.inspect(own)
            if state is None:
                return "it is gone"
            code = None if state.alive else state.exit_code
            return "it still runs" if state.alive else None

        async def alive() -> bool:
            return True  # its end is what is waited for

        where = f"initContainers[{container.name}]"
        try:
            await wait_until(probe_once, deadline, alive)
        except NotReadyError as error:
            msg = f"{where} did not end: {error}; a sidecar needs restartPolicy: Always"
            raise NotReadyError(msg) from error
        if code != 0:
            words = await self.last_words(own, container.name)
            msg = f"{where} ended with exit code {code}{words}"
            raise ContainerDiedError(msg)

    async def silent_words(
        self, name: ContainerName, definition: Definition, sandbox: Sandbox
    ) -> str:
        """Return the last lines of the container that ended, else of the main one."""
        own_names = sandbox.containers(name, definition)
        for container, own in own_names.items():
            state = await self.podman.inspect(own)
            if state is not None and not state.running:
                return await self.last_words(own, container)
        return await self.last_words(str(name), definition.main.name)

    async def last_words(self, own: str, container: str) -> str:
        """Return what a container last wrote, as a part of a message."""
        try:
            lines = await self.podman.log_tail(own)
        except PodmanError:
            return ""  # what else is known must do
        return f"\nThe last lines of container {container}:\n{printable(lines)}" if lines else ""


async def _probe_by_request(session: aiohttp.ClientSession, url: str) -> str | None:
    try:
        async with session.get(url, allow_redirects=False) as answer:
            return None if 200 <= answer.status < 400 else f"{url} answered {answer.status}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return f"{url} does not answer: {type(error).__name__} {error}".strip()


async def _probe_by_connection(port: int, session: aiohttp.ClientSession) -> str | None:
    try:
        async with session.get(f"http://{LOOPBACK}:{port}/", allow_redirects=False):
            return None
    except aiohttp.ClientConnectorError as error:
        return f"port {port} accepts no connection: {error}"
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None  # it accepted one, and speaks another language
