"""Why a node gets nothing new: one answer for builds, NodeCheckpoints, warm sandboxes and demos."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.builders import (
    NOW,
    REVISION,
    make_agent,
    make_archive,
    make_checkpoint,
    make_condition,
    make_demo,
    make_node,
    make_node_checkpoint,
    make_revision,
    make_silent_agent,
    make_state,
)
from tryitnow.api.checkpoint import Checkpoint, Pool
from tryitnow.api.node import Toleration
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import Fetch, NodeCheckpoint, NodeCheckpointPhase
from tryitnow.controller.bind import Binding, Unbound, bind
from tryitnow.controller.build import choose_builder
from tryitnow.controller.nodes import NodeState
from tryitnow.controller.observed import Observed
from tryitnow.controller.plan import Plan, plan
from tryitnow.controller.usage import Usage

GIB = 1 << 30

FETCH = Fetch(archive=make_archive())

OPEN = make_state(make_agent("node-a"))
TAINT = {"key": "gpu", "value": "a100", "effect": "NoSchedule"}
RESERVED = make_agent("node-b", disk=4 * GIB, disk_reserve=5 * GIB)


def closed(**changes: Any) -> NodeState:
    return make_state(make_agent("node-b"), node=make_node("node-b", **changes))


def with_condition(agent: NodeAgent, type_: str) -> NodeAgent:
    conditions = (*agent.status.conditions, make_condition(type_))
    status = agent.status.model_copy(update={"conditions": conditions})
    return agent.model_copy(update={"status": status})


STOPPED = "has an agent that is stopping"
LIMITED = "has reached a limit (`kubectl describe nodeagent node-b`)"

CLOSED = {
    "is silent": make_state(make_silent_agent("node-b")),
    "is not ready": make_state(make_agent("node-b", ready=False)),
    "waits until a person confirms its storage": make_state(
        with_condition(make_agent("node-b", ready=False), "StorageChanged")
    ),
    "is cordoned": closed(cordoned=True),
    "is NotReady": closed(conditions={"Ready": "Unknown"}),
    "has DiskPressure": closed(conditions={"DiskPressure": "True"}),
    "has the taint gpu=a100:NoSchedule, which agents do not tolerate": closed(taints=[TAINT]),
    STOPPED: make_state(make_agent("node-b", stopping=True)),
    LIMITED: make_state(with_condition(make_agent("node-b"), "LimitReached")),
    "is short of disk: 5120 MiB of it must stay free": make_state(RESERVED),
}


def observe(
    checkpoint: Checkpoint, *node_checkpoints: NodeCheckpoint, nodes: list[NodeState]
) -> Plan:
    return plan(
        Observed(
            checkpoint=checkpoint,
            revisions={REVISION: make_revision()},
            node_checkpoints=list(node_checkpoints),
            selected=nodes,
            nodes={state.name: state for state in nodes},
            architectures={state.name: None for state in nodes},
            starting=frozenset(),
            at=NOW,
        )
    )


def decide(
    *nodes: NodeState, node_checkpoints: list[NodeCheckpoint] | None = None
) -> Binding | Unbound:
    checkpoint = make_checkpoint(serving=REVISION)
    return bind(make_demo(), checkpoint, REVISION, node_checkpoints or [], list(nodes), Usage())


@pytest.mark.parametrize("why", CLOSED)
def test_a_closed_node_takes_no_demo_and_says_why(why: str) -> None:
    state = CLOSED[why]
    assert state.closed_reason(0) == why
    node_checkpoints = [make_node_checkpoint("node-a"), make_node_checkpoint("node-b", fetch=FETCH)]
    assert decide(OPEN, state, node_checkpoints=node_checkpoints) == Binding("node-a", REVISION)
    found = decide(state, node_checkpoints=node_checkpoints)
    assert isinstance(found, Unbound)
    assert f"node-b {why}" in found.message


@pytest.mark.parametrize("why", CLOSED)
def test_a_closed_node_builds_nothing_and_says_why(why: str) -> None:
    result = observe(make_checkpoint(), nodes=[OPEN, CLOSED[why]])
    assert [order.node_name for order in result.create] == ["node-a"]
    nobody = observe(make_checkpoint(), nodes=[CLOSED[why]])
    assert nobody.create == ()
    assert f"node-b: {why}" in nobody.message


@pytest.mark.parametrize(
    "why", [w for w in CLOSED if w not in {"is silent", "is not ready", STOPPED, LIMITED}]
)
def test_a_closed_node_gets_no_node_checkpoint_keeps_the_one_it_has_and_says_why(why: str) -> None:
    checkpoint, nodes = make_checkpoint(serving=REVISION), [OPEN, CLOSED[why]]
    result = observe(checkpoint, make_node_checkpoint("node-a"), nodes=nodes)
    assert result.create == ()
    assert result.distribution.nodes_desired == 1
    assert f"no NodeCheckpoint goes to node-b ({why})" in result.message
    held = observe(
        checkpoint,
        make_node_checkpoint("node-a"),
        make_node_checkpoint("node-b", fetch=FETCH),
        nodes=nodes,
    )
    assert held.delete == ()
    assert held.distribution.nodes_desired == 2


@pytest.mark.parametrize("why", CLOSED)
def test_no_warm_sandbox_is_wanted_on_a_node_that_gets_no_demos(why: str) -> None:
    checkpoint = make_checkpoint(serving=REVISION)
    spec = checkpoint.spec.model_copy(update={"pool": Pool(warm=2)})
    checkpoint = checkpoint.model_copy(update={"spec": spec})
    node_checkpoints = [make_node_checkpoint("node-a"), make_node_checkpoint("node-b", fetch=FETCH)]
    result = observe(checkpoint, *node_checkpoints, nodes=[OPEN, CLOSED[why]])
    shares = {
        node_checkpoint.spec.node_name: pool.warm for node_checkpoint, pool in result.pool.updates
    }
    # Of use right after; and warm sandboxes that go because of a limit would come back without it.
    if why not in {STOPPED, LIMITED}:
        assert shares == {"node-a": 2}


def test_a_taint_that_agents_bear_keeps_its_node_for_demos() -> None:
    borne = (Toleration(key="gpu", operator="Exists"),)
    state = make_state(
        make_agent("node-b"), node=make_node("node-b", taints=[TAINT]), tolerations=borne
    )
    assert state.closed_reason(0) == ""


# -- disk -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "reserve", "reserved", "needed", "fits"),
    [
        (10 * GIB, 5 * GIB, 0, 5 * GIB, True),
        (10 * GIB, 5 * GIB, 0, 5 * GIB + 1, False),
        (10 * GIB, 5 * GIB, GIB, 4 * GIB, True),
        (10 * GIB, 5 * GIB, GIB, 5 * GIB, False),
        (5 * GIB, 5 * GIB, 0, 0, True),
        (5 * GIB - 1, 5 * GIB, 0, 0, False),
        (1, 0, 0, 0, True),
        (0, 0, 0, 0, False),
    ],
)
def test_what_is_reserved_and_what_must_stay_free_is_no_room(
    free: int, reserve: int, reserved: int, needed: int, *, fits: bool
) -> None:
    agent = make_agent(disk=free, disk_reserve=reserve)
    state = make_state(agent, reserved_disk_bytes=reserved)
    assert (state.disk_shortage(needed) == "") is fits


def test_a_demo_needs_room_for_what_it_fills_when_it_starts() -> None:
    agents = make_agent("node-a", disk=2 * GIB, disk_reserve=GIB), make_agent("node-b")
    states = [make_state(agent) for agent in agents]
    node_checkpoints = [
        make_node_checkpoint("node-a", disk_bytes=3 * GIB // 2),
        make_node_checkpoint("node-b", fetch=FETCH),
    ]
    assert decide(*states, node_checkpoints=node_checkpoints) == Binding("node-b", REVISION)
    found = decide(states[0], node_checkpoints=node_checkpoints)
    assert isinstance(found, Unbound)
    assert found.reason == "NoRoom"
    assert "node-a is short of disk: it needs 1536 MiB and 1024 MiB of it must" in found.message


def test_what_waits_warm_has_its_files_already() -> None:
    node_checkpoint = make_node_checkpoint("node-a", disk_bytes=3 * GIB, warm_ready=1)
    spec = node_checkpoint.spec.model_copy(update={"pool": Pool(warm=1)})
    state = make_state(make_agent("node-a", disk=2 * GIB, disk_reserve=GIB))
    node_checkpoints = [node_checkpoint.model_copy(update={"spec": spec})]
    assert decide(state, node_checkpoints=node_checkpoints) == Binding("node-a", REVISION)


def test_a_node_checkpoint_needs_room_for_what_is_unpacked_from_it_as_well() -> None:
    packed = make_archive(size_bytes=GIB, unpacked_bytes=25 * GIB)
    checkpoint = make_checkpoint(serving=REVISION, archive=packed)
    small = make_state(make_agent("node-b", disk=25 * GIB))
    spacious = make_state(make_agent("node-c", disk=26 * GIB))
    holder = make_node_checkpoint("node-a", archive=packed)
    result = observe(checkpoint, holder, nodes=[OPEN, small, spacious])
    assert [order.node_name for order in result.create] == ["node-c"]
    assert "node-b (is short of disk: it needs 26624 MiB)" in result.message


def test_a_node_checkpoint_goes_where_its_archive_has_room() -> None:
    large = make_archive(size_bytes=20 * GIB)
    checkpoint = make_checkpoint(serving=REVISION, archive=large)
    small = make_state(make_agent("node-b", disk=21 * GIB, disk_reserve=2 * GIB))
    spacious = make_state(make_agent("node-c", disk=22 * GIB, disk_reserve=2 * GIB))
    result = observe(
        checkpoint, make_node_checkpoint("node-a", archive=large), nodes=[OPEN, small, spacious]
    )
    assert [order.node_name for order in result.create] == ["node-c"]
    assert (
        "node-b (is short of disk: it needs 20480 MiB and 2048 MiB of it must stay free)"
        in result.message
    )


def test_a_node_checkpoint_that_is_on_its_way_is_not_taken_back_for_the_room_that_it_takes() -> (
    None
):
    """Its room is reserved: counted once more it would be dropped, ordered, dropped, …"""
    large = make_archive(size_bytes=20 * GIB)
    checkpoint = make_checkpoint(serving=REVISION, archive=large)
    fetching = make_state(
        make_agent("node-b", disk=23 * GIB, disk_reserve=2 * GIB), reserved_disk_bytes=20 * GIB
    )
    under_way = make_node_checkpoint(
        "node-b", phase=NodeCheckpointPhase.FETCHING, fetch=Fetch(archive=large)
    )
    good = make_node_checkpoint("node-a", archive=large)
    result = observe(checkpoint, good, under_way, nodes=[OPEN, fetching])
    assert result.delete == ()
    assert result.distribution.is_fetching


def test_a_build_goes_where_as_much_as_before_has_room() -> None:
    checkpoint = make_checkpoint(serving="before", archive=make_archive(size_bytes=20 * GIB))
    small, spacious = (
        make_agent("node-a", disk=10 * GIB),
        make_agent("node-b", disk=30 * GIB, memory=1),
    )
    states = [make_state(small), make_state(spacious)]
    chosen = choose_builder(checkpoint, states, None)
    assert chosen is not None
    assert chosen.name == "node-b"
    assert choose_builder(checkpoint, states[:1], None) is None
