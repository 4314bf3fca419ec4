"""Which node runs an instance."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import pytest

from tests.unit.builders import (
    REVISION,
    make_agent,
    make_archive,
    make_checkpoint,
    make_copy,
    make_instance,
    make_node,
    make_silent_agent,
    make_state,
)
from tryitnow.api.checkpoint import Pool
from tryitnow.api.demoinstance import StartPolicy
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import Fetch, NodeCheckpoint, NodeCheckpointPhase
from tryitnow.controller.bind import Binding, Unbound, bind
from tryitnow.controller.nodes import NodeState
from tryitnow.controller.usage import Usage

Start = StartPolicy

FETCH = Fetch(archive=make_archive())


def copies_on(*nodes: str) -> list[NodeCheckpoint]:
    """Make good copies; the first node is the builder."""
    return [make_copy(node, fetch=FETCH if i else None) for i, node in enumerate(nodes)]


def decide(
    *agents: NodeAgent,
    copies: Iterable[NodeCheckpoint] = (),
    load: Mapping[str, int] | None = None,
    claiming: Mapping[str, int] | None = None,
    reserved_bytes: Mapping[str, int] | None = None,
    cordoned: Collection[str] = (),
    start: StartPolicy = Start.PREFER_RESTORE,
    serving: str | None = REVISION,
) -> Binding | Unbound:
    return bind(
        make_instance(start=start),
        make_checkpoint(serving=serving),
        list(copies),
        [state_of(agent, cordoned) for agent in agents],
        Usage(load or {}, claiming or {}, reserved_bytes or {}),
    )


def state_of(agent: NodeAgent, cordoned: Collection[str]) -> NodeState:
    name = agent.metadata.name
    return make_state(agent, node=make_node(name, cordoned=name in cordoned))


A, B, C = make_agent("node-a"), make_agent("node-b"), make_agent("node-c")


def test_it_runs_where_a_good_copy_is() -> None:
    assert decide(A, B, C, copies=copies_on("node-b")) == Binding("node-b", REVISION)


def test_of_those_the_least_loaded_is_taken() -> None:
    load = {"node-a": 2, "node-b": 1, "node-c": 3}
    found = decide(A, B, C, copies=copies_on("node-a", "node-b", "node-c"), load=load)
    assert found == Binding("node-b", REVISION)


def test_at_equal_load_the_builder_is_spared() -> None:
    assert decide(A, B, copies=copies_on("node-a", "node-b")) == Binding("node-b", REVISION)
    assert decide(A, B, copies=copies_on("node-b", "node-a")) == Binding("node-a", REVISION)


def test_a_thaw_on_a_busy_node_is_better_than_a_cold_start_on_an_idle_one() -> None:
    found = decide(A, B, copies=copies_on("node-a"), load={"node-a": 9})
    assert found == Binding("node-a", REVISION)


@pytest.mark.parametrize(
    "copy",
    [
        make_copy("node-a", phase=NodeCheckpointPhase.QUARANTINED),
        make_copy("node-a", phase=NodeCheckpointPhase.DOWNLOADING, fetch=FETCH),
        make_copy("node-a", deleting=True),
        make_copy("node-a", revision="0123456789"),
    ],
    ids=["quarantined", "on its way", "going", "another revision"],
)
def test_a_copy_that_cannot_be_thawed_draws_nobody(copy: NodeCheckpoint) -> None:
    found = decide(A, B, copies=[copy, *copies_on("node-b")], load={"node-b": 5})
    assert found == Binding("node-b", REVISION)


@pytest.mark.parametrize(
    "holder",
    [
        make_silent_agent("node-a"),
        make_agent("node-a", ready=False),
        make_agent("node-a", criu=False),
        make_agent("node-a", capacity=5),
        make_agent("node-a", memory=0),
    ],
    ids=["silent", "not ready", "without CRIU", "full", "short of memory"],
)
def test_a_holder_that_cannot_thaw_now_is_passed_over(holder: NodeAgent) -> None:
    load = {"node-a": 5, "node-b": 7}
    found = decide(holder, B, copies=copies_on("node-a", "node-b"), load=load)
    assert found == Binding("node-b", REVISION)


# -- cold starts ----------------------------------------------------------------------------------


def test_without_a_copy_it_starts_cold_where_least_runs() -> None:
    found = decide(A, B, C, load={"node-a": 1, "node-b": 0, "node-c": 2}, serving=None)
    assert found == Binding("node-b", None)


def test_without_criu_it_starts_cold() -> None:
    agents = [make_agent("node-a", criu=False), make_agent("node-b", criu=False)]
    found = decide(*agents, copies=copies_on("node-a", "node-b"))
    assert found == Binding("node-b", REVISION)


def test_one_that_wants_a_cold_start_goes_where_least_runs() -> None:
    found = decide(A, B, copies=copies_on("node-a"), load={"node-a": 1}, start=Start.COLD_START)
    assert found == Binding("node-b", REVISION)


def test_one_that_must_be_thawed_waits_for_a_copy() -> None:
    found = decide(A, B, start=Start.RESTORE_ONLY, serving=None)
    assert isinstance(found, Unbound)
    assert found.reason == "NoCopy"
    assert "spec.start is RestoreOnly" in found.message


def test_one_that_must_be_thawed_goes_to_the_copy() -> None:
    found = decide(A, B, copies=copies_on("node-b"), start=Start.RESTORE_ONLY)
    assert found == Binding("node-b", REVISION)


def test_one_that_must_be_thawed_waits_for_room_where_the_copy_is() -> None:
    found = decide(A, B, copies=copies_on("node-b"), load={"node-b": 10}, start=Start.RESTORE_ONLY)
    assert isinstance(found, Unbound)
    assert found.reason == "NoCopy"
    assert "no node with room" in found.message


# -- refusals -------------------------------------------------------------------------------------


def test_with_all_nodes_full_it_says_how_full_they_are() -> None:
    short = make_agent("node-b", memory=0)
    found = decide(A, short, make_silent_agent("node-c"), load={"node-a": 10})
    assert isinstance(found, Unbound)
    assert found.reason == "NoRoom"
    assert "node-a runs 10, its most" in found.message
    assert "node-b is short of memory" in found.message
    assert "node-c" not in found.message


def test_the_last_room_is_given() -> None:
    assert decide(A, load={"node-a": 9}) == Binding("node-a", REVISION)


def test_without_a_selected_node_it_says_where_to_look() -> None:
    found = decide()
    assert isinstance(found, Unbound)
    assert found.reason == "NoNode"
    assert "nodeSelector" in found.message


def test_with_no_node_alive_it_says_what_is_with_each() -> None:
    found = decide(make_silent_agent("node-a"), make_agent("node-b", ready=False))
    assert isinstance(found, Unbound)
    assert found.reason == "NoNode"
    assert "node-a is silent, node-b is not ready" in found.message


def test_a_node_with_a_warm_copy_comes_before_a_less_loaded_one() -> None:
    copies = [warm(copy, 1 if copy.spec.node_name == "node-b" else 0) for copy in two_copies()]
    assert decide(A, B, copies=copies, load={"node-b": 5}) == Binding("node-b", REVISION)


def test_a_warm_copy_is_not_counted_on_twice() -> None:
    copies = [warm(copy, 1 if copy.spec.node_name == "node-b" else 0) for copy in two_copies()]
    found = decide(A, B, copies=copies, load={"node-b": 5}, claiming={"node-b": 1})
    assert found == Binding("node-a", REVISION)


def test_what_is_on_its_way_out_of_the_pool_is_not_counted_on() -> None:
    on_a, on_b = two_copies()
    leaving = on_b.model_copy(update={"status": on_b.status.model_copy(update={"warm_ready": 1})})
    found = decide(A, B, copies=[on_a, leaving], load={"node-b": 5})
    assert found == Binding("node-a", REVISION)


def two_copies() -> list[NodeCheckpoint]:
    return list(copies_on("node-a", "node-b"))


def warm(copy: NodeCheckpoint, number: int) -> NodeCheckpoint:
    status = copy.status.model_copy(update={"warm_ready": number})
    spec = copy.spec.model_copy(update={"pool": Pool(warm=number)})
    return copy.model_copy(update={"status": status, "spec": spec})


# -- what is given away, or not to be given -------------------------------------------------------


def test_a_cordoned_node_gets_nothing_though_a_warm_copy_waits_there() -> None:
    copies = [warm(copy, 1 if copy.spec.node_name == "node-b" else 0) for copy in two_copies()]
    assert decide(A, B, copies=copies, cordoned=["node-b"]) == Binding("node-a", REVISION)
    found = decide(A, B, copies=copies, cordoned=["node-a", "node-b"])
    assert isinstance(found, Unbound)
    assert found.reason == "NoNode"
    assert "node-a is cordoned, node-b is cordoned" in found.message


def test_a_node_whose_agent_ends_gets_nothing_until_it_is_back() -> None:
    ending = make_agent("node-b", stopping=True)
    assert decide(A, ending, copies=two_copies(), load={"node-a": 5}) == Binding("node-a", REVISION)
    found = decide(ending, copies=two_copies())
    assert isinstance(found, Unbound)
    assert "node-b has its agent stopped" in found.message


MIB = 1 << 20


def of_size(copy: NodeCheckpoint, size_bytes: int) -> NodeCheckpoint:
    status = copy.status.model_copy(update={"memory_bytes": size_bytes})
    return copy.model_copy(update={"status": status})


def test_memory_that_is_promised_is_not_promised_again() -> None:
    agents = [make_agent(name, memory=1000 * MIB) for name in ("node-a", "node-b")]
    copies = [of_size(copy, 300 * MIB) for copy in two_copies()]
    promised = {"node-a": 701 * MIB, "node-b": 700 * MIB}
    load = {"node-a": 0, "node-b": 9}
    assert decide(*agents, copies=copies, load=load, reserved_bytes=promised) == Binding(
        "node-b", REVISION
    )
    promised["node-b"] += MIB
    found = decide(*agents, copies=copies, load=load, reserved_bytes=promised)
    assert isinstance(found, Unbound)
    assert found.reason == "NoRoom"
    assert "node-a is short of memory: it needs 300 MiB" in found.message


def test_what_waits_warm_needs_no_more_memory() -> None:
    agent = make_agent("node-a", memory=MIB)
    [copy] = copies_on("node-a")
    large = of_size(copy, 300 * MIB)
    assert isinstance(decide(agent, copies=[large]), Unbound)
    promised = {"node-a": 900 * MIB}
    bound = Binding("node-a", REVISION)
    assert decide(agent, copies=[warm(large, 1)], reserved_bytes=promised) == bound
    cold = decide(
        agent, copies=[warm(large, 1)], reserved_bytes=promised, start=StartPolicy.COLD_START
    )
    assert isinstance(cold, Unbound), "which claims none"
