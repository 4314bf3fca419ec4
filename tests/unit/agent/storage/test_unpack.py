"""Nothing that an archive brings, or an image has, leads tar out of its directory."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.unit.agent.storage.conftest import MakeDeep
from tryitnow.agent.errors import DigestMismatchError, UnpackError
from tryitnow.agent.storage.unpack import extract, unpack
from tryitnow.api.definition import Compression


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


def test_what_is_no_tar_is_reported_to_be_none(tmp_path: Path, root: Path) -> None:
    broken = tmp_path / "diff.tar"
    broken.write_bytes(b"no tar" * 200)
    with pytest.raises(UnpackError, match=r"diff.tar is no tar"):
        extract(broken, root)


# -- two readers of one tar -----------------------------------------------------------------------


def concealed(path: Path, *members: tarfile.TarInfo) -> Path:
    """Write a tar with members behind a bad header: Python's reader ends there, GNU tar goes on."""
    first, second = tar_of(path.with_name("first"), regular("a")), tar_of(path, *members)
    seen = first.read_bytes()[: 2 * tarfile.BLOCKSIZE]
    path.write_bytes(seen + b"\xff" * tarfile.BLOCKSIZE + second.read_bytes())
    return path


def test_what_python_does_not_see_gnu_tar_does_not_unpack(
    tmp_path: Path, root: Path, outside: Path
) -> None:
    with pytest.raises(UnpackError, match=r"diff\.tar is no whole tar"):
        extract(concealed(tmp_path / "diff.tar", regular("absolute/payload")), root)
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert not (root / "a").exists(), "nothing is unpacked before all of it was looked at"


def test_a_second_tar_behind_the_end_of_the_first_is_refused(tmp_path: Path, root: Path) -> None:
    both = tmp_path / "diff.tar"
    first, second = tar_of(tmp_path / "1", regular("a")), tar_of(tmp_path / "2", regular("b"))
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(UnpackError, match="no whole tar"):
        extract(both, root)


def test_a_tar_that_was_cut_off_is_refused(tmp_path: Path, root: Path) -> None:
    whole = tar_of(tmp_path / "diff.tar", regular("a"), regular("b"))
    os.truncate(whole, 2 * tarfile.BLOCKSIZE + 100)
    with pytest.raises(UnpackError):
        extract(whole, root)


def test_a_tree_of_many_levels_makes_way_for_a_file(
    tmp_path: Path, root: Path, make_deep: MakeDeep
) -> None:
    make_deep(root / "tree")
    extract(tar_of(tmp_path / "diff.tar", regular("tree")), root)
    assert (root / "tree").read_text() == "xxx"


# -- from the archive -----------------------------------------------------------------------------


def in_chunks(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), 10_000):
        yield data[at : at + 10_000]


@pytest.mark.parametrize("compression", Compression)
def test_an_archive_is_unpacked_as_it_is_read(tmp_path: Path, compression: Compression) -> None:
    tar_of(tmp_path / "plain.tar", regular("a"), regular("b"))
    data = (tmp_path / "plain.tar").read_bytes()
    if compression is Compression.ZSTD:
        data = zstandard.ZstdCompressor().compress(data)
    target = tmp_path / "target"
    target.mkdir()
    unpack(in_chunks(data), compression, target)
    assert sorted(path.name for path in target.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("compression", Compression)
def test_a_damaged_archive_says_so_whatever_tar_says(
    tmp_path: Path, compression: Compression
) -> None:
    plain = tar_of(tmp_path / "plain.tar", regular("a")).read_bytes()
    data = plain if compression is Compression.NONE else zstandard.compress(plain)

    def damaged() -> Iterator[bytes]:
        yield data[: len(data) // 2]
        msg = "it has another digest"
        raise DigestMismatchError(msg)

    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(DigestMismatchError):
        unpack(damaged(), compression, target)


@pytest.mark.parametrize("compression", Compression)
def test_damage_that_breaks_the_unpacking_is_told_as_damage(
    tmp_path: Path, compression: Compression
) -> None:
    """Only the last bytes of an archive show that its digest is another."""

    def damaged() -> Iterator[bytes]:
        yield b"neither zstd nor tar " * 10_000
        msg = "it has another digest"
        raise DigestMismatchError(msg)

    with pytest.raises(DigestMismatchError):
        unpack(damaged(), compression, tmp_path)


def test_what_is_no_zstd_is_reported_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(UnpackError, match="no zstd stream"):
        unpack(iter([b"no zstd" * 100]), Compression.ZSTD, tmp_path)


def test_a_small_archive_with_a_large_inside_takes_little_memory(tmp_path: Path) -> None:
    """An application with touched pages of zeros is one: 25 KB may hold 768 MiB."""
    size = 192 << 20
    member = tarfile.TarInfo("pages-1.img")
    member.size, member.uid, member.gid = size, os.getuid(), os.getgid()
    compressor = zstandard.ZstdCompressor().compressobj()
    data = compressor.compress(member.tobuf())
    zeros = bytes(1 << 20)
    for _ in range(size >> 20):
        data += compressor.compress(zeros)
    data += compressor.compress(bytes(2 * tarfile.BLOCKSIZE)) + compressor.flush()
    assert len(data) < 64 << 10
    tracemalloc.start()
    try:
        unpack(iter([data]), Compression.ZSTD, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "pages-1.img").stat().st_size == size
    (tmp_path / "pages-1.img").unlink()
    assert peak < 16 << 20
