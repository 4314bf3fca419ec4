"""Durations as people write them in Kubernetes manifests: ``500ms``, ``10s``, ``1h30m``, ``7d``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")

LONGEST = timedelta(days=36500)
"""Longer durations are cut to this, so that no date overflows."""

PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
"""Accepted by the API server: Go's duration units (without sub-millisecond ones) and days."""

_DAYS_FIRST = r"^([0-9]+(\.[0-9]+)?d)*([0-9]+(\.[0-9]+)?(ms|s|m|h))*$"


def parse_duration(text: str) -> timedelta:
    """Read a duration; one of more than a hundred years counts as a hundred years.

    Raises:
        ValueError: the text is no duration; the message shows how one looks.

    """
    if not re.fullmatch(PATTERN, text):
        msg = f"{text!r} is not a duration; write it like 500ms, 30s, 10m, 1h30m or 7d"
        raise ValueError(msg)
    seconds = sum(float(n) * _UNITS[u] for n, u in _PART.findall(text))
    return timedelta(seconds=min(seconds, LONGEST.total_seconds()))


def format_duration(value: timedelta) -> str:
    """Write a duration, to the millisecond and in at most two units.

    Such as ``412ms``, ``1.25s``, ``90s``, ``10m``, ``1h30m``.
    """
    seconds = value.total_seconds()
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 100 or seconds % 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    hours, rest = divmod(int(seconds), 3600)
    minutes = f"{rest // 60}m" if rest else ""
    return f"{hours}h{minutes}" if hours else minutes


def _validate(value: Any) -> timedelta:  # noqa: ANN401 - pydantic hands over whatever was there
    if isinstance(value, timedelta):
        return value
    return parse_duration(str(value))


def up_to(longest: str) -> WithJsonSchema:
    """Return the schema of durations of which the API server takes none that is longer.

    CEL's durations have no days: they are read as hours and counted 24 times. An object that was
    stored before there was a maximum is read as it is.
    """
    most = int(parse_duration(longest).total_seconds())
    days = "duration('0' + self.substring(0, self.lastIndexOf('d') + 1).replace('d', 'h'))"
    rest = "duration('0s' + self.substring(self.lastIndexOf('d') + 1))"
    return WithJsonSchema(
        {
            "type": "string",
            "maxLength": 32,
            "x-kubernetes-validations": [
                {
                    "rule": f"self != '' && self.matches(r'{_DAYS_FIRST}') && "
                    f"{days}.getSeconds() * 24 + {rest}.getSeconds() <= {most}",
                    "message": "must be a duration like 500ms, 30s, 10m, 1h30m or 7d, of at most"
                    f" {longest}",
                }
            ],
        }
    )


Duration = Annotated[
    timedelta,
    BeforeValidator(_validate),
    PlainSerializer(format_duration, return_type=str),
    up_to("36500d"),
]
"""A ``timedelta`` in Python, a duration string in the API. ``Annotated[Duration, up_to("1h")]`` has
a maximum of its own."""

StartTimeout = Annotated[Duration, up_to("1h")]
"""The heaviest applications take minutes to start. A build holds one of the node's few turns for
as long."""

ShortTimeout = Annotated[Duration, up_to("10m")]
"""For what people wait for: a restore, a hook, a deletion."""

Lifetime = Annotated[Duration, up_to("365d")]
"""The life of a demo."""
