"""From Podman's refusal to the error that says what the caller can do."""

from __future__ import annotations

from podman.errors import APIError, NotFound

from tryitnow.podman.criu_log import read_log
from tryitnow.podman.errors import CRIUError, NoSuchContainerError, PodmanError


def text_of(error: APIError) -> str:
    """Return Podman's own words."""
    return str(error.explanation or error)


def translate(error: APIError) -> PodmanError:
    """Return what Podman's refusal means."""
    text = text_of(error)
    if isinstance(error, NotFound):
        return NoSuchContainerError(text)
    log = read_log(text)
    if log or "criu" in text.lower():
        return CRIUError(text, log.with_remedy())
    return PodmanError(text)
