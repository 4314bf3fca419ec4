"""What can go wrong on a node, one class for each thing that the caller can do about it.

Podman's own errors are in ``tryitnow.podman.errors``.
"""

from __future__ import annotations


class SandboxError(Exception):
    """What a sandbox is made of cannot be had; the message says what to fix."""


class FirewallError(SandboxError):
    """The firewall of a sandbox cannot be set; the message is nft's own."""


class SandboxLostError(SandboxError):
    """A sandbox ended while it was used: its namespaces are gone. It is nobody's fault here."""


class VolumeError(SandboxError):
    """A volume cannot be made; the message says which and why."""


class NotAllowedError(SandboxError):
    """A container asks for more than the administrator allows; the message names the field."""


class SourceError(SandboxError):
    """A Secret or a ConfigMap cannot be used; the message names the field and the way out."""


class NodeShortError(Exception):
    """A limit of the node is reached: nothing is wrong with the archive or the application.

    Attributes:
        limit: The limit, as one word for programs (``tryitnow.api.limits``).

    """

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit


class ArchiveError(Exception):
    """The archive cannot be used; the message says why."""


class ArchiveMissingError(ArchiveError):
    """The file is not there."""


class DigestMismatchError(ArchiveError):
    """The bytes are not those that were written at the checkpoint."""


class UnpackError(Exception):
    """The archive cannot be unpacked; the message is tar's own, or says what is missing."""


class NotReadyError(Exception):
    """The application did not become ready in its time; the message says what it answered."""


class ContainerDiedError(NotReadyError):
    """A container ended while the application was being asked."""


class HookError(Exception):
    """A hook failed; the message names it and shows what it wrote, without secrets."""


class CgroupError(Exception):
    """Processes could not be moved: limits and pause do not reach them."""
