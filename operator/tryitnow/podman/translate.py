"""From Podman's refusal to the error that says what the caller can do."""

from __future__ import annotations

from podman.errors import APIError, NotFound

from tryitnow.podman.criu_log import log_tail
from tryitnow.podman.errors import CRIUError, NoSuchContainerError, PodmanError


def text_of(error: APIError) -> str:
    """Return Podman's own words."""
    return str(error.explanation or error)


def translate(error: APIError) -> PodmanError:
    """Return what Podman's refusal means."""
    text = text_of(error)
    if isinstance(error, NotFound):
        return NoSuchContainerError(text)
    tail = log_tail(text)
    if tail or "criu" in text.lower():
        return CRIUError(text, tail)
    return PodmanError(text)
