"""Old names of the store, until the agent uses the new ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from tryitnow.api.meta import Resource
from tryitnow.kubernetes.store import Store

R = TypeVar("R", bound=Resource)


class View(Store[R]):
    """A store."""

    def take(self, resource: R) -> R:
        """Update."""
        return self.update(resource)

    def observe(self, body: Mapping[str, Any]) -> R | None:
        """Ingest."""
        return self.ingest(body)
