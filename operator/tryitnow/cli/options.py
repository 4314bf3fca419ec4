"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from tryitnow.cli.names import complete_namespace

F = TypeVar("F", bound=Callable[..., Any])


def where(command: F) -> F:
    """Add ``--namespace`` and ``--context``."""
    command = click.option(
        "-n",
        "--namespace",
        shell_complete=complete_namespace,
        help="Namespace; by default that of the kubeconfig's context.",
    )(command)
    return click.option("--context", help="Context of the kubeconfig; by default its current one.")(
        command
    )


def output(command: F) -> F:
    """Add ``-o json``."""

    def is_json(_context: click.Context, _option: click.Parameter, value: str | None) -> bool:
        return value == "json"

    return click.option(
        "-o",
        "--output",
        "as_json",
        type=click.Choice(["json"]),
        callback=is_json,
        help="Print JSON, for programs.",
    )(command)


def output_file(command: F) -> F:
    """Add ``-o FILE``, and ``-o json`` as everywhere."""
    return click.option(
        "-o",
        "--output",
        "file",
        metavar="FILE",
        help="Where to write it (a tar.gz), or json for standard output.",
    )(command)
