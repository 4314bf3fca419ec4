"""``tryitnow status``: one screen of everything, or the story of one object."""

from __future__ import annotations

import json
from datetime import timedelta

import click

from tryitnow.api.meta import Key, Resource, now
from tryitnow.cli import overview, story
from tryitnow.cli.cluster import ask
from tryitnow.cli.durations import DURATION
from tryitnow.cli.failures import STATUSES
from tryitnow.cli.kinds import MODELS, model_of
from tryitnow.cli.names import complete_object
from tryitnow.cli.options import output, where
from tryitnow.cli.output import emit
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.metrics.bounds import START_OBJECTIVE_SECONDS


@click.command(epilog=STATUSES)
@click.argument("name", required=False, shell_complete=complete_object, metavar="[KIND/]NAME")
@click.option("-A", "--all-namespaces", is_flag=True, help="Look at all namespaces.")
@click.option(
    "--slow",
    type=DURATION,
    default=timedelta(seconds=START_OBJECTIVE_SECONDS),
    show_default="2s",
    help="A start that took longer is slow.",
)
@where
@output
def status(
    *,
    name: str | None,
    all_namespaces: bool,
    slow: timedelta,
    namespace: str | None,
    context: str | None,
    as_json: bool,
) -> None:
    """Show checkpoints, nodes and slow starts, or the story of one object.

    KIND is demo, ckpt, node or nodecheckpoint; without it the first object of that name is meant.
    """
    if name is None:

        async def collect(kubernetes: KubernetesApi, default: str) -> overview.Overview:
            within = "" if all_namespaces else namespace or default
            return await overview.collect(kubernetes, within, now())

        seen = ask(context, collect)
        emit(_dumped(overview.as_json(seen, slow)) if as_json else overview.as_text(seen, slow))
        return
    models, wanted = _meant(name)

    async def read(kubernetes: KubernetesApi, default: str) -> story.Story:
        return await story.collect(kubernetes, models, Key(namespace or default, wanted), now())

    result = ask(context, read)
    emit(_dumped(story.as_json(result)) if as_json else story.as_text(result))


def _meant(name: str) -> tuple[list[type[Resource]], str]:
    kind, slash, rest = name.partition("/")
    if not (rest if slash else name):
        # A path without a name is the list of all, to the API server.
        raise click.BadParameter(f"{name!r} names no object")
    if not slash:
        return MODELS, name
    model = model_of(kind)
    if model is None:
        raise click.BadParameter(f"{kind!r} is none of demo, ckpt, node, nodecheckpoint")
    return [model], rest


def _dumped(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
