"""Names of objects, completed from the cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from tryitnow.api.meta import Resource

COMPLETION_TIMEOUT_SECONDS = 2.0
"""Whoever pressed Tab waits no longer."""


def some_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Refuse an empty name: a path without one is the list of all, to the API server."""
    if not value:
        raise click.BadParameter("it names no object")
    return value


def complete_demo(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Complete the name of a DemoInstance."""
    from tryitnow.api.demoinstance import DemoInstance

    found = _objects(context, [DemoInstance])
    return [_item(o, o.metadata.name) for o in found if o.metadata.name.startswith(begun)]


def complete_checkpoint(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Complete the name of a Checkpoint."""
    from tryitnow.api.checkpoint import Checkpoint

    found = _objects(context, [Checkpoint])
    return [_item(o, o.metadata.name) for o in found if o.metadata.name.startswith(begun)]


def complete_object(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Complete ``KIND/NAME`` of any object of ours."""
    from tryitnow.cli.kinds import MODELS, short_kind

    named = [(o, f"{short_kind(type(o))}/{o.metadata.name}") for o in _objects(context, MODELS)]
    return [_item(o, name) for o, name in named if name.startswith(begun)]


def complete_namespace(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Complete a namespace that holds Checkpoints."""
    from tryitnow.api.checkpoint import Checkpoint

    found = {o.metadata.namespace for o in _objects(context, [Checkpoint], everywhere=True)}
    return [CompletionItem(name) for name in sorted(found) if name.startswith(begun)]


def _item(resource: Resource, name: str) -> CompletionItem:
    phase = getattr(getattr(resource, "status", None), "phase", None)
    return CompletionItem(name, help=str(phase) if phase else None)


def _objects(
    context: click.Context, models: list[type[Resource]], *, everywhere: bool = False
) -> list[Resource]:
    from tryitnow.kubernetes.errors import KubernetesError

    options = context.params
    try:
        return asyncio.run(
            _listed(models, options.get("context"), options.get("namespace"), everywhere=everywhere)
        )
    except (KubernetesError, TimeoutError):
        return []  # no name is offered; the command itself will say what is wrong


async def _listed(
    models: list[type[Resource]], context: str | None, namespace: str | None, *, everywhere: bool
) -> list[Resource]:
    from tryitnow.kubernetes.access import find_access
    from tryitnow.kubernetes.client import connect

    async with asyncio.timeout(COMPLETION_TIMEOUT_SECONDS):
        access = await find_access(context)
        within = "" if everywhere else namespace or access.namespace
        async with connect("cli", access=access) as kubernetes:
            found: list[Resource] = []
            for model in models:
                listing = await kubernetes.list_all(
                    model, namespace=within if model.namespaced else ""
                )
                found += listing.items
            return found
