"""Which of Kubernetes' nodes take something new."""

from __future__ import annotations

from typing import Any

import pytest

from tryitnow.api.node import ClusterNode, Taint, Toleration


def node(taints: Any = (), conditions: Any = (), **spec: Any) -> ClusterNode:
    return ClusterNode.model_validate(
        {
            "metadata": {"name": "node-a"},
            "spec": {"taints": taints, **spec},
            "status": {"conditions": conditions, "images": [{"names": ["much", "else"]}]},
        }
    )


def test_a_node_of_which_nothing_is_reported_is_open() -> None:
    assert ClusterNode.model_validate({"metadata": {"name": "a"}}).closed_by() == ""
    assert node(conditions=[{"type": "Ready", "status": "True"}]).closed_by() == ""


@pytest.mark.parametrize(
    ("closed", "why"),
    [
        (node(unschedulable=True), "is cordoned"),
        (node(conditions=[{"type": "Ready", "status": "False"}]), "is NotReady"),
        (node(conditions=[{"type": "Ready", "status": "Unknown"}]), "is NotReady"),
        (node(conditions=[{"type": "DiskPressure", "status": "True"}]), "has DiskPressure"),
        (node(conditions=[{"type": "MemoryPressure", "status": "True"}]), "has MemoryPressure"),
        (
            node([{"key": "gpu", "value": "a100", "effect": "NoSchedule"}]),
            "has the taint gpu=a100:NoSchedule, which agents do not tolerate",
        ),
        (
            node([{"key": "gone", "effect": "NoExecute"}]),
            "has the taint gone:NoExecute, which agents do not tolerate",
        ),
    ],
)
def test_a_node_is_closed_and_says_why(closed: ClusterNode, why: str) -> None:
    assert closed.closed_by() == why


@pytest.mark.parametrize(
    "open_",
    [
        node([{"key": "gpu", "effect": "PreferNoSchedule"}]),
        node(conditions=[{"type": "DiskPressure", "status": "False"}]),
        node(conditions=[{"type": "NetworkUnavailable", "status": "False"}]),
    ],
)
def test_what_only_advises_closes_nothing(open_: ClusterNode) -> None:
    assert open_.closed_by() == ""


def test_a_node_that_is_kept_for_demos_is_open_to_them() -> None:
    kept = node([{"key": "for", "value": "demos", "effect": "NoSchedule"}])
    assert kept.closed_by((Toleration(key="for", value="demos"),)) == ""
    assert kept.closed_by((Toleration(key="for", value="others"),))


def test_agents_that_run_everywhere_do_not_open_a_node_in_trouble() -> None:
    everywhere = (Toleration(operator="Exists"),)
    assert node([{"key": "gpu", "effect": "NoSchedule"}]).closed_by(everywhere) == ""
    pressed = node([{"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}])
    assert pressed.closed_by(everywhere).startswith("has the taint node.kubernetes.io/disk-press")


@pytest.mark.parametrize(
    ("toleration", "bears"),
    [
        (Toleration(key="a", value="1"), True),
        (Toleration(key="a", value="2"), False),
        (Toleration(key="a", operator="Exists"), True),
        (Toleration(key="b", operator="Exists"), False),
        (Toleration(operator="Exists"), True),
        (Toleration(), False),
        (Toleration(key="a", value="1", effect="NoSchedule"), True),
        (Toleration(key="a", value="1", effect="NoExecute"), False),
    ],
)
def test_a_toleration_bears_what_kubernetes_says(toleration: Toleration, *, bears: bool) -> None:
    assert toleration.bears(Taint(key="a", value="1", effect="NoSchedule")) is bears
