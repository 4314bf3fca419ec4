"""What can go wrong with Podman, by what the caller can do about it."""

from __future__ import annotations

from datetime import timedelta


class PodmanError(Exception):
    """Podman refused; the message is Podman's own."""


class PodmanUnreachableError(PodmanError):
    """The service does not answer or broke off: try again when it is back."""


class PodmanBusyError(PodmanUnreachableError):
    """The service took too long for an answer: it works on something else, or hangs."""


class NoSuchContainerError(PodmanError):
    """There is no container of that name."""


class ImagePullError(PodmanError):
    """The image cannot be had: wrong name, no access, or the registry is away."""


class CRIUError(PodmanError):
    """CRIU could not freeze or thaw.

    Attributes:
        log_tail: The last lines of CRIU's own log, errors first in reading order; empty when
            there was none to read.

    """

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(f"{message}\n{log_tail}".strip())
        self.log_tail = log_tail


class ExecTimeoutError(PodmanError):
    """A command in a container did not end in its time.

    Attributes:
        output: What it wrote until then.

    """

    def __init__(self, timeout: timedelta, output: str) -> None:
        super().__init__(f"it did not end within {timeout.total_seconds():g} s")
        self.output = output
