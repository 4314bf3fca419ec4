"""Making sandboxes, finding them again, and removing all of them that there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from tryitnow.agent.errors import FirewallError
from tryitnow.agent.mail.server import MailServer
from tryitnow.agent.sandbox.firewall import Firewall
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import (
    PREFIX,
    ContainerName,
    PodName,
    Role,
    new_pod,
    parse,
    parse_pod,
)
from tryitnow.agent.sandbox.outbound import Outbound
from tryitnow.agent.storage.ports import PortRange
from tryitnow.agent.storage.volumes import VolumeStore
from tryitnow.api.definition import Definition
from tryitnow.api.network import Network
from tryitnow.background import in_thread, uncancelled
from tryitnow.podman.client import ContainerState, Podman, PodState, PortMapping
from tryitnow.podman.errors import NameTakenError


@dataclass
class Sandboxes:
    """All sandboxes of this node."""

    podman: Podman
    volumes: VolumeStore
    ports: PortRange
    firewall: Firewall
    outbound: Outbound
    mail: MailServer
    _pods_in_work: set[str] = field(default_factory=set)
    _names_in_work: set[str] = field(default_factory=set)
    _found: set[str] | None = None
    """Names of the containers that were there when the agent began; None before it has looked."""

    _made: set[str] = field(default_factory=set)
    """Names that sandboxes were given since."""

    @asynccontextmanager
    async def create(
        self,
        name: ContainerName,
        definition: Definition,
        *,
        ports: Iterable[PortMapping] = (),
        tcp_blocked: bool = False,
    ) -> AsyncIterator[Sandbox]:
        """Make a sandbox, closed, for containers that the block makes.

        When the block fails, nothing of it is left. Another sandbox of that name is left alone.

        Args:
            name: Name of its main container.
            definition: What is to run in it.
            ports: Its ports; by default free ones are taken.
            tcp_blocked: Whether TCP between its containers is dropped as well.

        Raises:
            NameTakenError: there is a sandbox of that name already.
            NodeShortError: the node has no free port, or another process has one of ``ports``.
            PodmanError: the pod cannot be made.
            FirewallError: its firewall cannot be set.
            VolumeError, OSError: its volumes cannot be made.

        """
        if await self.podman.inspect(str(name)) is not None:
            # Its ports would be given out again, and what is removed on a failure could be its own.
            msg = f"there is a sandbox {name} already"
            raise NameTakenError(msg)
        wanted = tuple(ports)
        if wanted:
            self.ports.keep(str(name), wanted)
        else:
            wanted = tuple(self.ports.take(str(name), definition.template.ports))
        pod = new_pod()
        # Until its main container is there, nothing else tells that somebody needs it.
        self._pods_in_work.add(str(pod))
        self._names_in_work.add(str(name))
        self._made.add(str(name))
        try:
            await in_thread(self.volumes.make, pod.tag, definition.template)
            pid = await self.podman.create_pod(
                str(pod), wanted, dns_servers=self.outbound.dns_servers
            )
            sandbox = Sandbox(pod, wanted, pid)
            await self.guard(name, sandbox, definition.network)
            await self.firewall.close(pid, tcp_blocked=tcp_blocked)
            yield sandbox
        except BaseException:
            await self.remove_failed(pod, name)
            raise
        finally:
            self._pods_in_work.discard(str(pod))
            self._names_in_work.discard(str(name))

    async def guard(self, name: ContainerName, sandbox: Sandbox, network: Network) -> None:
        """Let nothing out of a sandbox but what it may reach, and take its mail.

        Raises:
            FirewallError: its rules cannot be set, or its mail cannot be taken.

        """
        await self.outbound.close(sandbox.pid, network)
        try:
            await self.mail.serve(
                str(name), sandbox.pod.tag, sandbox.pid, network.mail, keeps=name.role is Role.DEMO
            )
        except OSError as error:
            msg = f"its mail cannot be taken (spec.network.mail): {error}"
            raise FirewallError(msg) from error

    def guards(self, name: ContainerName, sandbox: Sandbox, network: Network) -> bool:
        """Whether ``guard`` was called for a sandbox since this agent began."""
        is_led = not network.takes_mail or self.mail.serves(str(name), sandbox.pid)
        return is_led and self.outbound.guards(sandbox.pid)

    async def remove_failed(self, pod: PodName, *names: ContainerName) -> None:
        """Remove a sandbox that was not brought up, whichever of these names it had by then.

        Another sandbox that has one of the names is left alone.

        Raises:
            PodmanError: Podman would not remove it; the ports stay taken until somebody does.

        """

        async def all_of_it() -> None:
            await self.remove_pod(pod)
            for name in map(str, names):
                if await self.podman.inspect(name) is None:
                    # Podman may not know it and have half of it, with its name in the way.
                    await self.podman.remove(name)
                    self.ports.release(name)
                    self.mail.stop(name)

        await uncancelled(all_of_it())

    async def find(self, name: ContainerName) -> Sandbox | None:
        """Return a sandbox, running or not; None when there is none of that name.

        Raises:
            PodmanError: Podman refuses.
            PodmanUnreachableError: Podman does not answer: nobody knows.

        """
        state = await self.podman.inspect(str(name))
        return None if state is None else await self.of(state)

    async def of(self, main: ContainerState) -> Sandbox | None:
        """Return the sandbox of a main container; None when it is in none of ours."""
        seen = await self.inspect(main)
        return None if seen is None else await self.with_process(*seen)

    async def inspect(self, main: ContainerState) -> tuple[Sandbox, PodState] | None:
        """Return the sandbox of a main container, without its process, and how its pod is.

        One question to Podman, for the many looks at what is well; None when the container is in
        no pod of ours.
        """
        found = await self.podman.inspect_pod(main.pod) if main.pod else None
        pod = parse_pod(found.name) if found else None
        if found is None or pod is None:
            return None
        return Sandbox(pod, main.ports), found

    async def with_process(self, sandbox: Sandbox, pod: PodState) -> Sandbox:
        """Return a sandbox with the process that holds its namespaces."""
        pid = await self.podman.pid_of(pod.infra_id) if pod.infra_running else 0
        return replace(sandbox, pid=pid)

    def adopt(self, names: Iterable[str]) -> None:
        """Take note of all containers that were there when the agent began."""
        self._found = set(names)

    def may_exist(self, name: ContainerName) -> bool:
        """Whether a sandbox of that name may be there. Asks nobody."""
        return self._found is None or str(name) in self._found or str(name) in self._made

    async def state_of(self, sandbox: Sandbox) -> PodState | None:
        """Return how a sandbox's pod and its members are; None when it is gone."""
        return await self.podman.inspect_pod(str(sandbox.pod))

    async def is_running(self, name: ContainerName) -> bool:
        """Whether a sandbox is there and all of its containers run."""
        state = await self.podman.inspect(str(name))
        if state is None or not state.running or not state.pod:
            return False
        found = await self.podman.inspect_pod(state.pod)
        return found is not None and set(found.members.values()) == {"running"}

    async def remove(self, name: ContainerName) -> None:
        """Remove a sandbox with its containers, volumes and ports; fine when there is none.

        Raises:
            PodmanError: Podman would not remove it; the ports stay taken until somebody does.

        """

        async def all_of_it() -> None:
            # First: a socket holds its network.
            self.mail.stop(str(name))
            await self._remove_container(str(name))
            self.ports.release(str(name))
            self._made.discard(str(name))
            if self._found is not None:
                self._found.discard(str(name))

        await uncancelled(all_of_it())

    async def _remove_container(self, name: str) -> None:
        state = await self.podman.inspect(name)
        pod = await self.podman.inspect_pod(state.pod) if state is not None and state.pod else None
        if pod is not None and (found := parse_pod(pod.name)) is not None:
            await self.remove_pod(found)
        else:
            # Also one that Podman does not know: it may be incomplete, and its name in the way.
            await self.podman.remove(name)

    async def remove_pod(self, pod: PodName) -> None:
        """Remove a pod with its containers and volumes; fine when there is none."""

        async def all_of_it() -> None:
            await self.podman.remove_pod(str(pod))
            # Not before: they are mounted into its containers.
            await in_thread(self.volumes.remove, pod.tag)

        self._pods_in_work.add(str(pod))
        try:
            await uncancelled(all_of_it())
        finally:
            self._pods_in_work.discard(str(pod))

    async def rename(self, sandbox: ContainerName, name: ContainerName) -> None:
        """Give a sandbox, with its ports, to another owner, at one stroke.

        Raises:
            NameTakenError: there is a sandbox of that name already.
            PodmanError: it is gone.

        """
        self._names_in_work.add(str(sandbox))
        self._made.add(str(name))
        try:
            await self.podman.rename(str(sandbox), str(name))
            self.ports.hand_over(str(sandbox), str(name))
            self.mail.hand_over(str(sandbox), str(name), keeps=name.role is Role.DEMO)
        finally:
            self._names_in_work.discard(str(sandbox))

    @asynccontextmanager
    async def in_work(self, name: ContainerName) -> AsyncIterator[None]:
        """Say for the length of a block that a sandbox of that name is being worked on."""
        self._names_in_work.add(str(name))
        try:
            yield
        finally:
            self._names_in_work.discard(str(name))

    def is_in_work(self, container: str) -> bool:
        """Whether a container's sandbox is being made, renamed, filled or removed right now."""
        if container in self._names_in_work:
            return True
        return any(container.startswith(pod) for pod in self._pods_in_work)

    @property
    def names_in_work(self) -> frozenset[str]:
        """Names of sandboxes that are being made, renamed or filled right now."""
        return frozenset(self._names_in_work)

    @property
    def pods_in_work(self) -> frozenset[str]:
        """Names of pods that are being made or removed right now."""
        return frozenset(self._pods_in_work)

    async def list_all(self) -> list[tuple[ContainerName, ContainerState]]:
        """Return all sandboxes that Podman knows, by the names of their main containers."""
        found = [(parse(state.name), state) for state in await self.podman.list_containers(PREFIX)]
        return [(name, state) for name, state in found if name is not None]
