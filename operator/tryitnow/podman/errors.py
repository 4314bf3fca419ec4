"""Errors of Podman, one class per possible reaction of the caller.

``PodmanError`` and ``PodmanUnreachableError`` are siblings: a refusal says something about what was
asked for, a service that is away says nothing. A handler of both names both, or their base.
"""

from __future__ import annotations

from datetime import timedelta


class PodmanFailure(Exception):  # noqa: N818 - an error is one of the two kinds below
    """A call to Podman failed: it refused, or it is away."""


PodmanCallError = PodmanFailure
"""Its former name, for ``tryitnow.agent`` until that is rewritten."""


class PodmanUnreachableError(PodmanFailure):
    """The service does not answer or broke off: try again when it is back."""


class PodmanBusyError(PodmanUnreachableError):
    """The service took too long for an answer: it works on something else, or hangs."""


class PodmanError(PodmanFailure):
    """Podman refused; the message is Podman's own."""


class NoSuchContainerError(PodmanError):
    """There is no container of that name."""


class NoSuchPodError(PodmanError):
    """There is no pod of that name."""


class NoSuchImageError(PodmanError):
    """The image is not in the node's storage."""


class NameTakenError(PodmanError):
    """Another container or pod has the name."""


class NodeLimitError(PodmanError):
    """The node lacks something: wait for it, or go to another node. The archive is not at fault.

    Attributes:
        limit: What it lacks, in one word such as ``DiskFull``; ``limits.LIMITS`` has them all.
        permanent: Whether this node lacks it for ever: only another kind of machine has it.

    """

    def __init__(self, message: str, *, limit: str, remedy: str, permanent: bool = False) -> None:
        super().__init__(f"{message}\nWhat to do: {remedy}")
        self.limit = limit
        self.permanent = permanent


class ImagePullError(PodmanError):
    """The image cannot be had: wrong name, no access, or the registry is away."""


class ImageNameError(ImagePullError):
    """The name is no name of an image in a registry: no try brings it."""


class CRIUError(PodmanError):
    """CRIU could not checkpoint or restore.

    Attributes:
        log_tail: The telling lines of CRIU's own log in reading order, with a remedy if one is
            known; empty when there was none to read.

    """

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(cause_first(message, log_tail))
        self.log_tail = log_tail


def cause_first(message: str, log: str) -> str:
    """Return Podman's message behind what CRIU's log says: of that it has any line, or none."""
    return f"{log}\n(Podman: {message})" if log else message


class ExecTimeoutError(PodmanError):
    """A command in a container did not end in its time.

    Attributes:
        output: What it wrote until then.

    """

    def __init__(self, timeout: timedelta, output: str) -> None:
        super().__init__(f"it did not end within {timeout.total_seconds():g} s")
        self.output = output
