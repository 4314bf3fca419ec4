"""``tryitnow status KIND/NAME``: the story of one object, and the next step."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import API_VERSION, Condition, Key, Resource
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.cli.next_step import next_step
from tryitnow.cli.steps import steps
from tryitnow.cli.table import age, first_line, seconds, size, table
from tryitnow.doctor.report import render_text
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ForbiddenError, NotFoundError
from tryitnow.kubernetes.event_list import EventRecord

_WIDTH = 100


@dataclass(frozen=True)
class Story:
    """An object, and what was told about it."""

    at: datetime
    resource: Resource
    events: list[EventRecord] | None
    """None where they may not be read."""


async def collect(
    kubernetes: KubernetesApi, models: list[type[Resource]], key: Key, at: datetime
) -> Story:
    """Find the first object of that name, and what was told about it.

    Raises:
        NotFoundError: there is none.
        KubernetesError: the API server refused or does not answer.

    """
    for model in models:
        named = key if model.namespaced else Key("", key.name)
        try:
            found = await kubernetes.get(model, named)
        except NotFoundError:
            continue
        try:
            return Story(at, found, await kubernetes.events_about(found))
        except ForbiddenError:
            return Story(at, found, None)
    kinds = ", ".join(model.kind_name for model in models)
    msg = f"no {kinds} named {key.name} in namespace {key.namespace}; see `tryitnow status`"
    raise NotFoundError(msg)


def as_json(story: Story) -> dict[str, Any]:
    """Return the same for programs; keys are always all there."""
    return {
        "object": {"apiVersion": API_VERSION, **story.resource.to_api()},
        "events": [
            {
                "at": event.at.isoformat(),
                "type": "Warning" if event.is_warning else "Normal",
                "reason": event.reason,
                "note": event.note,
            }
            for event in story.events or ()
        ],
        "nextStep": next_step(story.resource, story.at),
    }


def as_text(story: Story) -> str:
    """Return it for a terminal."""
    return "\n\n".join(_sections(story))


def _sections(story: Story) -> Iterator[str]:
    resource, at = story.resource, story.at
    yield "\n".join(_head(resource, at))
    if conditions := _conditions(resource):
        yield "\n".join(_condition_lines(conditions, at))
    if isinstance(resource, DemoInstance) and resource.status.timings:
        rows = [[s.name, seconds(s.took), s.meaning] for s in steps(resource.status.timings)]
        rows.append(["total", seconds(resource.status.timings.total), ""])
        yield table(["STEP", "TOOK", "WHAT"], rows)
    if isinstance(resource, NodeAgent) and resource.status.checks:
        yield render_text(resource.status.checks)
    if story.events:
        rows = [
            [age(at, e.at), "!" if e.is_warning else "", e.reason, first_line(e.note, 120)]
            for e in story.events
        ]
        yield table(["AGO", "", "EVENT", "NOTE"], rows)
    elif story.events is None:
        yield "You may not read Events here."
    yield _wrapped(f"Next: {next_step(resource, at)}", "", "      ")


def _head(resource: Resource, at: datetime) -> Iterator[str]:
    deleting = ", being deleted" if resource.is_deleting else ""
    created = age(at, resource.metadata.creation_timestamp)
    yield f"{resource.kind_name} {resource.key}, {created} old{deleting}"
    match resource:
        case DemoInstance(status=status):
            yield f"  {status.phase}: a demo of {resource.spec.checkpoint_ref.name}"
            if status.url:
                yield f"  {status.url} on {status.node_name}"
            if status.started_by:
                yield f"  started by {status.started_by}"
            if status.fallback_reason:
                reported = f"  cold because {status.fallback_reason}: {status.fallback_message}"
                yield _wrapped(reported, "", "    ")
            if status.expires_at:
                yield f"  expires at {status.expires_at:%Y-%m-%d %H:%M:%S} UTC"
        case Checkpoint(status=status):
            yield f"  {status.phase}, nodes {status.nodes or '-'}, pool {status.warm or '-'}"
            if status.current_revision and status.archive:
                archive = status.archive
                made = f"{size(archive.size_bytes)}, checkpointed {archive.created:%c} UTC"
                yield f"  serves revision {status.current_revision}: {made}"
            if status.candidate_revision:
                yield f"  builds revision {status.candidate_revision}"
        case CheckpointRevision(status=status):
            yield f"  revision {resource.spec.number} of {resource.spec.checkpoint}"
            if status.archive and status.built_by:
                yield f"  built on {status.built_by}: {size(status.archive.size_bytes)}"
            for container, image in status.images.items():
                yield f"  {container}: {image}"
        case NodeCheckpoint(status=status):
            yield f"  {status.phase} {status.progress}".rstrip()
            yield f"  revision {resource.spec.revision} on {resource.spec.node_name}"
        case NodeAgent(status=status):
            versions = status.versions
            yield f"  kernel {versions.kernel}, criu {versions.criu}, podman {versions.podman}"


def _conditions(resource: Resource) -> tuple[Condition, ...]:
    match resource:
        case DemoInstance() | Checkpoint() | CheckpointRevision() | NodeCheckpoint() | NodeAgent():
            return resource.status.conditions
    return ()


def _condition_lines(conditions: tuple[Condition, ...], at: datetime) -> Iterator[str]:
    for condition in conditions:
        since = age(at, condition.last_transition_time)
        yield f"{condition.type} is {condition.status} since {since}: {condition.reason}"
        for line in condition.message.splitlines():
            yield _wrapped(line, "  ", "  ")


def _wrapped(text: str, first: str, following: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=following,
        break_long_words=False,
        break_on_hyphens=False,
    )
