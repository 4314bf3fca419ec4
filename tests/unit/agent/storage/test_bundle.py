"""One archive of several parts: a tar of tars."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from tryitnow.agent.errors import VolumeError
from tryitnow.agent.storage.bundle import bundle, pack_volume
from tryitnow.agent.storage.unpack import extract


def test_what_is_bundled_comes_out_of_any_tar(tmp_path: Path) -> None:
    parts = {}
    for name, content in (("containers/shop.tar", b"x" * 700), ("volumes/data.tar", b"")):
        path = tmp_path / name.replace("/", "-")
        path.write_bytes(content)
        parts[name] = path
    whole = tmp_path / "whole.tar"
    whole.write_bytes(b"".join(bundle(parts)))
    assert whole.stat().st_size % tarfile.BLOCKSIZE == 0
    target = tmp_path / "target"
    target.mkdir()
    extract(whole, target)
    assert (target / "containers/shop.tar").read_bytes() == b"x" * 700
    assert (target / "volumes/data.tar").read_bytes() == b""


def test_a_volume_keeps_modes_links_and_empty_directories(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "empty").mkdir(parents=True)
    (source / "file").write_text("content")
    (source / "file").chmod(0o640)
    (source / "link").symlink_to("/etc/passwd")
    target.mkdir()
    pack_volume(source, tmp_path / "volume.tar")
    extract(tmp_path / "volume.tar", target)
    assert (target / "empty").is_dir()
    assert (target / "file").stat().st_mode & 0o777 == 0o640
    assert (target / "link").is_symlink()


def test_a_volume_keeps_names_that_are_no_utf_8_and_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    odd = os.fsdecode(b"caf\xe9.jpg")
    (source / odd).write_text("a photo")
    with (source / "holes").open("wb") as file:
        file.truncate(1 << 30)
    pack_volume(source, tmp_path / "volume.tar")
    assert (tmp_path / "volume.tar").stat().st_size < 1 << 20, "a hole takes no room"
    extract(tmp_path / "volume.tar", target)
    assert (target / odd).read_text() == "a photo"
    assert (target / "holes").stat().st_size == 1 << 30
    assert (target / "holes").stat().st_blocks < 1000


def test_a_volume_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="gone cannot be packed"):
        pack_volume(tmp_path / "gone", tmp_path / "volume.tar")
