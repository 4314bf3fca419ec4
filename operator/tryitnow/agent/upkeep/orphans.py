"""Which of the things with our names on a node belong to nobody: decided here, removed elsewhere.

What does not have one of our names is never among them.
"""

from __future__ import annotations

import re

from tryitnow.agent.names import (
    POD_PREFIX,
    ContainerName,
    PodName,
    Role,
    demo_container,
    parse,
    parse_pod,
    waits_for,
    work_container,
)
from tryitnow.agent.prepared import belongs_to
from tryitnow.agent.restore import archive_name
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.podman.client import PodState

_ARCHIVE_FILE = re.compile(
    r"\.?(?P<stem>[a-z0-9.-]+_[a-z0-9.-]+_[0-9a-f]{10})\.(?:md|tar)(?:\.zst)?"
    r"(?:\.[0-9a-f]{16}\.partial)?"
)
"""Names that ``ArchiveStore`` gives; a person's own files in that directory match none of them."""


def orphans(
    names: list[str], wanted: list[DemoInstance], held: list[NodeCheckpoint]
) -> list[ContainerName]:
    """Return those of these names, of main containers of ours, that no object accounts for."""
    owned: set[ContainerName] = {demo_container(instance) for instance in wanted}
    found = [(name, parse(name)) for name in names]
    for copy in held:
        if copy.status.phase is not NodeCheckpointPhase.PREPARED:
            owned |= {work_container(role, copy) for role in (Role.BUILD, Role.VERIFY)}
        # The pool itself decides which of its containers it needs. A slot is needed where the agent
        # knows it: one that it does not know was left by a Podman that broke off.
        owned |= {
            name for _, name in found if name is not None and waits_for(name, Role.WARM, copy)
        }
    return [name for _, name in found if name is not None and name not in owned]


def headless(pods: list[PodState]) -> list[PodName]:
    """Return our pods without a main container, be it that somebody is making one."""
    return [
        name
        for pod in pods
        if (name := parse_pod(pod.name)) is not None
        and not any(parse(member) for member in pod.members)
    ]


def members_of_no_pod(names: list[str], tags: set[str]) -> list[tuple[str, PodName]]:
    """Return those of these names that say they are in a pod of ours which has none of the tags.

    With the pod.
    """
    found = [
        (name, parse_pod(POD_PREFIX + name.removeprefix(POD_PREFIX).partition("_")[0]))
        for name in names
        if name.startswith(POD_PREFIX)
    ]
    return [(name, pod) for name, pod in found if pod is not None and pod.tag not in tags]


def orphaned_files(files: set[str], held: list[NodeCheckpoint]) -> list[str]:
    """Return the archive files that no NodeCheckpoint accounts for."""
    owned = {archive_name(copy).stem for copy in held}
    matches = [(file, _ARCHIVE_FILE.fullmatch(file)) for file in sorted(files)]
    return [file for file, match in matches if match and match["stem"] not in owned]


def unneeded_images(tags: set[str], held: list[NodeCheckpoint], making: set[str]) -> list[str]:
    """Return the tags of prepared images of which no copy holds, or is to hold, the archive.

    ``making``: the SHA-256 of archives whose image was just made and has no owner that says so yet.
    """
    reported = {copy.status.archive.sha256 for copy in held if copy.status.archive is not None}
    ordered = {copy.spec.fetch.archive.sha256 for copy in held if copy.spec.fetch is not None}
    needed = reported | ordered | making
    return sorted(tag for tag in tags if not any(belongs_to(tag, sha256) for sha256 in needed))
