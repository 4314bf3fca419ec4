"""What a caller asks for, and the object that says so."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from tryitnow.api.demoinstance import StartPolicy
from tryitnow.api.duration import format_duration, parse_duration
from tryitnow.client.errors import InvalidRequestError

_LONGEST_PREFIX = 50
"""Of a generated name: with its ending it stays a DNS label (63 characters)."""


@dataclass(frozen=True, kw_only=True)
class DemoRequest:
    """One demo that somebody wants."""

    checkpoint: str
    name: str | None = None
    """None: one is made from the Checkpoint's."""

    ttl: str | timedelta | None = None
    host: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    start: StartPolicy | None = None

    def body(self, namespace: str) -> dict[str, Any]:
        """Return metadata and spec of the DemoInstance; what was not asked for is left out."""
        spec: dict[str, Any] = {"checkpointRef": {"name": self.checkpoint}}
        if self.ttl is not None:
            spec["ttl"] = self.ttl if isinstance(self.ttl, str) else format_duration(self.ttl)
        if self.host is not None:
            spec["host"] = self.host
        if self.parameters:
            spec["parameters"] = dict(self.parameters)
        if self.start is not None:
            spec["start"] = str(self.start)
        return {"metadata": {"name": self.named().name, "namespace": namespace},
                "spec": spec}  # fmt: skip

    def named(self) -> DemoRequest:
        """Return the same with the name that the demo gets."""
        if self.name:
            return self
        prefix = self.checkpoint.replace(".", "-")[:_LONGEST_PREFIX].rstrip("-")
        return replace(self, name=f"{prefix}-{secrets.token_hex(4)}")


def as_duration(value: str | timedelta) -> timedelta:
    """Read how long to wait.

    Raises:
        InvalidRequestError: it is no duration.

    """
    if isinstance(value, timedelta):
        return value
    try:
        return parse_duration(value)
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error
