"""Archives on the node's disk: whole or not at all, and never used unchecked."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard

from tests.unit.builders import PINNED, make_archive, make_container, make_definition
from tryitnow.agent.errors import ArchiveMissingError, DigestMismatchError
from tryitnow.agent.storage.archives import CHUNK_BYTES, ArchiveName, ArchiveStore
from tryitnow.api.archive import Archive, Versions
from tryitnow.api.definition import Compression, CRIUOptions, Definition, TCPPolicy
from tryitnow.api.meta import Key
from tryitnow.api.template import EmptyDir, Template, Volume

SHOP = Key("default", "shop")
PLAIN = ArchiveName(SHOP, "0123456789", Compression.NONE)
PACKED = ArchiveName(SHOP, "0123456789", Compression.ZSTD)

CONTENT = bytes(range(256)) * (CHUNK_BYTES // 64)  # four chunks


@pytest.fixture
def store(tmp_path: Path) -> ArchiveStore:
    store = ArchiveStore(tmp_path / "checkpoints")
    store.open()
    return store


def chunks(content: bytes = CONTENT) -> Iterator[bytes]:
    for at in range(0, len(content), 100_000):
        yield content[at : at + 100_000]


def write(store: ArchiveStore, name: ArchiveName = PLAIN, content: bytes = CONTENT) -> Archive:
    written = store.write(name, chunks(content))
    return make_archive(sha256=written.sha256, size_bytes=written.size_bytes)


def flip_byte(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        [value] = file.read(1)
        file.seek(at)
        file.write(bytes([value ^ 1]))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_archive_is_named_after_its_checkpoint_and_revision() -> None:
    assert str(PLAIN) == "default_shop_0123456789.tar"
    assert str(PACKED) == "default_shop_0123456789.tar.zst"


@pytest.mark.parametrize("name", [PLAIN, PACKED], ids=["plain", "zstd"])
def test_an_archive_is_read_as_it_was_written(store: ArchiveStore, name: ArchiveName) -> None:
    archive = write(store, name)
    store.check(name, archive)
    data = b"".join(store.read(name, archive))
    if name is PACKED:
        data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
    assert data == CONTENT


def test_the_digest_and_size_are_those_of_the_file(store: ArchiveStore) -> None:
    archive = write(store, PACKED)
    data = store.path(PACKED).read_bytes()
    assert archive.sha256 == hashlib.sha256(data).hexdigest()
    assert archive.size_bytes == len(data) < len(CONTENT)


def test_nobody_but_root_can_look_in(tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir(mode=0o755)
    store = ArchiveStore(loose)
    before = os.umask(0)
    try:
        store.open()
        archive = write(store)
        store.describe(PLAIN, archive, make_definition())
    finally:
        os.umask(before)
    assert mode_of(loose) == 0o700
    assert {mode_of(p) for p in loose.iterdir()} == {0o600}


@pytest.mark.parametrize("at", [0, len(CONTENT) // 2, len(CONTENT) - 1])
def test_an_archive_with_a_flipped_byte_is_never_used(store: ArchiveStore, at: int) -> None:
    archive = write(store)
    flip_byte(store.path(PLAIN), at)
    with pytest.raises(DigestMismatchError, match=archive.sha256):
        store.check(PLAIN, archive)
    given: list[bytes] = []
    with pytest.raises(DigestMismatchError):
        given.extend(store.read(PLAIN, archive))
    assert len(b"".join(given)) < len(CONTENT), "no reader gets the whole"


def test_a_damaged_archive_smaller_than_one_chunk_gives_nothing(store: ArchiveStore) -> None:
    archive = write(store, content=b"small")
    flip_byte(store.path(PLAIN), 0)
    given: list[bytes] = []
    with pytest.raises(DigestMismatchError):
        given.extend(store.read(PLAIN, archive))
    assert given == []


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, len(CONTENT) - 1])
def test_a_shortened_archive_is_never_used(store: ArchiveStore, size: int) -> None:
    archive = write(store)
    os.truncate(store.path(PLAIN), size)
    with pytest.raises(DigestMismatchError):
        store.check(PLAIN, archive)


def test_a_missing_archive_is_reported_apart_from_a_damaged_one(store: ArchiveStore) -> None:
    with pytest.raises(ArchiveMissingError, match=r"default_shop_0123456789\.tar is missing"):
        store.check(PLAIN, make_archive())


@pytest.mark.parametrize("name", [PLAIN, PACKED], ids=["plain", "zstd"])
def test_a_checkpoint_that_breaks_off_leaves_nothing(
    store: ArchiveStore, name: ArchiveName
) -> None:
    def broken() -> Iterator[bytes]:
        yield CONTENT
        msg = "the connection broke"
        raise ConnectionResetError(msg)

    with pytest.raises(ConnectionResetError):
        store.write(name, broken())
    assert store.names() == set()


def test_a_checkpoint_that_breaks_off_leaves_the_older_archive_as_it_was(
    store: ArchiveStore,
) -> None:
    archive = write(store)

    def broken() -> Iterator[bytes]:
        yield b"something else"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.write(PLAIN, broken())
    store.check(PLAIN, archive)
    assert store.names() == {str(PLAIN)}


def test_an_archive_is_not_there_before_it_is_whole(store: ArchiveStore) -> None:
    def watching() -> Iterator[bytes]:
        for chunk in chunks():
            assert not store.path(PLAIN).exists()
            yield chunk

    store.write(PLAIN, watching())
    assert store.path(PLAIN).exists()


def test_what_an_interrupted_write_left_is_cleared_at_the_start(store: ArchiveStore) -> None:
    archive = write(store)
    leftover = store.directory / f".{PLAIN}.new"
    leftover.write_bytes(b"half")
    partial = store.partial(PLAIN, archive.sha256, "node-b")
    partial.write_bytes(b"half")
    store.open()
    assert store.names() == {str(PLAIN), partial.name}, "a partial download is resumed"


def test_a_link_that_somebody_left_is_not_written_through(store: ArchiveStore) -> None:
    theirs = store.directory.parent / "theirs"
    theirs.write_text("theirs")
    (store.directory / f".{PLAIN}.new").symlink_to(theirs)
    write(store)
    assert theirs.read_text() == "theirs"
    assert not store.path(PLAIN).is_symlink()


def test_a_complete_download_becomes_the_archive(store: ArchiveStore) -> None:
    archive = make_archive(CONTENT)
    partial = store.partial(PLAIN, archive.sha256, "node-b")
    partial.write_bytes(CONTENT)
    store.adopt(PLAIN, partial)
    store.check(PLAIN, archive)
    assert store.names() == {str(PLAIN)}


def test_downloads_of_different_contents_do_not_mix(store: ArchiveStore) -> None:
    assert store.partial(PLAIN, "a" * 64, "node-b") != store.partial(PLAIN, "b" * 64, "node-b")
    assert store.partial(PLAIN, "a" * 64, "node-b") != store.partial(PLAIN, "a" * 64, "node-c")


def test_removing_takes_everything_of_that_archive_and_nothing_else(store: ArchiveStore) -> None:
    other = ArchiveName(SHOP, "9999999999", Compression.NONE)
    for name in (PLAIN, other):
        store.describe(name, write(store, name), make_definition())
        store.partial(name, "a" * 64, "node-b").write_bytes(b"half")
    store.remove(PLAIN)
    assert all("9999999999" in name for name in store.names())
    assert len(store.names()) == 3
    store.remove(PLAIN)


def test_free_space_is_that_of_the_file_system(store: ArchiveStore) -> None:
    assert store.free_bytes() > 0


# -- the .md beside an archive --------------------------------------------------------------------


def describe(store: ArchiveStore, archive: Archive, definition: Definition) -> tuple[Any, str]:
    store.describe(PACKED, archive, definition)
    text = (store.directory / "default_shop_0123456789.md").read_text()
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_metadata_says_what_was_checkpointed_and_by_what(store: ArchiveStore) -> None:
    versions = Versions(kernel="6.18.4", criu="4.2.1", podman="5.8.6", runtime="crun 1.28")
    facts, _ = describe(store, make_archive(versions=versions), make_definition())
    image, digest = PINNED.split("@")
    assert facts == {
        "checkpoint": "default/shop",
        "revision": "0123456789",
        "image": image,
        "image_digest": digest,
        "created": "2026-01-01T12:00:00Z",
        "criu_version": "4.2.1",
        "podman_version": "5.8.6",
        "runtime": "crun 1.28",
        "kernel": "6.18.4",
        "sha256": make_archive().sha256,
        "size_bytes": make_archive().size_bytes,
    }


def test_an_image_that_was_never_in_a_registry_is_named_by_its_id(store: ArchiveStore) -> None:
    facts, _ = describe(store, make_archive(image=f"sha256:{'7' * 64}"), make_definition())
    assert facts["image_digest"] == f"sha256:{'7' * 64}"


@pytest.mark.parametrize(
    ("criu", "options"),
    [
        (CRIUOptions(), "--file-locks --tcp-close"),
        (CRIUOptions(file_locks=False), "--tcp-close"),
    ],
)
def test_the_metadata_says_how_to_restore_by_hand(
    store: ArchiveStore, criu: CRIUOptions, options: str
) -> None:
    _, body = describe(store, make_archive(), make_definition(criu=criu))
    assert f"podman container restore {options} --pod demo --import {PACKED}" in body
    assert "--publish 8080:8080" in body
    assert "secrets" in body


def test_connections_of_one_container_are_restored_from_what_is_unpacked(
    store: ArchiveStore,
) -> None:
    criu = CRIUOptions(tcp=TCPPolicy.ESTABLISHED)
    _, body = describe(store, make_archive(), make_definition(criu=criu))
    assert "--tcp-established --pod demo --import containers/shop.tar\n" in body
    assert "--name demo-" not in body, "Podman refuses it where connections are to be restored"


def test_the_metadata_of_several_containers_says_how_to_restore_each(store: ArchiveStore) -> None:
    database = make_container("database", ports=())
    template = Template(
        containers=(make_container(), database),
        volumes=(Volume(name="data", empty_dir=EmptyDir()),),
    )
    archive = make_archive(images={"shop": PINNED, "database": PINNED})
    facts, body = describe(store, archive, make_definition(template=template))
    assert facts["images"] == {"shop": PINNED, "database": PINNED}
    for name in ("shop", "database"):
        assert f"--tcp-established --pod demo --import containers/{name}.tar\n" in body
    assert "tar --extract --file volumes/data.tar --directory volumes/data" in body


def test_the_longest_names_still_make_file_names(store: ArchiveStore) -> None:
    name = ArchiveName(Key("n" * 63, "c" * 253), "0" * 32, Compression.ZSTD)
    archive = write(store, name)
    store.describe(name, archive, make_definition())
    partial = store.partial(name, archive.sha256, "node-b")
    partial.touch()
    in_the_trash = f"{10**19}_{partial.name}"
    (store.directory / in_the_trash).touch()


def test_checkpoints_with_long_names_do_not_share_a_file() -> None:
    first, second = (
        ArchiveName(Key("default", "c" * 253), revision * 32, Compression.NONE)
        for revision in ("1", "2")
    )
    assert first.stem != second.stem


def test_a_disk_that_cannot_read_a_file_has_damaged_it(store: ArchiveStore) -> None:
    """EIO: the next restore must not try it again, and another node must give it anew."""
    archive = write(store)
    real = store.path(PLAIN)

    class SickStore(ArchiveStore):
        def path(self, name: ArchiveName) -> Path:
            return SickPath(super().path(name))

    with pytest.raises(DigestMismatchError, match="the disk cannot read"):
        SickStore(store.directory).check(PLAIN, archive)
    assert real.exists()


class SickPath(type(Path())):  # type: ignore[misc]
    """A file whose blocks cannot be read."""

    def open(self, *_: Any, **__: Any) -> Any:
        raise OSError(5, "Input/output error")


def test_a_disk_without_free_files_has_damaged_nothing(store: ArchiveStore) -> None:
    archive = write(store)

    class Busy(type(Path())):  # type: ignore[misc]
        def open(self, *_: Any, **__: Any) -> Any:
            raise OSError(24, "Too many open files")

    class BusyStore(ArchiveStore):
        def path(self, name: ArchiveName) -> Path:
            return Busy(super().path(name))

    with pytest.raises(OSError, match="Too many open files"):
        BusyStore(store.directory).check(PLAIN, archive)
