"""A pool is filled before anybody ever claimed from it."""

from __future__ import annotations

from tests.unit.builders import make_blueprint, make_copy
from tests.unit.fakes import FakeKubernetes
from tryitnow.agent.node import Node
from tryitnow.agent.nodecheckpoint import reconcile_copy
from tryitnow.agent.warm import reconcile_pool
from tryitnow.api.checkpoint import Compression, CRIUOptions, Pool
from tryitnow.api.nodecheckpoint import NodeCheckpointPhase


async def test_an_agent_that_has_just_started_fills_its_pool(
    node: Node, kubernetes: FakeKubernetes
) -> None:
    order = make_copy(
        phase=NodeCheckpointPhase.PENDING,
        blueprint=make_blueprint(criu=CRIUOptions(compression=Compression.NONE)),
    )
    spec = order.spec.model_copy(update={"pool": Pool(warm=2)})
    key = node.copies.update(kubernetes.put(order.model_copy(update={"spec": spec}))).key
    await reconcile_copy(node, key)
    await reconcile_pool(node, key)
    assert len(node.pool.of(key)) == 2
