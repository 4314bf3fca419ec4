"""Who asks for an archive. Strangers cost the API server little, whatever they send as a token."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from tryitnow.kubernetes.client import KubernetesApi, TokenIdentity
from tryitnow.settings import TRANSFER_AUDIENCE

KEPT_SECONDS = 60.0
"""How long a good TokenReview is believed: the API server is asked once per download, not once per
range. A token that was revoked meanwhile works for this long at most."""

REFUSED_SECONDS = 10.0
"""The same for a bad one: short, as a token may be newer than what the API server knows."""

_MOST_KEPT = 4096
"""Tokens that are remembered, and addresses; the oldest go first."""

_LONGEST_TOKEN = 8 << 10

REVIEWS_PER_ADDRESS = (5, 0.2)
"""Reviews at once and per second: an agent needs one in a minute."""

REVIEWS = (100, 10.0)
"""The same for all addresses together: a hundred agents may begin at once."""


_Known = tuple[TokenIdentity | None, float]
"""Whose a token is, and until when that is believed."""


class TooManyTokensError(Exception):
    """Too many unknown tokens came; the message says when to try again."""


class Allowance:
    """So many at once and so many per second, for each key by itself."""

    def __init__(
        self, at_once: int, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._at_once = at_once
        self._per_second = per_second
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, key: str) -> bool:
        """Take one, where one is left."""
        now = self._clock()
        left, since = self._left.pop(key, (float(self._at_once), now))
        left = min(self._at_once, left + (now - since) * self._per_second)
        taken = left >= 1
        self._left[key] = left - taken, now
        if len(self._left) > _MOST_KEPT:
            del self._left[next(iter(self._left))]
        return taken


class Identities:
    """Knows whom tokens belong to; asks the API server where it must, and seldom."""

    def __init__(
        self,
        kubernetes: KubernetesApi,
        agent_user: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kubernetes = kubernetes
        self._agent_user = agent_user
        self._clock = clock
        self._agents: dict[bytes, _Known] = {}
        self._strangers: dict[bytes, _Known] = {}
        self._per_address = Allowance(*REVIEWS_PER_ADDRESS, clock)
        self._in_all = Allowance(*REVIEWS, clock)

    async def of(self, token: str, address: str) -> tuple[TokenIdentity | None, bool]:
        """Return whom a token belongs to, None where it proves nothing; and whether that is news.

        Args:
            token: What the request brings; may be anything.
            address: Where it comes from.

        Raises:
            TooManyTokensError: the API server is not asked for this one now.
            KubernetesError: the API server does not answer.

        """
        if not token or len(token) > _LONGEST_TOKEN:
            return None, False
        mark = hashlib.sha256(token.encode(errors="surrogateescape")).digest()
        now = self._clock()
        for known in (self._agents, self._strangers):
            _forget(known, now)
            if mark in known:
                return known[mark][0], False
        # An agent is not kept out by strangers at other addresses, but for a flood from many.
        if not self._per_address.take(address) or not self._in_all.take(""):
            msg = "too many tokens that are not known here; try again in 5 s"
            raise TooManyTokensError(msg)
        identity = await self._kubernetes.review_token(token, TRANSFER_AUDIENCE)
        if identity is not None and identity.username == self._agent_user:
            self._agents[mark] = identity, now + KEPT_SECONDS
        else:
            self._strangers[mark] = identity, now + REFUSED_SECONDS
        return identity, True


def _forget(known: dict[bytes, _Known], now: float) -> None:
    """Drop what is too old or too much; the first are the oldest, as all are kept equally long."""
    while known:
        first = next(iter(known))
        if len(known) <= _MOST_KEPT and known[first][1] > now:
            return
        del known[first]
