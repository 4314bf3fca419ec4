"""Running the hooks of a template in the containers of a copy."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from datetime import timedelta

from tryitnow.agent.names import ContainerName
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox import Sandbox
from tryitnow.agent.sources import Redacted
from tryitnow.api.checkpoint import Blueprint
from tryitnow.api.demoinstance import DemoInstance, StartedBy
from tryitnow.api.hooks import Hook, parameter_values
from tryitnow.podman.errors import (
    ExecTimeoutError,
    NoSuchContainerError,
    PodmanError,
    PodmanUnreachableError,
)

logger = logging.getLogger(__name__)

SECRET = "TRYITNOW_SECRET"
SECRET_BYTES = 32

_SHOWN = 1000
"""Characters of a hook's output that a message shows, from its end."""


class HookError(Exception):
    """A hook failed; the message names it and shows what it wrote, without secrets."""


def instance_environment(
    node: Node, instance: DemoInstance, blueprint: Blueprint, sandbox: Sandbox
) -> dict[str, str]:
    """Return what hooks are told about a demo, as docs/hooks.md lists it."""
    port = sandbox.host_port(blueprint.probe_port)
    host = instance.spec.host or node.settings.host_at(port)
    return {
        "TRYITNOW_NAME": instance.metadata.name,
        "TRYITNOW_NAMESPACE": instance.metadata.namespace,
        "TRYITNOW_UID": instance.metadata.uid,
        "TRYITNOW_HOST": host,
        "TRYITNOW_URL": f"http://{host}",
        "TRYITNOW_NODE": node.name,
        "TRYITNOW_PORT": str(port),
        **parameter_values(blueprint.parameters, instance.spec.parameters),
    }


def start_environment(started_by: StartedBy) -> dict[str, str]:
    """Return what afterRestore hooks are told about a start, with a fresh secret."""
    return {
        "TRYITNOW_STARTED_BY": str(started_by),
        SECRET: secrets.token_hex(SECRET_BYTES),
    }


async def run_hooks(
    node: Node,
    turn: str,
    hooks: tuple[Hook, ...],
    name: ContainerName,
    blueprint: Blueprint,
    sandbox: Sandbox,
    env: Mapping[str, str],
) -> timedelta:
    """Run hooks one after the other; returns how long all took.

    Args:
        node: This node.
        turn: The turn of life, as the field below ``spec.hooks`` is called.
        hooks: The commands.
        name: The copy's name.
        blueprint: What the copy is of.
        sandbox: What it lives in.
        env: What they are told, beside their container's environment.

    Raises:
        HookError: one failed; those after it were not run.

    """
    began = time.monotonic()
    called = sandbox.containers(name, blueprint)
    for number, hook in enumerate(hooks):
        container = hook.container or blueprint.main.name
        where = f"spec.hooks.{turn}[{number}] in container {container}"
        own = called[container]
        try:
            done = await node.podman.execute(own, hook.exec.command, env, hook.timeout)
        except PodmanUnreachableError:
            raise
        except ExecTimeoutError as error:
            redacted = await _redacted(node, called, blueprint, sandbox, env)
            message = f"{where} hangs: {error}; make it quicker or raise its timeout"
            raise HookError(redacted.text(message + _output(error.output, redacted))) from None
        except NoSuchContainerError:
            raise
        except PodmanError as error:
            redacted = await _redacted(node, called, blueprint, sandbox, env)
            raise HookError(redacted.text(f"{where} cannot be run: {error}")) from None
        if done.exit_code != 0:
            redacted = await _redacted(node, called, blueprint, sandbox, env)
            message = f"{where} failed with exit status {done.exit_code}"
            raise HookError(message + _output(done.output, redacted))
    return timedelta(seconds=time.monotonic() - began)


def _output(text: str, redacted: Redacted) -> str:
    # Hidden before it is cut: half a secret would not be found any more.
    shown = redacted.text(text).strip()[-_SHOWN:]
    return f"; it wrote:\n{shown}" if shown else "; it wrote nothing"


async def _redacted(
    node: Node,
    called: Mapping[str, str],
    blueprint: Blueprint,
    sandbox: Sandbox,
    env: Mapping[str, str],
) -> Redacted:
    """Everything secret that a hook could have seen, as this copy was made with it."""
    values = [env[SECRET]] if SECRET in env else []
    for container in blueprint.template.members:
        wanted = {v.name for v in container.env if v.value_from is not None}
        if wanted:
            found = await node.podman.environment_of(called[container.name])
            values += [value for key, value in found.items() if key in wanted]
    if sandbox.pod is not None:
        for volume in blueprint.template.volumes:
            if volume.secret is not None:
                directory = node.volumes.path(sandbox.pod.tag, volume.name)
                values += [path.read_text(errors="replace") for path in directory.iterdir()]
    return Redacted().also(values)
