"""Files: the old content or the new one, and removed whatever they look like."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.agent.storage.conftest import MakeDeep
from tryitnow.agent.storage.files import (
    free_bytes,
    remove_tree,
    short_of_disk,
    sync_file_system,
    write_whole,
)
from tryitnow.api.limits import DISK_FAILING, DISK_FULL, FILES_EXHAUSTED


def test_a_file_is_written_whole_and_for_root_alone(tmp_path: Path) -> None:
    path = tmp_path / "mark.json"
    before = os.umask(0)
    try:
        write_whole(path, b"first")
        write_whole(path, b"second")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["mark.json"]


def test_what_an_interrupted_write_left_is_not_in_the_way(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    (tmp_path / ".mark.json.new").symlink_to(theirs)
    write_whole(tmp_path / "mark.json", b"ours")
    assert theirs.read_text() == "theirs", "no link is written through"
    assert (tmp_path / "mark.json").read_bytes() == b"ours"


def test_a_file_system_can_be_brought_to_the_disk(tmp_path: Path) -> None:
    sync_file_system(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_file_system(tmp_path / "gone")


def test_a_tree_of_1500_levels_can_be_removed(tmp_path: Path, make_deep: MakeDeep) -> None:
    make_deep(tmp_path / "tree", 1500)
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["-rf", "two\nlines", os.fsdecode(b"caf\xe9"), "*"])
def test_odd_names_can_be_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / name).touch()
    (tmp_path / "other").touch()
    remove_tree(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["other"]


def test_a_link_is_removed_and_not_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to(tmp_path / "kept")
    remove_tree(tmp_path / "tree")
    assert (tmp_path / "kept").is_dir()


def test_what_cannot_be_removed_is_named(tmp_path: Path) -> None:
    mounted = tmp_path / "tree" / "mounted"
    mounted.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted], check=True)
    try:
        (mounted / "file").touch()
        with pytest.raises(OSError, match="mounted"):
            remove_tree(tmp_path / "tree")
        assert (mounted / "file").exists(), "what is mounted there is somebody's"
    finally:
        subprocess.run(["umount", mounted], check=True)


@pytest.mark.parametrize(
    ("number", "limit", "text"),
    [
        (errno.ENOSPC, DISK_FULL, "the disk is full .*MiB are free at .*make room"),
        (errno.EDQUOT, DISK_FULL, "the disk is full"),
        (errno.EMFILE, FILES_EXHAUSTED, "too many files are open .*raise fs.file-max"),
        (errno.ENFILE, FILES_EXHAUSTED, "too many files"),
        (errno.EIO, DISK_FAILING, "the disk failed .*kernel log"),
        (errno.EROFS, DISK_FAILING, "the disk failed"),
    ],
)
def test_an_error_of_the_disk_is_a_limit_of_the_node(
    tmp_path: Path, number: int, limit: str, text: str
) -> None:
    error = OSError(number, os.strerror(number), "/some/file")
    found = short_of_disk(error, "cannot unpack", tmp_path)
    assert found.limit == limit
    assert str(found).startswith("cannot unpack: ")
    with pytest.raises(type(found), match=text):
        raise found


def test_a_disk_that_tells_nothing_any_more_is_still_named(tmp_path: Path) -> None:
    found = short_of_disk(OSError(errno.EIO, "broken"), "cannot unpack", tmp_path / "gone")
    assert found.limit == DISK_FAILING


def test_free_is_what_others_than_root_have(tmp_path: Path) -> None:
    about = os.statvfs(tmp_path)
    assert free_bytes(tmp_path) <= about.f_bfree * about.f_frsize
