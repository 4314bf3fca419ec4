"""What a container changed of its image's files: found, packed, and laid over them again."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import stat
import tarfile
from pathlib import Path

import pytest

from tests.unit.fakes import FakePodman
from tryitnow.agent.checkpoints.prepare import fill_root
from tryitnow.agent.errors import VolumeError
from tryitnow.agent.storage.diff import add_changes, compare
from tryitnow.agent.storage.unpack import DELETED_FILES, HOSTS, ROOT_FS_DIFF, extract

OWN, HELPER = "tryitnow_build_default_shop_r", "tryitnow_prepare_default_shop_r"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """What an image brought."""
    image = tmp_path / "image"
    for path in ("app/config.php", "app/cache/old", "etc/hosts", "etc/issue", "usr/bin/php"):
        (image / path).parent.mkdir(parents=True, exist_ok=True)
        (image / path).write_text(path)
    (image / "media").symlink_to("/etc")
    (image / "app/current").symlink_to("/usr")
    return image


@pytest.fixture
def root(tmp_path: Path, image: Path) -> Path:
    """A container's own: the same inodes, as in an overlay; its directories are others."""
    root = tmp_path / "root"
    shutil.copytree(image, root, symlinks=True, copy_function=os.link)
    return root


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """An export without changes, and without anything else."""
    export = tmp_path / "export.tar"
    tarfile.open(export, "w:").close()
    return export


def packed(export: Path) -> dict[str, tarfile.TarInfo]:
    """Return what an export has of changed files, by name."""
    with tarfile.open(export, "r:") as tar:
        diff = tar.extractfile(ROOT_FS_DIFF)
        assert diff is not None
        with tarfile.open(fileobj=io.BytesIO(diff.read())) as changes:
            return {member.name: member for member in changes}


def touched(root: Path, image: Path) -> list[str]:
    """Files that are found to differ: of directories of plain trees, the time always does."""
    return [path for path in compare(root, image).present if not (root / path).is_dir()]


