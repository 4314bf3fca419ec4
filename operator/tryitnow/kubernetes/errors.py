"""Errors of the Kubernetes API, one class per possible reaction of the caller."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from kubernetes.aio.utils.retry import retry_after_seconds  # type: ignore[attr-defined]

from tryitnow.backoff import RetryableError


class KubernetesError(RetryableError):
    """The API server refused or did not answer; trying again later may help."""

    status: int | None = None
    """HTTP status of the answer; None where there was none."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        fields: tuple[str, ...] = (),
    ) -> None:
        """Say what failed.

        Args:
            message: What was asked and what the API server said.
            status: HTTP status of the answer.
            headers: Headers of the answer: Retry-After counts.
            fields: Fields of the object that the API server named as the cause.

        """
        super().__init__(message)
        self.status = status if status is not None else self.status
        # Read by kubernetes.aio.utils.retry, as it reads those of an ApiException.
        self.headers = headers or {}
        self.fields = fields

    @property
    def retry_after(self) -> timedelta | None:
        """How long the API server asked to be left alone (429, 503)."""
        seconds = retry_after_seconds(self)
        return None if seconds is None else timedelta(seconds=seconds)


class NotFoundError(KubernetesError):
    """The object is not there (any more)."""

    status = 404


class NamesakeError(NotFoundError):
    """The object no longer exists; another object has its name now: nothing was written to that."""


class ConflictError(KubernetesError):
    """The object was changed in between, or it exists already: read it again."""

    status = 409


class RefusedError(KubernetesError):
    """The API server will not take it, now or later: missing rights or an invalid object."""

    status = 422


class ForbiddenError(RefusedError):
    """Whoever asks may not do this: missing rights, a quota, or a policy of the cluster."""

    status = 403


class TooOldError(KubernetesError):
    """The API server no longer has the events since that resource version: list again."""

    status = 410


class NoClusterError(KubernetesError):
    """No cluster is configured, or its credentials cannot be read."""
