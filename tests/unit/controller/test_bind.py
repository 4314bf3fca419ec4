"""Which node runs an instance."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import pytest

from tests.unit.builders import (
    OTHER_REVISION,
    REVISION,
    make_agent,
    make_archive,
    make_checkpoint,
    make_demo,
    make_node,
    make_node_checkpoint,
    make_silent_agent,
    make_state,
)
from tryitnow.api.archive import Versions
from tryitnow.api.checkpoint import OnCrash, Pool
from tryitnow.api.demoinstance import StartPolicy
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import Fetch, NodeCheckpoint, NodeCheckpointPhase
from tryitnow.controller.bind import Binding, Unbound, bind
from tryitnow.controller.nodes import NodeState
from tryitnow.controller.usage import Usage

Start = StartPolicy

FETCH = Fetch(archive=make_archive())


def node_checkpoints_on(*nodes: str) -> list[NodeCheckpoint]:
    """Make good NodeCheckpoints; the first node is the builder."""
    return [make_node_checkpoint(node, fetch=FETCH if i else None) for i, node in enumerate(nodes)]


def decide(
    *agents: NodeAgent,
    node_checkpoints: Iterable[NodeCheckpoint] = (),
    load: Mapping[str, int] | None = None,
    claiming: Mapping[str, int] | None = None,
    reserved_bytes: Mapping[str, int] | None = None,
    warm_bytes: Mapping[str, int] | None = None,
    of_namespace: Mapping[str, int] | None = None,
    cordoned: Collection[str] = (),
    start: StartPolicy = Start.PREFER_RESTORE,
    serving: str | None = REVISION,
    on_crash: OnCrash | None = None,
    by_default: OnCrash = OnCrash.KEEP,
) -> Binding | Unbound:
    checkpoint = make_checkpoint(serving=serving)
    spec = checkpoint.spec.model_copy(update={"on_crash": by_default})
    return bind(
        make_demo(start=start, on_crash=on_crash),
        checkpoint.model_copy(update={"spec": spec}),
        serving or REVISION,
        list(node_checkpoints),
        [state_of(agent, cordoned) for agent in agents],
        Usage(
            load or {}, claiming or {}, reserved_bytes or {}, warm_bytes or {}, of_namespace or {}
        ),
    )


def state_of(agent: NodeAgent, cordoned: Collection[str]) -> NodeState:
    name = agent.metadata.name
    return make_state(agent, node=make_node(name, cordoned=name in cordoned))


A, B, C = make_agent("node-a"), make_agent("node-b"), make_agent("node-c")


def test_it_runs_where_a_good_node_checkpoint_is() -> None:
    assert decide(A, B, C, node_checkpoints=node_checkpoints_on("node-b")) == Binding(
        "node-b", REVISION
    )


def test_of_those_the_least_loaded_is_taken() -> None:
    load = {"node-a": 2, "node-b": 1, "node-c": 3}
    found = decide(
        A, B, C, node_checkpoints=node_checkpoints_on("node-a", "node-b", "node-c"), load=load
    )
    assert found == Binding("node-b", REVISION)


def test_at_equal_load_the_builder_is_spared() -> None:
    assert decide(A, B, node_checkpoints=node_checkpoints_on("node-a", "node-b")) == Binding(
        "node-b", REVISION
    )
    assert decide(A, B, node_checkpoints=node_checkpoints_on("node-b", "node-a")) == Binding(
        "node-a", REVISION
    )


def test_a_restore_on_a_busy_node_is_better_than_a_cold_start_on_an_idle_one() -> None:
    found = decide(A, B, node_checkpoints=node_checkpoints_on("node-a"), load={"node-a": 9})
    assert found == Binding("node-a", REVISION)


@pytest.mark.parametrize(
    "node_checkpoint",
    [
        make_node_checkpoint("node-a", phase=NodeCheckpointPhase.QUARANTINED),
        make_node_checkpoint("node-a", phase=NodeCheckpointPhase.FETCHING, fetch=FETCH),
        make_node_checkpoint("node-a", deleting=True),
        make_node_checkpoint("node-a", revision=OTHER_REVISION),
    ],
    ids=["quarantined", "on its way", "going", "another revision"],
)
def test_a_node_checkpoint_that_cannot_be_restored_draws_nobody(
    node_checkpoint: NodeCheckpoint,
) -> None:
    found = decide(
        A, B, node_checkpoints=[node_checkpoint, *node_checkpoints_on("node-b")], load={"node-b": 5}
    )
    assert found == Binding("node-b", REVISION)


def test_a_holder_whose_processor_became_another_one_is_passed_over() -> None:
    """Its agent has not said yet that the archive is of no use there any more."""
    archive = make_archive(versions=Versions(cpu_features=("avx", "xsave")))
    held = [make_node_checkpoint(node, archive=archive) for node in ("node-a", "node-b")]
    decision = decide(
        make_agent("node-a", cpu_features=("fxsr",)),
        make_agent("node-b", cpu_features=("avx", "fxsr", "xsave")),
        node_checkpoints=held,
        load={"node-b": 5},
    )
    assert isinstance(decision, Binding)
    assert decision.node_name == "node-b"


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
def test_a_holder_that_cannot_restore_now_is_passed_over(holder: NodeAgent) -> None:
    load = {"node-a": 5, "node-b": 7}
    found = decide(holder, B, node_checkpoints=node_checkpoints_on("node-a", "node-b"), load=load)
    assert found == Binding("node-b", REVISION)


@pytest.mark.parametrize(
    ("own", "by_default", "expected"),
    [
        (None, OnCrash.KEEP, OnCrash.KEEP),
        (None, OnCrash.RESET, OnCrash.RESET),
        (OnCrash.KEEP, OnCrash.RESET, OnCrash.KEEP),
        (OnCrash.RESET, OnCrash.KEEP, OnCrash.RESET),
    ],
)
def test_what_happens_at_a_crash_is_decided_at_the_bind(
    own: OnCrash | None, by_default: OnCrash, expected: OnCrash
) -> None:
    found = decide(
        A, node_checkpoints=node_checkpoints_on("node-a"), on_crash=own, by_default=by_default
    )
    assert found == Binding("node-a", REVISION, expected)


def test_the_memory_that_the_build_found_counts_before_the_node_has_looked() -> None:
    archive = make_archive(memory_bytes=9 << 30)
    node_checkpoints = [make_node_checkpoint("node-a", archive=archive)]
    found = decide(A, node_checkpoints=node_checkpoints)
    assert isinstance(found, Unbound)
    assert "is short of memory: it needs 9216 MiB" in found.message


# -- cold starts ----------------------------------------------------------------------------------


def test_without_a_node_checkpoint_it_starts_cold_where_least_runs() -> None:
    found = decide(A, B, C, load={"node-a": 1, "node-b": 0, "node-c": 2}, serving=None)
    assert found == Binding("node-b", REVISION)


def test_without_criu_it_starts_cold() -> None:
    agents = [make_agent("node-a", criu=False), make_agent("node-b", criu=False)]
    found = decide(*agents, node_checkpoints=node_checkpoints_on("node-a", "node-b"))
    assert found == Binding("node-b", REVISION)


def test_one_that_wants_a_cold_start_goes_where_least_runs() -> None:
    found = decide(
        A,
        B,
        node_checkpoints=node_checkpoints_on("node-a"),
        load={"node-a": 1},
        start=Start.COLD_START,
    )
    assert found == Binding("node-b", REVISION)


def test_one_that_must_be_restored_waits_for_a_node_checkpoint() -> None:
    found = decide(A, B, start=Start.RESTORE_ONLY, serving=None)
    assert isinstance(found, Unbound)
    assert found.reason == "NoNodeCheckpoint"
    assert "spec.start is RestoreOnly" in found.message


def test_one_that_must_be_restored_goes_to_the_node_checkpoint() -> None:
    found = decide(A, B, node_checkpoints=node_checkpoints_on("node-b"), start=Start.RESTORE_ONLY)
    assert found == Binding("node-b", REVISION)


def test_one_that_must_be_restored_waits_for_room_where_the_node_checkpoint_is() -> None:
    found = decide(
        A,
        B,
        node_checkpoints=node_checkpoints_on("node-b"),
        load={"node-b": 10},
        start=Start.RESTORE_ONLY,
    )
    assert isinstance(found, Unbound)
    assert found.reason == "NoNodeCheckpoint"
    assert "no node with room" in found.message


# -- refusals -------------------------------------------------------------------------------------


def test_with_all_nodes_full_it_says_how_full_they_are() -> None:
    short = make_agent("node-b", memory=0)
    found = decide(A, short, make_silent_agent("node-c"), load={"node-a": 10})
    assert isinstance(found, Unbound)
    assert found.reason == "NoRoom"
    assert "node-a runs 10, its maximum" in found.message
    assert "node-b is short of memory" in found.message
    assert "node-c" not in found.message


def test_warm_sandboxes_of_others_keep_no_demo_from_a_node() -> None:
    full, free = make_agent("node-a", memory=0), make_agent("node-b")
    assert isinstance(decide(full), Unbound)
    assert decide(full, warm_bytes={"node-a": 1 << 30}) == Binding("node-a", REVISION)
    found = decide(full, free, warm_bytes={"node-a": 1 << 30}, load={"node-b": 5})
    assert found == Binding("node-b", REVISION), "where none has to give way"


def test_a_namespace_takes_no_more_of_a_node_than_its_share() -> None:
    def sharing(name: str) -> NodeAgent:
        agent = make_agent(name)
        status = agent.status.model_copy(update={"namespace_capacity": 5})
        return agent.model_copy(update={"status": status})

    nodes = [sharing("node-a"), sharing("node-b")]
    found = decide(*nodes, load={"node-b": 8}, of_namespace={"node-a": 5, "node-b": 4})
    assert found == Binding("node-b", REVISION)
    found = decide(*nodes, of_namespace={"node-a": 5, "node-b": 6})
    assert isinstance(found, Unbound)
    assert found.reason == "NoRoom"
    assert "node-a runs 5 of this namespace, its maximum" in found.message
    assert decide(A, of_namespace={"node-a": 9}) == Binding("node-a", REVISION), "an older agent"


def test_the_last_room_is_given() -> None:
    assert decide(A, load={"node-a": 9}) == Binding("node-a", REVISION)


def test_without_a_selected_node_it_says_where_to_check() -> None:
    found = decide()
    assert isinstance(found, Unbound)
    assert found.reason == "NoNode"
    assert "nodeSelector" in found.message


def test_with_no_node_alive_it_says_what_is_with_each() -> None:
    found = decide(make_silent_agent("node-a"), make_agent("node-b", ready=False))
    assert isinstance(found, Unbound)
    assert found.reason == "NoNode"
    assert "node-a is silent, node-b is not ready" in found.message


def test_a_node_with_a_warm_sandbox_comes_before_a_less_loaded_one() -> None:
    node_checkpoints = [
        warm(node_checkpoint, 1 if node_checkpoint.spec.node_name == "node-b" else 0)
        for node_checkpoint in two_node_checkpoints()
    ]
    assert decide(A, B, node_checkpoints=node_checkpoints, load={"node-b": 5}) == Binding(
        "node-b", REVISION
    )


def test_a_warm_sandbox_is_not_counted_on_twice() -> None:
    node_checkpoints = [
        warm(node_checkpoint, 1 if node_checkpoint.spec.node_name == "node-b" else 0)
        for node_checkpoint in two_node_checkpoints()
    ]
    found = decide(
        A, B, node_checkpoints=node_checkpoints, load={"node-b": 5}, claiming={"node-b": 1}
    )
    assert found == Binding("node-a", REVISION)


def test_what_is_on_its_way_out_of_the_pool_is_not_counted_on() -> None:
    on_a, on_b = two_node_checkpoints()
    leaving = on_b.model_copy(update={"status": on_b.status.model_copy(update={"warm_ready": 1})})
    found = decide(A, B, node_checkpoints=[on_a, leaving], load={"node-b": 5})
    assert found == Binding("node-a", REVISION)


def two_node_checkpoints() -> list[NodeCheckpoint]:
    return list(node_checkpoints_on("node-a", "node-b"))


def warm(node_checkpoint: NodeCheckpoint, number: int) -> NodeCheckpoint:
    status = node_checkpoint.status.model_copy(update={"warm_ready": number})
    spec = node_checkpoint.spec.model_copy(update={"pool": Pool(warm=number)})
    return node_checkpoint.model_copy(update={"status": status, "spec": spec})


# -- what is given away, or not to be given -------------------------------------------------------


def test_a_cordoned_node_gets_nothing_though_a_warm_sandbox_waits_there() -> None:
    node_checkpoints = [
        warm(node_checkpoint, 1 if node_checkpoint.spec.node_name == "node-b" else 0)
        for node_checkpoint in two_node_checkpoints()
    ]
    assert decide(A, B, node_checkpoints=node_checkpoints, cordoned=["node-b"]) == Binding(
        "node-a", REVISION
    )
    found = decide(A, B, node_checkpoints=node_checkpoints, cordoned=["node-a", "node-b"])
    assert isinstance(found, Unbound)
    assert found.reason == "NoNode"
    assert "node-a is cordoned, node-b is cordoned" in found.message


def test_a_node_whose_agent_ends_gets_nothing_until_it_is_back() -> None:
    ending = make_agent("node-b", stopping=True)
    assert decide(
        A, ending, node_checkpoints=two_node_checkpoints(), load={"node-a": 5}
    ) == Binding("node-a", REVISION)
    found = decide(ending, node_checkpoints=two_node_checkpoints())
    assert isinstance(found, Unbound)
    assert "node-b has an agent that is stopping" in found.message


MIB = 1 << 20


def of_size(node_checkpoint: NodeCheckpoint, size_bytes: int) -> NodeCheckpoint:
    status = node_checkpoint.status.model_copy(update={"memory_bytes": size_bytes})
    return node_checkpoint.model_copy(update={"status": status})


def test_memory_that_is_reserved_is_not_promised_again() -> None:
    agents = [make_agent(name, memory=1000 * MIB) for name in ("node-a", "node-b")]
    node_checkpoints = [
        of_size(node_checkpoint, 300 * MIB) for node_checkpoint in two_node_checkpoints()
    ]
    promised = {"node-a": 701 * MIB, "node-b": 700 * MIB}
    load = {"node-a": 0, "node-b": 9}
    assert decide(
        *agents, node_checkpoints=node_checkpoints, load=load, reserved_bytes=promised
    ) == Binding("node-b", REVISION)
    promised["node-b"] += MIB
    found = decide(*agents, node_checkpoints=node_checkpoints, load=load, reserved_bytes=promised)
    assert isinstance(found, Unbound)
    assert found.reason == "NoRoom"
    assert "node-a is short of memory: it needs 300 MiB" in found.message


def test_what_waits_warm_needs_no_more_memory() -> None:
    agent = make_agent("node-a", memory=MIB)
    [node_checkpoint] = node_checkpoints_on("node-a")
    large = of_size(node_checkpoint, 300 * MIB)
    assert isinstance(decide(agent, node_checkpoints=[large]), Unbound)
    promised = {"node-a": 900 * MIB}
    bound = Binding("node-a", REVISION)
    assert decide(agent, node_checkpoints=[warm(large, 1)], reserved_bytes=promised) == bound
    cold = decide(
        agent,
        node_checkpoints=[warm(large, 1)],
        reserved_bytes=promised,
        start=StartPolicy.COLD_START,
    )
    assert isinstance(cold, Unbound), "which claims none"
