"""``tryitnow status``: one screen of everything, or the story of one object."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.builders import (
    NOW,
    PINNED,
    make_agent,
    make_checkpoint,
    make_condition,
    make_demo,
    make_revision,
    make_silent_agent,
)
from tests.unit.cli.conftest import Run
from tests.unit.fakes import FakeKubernetes
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, StartedBy, Timings
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.kubernetes.errors import ForbiddenError
from tryitnow.kubernetes.event_list import EventRecord


def ready(name: str, total: float, **status: Any) -> DemoInstance:
    timings = Timings(restore=timedelta(seconds=total), total=timedelta(seconds=total))
    return make_demo(
        name,
        node="node-a",
        phase=DemoInstancePhase.READY,
        conditions=(make_condition("Ready"),),
        url="http://node-a:20000",
        started_by=StartedBy.RESTORE,
        timings=timings,
        **status,
    )


def row(output: str, name: str) -> list[str]:
    return next(line for line in output.splitlines() if name in line).split()


def test_one_screen_has_checkpoints_nodes_slow_starts_and_what_waits(
    run: Run, kubernetes: FakeKubernetes
) -> None:
    kubernetes.put(make_checkpoint(serving="0123456789"))
    kubernetes.put(make_agent("node-a"))
    kubernetes.put(make_silent_agent("node-b"))
    kubernetes.put(ready("quick", 0.4))
    kubernetes.put(ready("sluggish", 7.5))
    waits = make_condition("Ready", holds=None, reason="NoRoom", message="all nodes are full")
    kubernetes.put(make_demo("patient", conditions=(waits,)))
    output = run("status").output
    assert row(output, "shop")[:4] == ["default", "shop", "Pending", "0123456789"]
    assert row(output, "node-a ")[2:4] == ["yes", "2/10"]
    assert "silent for 60m" in output
    assert "NoRoom: all nodes are full" in output
    assert row(output, "sluggish")[-6:-1] == ["7.50", "s", "restore", "7.50", "s"]
    assert "quick" not in output


def test_what_counts_as_slow_can_be_set(run: Run, kubernetes: FakeKubernetes) -> None:
    kubernetes.put(ready("quick", 0.4))
    assert "took longer than 2.00 s" in run("status").output
    assert row(run("status", "--slow", "100ms").output, "quick")


def test_only_the_namespace_is_shown_unless_all_are_asked_for(
    run: Run, kubernetes: FakeKubernetes
) -> None:
    kubernetes.put(make_checkpoint("here"))
    kubernetes.put(make_checkpoint("elsewhere", namespace="shops"))
    assert "elsewhere" not in run("status").output
    assert "elsewhere" in run("status", "-A").output
    assert "elsewhere" in run("status", "-n", "shops").output


def test_what_may_not_be_seen_is_reported(
    run: Run, kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_all = kubernetes.list_all

    async def guarded(model: Any, **options: Any) -> Any:
        if model is NodeAgent:
            raise ForbiddenError("anna cannot list nodeagents")
        return await list_all(model, **options)

    monkeypatch.setattr(kubernetes, "list_all", guarded)
    kubernetes.put(make_checkpoint())
    done = run("status")
    assert done.exit_code == 0
    assert "anna cannot list nodeagents" in done.output
    assert "shop" in done.output


def test_programs_find_all_keys_in_an_empty_cluster(run: Run) -> None:
    assert json.loads(run("status", "-o", "json").output) == {
        "checkpoints": [],
        "nodes": [],
        "notReady": [],
        "slowStarts": [],
        "notShown": [],
    }


def test_a_demos_story_has_conditions_timings_events_and_the_next_step(
    run: Run, kubernetes: FakeKubernetes
) -> None:
    kubernetes.put(ready("annas", 0.4))
    kubernetes.recorded = [
        EventRecord(
            at=NOW - timedelta(minutes=5),
            is_warning=False,
            reason="Bound",
            note="bound to node node-a",
            regarding="DemoInstance/annas",
        ),
        EventRecord(NOW, True, "Other", "not about it", "DemoInstance/other"),
    ]
    output = run("status", "demo/annas").output
    assert "Ready is True" in output
    assert row(output, "restore")[1] == "0.40"
    assert row(output, "bound to node")[0] == "5m"
    assert "not about it" not in output
    assert output.rstrip().endswith("Next: Use it: http://node-a:20000.")


def test_a_revisions_story_names_its_checkpoint_and_its_images(
    run: Run, kubernetes: FakeKubernetes
) -> None:
    revision = kubernetes.put(make_revision(number=4, images={"shop": PINNED}))
    output = run("status", f"ckptrev/{revision.metadata.name}").output
    assert "revision 4 of shop" in output
    assert PINNED in output
    assert "tryitnow status ckpt/shop -n default" in output
    kubernetes.put(make_revision(deleting=True))
    output = run("status", revision.metadata.name).output
    assert "removed when no demo and no node needs it" in output


@pytest.mark.parametrize("name", ["demo/annas", "DemoInstance/annas", "demoinstances/annas"])
def test_a_kind_has_the_names_that_kubectl_takes(
    run: Run, kubernetes: FakeKubernetes, name: str
) -> None:
    kubernetes.put(ready("annas", 0.4))
    reported = json.loads(run("status", name, "-o", "json").output)
    assert reported["object"]["metadata"]["name"] == "annas"
    assert reported["nextStep"]


def test_a_bare_name_is_the_first_that_has_it(run: Run, kubernetes: FakeKubernetes) -> None:
    kubernetes.put(make_checkpoint("shop"))
    assert "Checkpoint default/shop" in run("status", "shop").output
    kubernetes.put(ready("shop", 0.4))
    assert "DemoInstance default/shop" in run("status", "shop").output


def test_a_name_that_is_not_there_has_a_status_of_its_own(run: Run) -> None:
    done = run("status", "ckpt/nowhere")
    assert done.exit_code == 4
    assert "no Checkpoint named nowhere in namespace default" in done.output


def test_an_unknown_kind_is_wrong_usage(run: Run) -> None:
    done = run("status", "pod/x")
    assert done.exit_code == 2
    assert "'pod' is none of demo, ckpt, node, nodecheckpoint" in done.output


def test_a_cluster_that_does_not_answer_has_a_status_of_its_own(
    run: Run, kubernetes: FakeKubernetes
) -> None:
    kubernetes.is_down = True
    assert run("status").exit_code == 7
