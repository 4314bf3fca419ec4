"""Running the hooks of a definition in the containers of a sandbox."""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from tryitnow.agent.errors import HookError
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import ContainerName
from tryitnow.agent.sandbox.secrets import Redacted, secrets_of
from tryitnow.agent.storage.volumes import VolumeStore
from tryitnow.api.definition import Definition
from tryitnow.api.demoinstance import DemoInstance, StartedBy
from tryitnow.api.hooks import Hook, parameter_values
from tryitnow.fair_turns import FairTurns
from tryitnow.podman.client import Podman
from tryitnow.podman.errors import ExecTimeoutError, NoSuchContainerError, PodmanError
from tryitnow.settings import AgentSettings

SECRET = "TRYITNOW_SECRET"
SECRET_BYTES = 32

AT_ONCE = 32
"""Sandboxes whose hooks of one kind run at once: they mostly wait for something outside, so a burst
of demos is no slower for it. More of them would only fill Podman and what is outside."""

_SHOWN = 1000
"""Characters of a hook's output that a message shows, from its end."""


def demo_environment(
    settings: AgentSettings, demo: DemoInstance, definition: Definition, sandbox: Sandbox
) -> dict[str, str]:
    """Return the variables that hooks get about a demo, as docs/hooks.md lists them."""
    port = sandbox.host_port(definition.probe_port)
    host = demo.spec.host or settings.host_at(port)
    scheme = definition.readiness.http_get.scheme.lower()
    return {
        "TRYITNOW_NAME": demo.metadata.name,
        "TRYITNOW_NAMESPACE": demo.metadata.namespace,
        "TRYITNOW_UID": demo.metadata.uid,
        "TRYITNOW_HOST": host,
        "TRYITNOW_URL": f"{scheme}://{host}",
        "TRYITNOW_NODE": settings.node_name,
        "TRYITNOW_PORT": str(port),
        **parameter_values(definition.parameters, demo.spec.parameters),
    }


def start_environment(started_by: StartedBy) -> dict[str, str]:
    """Return the variables that afterRestore hooks get about a start, with a fresh secret."""
    return {
        "TRYITNOW_STARTED_BY": str(started_by),
        SECRET: secrets.token_hex(SECRET_BYTES),
    }


@dataclass(frozen=True)
class HookRunner:
    """Runs hooks on this node."""

    podman: Podman
    volumes: VolumeStore
    turns: Mapping[str, FairTurns] = field(
        default_factory=lambda: defaultdict(lambda: FairTurns(AT_ONCE))
    )
    """By the turn of life: a flood of deletions must not keep demos from their afterRestore."""

    async def run(
        self,
        turn: str,
        hooks: tuple[Hook, ...],
        name: ContainerName,
        definition: Definition,
        sandbox: Sandbox,
        env: Mapping[str, str],
    ) -> timedelta:
        """Run hooks one after the other; return how long all took.

        Args:
            turn: The turn of life, as the field below ``spec.hooks`` is called.
            hooks: The commands.
            name: Name of the sandbox.
            definition: What runs in it.
            sandbox: The sandbox.
            env: Variables for the hooks, beside their container's environment.

        Raises:
            HookError: one failed; those after it were not run.
            NoSuchContainerError: its container is gone.

        """
        if not hooks:
            return timedelta()
        began = time.monotonic()
        async with self.turns[turn].turn(name.owner.namespace):
            await self._run(turn, hooks, name, definition, sandbox, env)
        return timedelta(seconds=time.monotonic() - began)

    async def _run(
        self,
        turn: str,
        hooks: tuple[Hook, ...],
        name: ContainerName,
        definition: Definition,
        sandbox: Sandbox,
        env: Mapping[str, str],
    ) -> None:
        containers = sandbox.containers(name, definition)
        for number, hook in enumerate(hooks):
            container = hook.container or definition.main.name
            where = f"spec.hooks.{turn}[{number}] in container {container}"
            try:
                done = await self.podman.execute(
                    containers[container], hook.exec.command, env, hook.timeout
                )
            except ExecTimeoutError as error:
                redacted = await self._redacted(name, definition, sandbox, env)
                message = f"{where} hangs: {error}; make it quicker or raise its timeout"
                raise HookError(redacted.text(message + _output(error.output, redacted))) from None
            except NoSuchContainerError:
                raise
            except PodmanError as error:
                redacted = await self._redacted(name, definition, sandbox, env)
                raise HookError(redacted.text(f"{where} cannot be run: {error}")) from None
            if done.exit_code != 0:
                redacted = await self._redacted(name, definition, sandbox, env)
                message = f"{where} failed with exit status {done.exit_code}"
                raise HookError(message + _output(done.output, redacted))

    async def _redacted(
        self,
        name: ContainerName,
        definition: Definition,
        sandbox: Sandbox,
        env: Mapping[str, str],
    ) -> Redacted:
        """Everything secret that a hook could have seen."""
        found = await secrets_of(self.podman, self.volumes, name, definition, sandbox)
        return found.also([env[SECRET]] if SECRET in env else [])


def _output(text: str, redacted: Redacted) -> str:
    # Hidden before it is cut: half a secret would not be found any more.
    shown = redacted.text(text).strip()[-_SHOWN:]
    return f"; it wrote:\n{shown}" if shown else "; it wrote nothing"
