"""Which of the things with our names on a node belong to nobody: decided here, removed elsewhere.

What does not have one of our names is never among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tryitnow.agent.sandbox.names import (
    POD_PREFIX,
    ContainerName,
    PodName,
    Role,
    demo_name,
    parse,
    parse_pod,
)
from tryitnow.agent.storage.archives import ArchiveName
from tryitnow.agent.storage.generations import belongs_to
from tryitnow.api.definition import Compression
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.kubernetes.objects import AnyObject, Listing
from tryitnow.podman.client import PodState

_ARCHIVE_FILE = re.compile(
    r"\.?(?P<stem>[a-z0-9.-]+_[a-z0-9.-]+_(?:[0-9a-f]{32}|[0-9a-f]{10}))\.(?:md|tar)(?:\.zst)?"
    r"(?:\.[0-9a-f]{16}\.partial)?"
)
"""Names that ``ArchiveStore`` gives, and gave when identities had ten digits. A person's own files
in that directory match none of them."""


@dataclass(frozen=True)
class Owners:
    """Who owns what on the node.

    An object that does not fit our model, as after a roll back, owns what its metadata and the
    readable part of it may stand for; all else is judged as ever.
    """

    demos: frozenset[ContainerName] = frozenset()
    """Sandboxes of demos."""

    revisions: frozenset[tuple[Key, str]] = frozenset()
    """Checkpoints and identities of the revisions that are to be here."""

    all_revisions_known: bool = True
    """Whether each NodeCheckpoint tells its revision: otherwise any may be wanted."""

    all_digests_known: bool = True
    """Whether each NodeCheckpoint tells its archives: otherwise any image may be of one."""

    @classmethod
    def of(cls, demos: Listing[DemoInstance], node_checkpoints: Listing[NodeCheckpoint]) -> Owners:
        """Read the owners from fresh lists."""
        revisions = {(one.checkpoint_key, one.spec.revision) for one in node_checkpoints.items}
        all_known = True
        owning: list[AnyObject] = [*demos.items, *demos.unreadable_objects]
        for strange in node_checkpoints.unreadable_objects:
            checkpoint = strange.text_at("spec", "checkpoint")
            revision = strange.text_at("spec", "revision")
            if checkpoint and revision:
                revisions.add((Key(strange.key.namespace, checkpoint), revision))
            else:
                all_known = False
        return cls(
            demos=frozenset(demo_name(demo) for demo in owning),
            revisions=frozenset(revisions),
            all_revisions_known=all_known,
            all_digests_known=not node_checkpoints.unreadable_objects,
        )

    @property
    def stems(self) -> set[str]:
        """Stems of the archives that are to be here."""
        return {
            ArchiveName(key, revision, Compression.NONE).stem for key, revision in self.revisions
        }


def orphans(names: Iterable[str], owners: Owners) -> list[ContainerName]:
    """Return those of these names, of main containers of ours, that no object accounts for.

    Warm and pre-created sandboxes are their actor's: it says which it needs.
    """
    found = [name for name in map(parse, names) if name is not None]
    return [name for name in found if name not in owners.demos and not _is_work(name, owners)]


def _is_work(name: ContainerName, owners: Owners) -> bool:
    """Whether a sandbox may be an actor's: it knows itself when it does not need it any more."""
    if name.role in {Role.DEMO, Role.TRASH}:
        return name.role is Role.TRASH
    of = (name.owner, name.tag.partition("-")[0])
    return not owners.all_revisions_known or of in owners.revisions


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
