"""The pool: a copy is handed out once, the one that waits longest first."""

from __future__ import annotations

from tryitnow.agent.names import warm_container
from tryitnow.agent.pool import Pool, WarmCopy

from tests.unit.builders import make_copy
from tryitnow.agent.sandbox import Sandbox
from tryitnow.api.meta import Key

COPY = make_copy()


def waiting() -> WarmCopy:
    return WarmCopy(warm_container(COPY), Sandbox(()), paused=False)


def test_each_copy_is_handed_out_once_and_the_oldest_first() -> None:
    pool, first, second = Pool[WarmCopy](), waiting(), waiting()
    pool.add(COPY.key, first)
    pool.add(COPY.key, second)
    assert [pool.take(COPY.key) for _ in range(3)] == [first, second, None]


def test_taking_one_has_it_replaced() -> None:
    changed: list[Key] = []
    pool: Pool[WarmCopy] = Pool(changed=changed.append)
    assert pool.take(COPY.key) is None
    pool.add(COPY.key, waiting())
    pool.take(COPY.key)
    assert changed == [COPY.key]


def test_one_that_was_handed_out_is_not_withdrawn() -> None:
    pool, copy = Pool[WarmCopy](), waiting()
    pool.add(COPY.key, copy)
    pool.take(COPY.key)
    assert not pool.withdraw(COPY.key, copy)


def test_one_that_was_withdrawn_is_not_handed_out() -> None:
    pool, copy = Pool[WarmCopy](), waiting()
    pool.add(COPY.key, copy)
    assert pool.names() == {str(copy.name)}
    assert pool.withdraw(COPY.key, copy)
    assert pool.take(COPY.key) is None
    assert pool.size == 0
