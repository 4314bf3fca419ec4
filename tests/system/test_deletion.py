"""A Checkpoint that is deleted while it is being made leaves nothing, and at once."""

from __future__ import annotations

import time

import pytest

from tests.system.nodes import NODES, LabNodes
from tests.system.notes import notes_spec
from tests.system.objects import Objects, wait_until
from tryitnow.api.checkpoint import Checkpoint

MOMENTS = [0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.2, 2.6]
"""Seconds after its creation: it starts, is frozen, tried, prepared, copied, and fills its pool.
Which of these a moment meets depends on the machine; none may leave anything."""

AT_ONCE = 20.0
"""Seconds: less than the time between two looks for what nobody owns, which would hide it."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_nothing_is_left_of_what_is_deleted_while_it_is_made(
    moment: float, objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    spec = notes_spec(notes_image, pool={"warm": 2})
    # A pod has most that could be left: volumes, a gate, a container for its namespaces.
    spec["template"]["volumes"] = [{"name": "data", "emptyDir": {}}]
    spec["template"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    objects.checkpoint("notes", spec)
    time.sleep(moment)
    objects.delete(Checkpoint, "notes")
    wait_until(objects.none_left, "the Checkpoint and its copies to be gone")
    wait_until(
        lambda: not nodes.leftovers(objects.namespace),
        f"nothing of {objects.namespace} to be left on any node",
        AT_ONCE,
    )
    logs = [line for node in NODES for line in nodes.agent_log(node).splitlines()]
    about = [line for line in logs if f"{objects.namespace}/" in line]
    assert not [line for line in about if "quarantined" in line], "it was deleted, not damaged"
