"""A demo that is ready, as its user sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tryitnow.api.demoinstance import DemoInstance, FallbackReason, StartedBy, Timings


@dataclass(frozen=True)
class Demo:
    """A private, running demo of an application."""

    instance: DemoInstance
    """The whole object, as it was when it became ready."""

    url: str
    """Where the application answers."""

    @property
    def name(self) -> str:
        """Name of the DemoInstance."""
        return self.instance.metadata.name

    @property
    def namespace(self) -> str:
        """Namespace of the DemoInstance."""
        return self.instance.metadata.namespace

    @property
    def checkpoint(self) -> str:
        """Name of its Checkpoint."""
        return self.instance.spec.checkpoint_ref.name

    @property
    def node(self) -> str:
        """Node that runs it."""
        return self.instance.status.node_name or ""

    @property
    def started_by(self) -> StartedBy:
        """Warm, Restore or ColdStart."""
        return self.instance.status.started_by or StartedBy.COLD_START

    @property
    def fallback_reason(self) -> FallbackReason | None:
        """The reason why it was started cold although a restore was allowed; None otherwise."""
        return self.instance.status.fallback_reason

    @property
    def timings(self) -> Timings:
        """How long each step of the start took."""
        return self.instance.status.timings or Timings()

    @property
    def expires_at(self) -> datetime | None:
        """When it will be deleted; None without a ttl."""
        return self.instance.status.expires_at
