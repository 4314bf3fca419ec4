"""Each test has a shop of its own: what one writes, no other sees."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable

from tryitnow.client import Demo


def test_the_shop_answers(tryitnow_demo: Callable[..., Demo]) -> None:
    shop = tryitnow_demo("shop", ttl="10m")
    with urllib.request.urlopen(f"{shop.url}/healthz") as answer:
        assert answer.status == 200
