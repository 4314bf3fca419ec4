"""Which nodes build and hold a Checkpoint."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.unit.builders import (
    make_agent,
    make_archive,
    make_checkpoint,
    make_node,
    make_node_checkpoint,
    make_silent_agent,
    make_state,
)
from tryitnow.api.checkpoint import Distribution, Pool
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.controller.build import choose_builder
from tryitnow.controller.distribute import MAX_SOURCES, holders, order_for
from tryitnow.controller.nodes import NodeState, preference, selected
from tryitnow.controller.pool import shares

GIB = 1 << 30


def names(nodes: Iterable[NodeState]) -> list[str]:
    return [state.name for state in nodes]


def states(*agents: NodeAgent) -> list[NodeState]:
    return [make_state(agent) for agent in agents]


def many(count: int) -> list[NodeState]:
    return states(*(make_agent(f"node-{i:02}") for i in range(count)))


# -- selected -------------------------------------------------------------------------------------


def test_all_labels_of_the_selector_must_be_there() -> None:
    labels: dict[str, dict[str, str]] = {
        "both": {"disk": "ssd", "zone": "a", "more": "x"},
        "one": {"disk": "ssd"},
        "other": {"disk": "ssd", "zone": "b"},
        "none": {},
    }
    nodes = [
        make_state(make_agent(name), node=make_node(name, labels=held))
        for name, held in labels.items()
    ]
    wanted = Distribution(node_selector={"disk": "ssd", "zone": "a"})
    assert names(selected(wanted, nodes)) == ["both"]
    assert names(selected(Distribution(), nodes)) == ["both", "one", "other", "none"]


def test_an_agent_of_a_node_that_is_gone_or_going_is_not_selected() -> None:
    gone = NodeState(make_agent("gone"), node=None)
    nodes = [*states(make_agent("node-a"), make_agent("going", deleting=True)), gone]
    assert names(selected(Distribution(), nodes)) == ["node-a"]


def test_a_silent_agent_stays_selected() -> None:
    assert selected(Distribution(), states(make_silent_agent("node-a")))


# -- choose_builder -------------------------------------------------------------------------------


def builder(*agents: NodeAgent, avoid: str | None = None, uid: str = "uid-of-shop") -> str | None:
    chosen = choose_builder(make_checkpoint(uid=uid), states(*agents), avoid)
    return chosen.name if chosen else None


@pytest.mark.parametrize(
    "unable",
    [
        make_agent("node-a", criu=False),
        make_agent("node-a", ready=False),
        make_agent("node-a", deleting=True),
        make_silent_agent("node-a"),
    ],
    ids=["without CRIU", "not ready", "going", "silent"],
)
def test_who_cannot_checkpoint_does_not_build(unable: NodeAgent) -> None:
    assert builder(unable) is None
    assert builder(unable, make_agent("node-b", memory=0)) == "node-b"


def test_who_has_most_memory_builds() -> None:
    agents = [make_agent(f"node-{i}", memory=i * GIB) for i in range(8)]
    assert builder(*agents) == "node-7"


def test_a_few_pages_more_do_not_decide() -> None:
    a, b = make_agent("node-a", memory=8 * GIB), make_agent("node-b", memory=8 * GIB)
    more = make_agent("node-a", memory=8 * GIB + 4096), make_agent("node-b", memory=9 * GIB - 1)
    assert builder(a, b) == builder(*more)


def test_who_failed_builds_again_only_when_nobody_else_can() -> None:
    big, small = make_agent("node-a", memory=64 * GIB), make_agent("node-b", memory=GIB)
    assert builder(big, small, avoid="node-a") == "node-b"
    assert builder(big, avoid="node-a") == "node-a"


def test_different_checkpoints_are_built_on_different_nodes() -> None:
    agents = [state.agent for state in many(4)]
    chosen = {builder(*agents, uid=f"uid-{i}") for i in range(40)}
    assert chosen == set(names(many(4)))


# -- holders --------------------------------------------------------------------------------------


def test_without_a_number_all_hold_a_node_checkpoint() -> None:
    assert len(holders(make_checkpoint(), many(7), set(), set(), 0)) == 7


def test_who_holds_a_node_checkpoint_goes_on_holding_it() -> None:
    checkpoint = make_checkpoint(copies=2)
    for keeper in names(many(6)):
        assert keeper in names(holders(checkpoint, many(6), {keeper}, {keeper}, 0))


def test_who_can_restore_holds_rather_than_who_cannot() -> None:
    nodes = states(
        make_agent("node-a", criu=False), make_silent_agent("node-b"), make_agent("node-c")
    )
    assert names(holders(make_checkpoint(copies=1), nodes, set(), set(), 0)) == ["node-c"]


def test_when_a_node_joins_the_others_keep_what_they_are_to_hold() -> None:
    checkpoint = make_checkpoint(copies=3)
    before = set(names(holders(checkpoint, many(9), set(), set(), 0)))
    after = set(names(holders(checkpoint, many(10), set(), set(), 0)))
    assert len(before & after) >= 2, "at most the new one takes the place of one"


def test_node_checkpoints_are_spread_over_the_nodes() -> None:
    held = [
        name
        for i in range(60)
        for name in names(
            holders(make_checkpoint(uid=f"uid-{i}", copies=2), many(6), set(), set(), 0)
        )
    ]
    assert all(10 <= held.count(name) <= 30 for name in names(many(6)))


def test_the_same_question_has_the_same_answer() -> None:
    assert preference("seed", "node-a") == preference("seed", "node-a")
    assert preference("seed", "node-a") != preference("seed", "node-b")


# -- order_for ------------------------------------------------------------------------------------


def sources(
    node_checkpoints: list[NodeCheckpoint], *agents: NodeAgent, node: str = "node-z"
) -> list[str]:
    by_name = {state.name: state for state in states(*agents)}
    order = order_for(node, make_archive(), node_checkpoints, by_name)
    assert order.archive == make_archive()
    return [source.node_name for source in order.sources]


def test_a_source_is_named_with_its_address_and_certificate() -> None:
    nodes = {"node-a": make_state(make_agent("node-a"))}
    [source] = order_for("node-z", make_archive(), [make_node_checkpoint("node-a")], nodes).sources
    assert source.node_name == "node-a"
    assert source.url == "https://node-a.example:9443/archives"
    assert source.certificate == "certificate of node-a"


@pytest.mark.parametrize(
    "agent",
    [
        make_silent_agent("node-a"),
        make_agent("node-a", transfer_url=""),
        make_agent("node-a", certificate=""),
        make_agent("node-b"),
    ],
    ids=["silent", "without an address", "without a certificate", "of another node"],
)
def test_who_cannot_be_asked_is_not_named(agent: NodeAgent) -> None:
    assert sources([make_node_checkpoint("node-a")], agent) == []


def test_nobody_is_sent_to_itself() -> None:
    agents = make_agent("node-a"), make_agent("node-b")
    node_checkpoints = [make_node_checkpoint("node-a"), make_node_checkpoint("node-b")]
    assert sources(node_checkpoints, *agents, node="node-a") == ["node-b"]


def test_who_holds_other_bytes_is_not_named() -> None:
    other = make_node_checkpoint("node-a", archive=make_archive(b"built again"))
    none = make_node_checkpoint("node-b", phase=NodeCheckpointPhase.PENDING)
    assert sources([other, none], make_agent("node-a"), make_agent("node-b")) == []


def test_who_runs_nothing_may_give_all_the_same() -> None:
    agent = make_agent("node-a", criu=False, ready=False)
    assert sources([make_node_checkpoint("node-a")], agent) == ["node-a"]


def test_not_more_sources_are_named_than_are_of_use() -> None:
    agents = [state.agent for state in many(30)]
    node_checkpoints = [make_node_checkpoint(name) for name in names(many(30))]
    assert len(sources(node_checkpoints, *agents)) == MAX_SOURCES


def test_those_who_fetch_do_not_all_ask_the_same() -> None:
    agents = [state.agent for state in many(5)]
    node_checkpoints = [make_node_checkpoint(name) for name in names(many(5))]
    first = {sources(node_checkpoints, *agents, node=f"asks-{i}")[0] for i in range(50)}
    assert len(first) == 5


# -- shares ---------------------------------------------------------------------------------------


def shared(wanted: int, waiting: dict[str, int]) -> list[int]:
    """Return the nodes' shares, the one that is preferred first; all hold a good NodeCheckpoint."""
    checkpoint = make_checkpoint()
    spec = checkpoint.spec.model_copy(update={"pool": Pool(warm=wanted)})
    checkpoint = checkpoint.model_copy(update={"spec": spec})
    ranked = sorted(NODES, key=lambda node: preference(checkpoint.metadata.uid, node))
    places = dict(zip(("first", "second", "third"), ranked, strict=True))
    node_checkpoints = [
        make_node_checkpoint(places[place], warm_ready=ready) for place, ready in waiting.items()
    ]
    nodes = {node: make_state(make_agent(node)) for node in NODES}
    found = shares(checkpoint, node_checkpoints, nodes)
    return [found[places[place]].warm for place in waiting]


