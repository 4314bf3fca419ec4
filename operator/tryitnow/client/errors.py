"""Errors of a demo, one class per possible reaction of the caller."""

from __future__ import annotations


class DemoError(Exception):
    """Any of these; the message says what happened, where, and the next step."""


class InvalidRequestError(DemoError):
    """The cluster refuses the request as it is: fix the ttl, the parameters or the name."""


class NotAllowedError(DemoError):
    """Whoever asks has no right to do this: ask for it (docs/request-demos.md)."""


class QuotaExceededError(DemoError):
    """The namespace has as many demos as its ResourceQuota allows: delete one, or wait."""


class NameTakenError(DemoError):
    """There is a demo of that name: use another name, or none."""


class CheckpointNotFoundError(DemoError):
    """There is no Checkpoint of that name in the namespace."""


class DemoTimeoutError(DemoError):
    """It was not ready in time: wait longer, or see why.

    Attributes:
        reason: The reason of its condition Ready, such as NoRoom or NoNodeCheckpoint.

    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class DemoFailedError(DemoError):
    """It was given up and will not become ready.

    Attributes:
        reason: The reason of its condition Stalled, such as ImagePullFailed.

    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class DemoGoneError(DemoError):
    """Somebody deleted it."""


class DemoExpiredError(DemoGoneError):
    """Its ttl ended: ask for a longer one."""


class ClusterUnreachableError(DemoError):
    """No cluster is configured, or its API server does not answer: try again later."""
