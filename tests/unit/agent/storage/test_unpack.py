"""Nothing that an archive brings, or an image has, leads tar out of its directory."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from tryitnow.agent.unpack import UnpackError, extract


def tar_of(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size) if member.isreg() else None)
    return path


def regular(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.uid, member.gid = 3, os.getuid(), os.getgid()
    return member


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    return tmp_path / "outside"


@pytest.fixture
def root(tmp_path: Path, outside: Path) -> Path:
    """A root file system of an image with links that lead out of it."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "absolute").symlink_to(outside)
    (root / "relative").symlink_to("../outside")
    (root / "etc/deep").symlink_to("../../outside")
    (root / "etc/file").write_text("a file")
    return root


@pytest.mark.parametrize("way", ["absolute", "relative", "etc/deep", "./absolute", "/absolute"])
def test_a_link_of_the_image_where_the_tar_has_a_directory_is_not_followed(
    tmp_path: Path, root: Path, outside: Path, way: str
) -> None:
    extract(tar_of(tmp_path / "diff.tar", regular(f"{way}/new"), regular(f"{way}/sub/new")), root)
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    there = root / way.lstrip("/")
    assert not there.is_symlink()
    assert (there / "new").read_text() == (there / "sub/new").read_text() == "xxx"


def test_a_file_of_the_image_makes_way_for_a_directory(tmp_path: Path, root: Path) -> None:
    extract(tar_of(tmp_path / "diff.tar", regular("etc/file/new")), root)
    assert (root / "etc/file/new").read_text() == "xxx"


def test_a_hard_link_through_a_link_of_the_image_reaches_nothing_outside(
    tmp_path: Path, root: Path, outside: Path
) -> None:
    tar = tar_of(tmp_path / "diff.tar", link("stolen", "absolute/secret", tarfile.LNKTYPE))
    with pytest.raises(UnpackError):
        extract(tar, root)
    assert not (root / "stolen").exists()
    assert (outside / "secret").stat().st_nlink == 1


def test_links_that_are_files_of_their_own_stay_as_they_are(tmp_path: Path, root: Path) -> None:
    extract(tar_of(tmp_path / "diff.tar", link("absolute", "/elsewhere"), regular("etc/x")), root)
    assert (root / "absolute").readlink() == Path("/elsewhere")
    assert (root / "relative").is_symlink()


def test_a_link_of_the_tar_itself_is_not_followed(
    tmp_path: Path, root: Path, outside: Path
) -> None:
    tar = tar_of(tmp_path / "diff.tar", link("way", str(outside)), regular("way/new"))
    with pytest.raises(UnpackError):
        extract(tar, root)
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


def test_a_member_outside_is_refused(tmp_path: Path, root: Path) -> None:
    with pytest.raises(UnpackError, match="lies outside"):
        extract(tar_of(tmp_path / "diff.tar", regular("etc/../../new")), root)
    assert not (tmp_path / "new").exists()


def test_what_is_no_tar_is_said_to_be_none(tmp_path: Path, root: Path) -> None:
    broken = tmp_path / "diff.tar"
    broken.write_bytes(b"no tar" * 200)
    with pytest.raises(UnpackError, match=r"diff.tar is no tar"):
        extract(broken, root)
