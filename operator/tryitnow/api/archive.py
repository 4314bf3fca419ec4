"""The file that holds a revision's checkpoint, as resources describe it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tryitnow.api.meta import ImageReference, Line, Model, Time
from tryitnow.api.processor import missing_features

MAX_BYTES = 1 << 50
"""No size that a resource names is larger: 1 PiB."""

MAX_ENTRIES = 1 << 32
"""No archive has more files: an ext4 file system cannot hold more."""
BYTES_PER_ENTRY = 4096
"""Disk of one file beyond its content: a block of its directory or of its own last part."""

Images = Annotated[dict[str, ImageReference], Field(json_schema_extra={"maxProperties": 32})]
"""Images by the name of their container."""


class Versions(Model):
    """The software and the processor that took part in a checkpoint."""

    kernel: Line = ""
    """Linux kernel release."""

    criu: Line = ""
    """CRIU version."""

    podman: Line = ""
    """Podman version."""

    runtime: Line = ""
    """OCI runtime and its version."""

    cpu_features: Annotated[
        tuple[Annotated[str, Field(max_length=32)], ...], Field(max_length=64)
    ] = ()
    """Features of the processor that a checkpoint depends on, sorted, by their names in
    /proc/cpuinfo. No archive goes to a node that lacks one of those that its processes may use."""

    def differs_from(self, other: Versions) -> bool:
        """Whether one of them is known to be another: what is not known is no change."""
        return any(
            own and theirs and own != theirs
            for (_, own), (_, theirs) in zip(self, other, strict=True)
        )

    def missing_for(self, checkpoint: Versions) -> tuple[str, ...]:
        """Return the features of the processor that are missing here for a checkpoint."""
        return missing_features(checkpoint.cpu_features, self.cpu_features)


class Archive(Model):
    """One exported checkpoint, the same bytes on every node."""

    sha256: Annotated[str, Field(max_length=64, pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the archive, in hexadecimal."""

    size_bytes: Annotated[int, Field(ge=0, le=MAX_BYTES)]
    """Size of the archive in bytes."""

    unpacked_bytes: Annotated[int, Field(ge=0, le=MAX_BYTES)] = 0
    """Size of all files in the archive in bytes, as unpacked. 0 where an older version of the
    operator made the archive."""

    entries: Annotated[int, Field(ge=0, le=MAX_ENTRIES)] = 0
    """Number of files and directories in the archive."""

    memory_bytes: Annotated[int, Field(ge=0, le=MAX_BYTES)] = 0
    """Memory that a restored demo fills, in bytes."""

    image: ImageReference
    """Image of the first container, pinned to its digest."""

    images: Images = Field(default={})
    """Images of all containers by name, pinned; absent where there is only one."""

    created: Time
    """Time of the checkpoint."""

    versions: Versions = Versions()
    """The software and the processor that made the checkpoint."""

    @property
    def node_bytes(self) -> int:
        """Disk that it takes on a node: the file, and its unpacked files with their layers."""
        return self.size_bytes + self.unpacked_bytes + BYTES_PER_ENTRY * self.entries

    def image_of(self, container: str) -> str:
        """Return the image of a container, pinned."""
        return self.images.get(container, self.image)
