"""The identity of a node's storage: what is another storage is seen before anything is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tryitnow.agent.storage.identity import (
    FILE,
    Mark,
    Marks,
    new_storage_id,
    read_mark,
    what_changed,
    write_mark,
)

A, B, C, D = Mark("a"), Mark("b"), Mark("c"), Mark("d", replaces="b")


@pytest.mark.parametrize("mark", [Mark(new_storage_id()), Mark(new_storage_id(), "before")])
def test_a_mark_is_read_as_it_was_written(tmp_path: Path, mark: Mark) -> None:
    assert read_mark(tmp_path) is None
    write_mark(tmp_path / "new", mark)
    assert read_mark(tmp_path / "new") == mark
    write_mark(tmp_path / "new", Mark("another"))
    assert read_mark(tmp_path / "new") == Mark("another")


def test_ids_are_not_guessed_alike() -> None:
    assert len({new_storage_id() for _ in range(100)}) == 100
    assert len(new_storage_id()) == 32


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_an_empty_mark_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert read_mark(tmp_path) is None


def test_a_mark_that_is_no_text_is_another_storage(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff\xfe\x00")
    found = read_mark(tmp_path)
    assert found is not None
    assert what_changed(Marks(data=found, podman=Mark("a"), cluster="a")) is not None


@pytest.mark.parametrize(
    "marks",
    [
        Marks(None, None, None),
        Marks(A, A, None),
        Marks(A, A, "a"),
        Marks(Mark("a", "b"), Mark("a", "b"), "a"),
        Marks(Mark("a", "b"), Mark("a", "b"), "b"),
    ],
    ids=[
        "all new",
        "an agent object that is new",
        "as it was",
        "as it was since another was replaced",
        "the agent was killed before it reported what it took on",
    ],
)
def test_what_is_as_it_was_is_fine(marks: Marks) -> None:
    assert what_changed(marks) is None


@pytest.mark.parametrize(
    ("marks", "where"),
    [
        (Marks(None, A, None), "the data directory has"),
        (Marks(A, None, None), "Podman's storage has"),
        (Marks(A, B, None), "Podman's storage is not"),
        (Marks(None, A, "a"), "the data directory is not"),
        (Marks(B, A, "a"), "the data directory is not"),
        (Marks(A, None, "a"), "Podman's storage is not"),
        (Marks(A, B, "a"), "Podman's storage is not"),
        (Marks(None, None, "a"), "the data directory and Podman's storage are not"),
        (Marks(B, B, "a"), "the data directory and Podman's storage are not"),
        (Marks(D, D, "a"), "the data directory and Podman's storage are not"),
        (Marks(Mark("b", "a"), A, "a"), "the data directory is not"),
        (Marks(B, C, "a"), "the data directory and Podman's storage are not"),
    ],
)
def test_what_is_not_as_it_was_is_named(marks: Marks, where: str) -> None:
    text = what_changed(marks)
    assert text is not None
    assert text.startswith(where)
