"""A demo whose container ended: its files are kept, and it is started again by the same path."""

from __future__ import annotations

from tests.unit.agent.demos.shop import Shop


async def test_x(shop: Shop) -> None:
    demo = await shop.ready()
    print(shop.seen(demo).status)
    shop.crash(demo)
    print(await shop.look(demo))
    print(shop.seen(demo).status, shop.podman.log, shop.commands(), shop.firewall.states)
    assert shop.is_kept(demo)
    assert 0
