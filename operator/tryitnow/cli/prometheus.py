"""How long steps took over the last day, asked of a Prometheus that scrapes the agents."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import aiohttp

from tryitnow.api.demoinstance import DemoInstance
from tryitnow.cli.distribution import Buckets, Distribution
from tryitnow.cli.failures import UNREACHABLE, CommandFailedError
from tryitnow.metrics.starts import START_DURATION, START_PHASE_DURATION

WINDOW = "1d"
TIMEOUT_SECONDS = 10.0


async def distributions(url: str, demo: DemoInstance) -> dict[str, Distribution]:
    """Return the distribution of each step of demos that were started like this one.

    ``total`` is of the same Checkpoint by whatever method; the steps are of all Checkpoints.

    Raises:
        CommandFailedError: Prometheus does not answer, or not like a Prometheus.

    """
    bucket = f"{START_PHASE_DURATION.name}_bucket"
    by_step = (
        f'sum by (phase, le) (increase({bucket}{{method="{demo.status.started_by}"}}[{WINDOW}]))'
    )
    labels = f'namespace="{demo.metadata.namespace}",checkpoint="{demo.spec.checkpoint_ref.name}"'
    whole = f"sum by (le) (increase({START_DURATION.name}_bucket{{{labels}}}[{WINDOW}]))"
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
        rows = [*await _ask(session, url, by_step), *await _ask(session, url, whole)]
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        metric = row["metric"]
        number = float(row["value"][1])
        found[metric.get("phase", "total")].append((float(metric["le"]), number))
    known = {step: Buckets(sorted(pairs)) for step, pairs in found.items()}
    return {step: buckets for step, buckets in known.items() if buckets.count > 0}


async def _ask(session: aiohttp.ClientSession, url: str, query: str) -> list[dict[str, Any]]:
    try:
        async with session.get(
            f"{url.rstrip('/')}/api/v1/query", params={"query": query}
        ) as answer:
            body = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        msg = f"--prometheus {url} does not answer as a Prometheus: {type(error).__name__} {error}"
        raise CommandFailedError(msg, UNREACHABLE) from error
    if not isinstance(body, dict) or body.get("status") != "success":
        msg = f"--prometheus {url} refuses the query {query}: {body}"
        raise CommandFailedError(msg, UNREACHABLE)
    rows: list[dict[str, Any]] = body["data"]["result"]
    return rows
