"""``tryitnow reset``: replace a demo by a fresh one of the same name and URL."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta

import click

from tryitnow.api.demoinstance import RESET_ANNOTATION, DemoInstance
from tryitnow.api.meta import Condition, Key, find_condition
from tryitnow.cli.durations import DURATION
from tryitnow.cli.failures import FAILED, STATUSES, CommandFailedError, translate_errors
from tryitnow.cli.names import complete_demo, some_name
from tryitnow.cli.options import where
from tryitnow.cli.output import emit
from tryitnow.kubernetes.access import find_access
from tryitnow.kubernetes.client import KubernetesApi, connect

POLL_SECONDS = 0.2


@click.command(epilog=STATUSES)
@click.argument("name", metavar="DEMO", callback=some_name, shell_complete=complete_demo)
@click.option("-y", "--yes", is_flag=True, help="Do not ask: the demo's data is lost.")
@click.option(
    "--timeout",
    type=DURATION,
    default="5m",
    show_default=True,
    help="How long to wait until the fresh demo is ready; 0s does not wait.",
)
@where
def reset(
    *, name: str, yes: bool, timeout: timedelta, namespace: str | None, context: str | None
) -> None:
    """Replace a demo by a fresh one of the same name and URL.

    All of its data is lost. Its beforeDelete hooks run first.
    """
    if not yes:
        click.confirm(f"All data of demo {name} will be lost. Go on?", abort=True)
    with translate_errors():
        url = asyncio.run(_reset(name, timeout, namespace, context))
    if url:
        emit(url)


async def _reset(
    name: str, timeout: timedelta, namespace: str | None, context: str | None
) -> str | None:
    access = await find_access(context)
    key = Key(namespace or access.namespace, name)
    async with connect("cli", access=access) as kubernetes:
        demo = await kubernetes.get(DemoInstance, key)
        request = secrets.token_hex(8)
        await kubernetes.patch(demo, {"metadata": {"annotations": {RESET_ANNOTATION: request}}})
        if not timeout:
            return None
        return await _wait(kubernetes, demo, request, timeout)


async def _wait(
    kubernetes: KubernetesApi, demo: DemoInstance, request: str, timeout: timedelta
) -> str | None:
    ready: Condition | None = None
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            while True:
                demo = await kubernetes.get(DemoInstance, demo.key)
                ready = find_condition(demo.status.conditions, "Ready")
                is_ready = ready is not None and ready.status == "True"
                if demo.status.reset_handled == request and is_ready:
                    return demo.status.url
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        reported = (
            f"{ready.reason}: {ready.message}" if ready is not None else "its state is unknown"
        )
        msg = f"demo {demo.key} is not ready: {reported}"
        raise CommandFailedError(msg, FAILED) from None
