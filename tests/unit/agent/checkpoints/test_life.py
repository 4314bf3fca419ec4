"""A NodeCheckpoint's life: built, prepared, tested on this node, and only then Ready."""

from __future__ import annotations

from tests.unit.agent.checkpoints.shop import Shop
from tryitnow.agent.sandbox.names import Role, work_name


async def test_an_order_without_a_source_is_built_prepared_and_tested(shop: Shop) -> None:
    actor = shop.order()
    await shop.until_ready()
    assert actor.is_ready
    assert actor.generation is not None
    assert shop.ready.status == "True"
    archive = shop.status.archive
    assert archive is not None
    shop.tools.archives.check(shop.file, archive)
    verify = str(work_name(Role.VERIFY, actor.resource))
    assert shop.asked(f"restore prepared {verify}")
    assert shop.sandboxes(Role.BUILD, Role.VERIFY, Role.PREPARE) == []
