"""``tryitnow demo``: what is refused before anything is asked."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.fakes import FakeKubernetes


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--parameter", "title"], "'title' is not of the form NAME=VALUE"),
        (["--parameter", "a=1", "--parameter", "a=2"], "'a' is given twice"),
        (["--ttl", "soon"], "write it like"),
        (["--start", "Sometimes"], "is not one of"),
    ],
)
def test_wrong_usage_is_told_and_nothing_is_created(
    run: Run, kubernetes: FakeKubernetes, words: list[str], told: str
) -> None:
    done = run("demo", "shop", *words)
    assert done.exit_code == 2
    assert told in done.output
    assert kubernetes.writes == []
