"""Unpacking an archive is all or nothing, also where it is broken off."""

from __future__ import annotations

import asyncio
import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.checkpoints.shop import Shop, until
from tests.unit.builders import make_archive, make_export, make_node_checkpoint
from tests.unit.fakes import FakePodman
from tryitnow.agent.checkpoints.prepare import fill_root, prepare, retire
from tryitnow.agent.errors import DigestMismatchError, NodeShortError, UnpackError
from tryitnow.agent.storage.generations import Generation
from tryitnow.agent.storage.ledger import Ledger
from tryitnow.agent.storage.unpack import DEV_SHM
from tryitnow.api.archive import Archive
from tryitnow.api.limits import DISK_FULL
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError

CONTENT = make_export()
ARCHIVE = make_archive(CONTENT, unpacked_bytes=len(CONTENT), entries=2)


async def prepared(shop: Shop, archive: Archive = ARCHIVE, content: bytes = CONTENT) -> Generation:
    if not shop.path.exists():
        shop.tools.archives.write(shop.file, iter([content]))
    order = make_node_checkpoint(revision=shop.revision.spec.identity)
    return await prepare(shop.tools, order, shop.definition, shop.file, archive)


def lying(shop: Shop) -> list[str]:
    directory = shop.tools.generations.directory
    return sorted(str(p.relative_to(directory)) for p in directory.glob("*/*"))


def assert_nothing_left(shop: Shop) -> None:
    assert lying(shop) == []
    assert shop.node.disk.reserved_bytes == 0
    assert shop.node.sandboxes.names_in_work == frozenset()


async def test_what_restores_need_is_unpacked_once_and_the_rest_is_an_image(shop: Shop) -> None:
    made = await prepared(shop)
    assert made.is_intact()
    assert (made.directory / "shop" / "checkpoint" / "inventory.img").exists()
    assert set(made.images.values()) <= shop.podman.images
    assert shop.tools.generations.find(shop.file.stem, ARCHIVE.sha256) is not None
    assert shop.node.disk.reserved_bytes == 0


@pytest.mark.parametrize(
    ("root", "files", "is_kept"),
    [
        pytest.param({}, {}, False, id="as it is at first"),
        pytest.param({}, {"./PostgreSQL.1": b"shared"}, True, id="used"),
        pytest.param({"mode": 0o700}, {}, True, id="another mode"),
        pytest.param({"uid": 33}, {}, True, id="another owner"),
        pytest.param({"pax_headers": {"SCHILY.xattr.user.a": "1"}}, {}, True, id="an attribute"),
        pytest.param(None, {}, True, id="no tar"),
    ],
)
async def test_dev_shm_is_restored_where_the_application_did_something_to_it(
    shop: Shop, root: dict[str, Any] | None, files: dict[str, bytes], *, is_kept: bool
) -> None:
    content = make_export(files={DEV_SHM: b"?" * 512 if root is None else dev_shm(root, files)})
    archive = make_archive(content, unpacked_bytes=len(content), entries=3)
    made = await prepared(shop, archive, content)
    assert (made.directory / "shop" / DEV_SHM).exists() is is_kept
    assert made.is_intact()


