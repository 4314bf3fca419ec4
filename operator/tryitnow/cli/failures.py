"""Failures of commands: one line on stderr, and a status for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from tryitnow.cli.output import emit
from tryitnow.client import errors as client
from tryitnow.kubernetes import errors as kubernetes
from tryitnow.kubernetes.objects import UnreadableObjectError

REFUSED = 3
NOT_FOUND = 4
TIMED_OUT = 5
FAILED = 6
UNREACHABLE = 7

STATUSES = """\
Exit status: 0 done, 2 wrong usage, 3 refused (invalid, no right, quota), 4 not found, 5 not ready
in time, 6 failed or gone, 7 the cluster cannot be reached."""

_OF: tuple[tuple[type[Exception], int], ...] = (
    (client.CheckpointNotFoundError, NOT_FOUND),
    (client.DemoTimeoutError, TIMED_OUT),
    (client.DemoFailedError, FAILED),
    (client.DemoGoneError, FAILED),
    (client.ClusterUnreachableError, UNREACHABLE),
    (client.DemoError, REFUSED),
    (kubernetes.NotFoundError, NOT_FOUND),
    (kubernetes.RefusedError, REFUSED),
    (kubernetes.KubernetesError, UNREACHABLE),
)


class CommandFailedError(click.ClickException):
    """The message of a failed command."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc] # click reads it so, and declares it otherwise

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Print it."""
        emit(f"tryitnow: {self.message}", err=True)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn what the cluster refuses into a message and an exit status."""
    try:
        yield
    except UnreadableObjectError as error:
        msg = f"it is there, but cannot be read (of a newer version, perhaps): {error}"
        raise CommandFailedError(msg, REFUSED) from error
    except (client.DemoError, kubernetes.KubernetesError) as error:
        status = next(status for kind, status in _OF if isinstance(error, kind))
        raise CommandFailedError(str(error), status) from error
