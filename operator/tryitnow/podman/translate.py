"""From Podman's refusal to an error that the caller can react to."""

from __future__ import annotations

import re

from podman.errors import APIError, NotFound

from tryitnow.podman.criu_log import CRIULog, read_log
from tryitnow.podman.errors import (
    CRIUError,
    NameTakenError,
    NoSuchContainerError,
    NoSuchImageError,
    NoSuchPodError,
    PodmanError,
)
from tryitnow.podman.limits import as_node_limit

_NAME_TAKEN = re.compile(
    r"(container|pod) already exists"
    r"|UNIQUE constraint failed: ContainerConfig\.Name"
    r"|that name is already in use"
)
"""As libpod says it, its database at a rename, and the storage at a creation."""

_NO_POD = "no such pod"
_NO_IMAGE = re.compile(r"no such image|image not known")


def text_of(error: APIError) -> str:
    """Return Podman's own words."""
    return str(error.explanation or error)


def translate(error: APIError) -> PodmanError:
    """Return the error for a refusal of Podman."""
    text = text_of(error)
    if _NO_POD in text:
        return NoSuchPodError(text)  # also where a container was to join it, with another status
    if isinstance(error, NotFound):
        return NoSuchImageError(text) if _NO_IMAGE.search(text) else NoSuchContainerError(text)
    if _NAME_TAKEN.search(text):
        return NameTakenError(text)
    return explained(text, read_log(text))


def explained(text: str, log: CRIULog) -> PodmanError:
    """Return the error for a refusal, with CRIU's own lines."""
    if limit := as_node_limit(text, log.lines):
        return limit
    if log or "criu" in text.lower():
        return CRIUError(text, log.with_remedy())
    return PodmanError(text)
