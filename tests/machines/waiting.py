"""How long tests wait for what an emulated machine does on two cores that others use as well."""

from __future__ import annotations

from collections.abc import Callable

from lab.progress import step
from tests.system.objects import Objects, wait_until
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance

BUILT_WITHIN = 900.0
READY_WITHIN = 600.0
BACK_WITHIN = 600.0
"""From the boot of a machine to its demos' answers: 160 s alone."""

GONE_WITHIN = 300.0


def ready_checkpoint(objects: Objects, name: str) -> Checkpoint:
    with step(f"Checkpoint {name}: build, checkpoint, test restore", usually="3 min"):
        return objects.ready_checkpoint(name, BUILT_WITHIN)


def ready_demo(objects: Objects, name: str) -> DemoInstance:
    with step(f"demo {name}", usually="30 s"):
        return objects.ready_demo(name, READY_WITHIN)


def wait_long(holds: Callable[[], bool], what: str, within: float = BACK_WITHIN) -> None:
    with step(f"waiting for {what}"):
        wait_until(holds, what, within)
