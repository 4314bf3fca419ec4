"""Writing what took long to find out: an API server that is away for a moment must not cost it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tryitnow.kubernetes.errors import (
    ConflictError,
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    RefusedError,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Between the tries, each of which may take ``TIMEOUT_SECONDS`` itself: a new API server leads, or
an overwhelmed one has recovered, in that time."""

_ANSWERS = (ConflictError, ForbiddenError, NotFoundError, RefusedError)
"""What the API server says again however often it is asked."""


async def until_written(write: Callable[[], Awaitable[T]]) -> T:
    """Repeat a write until the API server answers.

    Raises:
        KubernetesError: it refused, or did not answer in all these tries.

    """
    for pause in PAUSES_SECONDS:
        try:
            return await write()
        except _ANSWERS:
            raise
        except KubernetesError as error:
            logger.warning("%s; writing it again in %g s", error, pause)
            await asyncio.sleep(pause)
    return await write()
