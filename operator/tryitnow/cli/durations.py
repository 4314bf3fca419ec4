"""Durations on the command line, written as in manifests: 500ms, 10s, 1h30m."""

from __future__ import annotations

from datetime import timedelta

import click

from tryitnow.api.duration import parse_duration


class _Duration(click.ParamType[timedelta]):
    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = _Duration()
