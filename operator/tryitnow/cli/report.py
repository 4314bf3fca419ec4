"""``tryitnow report``: the facts for a bug report, in one file, without secrets."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tryitnow.api.meta import now
from tryitnow.cli import bundle
from tryitnow.cli.cluster import ask
from tryitnow.cli.failures import FAILED, STATUSES, CommandFailedError
from tryitnow.cli.options import output_file, where
from tryitnow.cli.output import emit
from tryitnow.cli.table import size
from tryitnow.kubernetes.client import KubernetesApi


@click.command(epilog=STATUSES)
@click.option("-A", "--all-namespaces", is_flag=True, help="Objects of all namespaces.")
@click.option(
    "--metrics",
    multiple=True,
    metavar="URL",
    help="Metrics to add, such as the controller's; may be repeated. Agents' are added anyway.",
)
@where
@output_file
def report(
    *,
    all_namespaces: bool,
    metrics: tuple[str, ...],
    namespace: str | None,
    context: str | None,
    file: str | None,
) -> None:
    """Pack the facts for a bug report, without secrets.

    Our objects, their Events, the nodes' agents, versions, and metrics where they can be reached.
    Values of env and parameters, annotations, options of commands and query strings are blanked;
    read the file all the same before you send it.
    """
    at = now()

    async def gather(kubernetes: KubernetesApi, default: str) -> dict[str, str]:
        within = "" if all_namespaces else namespace or default
        return await bundle.gather(kubernetes, within, metrics)

    files = ask(context, gather)
    if file == "json":
        emit(json.dumps(files, indent=2, ensure_ascii=False))
        return
    target = Path(file or f"tryitnow-report-{at:%Y%m%d-%H%M%S}.tar.gz")
    try:
        bundle.pack(files, target, at)
    except OSError as error:
        raise CommandFailedError(f"{target}: {error}", FAILED) from error
    for name, text in files.items():
        emit(f"{size(len(text.encode())):>10}  {name}", err=True)
    emit(str(target))
