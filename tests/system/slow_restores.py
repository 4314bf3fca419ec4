"""Demos that are restored too slowly, and a Prometheus that sees it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from lab.cluster import Cluster
from tests.system.nodes import NODES
from tests.system.notes import notes_spec
from tests.system.objects import Objects
from tests.system.prometheus import Prometheus
from tests.system.runbooks import commands, run
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance

ALERT = "TryItNowRestoresSlow"
CHECKPOINT = "slow"

STARTS = 12
"""The alert wants ten."""

AT_ONCE = 4
"""As many as two nodes of two cores restore at the same time, so that none has to queue."""

WAKE_SECONDS = 2.5
"""How long the application takes to answer after a restore; the objective is 2 s in all."""


@dataclass(frozen=True)
class SlowRestores:
    """What was done, and what could be seen right then."""

    prometheus: Prometheus
    namespace: str
    began: float
    """When nothing had been slow yet."""

    seen: float
    """When all of it had been scraped, and the objects were still there."""

    demos: list[DemoInstance]
    table: str
    """What the second command of the alert's runbook printed."""


def make(cluster: Cluster, objects: Objects, image: str) -> SlowRestores:
    """Restore slow demos; beside them a warm one and a cold one, for the dashboard."""
    prometheus = Prometheus(cluster)
    env = {"WAKE_SECONDS": str(WAKE_SECONDS)}
    objects.checkpoint(CHECKPOINT, notes_spec(image, env=env))
    objects.checkpoint("quick", notes_spec(image, pool={"warm": 1}))
    objects.ready_checkpoint(CHECKPOINT)
    objects.ready_checkpoint("quick")
    objects.wait(Checkpoint, "quick", lambda c: c.status.warm_ready == 1)
    whose = f'namespace="{objects.namespace}", checkpoint="{CHECKPOINT}", method="Restore"'
    counted = f"tryitnow_start_duration_seconds_count{{{whose}}}"
    # What a counter is first seen with is no increase: each node has to have told its zero.
    prometheus.wait(f"count({counted}) == {len(NODES)}", "all agents to tell of the Checkpoint")
    began = time.time()
    objects.demo("warm", "quick")
    objects.demo("cold", "quick", start="ColdStart")
    demos = []
    for first in range(0, STARTS, AT_ONCE):
        names = [f"slow-{number}" for number in range(first, first + AT_ONCE)]
        for name in names:
            objects.demo(name, CHECKPOINT)
        demos += [objects.ready_demo(name) for name in names]
    objects.ready_demo("warm")
    objects.ready_demo("cold")
    page = commands(ALERT, {"NAMESPACE": objects.namespace})
    table = run(cluster, page[1])
    prometheus.wait(f"sum({counted}) == {STARTS}", "all starts to be scraped")
    return SlowRestores(prometheus, objects.namespace, began, time.time(), demos, table)