def replace(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def test_what_was_not_changed_is_not_told(root: Path, image: Path) -> None:
    assert touched(root, image) == []
    assert compare(root, image).gone == []


def test_a_change_is_seen_by_its_time_alone(root: Path, image: Path) -> None:
    before = (image / "app/config.php").stat()
    replace(root / "app/config.php", "app/config.PHP")
    os.utime(root / "app/config.php", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "app/config.php" in touched(root, image)


def test_what_podman_mounts_is_not_the_images(root: Path, image: Path) -> None:
    replace(root / "etc/hosts", "127.0.0.1 localhost")
    (root / "dev").mkdir()
    (root / "dev/null").touch()
    (root / "etc/resolv.conf").touch()
    (image / "etc/hostname").touch()
    (root / "run/secrets").mkdir(parents=True)
    (root / "run/secrets/drawn").write_text("by the application")
    found = compare(root, image)
    assert not {"etc/hosts", "dev", "etc/resolv.conf", "run/secrets"} & set(found.present)
    assert "run/secrets/drawn" in found.present, "nobody mounts anything over it"
    assert found.gone == []


def test_a_directory_in_the_place_of_a_link_is_not_compared_with_where_that_leads(
    root: Path, image: Path
) -> None:
    (root / "media").unlink()
    (root / "media").mkdir()
    (root / "media/passwd").touch()
    found = compare(root, image)
    assert "media/passwd" in found.present
    assert found.gone == [], "what lies in the node's /etc"


def listing(root: Path) -> dict[str, tuple[str, int, str]]:
    def reported(path: Path) -> tuple[str, int, str]:
        about = path.lstat()
        content = path.read_text() if stat.S_ISREG(about.st_mode) else ""
        return stat.filemode(about.st_mode), about.st_uid, content

    return {str(path.relative_to(root)): reported(path) for path in sorted(root.rglob("*"))}


async def test_laid_over_the_image_they_give_the_container_again(
    podman: FakePodman, root: Path, image: Path, tmp_path: Path
) -> None:
    replace(root / "app/config.php", "changed")
    shutil.rmtree(root / "app/cache")
    (root / "app/cache/new/empty").mkdir(parents=True)
    (root / "app/cache").chmod(0o2770)
    os.chown(root / "app/cache", 33, 33)
    (root / "app/current").unlink()
    (root / "etc/issue").unlink()
    (root / "etc/issue").mkdir()
    (root / "etc/issue/inside").write_text("x")
    shutil.rmtree(root / "usr")
    (root / "usr").symlink_to("/app")
    (root / "new name\n").write_text("odd")
    os.link(root / "new name\n", root / "-same")
    with (root / "holes").open("wb") as file:
        file.truncate(1 << 30)
    os.mkfifo(root / "fifo")
    podman.roots = (root, image)
    export = tmp_path / "export.tar"
    with tarfile.open(export, "w:") as tar:
        tar.addfile(tarfile.TarInfo("config.dump"), io.BytesIO())
    await add_changes(podman, OWN, HELPER, export, "")
    assert export.stat().st_size < 1 << 20, "a hole takes no room"
    with tarfile.open(export, "r:") as tar:
        assert tar.getnames() == ["config.dump", ROOT_FS_DIFF, DELETED_FILES]
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    extract(export, unpacked)
    (root / "holes").unlink()
    root_copy = tmp_path / "copy"
    shutil.copytree(image, root_copy, symlinks=True)
    fill_root(unpacked, root_copy)
    assert (root_copy / "holes").stat().st_size == 1 << 30
    (root_copy / "holes").unlink()
    assert listing(root_copy) == listing(root)
    assert (root_copy / "-same").stat().st_nlink == 2
    assert json.loads((unpacked / DELETED_FILES).read_text()) == [
        "/app/current",
        "/app/cache/old",
    ]


async def test_in_the_place_of_a_link_that_is_gone_podman_finds_a_file(
    podman: FakePodman, root: Path, image: Path, export: Path
) -> None:
    """Or it would remove what the link leads to, and leave the link."""
    (root / "app/current").unlink()
    podman.roots = (root, image)
    await add_changes(podman, OWN, HELPER, export, "")
    placeholder = packed(export)["app/current"]
    assert placeholder.isreg()
    assert placeholder.size == 0


async def test_a_file_for_which_no_restore_could_find_room_is_named(
    podman: FakePodman, root: Path, image: Path, export: Path
) -> None:
    with (root / "app/endless").open("wb") as file:
        file.truncate(shutil.disk_usage(export.parent).total * 2)
    podman.roots = (root, image)
    with pytest.raises(VolumeError, match=r"/app/endless in the container has \d+ MiB"):
        await add_changes(podman, OWN, HELPER, export, "")


async def test_an_export_that_was_cut_off_is_no_bug_of_ours(
    podman: FakePodman, root: Path, image: Path, export: Path
) -> None:
    (root / "new").touch()
    podman.roots = (root, image)
    export.write_bytes(b"half a header")
    with pytest.raises(VolumeError, match="no whole tar"):
        await add_changes(podman, OWN, HELPER, export, "")


async def test_a_socket_is_left_to_criu(
    podman: FakePodman, root: Path, image: Path, export: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "s"))
    podman.roots = (root, image)
    await add_changes(podman, OWN, HELPER, export, "")
    assert "s" not in packed(export)


async def test_names_that_are_no_utf_8_come_out_as_they_were(
    podman: FakePodman, root: Path, image: Path, export: Path, tmp_path: Path
) -> None:
    odd = os.fsdecode(b"caf\xe9")
    (image / odd).touch()
    (root / f"new-{odd}").write_text("x")
    podman.roots = (root, image)
    await add_changes(podman, OWN, HELPER, export, "")
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    extract(export, unpacked)
    fill_root(unpacked, image)
    assert not (image / odd).exists()
    assert (image / f"new-{odd}").read_text() == "x"


async def test_what_an_application_wrote_into_its_hosts_file_travels_along(
    podman: FakePodman, root: Path, export: Path
) -> None:
    podman.roots = (root, root)
    await add_changes(podman, OWN, HELPER, export, "192.0.2.1 partner\n")
    with tarfile.open(export, "r:") as tar:
        assert tar.getnames() == [HOSTS], "and nothing else, where nothing was changed"
        found = tar.extractfile(HOSTS)
        assert found is not None
        assert found.read() == b"192.0.2.1 partner\n"


async def test_nothing_of_the_work_is_left_beside_the_export(
    podman: FakePodman, root: Path, image: Path, export: Path
) -> None:
    (root / "new").touch()
    podman.roots = (root, image)
    podman.directory.mkdir()
    before = set(export.parent.iterdir())
    await add_changes(podman, OWN, HELPER, export, "")
    assert set(export.parent.iterdir()) == before
