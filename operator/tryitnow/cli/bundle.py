"""A report's files, gathered and packed."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import aiohttp
import yaml

from tryitnow import __version__
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Resource
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.cli.redact import Redactor
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ForbiddenError
from tryitnow.settings import host_and_port

METRICS_PORT = 9444
"""The agents' default (METRICS_PORT)."""

METRICS_SECONDS = 3.0
"""For one program's metrics: from most machines nodes cannot be reached."""

_KINDS: tuple[type[Resource], ...] = (
    Checkpoint,
    CheckpointRevision,
    DemoInstance,
    NodeCheckpoint,
    NodeAgent,
)


async def gather(
    kubernetes: KubernetesApi, namespace: str, metrics: Sequence[str]
) -> dict[str, str]:
    """Return the report's files, redacted, by name.

    Args:
        kubernetes: The cluster.
        namespace: Whose objects; "" for all.
        metrics: URLs of programs' metrics, beside those of the agents.

    Raises:
        KubernetesError: the API server does not answer.

    """
    redactor = Redactor()
    files: dict[str, str] = {}
    missing: list[str] = []
    objects: dict[str, list[Resource]] = {}
    for model in _KINDS:
        within = namespace if model.namespaced else ""
        try:
            listing = await kubernetes.list_all(model, namespace=within)
            objects[model.plural] = list(listing.items)
            missing += [f"{model.plural}: {key} cannot be read" for key in listing.unreadable]
        except ForbiddenError as error:
            missing.append(f"{model.plural}: {error}")
    bodies = {plural: [redactor.redacted(o) for o in found] for plural, found in objects.items()}
    # Only now all secrets are known.
    for plural, found in bodies.items():
        files[f"{plural}.yaml"] = yaml.safe_dump_all(redactor.scrub(found), sort_keys=False)
    try:
        files["events.txt"] = redactor.scrub(await _events(kubernetes, namespace))
    except ForbiddenError as error:
        missing.append(f"events: {error}")
    agents = [item for item in objects.get(NodeAgent.plural, []) if isinstance(item, NodeAgent)]
    versions = {
        "tryitnow": __version__,
        "kubernetes": await kubernetes.server_version(),
        "nodes": {agent.metadata.name: agent.status.versions.to_api() for agent in agents},
    }
    files["versions.yaml"] = yaml.safe_dump(versions, sort_keys=False)
    urls = {f"metrics-{a.metadata.name}.txt": _metrics_url(a) for a in agents}
    urls |= {f"metrics-{number}.txt": url for number, url in enumerate(metrics, 1)}
    for name, text in (await _metrics(urls)).items():
        if isinstance(text, str):
            files[name] = redactor.scrub(text)
        else:
            missing.append(f"{name}: {urls[name]} does not answer from here: {text}")
    files["not-in-here.txt"] = "".join(f"{line}\n" for line in missing) or "nothing is missing\n"
    return files


def pack(files: dict[str, str], target: Path, at: datetime) -> None:
    """Write the files into a compressed tar, in a directory of its name.

    Raises:
        OSError: it cannot be written.

    """
    directory = target.name.removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz")
    with tarfile.open(target, "w:gz") as archive:
        for name, text in files.items():
            content = text.encode()
            entry = tarfile.TarInfo(f"{directory}/{name}")
            entry.size = len(content)
            entry.mtime = int(at.timestamp())
            archive.addfile(entry, io.BytesIO(content))


async def _events(kubernetes: KubernetesApi, namespace: str) -> str:
    ours = {model.kind_name for model in _KINDS}
    lines = [
        f"{event.at.isoformat()} {'Warning' if event.is_warning else 'Normal '} "
        f"{event.regarding} {event.reason}: {event.note}\n"
        for event in await kubernetes.events_in(namespace)
        if event.regarding.partition("/")[0] in ours
    ]
    return "".join(lines)


def _metrics_url(agent: NodeAgent) -> str:
    return f"http://{host_and_port(agent.status.address, METRICS_PORT)}/metrics"


async def _metrics(urls: dict[str, str]) -> dict[str, str | Exception]:
    timeout = aiohttp.ClientTimeout(total=METRICS_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        texts = await asyncio.gather(*(_read(session, url) for url in urls.values()))
    return dict(zip(urls, texts, strict=True))


async def _read(session: aiohttp.ClientSession, url: str) -> str | Exception:
    try:
        async with session.get(url, raise_for_status=True) as answer:
            return await answer.text()
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return error
