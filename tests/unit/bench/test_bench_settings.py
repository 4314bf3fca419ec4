"""Settings of the bench: where one cannot be used, the message says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import BenchError
from bench.settings import CHECKOUT, settings


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another checkout."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/__main__.py").touch()
    return tmp_path


def test_no_other_checkout_is_measured_unless_one_is_named() -> None:
    assert settings({}).base is None


def test_bench_base_names_another_checkout(other: Path) -> None:
    assert settings({"BENCH_BASE": str(other)}).base == other


@pytest.mark.parametrize("given", [str(CHECKOUT), "/nowhere"])
def test_bench_base_must_be_another_checkout(given: str) -> None:
    with pytest.raises(BenchError, match="git worktree add"):
        settings({"BENCH_BASE": given})
