"""Two demos at once, with asyncio; both are deleted at the end of their blocks."""

from __future__ import annotations

import asyncio

from tryitnow.client import AsyncClient


async def main() -> None:
    """Start both, and print where they are."""
    async with (
        AsyncClient() as client,
        asyncio.timeout(300),
        client.demo("shop", ttl="10m") as one,
        client.demo("shop", ttl="10m") as two,
    ):
        print(one.url, two.url)
        print([demo.metadata.name for demo in await client.demos()])


asyncio.run(main())
