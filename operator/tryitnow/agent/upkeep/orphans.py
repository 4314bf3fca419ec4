"""Which of the things with our names on a node belong to nobody: decided here, removed elsewhere.

What does not have one of our names is never among them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tryitnow.agent.sandbox.names import (
    POD_PREFIX,
    ContainerName,
    PodName,
    Role,
    demo_name,
    parse,
    parse_pod,
)
from tryitnow.agent.storage.generations import belongs_to
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.podman.client import PodState

_ARCHIVE_FILE = re.compile(
    r"\.?(?P<stem>[a-z0-9.-]+_[a-z0-9.-]+_(?:[0-9a-f]{32}|[0-9a-f]{10}))\.(?:md|tar)(?:\.zst)?"
    r"(?:\.[0-9a-f]{16}\.partial)?"
)
"""Names that ``ArchiveStore`` gives, and gave when identities had ten digits. A person's own files
in that directory match none of them."""


@dataclass
class Suspects:
    """Remembers since when something seems to belong to nobody.

    What is removed was nobody's in two looks, and for a grace period between them.
    """

    grace_seconds: float
    clock: Callable[[], float] = time.monotonic
    _since: dict[str, float] = field(default_factory=dict)

    def proven(self, found: Iterable[str]) -> set[str]:
        """Take in all that one look found; return the part that was found for long enough."""
        now = self.clock()
        self._since = {name: self._since.get(name, now) for name in found}
        return {
            name
            for name, since in self._since.items()
            if now > since and now - since >= self.grace_seconds
        }


def orphans(
    names: Iterable[str],
    demos: Iterable[DemoInstance],
    node_checkpoints: Iterable[NodeCheckpoint],
) -> list[ContainerName]:
    """Return those of these names, of main containers of ours, that no object accounts for.

    Warm and pre-created sandboxes are their actor's: it says which it needs.
    """
    owned = {demo_name(demo) for demo in demos}
    revisions = {(held.checkpoint_key, held.spec.revision) for held in node_checkpoints}
    found = [name for name in map(parse, names) if name is not None]
    return [name for name in found if name not in owned and not _is_work(name, revisions)]


def _is_work(name: ContainerName, revisions: set[tuple[Key, str]]) -> bool:
    """Whether a sandbox may be an actor's: it knows itself when it does not need it any more."""
    if name.role in {Role.DEMO, Role.TRASH}:
        return name.role is Role.TRASH
    return (name.owner, name.tag.partition("-")[0]) in revisions


def without_main_container(pods: Iterable[PodState]) -> list[PodName]:
    """Return our pods without a main container, including those that are just being made."""
    return [
        name
        for pod in pods
        if (name := parse_pod(pod.name)) is not None
        and not any(parse(member) for member in pod.members)
    ]


def members_of_no_pod(names: Iterable[str], tags: set[str]) -> list[tuple[str, PodName]]:
    """Return those of these names that say they are in a pod of ours which has none of the tags.

    With the pod.
    """
    found = [
        (name, parse_pod(POD_PREFIX + re.split("[_-]", name.removeprefix(POD_PREFIX))[0]))
        for name in names
        if name.startswith(POD_PREFIX)
    ]
    return [(name, pod) for name, pod in found if pod is not None and pod.tag not in tags]


def orphaned_files(files: Iterable[str], stems: set[str]) -> list[str]:
    """Return the archive files that belong to none of these archives."""
    matches = [(file, _ARCHIVE_FILE.fullmatch(file)) for file in sorted(files)]
    return [file for file, match in matches if match and match["stem"] not in stems]


def unneeded_images(tags: Iterable[str], digests: set[str]) -> list[str]:
    """Return the tags of images that were made from none of these archives."""
    return sorted(tag for tag in tags if not any(belongs_to(tag, sha256) for sha256 in digests))
