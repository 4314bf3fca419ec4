"""A promise without a test that exists is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.specification import PAGE, problems, promises

HEAD = "| promise | tests |\n|---|---|\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_it.py").write_text("async def test_held(): ...\ndef helper(): ...\n")
    return tmp_path


def test_a_promise_whose_test_exists_is_fine(root: Path) -> None:
    assert problems(f"{HEAD}| It holds. | `tests/test_it.py::test_held` |\n", root) == []


@pytest.mark.parametrize(
    "tests",
    [
        "none",
        "`tests/test_it.py::test_gone`",
        "`tests/test_it.py::helper`",
        "`tests/test_gone.py::test_held`",
        "`tests/test_it.py::test_held`, `tests/test_it.py::test_gone`",
    ],
)
def test_a_promise_without_one_is_found(root: Path, tests: str) -> None:
    [problem] = problems(f"{HEAD}| It does not hold. | {tests} |\n", root)
    assert "It does not hold." in problem


def test_a_page_without_promises_is_none(root: Path) -> None:
    assert problems(HEAD, root)


def test_each_promise_stands_in_the_page_once() -> None:
    texts = [promise.text for promise in promises(PAGE.read_text())]
    assert len(texts) == len(set(texts)) > 40
