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


class ForbiddenError(RefusedError):
    """Whoever asks may not do this: missing rights, a quota, or a policy of the cluster."""


class TooOldError(KubernetesError):
    """What happened since that resource version is forgotten: list again."""


class NoClusterError(KubernetesError):
    """It cannot be told which cluster is meant, or its credentials cannot be read."""
