"""What the command prints. All of it: others have written a part of it."""

from __future__ import annotations

import click

from tryitnow.printable import printable


def emit(text: str, *, err: bool = False) -> None:
    """Print a text to standard output, or to standard error."""
    click.echo(printable(text), err=err)
