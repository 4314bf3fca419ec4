"""What is wiped is gone from the disk, not from the directory alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.agent.storage.conftest import MakeDeep
from tryitnow.agent.storage.archives import ArchiveName, ArchiveStore
from tryitnow.agent.storage.generations import GenerationStore
from tryitnow.agent.storage.trash import Trash
from tryitnow.agent.storage.wipe import Remover
from tryitnow.api.definition import Compression
from tryitnow.api.meta import Key

SECRET = b"the password of the shop " * 100_000
NAME = ArchiveName(Key("default", "shop"), "1" * 32, Compression.NONE)

WIPER = Remover(wipe=True)


class Witness:
    """Keeps files open, so that their blocks can be read when they have no name any more."""

    def __init__(self) -> None:
        self.handles: dict[Path, int] = {}

    def watch(self, path: Path) -> None:
        self.handles[path] = os.open(path, os.O_RDONLY)

    def sees(self, path: Path) -> bytes:
        return os.pread(self.handles[path], len(SECRET), 0)

    def blocks(self, path: Path) -> int:
        return os.fstat(self.handles[path]).st_blocks


@pytest.fixture
def witness() -> Iterator[Witness]:
    made = Witness()
    yield made
    for handle in made.handles.values():
        os.close(handle)


def secret(path: Path, witness: Witness) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(SECRET)
    witness.watch(path)
    return path


@pytest.mark.parametrize("wipe", [True, False])
def test_an_archive_that_is_removed_is_overwritten_where_that_is_wanted(
    tmp_path: Path,
    witness: Witness,
    wipe: bool,  # noqa: FBT001
) -> None:
    store = ArchiveStore(tmp_path / "checkpoints", Remover(wipe=wipe))
    store.open()
    store.write(NAME, iter([SECRET]))
    archive = store.path(NAME)
    partial = secret(store.partial(NAME, "2" * 64, "node-b"), witness)
    witness.watch(archive)
    store.remove(NAME)
    assert store.names() == set()
    for path in (archive, partial):
        assert (witness.sees(path) == SECRET) is not wipe
        if wipe:
            assert not witness.sees(path).strip(b"\0")
            assert witness.blocks(path) == 0, "the disk has the blocks back"


def test_an_archive_that_another_one_replaces_is_overwritten_and_the_other_is_whole(
    tmp_path: Path, witness: Witness
) -> None:
    store = ArchiveStore(tmp_path / "checkpoints", WIPER)
    store.open()
    store.write(NAME, iter([SECRET]))
    witness.watch(store.path(NAME))
    store.write(NAME, iter([b"another"]))
    assert not witness.sees(store.path(NAME)).strip(b"\0")
    assert store.path(NAME).read_bytes() == b"another"


def test_what_an_interrupted_write_left_is_overwritten(tmp_path: Path, witness: Witness) -> None:
    left = secret(tmp_path / f".{NAME}.new", witness)
    ArchiveStore(tmp_path, WIPER).open()
    assert not left.exists()
    assert not witness.sees(left).strip(b"\0")


def test_the_unpacked_memory_of_an_application_is_overwritten(
    tmp_path: Path, witness: Witness
) -> None:
    store = GenerationStore(tmp_path / "data", WIPER)
    store.open()
    unfinished = store.begin("shop")
    secret(unfinished / "shop/checkpoint/pages-1.img", witness)
    generation = store.finish(unfinished, "3" * 64, {})
    store.remove(generation.directory)
    assert not generation.directory.exists()
    assert not witness.sees(unfinished / "shop/checkpoint/pages-1.img").strip(b"\0")


def test_what_leaves_the_trash_is_overwritten(
    tmp_path: Path, witness: Witness, make_deep: MakeDeep
) -> None:
    trash = Trash(tmp_path / "trash", WIPER)
    trash.open()
    make_deep(tmp_path / "volumes")
    volume, archive = secret(tmp_path / "volumes/orders", witness), secret(tmp_path / "a", witness)
    entries = [trash.put(path).name for path in (tmp_path / "volumes", archive)]
    for name in entries:
        trash.delete(name)
        trash.delete(name)
    assert trash.entries() == set()
    for path in (volume, archive):
        assert not witness.sees(path).strip(b"\0")


def test_a_file_with_another_name_elsewhere_is_left_to_that(
    tmp_path: Path, witness: Witness
) -> None:
    kept = secret(tmp_path / "kept", witness)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").hardlink_to(kept)
    (tmp_path / "tree/symlink").symlink_to(kept)
    WIPER.tree(tmp_path / "tree")
    assert kept.read_bytes() == SECRET


def test_a_link_in_the_place_of_an_archive_leads_nowhere(
    tmp_path: Path, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    kept = secret(tmp_path / "kept", witness)
    (tmp_path / "archive").symlink_to(kept)
    with caplog.at_level(logging.WARNING):
        WIPER.file(tmp_path / "archive")
    assert not (tmp_path / "archive").is_symlink()
    assert kept.read_bytes() == SECRET
    assert "without being wiped" in caplog.text


def test_holes_are_not_filled(tmp_path: Path, witness: Witness) -> None:
    """A disk that is full must not get fuller by a removal."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 30)
        file.write(SECRET)
    witness.watch(path)
    WIPER.file(path)
    assert not path.exists()
    assert not os.pread(witness.handles[path], len(SECRET), 1 << 30).strip(b"\0")


def test_what_is_gone_is_gone(tmp_path: Path) -> None:
    WIPER.file(tmp_path / "gone")
    WIPER.tree(tmp_path / "gone")
