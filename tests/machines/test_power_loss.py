"""Two of the power losses that `python -m tests.machines.power_loss` makes by the dozen."""

from __future__ import annotations

import pytest

from lab.cluster import Cluster
from lab.machines.machine import Machine
from tests.machines.power_loss import Sweep
from tests.machines.waiting import BACK_WITHIN
from tests.system.objects import Objects

DEMOS = 3


@pytest.fixture(scope="module")
def sweep(cluster: Cluster, machine: Machine, objects: Objects, guestbook_image: str) -> Sweep:
    sweep = Sweep(cluster, machine, objects, guestbook_image, demos=DEMOS)
    sweep.prepare()
    return sweep


@pytest.mark.parametrize("after_s", [5.0, 45.0])
def test_demos_and_archives_outlive_a_power_loss_during_a_build(
    sweep: Sweep, after_s: float
) -> None:
    sweep.lose_power(after_s, BACK_WITHIN)