def dev_shm(root: dict[str, Any], files: dict[str, bytes]) -> bytes:
    """Return /dev/shm as Podman packs it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        directory = tarfile.TarInfo("./")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o1777
        for attribute, value in root.items():
            setattr(directory, attribute, value)
        tar.addfile(directory)
        for name, content in files.items():
            file = tarfile.TarInfo(name)
            file.size = len(content)
            tar.addfile(file, io.BytesIO(content))
    return packed.getvalue()


async def test_no_two_generations_share_a_directory_or_an_image(shop: Shop) -> None:
    first, second = await prepared(shop), await prepared(shop)
    assert first.directory != second.directory
    assert set(first.images.values()).isdisjoint(second.images.values())
    await retire(shop.tools, first)
    assert second.is_intact()
    assert set(second.images.values()) == shop.podman.images
    assert not first.directory.exists()


async def test_an_image_that_cannot_be_removed_does_not_keep_the_files(
    shop: Shop, podman: FakePodman
) -> None:
    made = await prepared(shop)
    podman.failures["remove_image"] = PodmanError("500")
    with pytest.raises(PodmanError):
        await retire(shop.tools, made)
    assert not made.directory.exists()


async def test_nothing_is_left_of_what_was_broken_off(shop: Shop, podman: FakePodman) -> None:
    podman.delay["build image"] = 0.2
    work = asyncio.create_task(prepared(shop))
    await until(lambda: shop.asked("build image"))
    work.cancel()  # its NodeCheckpoint was deleted
    await asyncio.sleep(0)
    assert not work.done(), "it has to wait for what still writes"
    with pytest.raises(asyncio.CancelledError):
        await work
    assert_nothing_left(shop)


@pytest.mark.parametrize(
    "error", [PodmanError("500"), PodmanUnreachableError("it is away"), OSError(28, "full")]
)
async def test_nothing_is_left_when_no_image_can_be_made(
    shop: Shop, podman: FakePodman, error: Exception
) -> None:
    podman.failures["build image"] = error
    with pytest.raises(type(error)):
        await prepared(shop)
    assert_nothing_left(shop)


async def test_what_is_laid_out_in_another_way_is_refused(shop: Shop) -> None:
    content = b"\0" * 10240
    with pytest.raises(UnpackError, match=r"inventory\.img"):
        await prepared(shop, make_archive(content), content)
    assert_nothing_left(shop)


async def test_a_damaged_archive_is_never_used(shop: Shop) -> None:
    shop.tools.archives.write(shop.file, iter([CONTENT[:-1] + b"!"]))
    with pytest.raises(DigestMismatchError):
        await prepared(shop)
    assert_nothing_left(shop)


async def test_a_disk_without_room_is_reported_before_the_first_byte(shop: Shop) -> None:
    """Running demos write to the same disk."""
    needed = 2 * ARCHIVE.unpacked_bytes + 2 * 4096
    disk = Ledger(DISK_FULL, "disk", lambda: needed - 1, reserve_bytes=0)
    shop.tools = replace(shop.tools, disk=disk)
    with pytest.raises(NodeShortError, match="unpacking") as caught:
        await prepared(shop)
    assert caught.value.limit == DISK_FULL
    assert not shop.asked("build image")
    assert_nothing_left(shop)


async def test_two_at_once_do_not_count_on_the_same_room(shop: Shop, podman: FakePodman) -> None:
    needed = 2 * ARCHIVE.unpacked_bytes + 2 * 4096
    disk = Ledger(DISK_FULL, "disk", lambda: needed, reserve_bytes=0)
    shop.tools = replace(shop.tools, disk=disk)
    podman.delay["build image"] = 0.1
    first = asyncio.create_task(prepared(shop))
    await until(lambda: disk.reserved_bytes)
    with pytest.raises(NodeShortError):
        await prepared(shop)
    assert (await first).is_intact()


# -- the root file system --------------------------------------------------------------------------


def test_deleted_files_are_taken_from_the_image(tmp_path: Path) -> None:
    unpacked, root = tmp_path / "unpacked", tmp_path / "root"
    (root / "var").mkdir(parents=True)
    (root / "var" / "cache").write_text("old")
    unpacked.mkdir()
    (unpacked / "deleted.files").write_text('["/var/cache", "/never/there"]')
    fill_root(unpacked, root)
    assert not (root / "var" / "cache").exists()


def test_nothing_outside_of_the_image_is_deleted(tmp_path: Path) -> None:
    unpacked, root, outside = tmp_path / "unpacked", tmp_path / "root", tmp_path / "outside"
    for directory in (unpacked, root, outside):
        directory.mkdir()
    (outside / "file").write_text("of the node")
    (root / "link").symlink_to(outside)
    (unpacked / "deleted.files").write_text('["/link/file"]')
    with pytest.raises(UnpackError, match="outside"):
        fill_root(unpacked, root)
    assert (outside / "file").exists()