NODES = ("node-a", "node-b", "node-c")


@pytest.mark.parametrize(
    ("wanted", "even"),
    [
        (0, [0, 0, 0]),
        (1, [1, 0, 0]),
        (2, [1, 1, 0]),
        (3, [1, 1, 1]),
        (7, [3, 2, 2]),
    ],
)
def test_warm_sandboxes_are_spread_evenly(wanted: int, even: list[int]) -> None:
    assert shared(wanted, {"first": 0, "second": 0, "third": 0}) == even


@pytest.mark.parametrize(
    ("wanted", "waiting", "expected"),
    [
        # A node came that is preferred: what waits stays until it has its own.
        (1, {"first": 0, "second": 1}, [1, 1]),
        (1, {"first": 1, "second": 1}, [1, 0]),
        (2, {"first": 0, "second": 2}, [1, 2]),
        (2, {"first": 1, "second": 2}, [1, 1]),
        # One was claimed meanwhile: nothing is made where it is not to stay.
        (2, {"first": 0, "second": 1}, [1, 1]),
        (1, {"first": 0, "second": 0}, [1, 0]),
        # Fewer are wanted: at once.
        (1, {"first": 2, "second": 2}, [1, 0]),
        (0, {"first": 2, "second": 2}, [0, 0]),
        # No more are kept than are missing.
        (3, {"first": 1, "second": 2, "third": 4}, [1, 1, 1]),
        (3, {"first": 0, "second": 2, "third": 4}, [1, 2, 1]),
    ],
)
def test_what_waits_where_it_should_not_goes_once_others_wait(
    wanted: int, waiting: dict[str, int], expected: list[int]
) -> None:
    assert shared(wanted, waiting) == expected
