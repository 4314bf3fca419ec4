"""What can go wrong with the Kubernetes API, by what the caller can do about it."""

from __future__ import annotations


class KubernetesError(Exception):
    """The API server refused or did not answer; trying again later may help."""


class NotFoundError(KubernetesError):
    """The object is not there (any more)."""


class ConflictError(KubernetesError):
    """Somebody changed the object in between, or it exists already: look again."""


class RefusedError(KubernetesError):
    """The API server will not take it, now or later: missing rights or an invalid object."""
