"""What is not believed of an agent's report: an agent decides nothing for other nodes.

Only the node that was ordered to build names an archive, and only with images of the repositories
that the revision names. All others have what they were ordered to fetch.
"""

from __future__ import annotations

from tryitnow.api.archive import Archive
from tryitnow.api.definition import Definition
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.podman.references import is_image_of


def doubt(node_checkpoint: NodeCheckpoint, definition: Definition | None) -> str:
    """Say why the report of a NodeCheckpoint's agent is not believed; empty where it is.

    Args:
        node_checkpoint: With the report.
        definition: That of its revision; None where the revision is not known, and then nothing
            can be started from it.

    """
    reported, fetch = node_checkpoint.status.archive, node_checkpoint.spec.fetch
    node = node_checkpoint.spec.node_name
    if reported is None:
        return ""
    if fetch is not None:
        if reported.sha256 == fetch.archive.sha256:
            return ""
        return f"node {node} reports another archive than the one that it is to fetch"
    if definition is None:
        return ""
    for container in definition.template.members:
        images = {
            reported.image_of(container.name),
            node_checkpoint.status.images.get(container.name, reported.image_of(container.name)),
        }
        for image in sorted(images):
            if not is_image_of(image, container.image):
                return (
                    f"node {node} reports that container {container.name} was built from {image}, "
                    f"which is no image of {container.image}, pinned to a digest"
                )
    return ""


def archive_of(node_checkpoint: NodeCheckpoint) -> Archive | None:
    """Return the archive on a node as one may hand it on: a node that fetched it adds nothing."""
    fetch = node_checkpoint.spec.fetch
    return fetch.archive if fetch is not None else node_checkpoint.status.archive
