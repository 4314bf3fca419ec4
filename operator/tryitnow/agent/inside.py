"""Asking an application where it can be reached: through its gate, or from inside the pod."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tryitnow.agent.namespaces import socket_factory
from tryitnow.agent.node import Node
from tryitnow.agent.probe import Target, open_session
from tryitnow.agent.sandbox import Sandbox
from tryitnow.api.checkpoint import Blueprint

LOOPBACK = "127.0.0.1"


def published(node: Node, blueprint: Blueprint, sandbox: Sandbox) -> Target:
    """Return where any user asks: at the published port, and by the name that is in the URL."""
    port = sandbox.host_port(blueprint.probe_port)
    settings = node.settings
    return Target(settings.node_address, port, blueprint.readiness, settings.host_at(port))


@asynccontextmanager
async def reached(
    node: Node, blueprint: Blueprint, sandbox: Sandbox
) -> AsyncIterator[tuple[aiohttp.ClientSession, Target]]:
    """Give what asks an application, and where, whatever its gate is like.

    The request is the same as any user's: the same Host header, from another door.
    """
    outside = published(node, blueprint, sandbox)
    if sandbox.pod is None:
        yield node.http, outside
        return
    async with inside_session(sandbox.pid) as session:
        yield session, Target(LOOPBACK, blueprint.probe_port, blueprint.readiness, outside.asked_as)


@asynccontextmanager
async def inside_session(pid: int) -> AsyncIterator[aiohttp.ClientSession]:
    """Give a session whose sockets are in the network namespace of a process."""
    async with open_session(socket_factory(pid)) as session:
        yield session
