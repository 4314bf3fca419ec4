"""``tryitnow demo``: one demo, from the request to its URL and, with ``--rm``, to its end."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta

import click

from tryitnow.api.demoinstance import DemoInstance, StartedBy, StartPolicy
from tryitnow.api.meta import API_VERSION, find_condition
from tryitnow.background import uncancelled
from tryitnow.cli.durations import DURATION
from tryitnow.cli.failures import FAILED, STATUSES, CommandFailedError, translate_errors
from tryitnow.cli.names import complete_checkpoint
from tryitnow.cli.options import output, where
from tryitnow.cli.output import emit
from tryitnow.cli.parameters import as_mapping
from tryitnow.cli.steps import steps
from tryitnow.cli.table import first_line, seconds
from tryitnow.client.asynchronous import TIMEOUT, AsyncClient
from tryitnow.client.following import Following
from tryitnow.client.running import Demo


@dataclass(frozen=True)
class _Wish:
    checkpoint: str
    name: str | None
    ttl: timedelta | None
    host: str | None
    parameters: dict[str, str]
    start: StartPolicy | None
    timeout: timedelta
    ends_with_us: bool
    opens: bool
    as_json: bool


@click.command(epilog=STATUSES)
@click.argument("checkpoint", shell_complete=complete_checkpoint)
@click.option("--name", help="Name of the demo; by default a random one.")
@click.option("--ttl", type=DURATION, help="Lifetime, such as 1h; then it is deleted.")
@click.option("--host", help="DNS name that clients will use.")
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    callback=as_mapping,
    help="Value for a parameter of the Checkpoint; may be repeated.",
)
@click.option(
    "--start",
    type=click.Choice([str(policy) for policy in StartPolicy]),
    help="Which ways of starting are allowed; by default PreferRestore.",
)
@click.option(
    "--timeout", type=DURATION, default=TIMEOUT, show_default="5m", help="How long to wait."
)
@click.option("--rm", is_flag=True, help="Wait, and delete it at Ctrl-C.")
@click.option("--open", "opens", is_flag=True, help="Open it in the browser.")
@where
@output
def demo(
    *,
    checkpoint: str,
    name: str | None,
    ttl: timedelta | None,
    host: str | None,
    parameters: dict[str, str],
    start: str | None,
    timeout: timedelta,
    rm: bool,
    opens: bool,
    namespace: str | None,
    context: str | None,
    as_json: bool,
) -> None:
    """Start a demo of CHECKPOINT, wait until it is ready, and print its URL.

    The URL goes to standard output, everything else to standard error. A demo that is not ready in
    time is left for a look (with --rm it is deleted).
    """
    wish = _Wish(
        checkpoint=checkpoint,
        name=name,
        ttl=ttl,
        host=host,
        parameters=parameters,
        start=StartPolicy(start) if start else None,
        timeout=timeout,
        ends_with_us=rm,
        opens=opens,
        as_json=as_json,
    )
    with translate_errors():
        try:
            asyncio.run(_have(wish, AsyncClient(namespace=namespace, context=context)))
        except asyncio.CancelledError:
            raise CommandFailedError("ended before it was ready; nothing is left", FAILED) from None


_ENDS = (signal.SIGTERM, signal.SIGHUP)


async def _have(wish: _Wish, client: AsyncClient) -> None:
    this = asyncio.current_task()
    if wish.ends_with_us and this is not None:
        # As Ctrl-C does: what was begun is deleted.
        for number in _ENDS:
            asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    async with client:
        running = await client.start(
            wish.checkpoint,
            name=wish.name,
            ttl=wish.ttl,
            host=wish.host,
            parameters=wish.parameters,
            start=wish.start,
            timeout=wish.timeout,
            observer=_Progress().show,
            keep_failed=not wish.ends_with_us,
        )
        # Before anybody is told that it is there.
        stop = _ended_by_signals() if wish.ends_with_us else None
        try:
            _print(running, as_json=wish.as_json)
            if wish.opens and click.launch(running.url) != 0:
                _print_line("no browser could be started; open the URL yourself")
            if stop is not None:
                await _until_stopped(client, running, stop)
        finally:
            # Also where nobody reads what is printed.
            if wish.ends_with_us:
                await uncancelled(client.delete(running.instance))
        if wish.ends_with_us:
            _print_line(f"{running.namespace}/{running.name} is deleted")


class _Progress:
    """Says what became of a demo, whenever it changes."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._message = ""

    def show(self, instance: DemoInstance) -> None:
        ready = find_condition(instance.status.conditions, "Ready")
        text = (
            first_line(f"{ready.reason}: {ready.message}", 160)
            if ready
            else f"created {instance.key}"
        )
        if text != self._message:
            self._message = text
            _print_line(f"{time.monotonic() - self._began:6.2f} s  {text}")


def _print(running: Demo, *, as_json: bool) -> None:
    body = {"apiVersion": API_VERSION, **running.instance.to_api()}
    emit(json.dumps(body, indent=2, ensure_ascii=False) if as_json else running.url)
    took = ", ".join(f"{step.name} {seconds(step.took)}" for step in steps(running.timings))
    _print_line(f"ready in {seconds(running.timings.total)} by {running.started_by}: {took}")
    if running.fallback_reason is not None:
        message = running.instance.status.fallback_message or ""
        _print_line(f"started cold because {running.fallback_reason}: {first_line(message, 200)}")
        _print_line(f"more: tryitnow explain-slow {running.name} -n {running.namespace}")
    elif running.started_by is StartedBy.COLD_START:
        _print_line("started cold, as spec.start asks for")


def _ended_by_signals() -> asyncio.Event:
    """Return what Ctrl-C, or another end, sets from now on."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, *_ENDS):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _until_stopped(client: AsyncClient, running: Demo, stop: asyncio.Event) -> None:
    """Wait until somebody asks for its end, or for the demo's own.

    Raises:
        DemoGoneError: it ended before.

    """
    _print_line("press Ctrl-C to delete it")
    watching = asyncio.create_task(_until_gone(client, running))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
    finally:
        for task in (watching, stopping):
            task.cancel()
        await asyncio.gather(watching, stopping, return_exceptions=True)


async def _until_gone(client: AsyncClient, running: Demo) -> None:
    async with aclosing(Following(client.kubernetes, running.instance).states()) as states:
        async for _ in states:
            pass


def _print_line(line: str) -> None:
    emit(line, err=True)
