"""From Podman's refusal to the error that says what the caller can do."""

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

_NAME_TAKEN = re.compile(r"(container|pod) already exists|that name is already in use")
"""What Podman knows by that name; what only its storage knows."""


def text_of(error: APIError) -> str:
    """Return Podman's own words."""
    return str(error.explanation or error)


def translate(error: APIError) -> PodmanError:
    """Return what Podman's refusal means."""
    text = text_of(error)
    if isinstance(error, NotFound):
        return _not_found(text)
    if _NAME_TAKEN.search(text):
        return NameTakenError(text)
    return explained(text, read_log(text))


def explained(text: str, log: CRIULog) -> PodmanError:
    """Return what a refusal means, with what CRIU wrote."""
    if limit := as_node_limit(text, log.lines):
        return limit
    if log or "criu" in text.lower():
        return CRIUError(text, log.with_remedy())
    return PodmanError(text)


def _not_found(text: str) -> PodmanError:
    if "no such pod" in text:
        return NoSuchPodError(text)
    if "no such image" in text or "image not known" in text:
        return NoSuchImageError(text)
    return NoSuchContainerError(text)
