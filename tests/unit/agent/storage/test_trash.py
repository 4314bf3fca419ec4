"""The trash: what is moved there is whole, and gone when it is deleted."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.unit.agent.storage.conftest import MakeDeep
from tryitnow.agent.storage.trash import Trash


@pytest.fixture
def trash(tmp_path: Path) -> Trash:
    trash = Trash(tmp_path / "trash")
    trash.open()
    return trash


def test_nobody_but_root_can_look_in(trash: Trash) -> None:
    assert trash.directory.stat().st_mode & 0o777 == 0o700


def test_what_is_put_there_is_the_very_same(trash: Trash, tmp_path: Path) -> None:
    (tmp_path / "volumes").mkdir()
    (tmp_path / "volumes/file").write_text("orders of a week")
    inode = (tmp_path / "volumes/file").stat().st_ino
    target = trash.put(tmp_path / "volumes")
    assert not (tmp_path / "volumes").exists()
    assert (target / "file").stat().st_ino == inode
    assert trash.entries() == {target.name}


def test_things_of_one_name_lie_side_by_side(trash: Trash, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "file").write_text(str(number))
        trash.put(tmp_path / "file")
    assert len(trash.entries()) == 3


def test_what_is_gone_cannot_be_put_there(trash: Trash, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        trash.put(tmp_path / "gone")
    assert trash.entries() == set()


def test_deleting_takes_one_entry(trash: Trash, tmp_path: Path, make_deep: MakeDeep) -> None:
    make_deep(tmp_path / "tree")
    (tmp_path / "file").touch()
    tree, file = trash.put(tmp_path / "tree"), trash.put(tmp_path / "file")
    trash.delete(tree.name)
    trash.delete(tree.name)
    assert trash.entries() == {file.name}
    trash.delete(file.name)
    assert trash.entries() == set()


def test_a_volume_of_memory_can_be_deleted_for_good(trash: Trash, tmp_path: Path) -> None:
    memory = tmp_path / "volumes" / "cache"
    memory.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", memory], check=True)
    target = trash.put(tmp_path / "volumes")
    try:
        trash.delete(target.name)
        assert trash.entries() == set()
    finally:
        subprocess.run(["umount", target / "cache"], check=False, capture_output=True)
    assert str(target) not in Path("/proc/self/mounts").read_text()
