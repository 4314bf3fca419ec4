"""For pytest: the fixture ``tryitnow_demo``, which starts demos and deletes them after the test.

Nothing is imported, and no cluster is asked, before a test uses the fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tryitnow.client.running import Demo


@pytest.fixture
def tryitnow_demo() -> Iterator[Callable[..., Demo]]:
    """Start demos for a test: ``tryitnow_demo("shop", ttl="10m").url``.

    It takes what ``tryitnow.client.demo`` takes. All demos are deleted after the test.
    """
    from tryitnow.client.lifetime import demo

    with ExitStack() as running:

        def start(checkpoint: str, **options: Any) -> Demo:
            return running.enter_context(demo(checkpoint, **options))

        yield start
