"""One archive of several containers: a tar of tars, whose mounts follow the pod."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from tryitnow.agent.bundle import bundle, pack_volume, point_at_volumes
from tryitnow.agent.unpack import UnpackError, extract

OLD, NEW = "0123456789abcdef", "fedcba9876543210"


def export(path: Path, volumes: str, *, pages: bytes = b"") -> Path:
    """Write what Podman exports of a container that mounts a volume."""
    config = {"spec": {"mounts": [{"source": f"{volumes}/{OLD}/data", "destination": "/data"}]}}
    spec = {"mounts": [{"source": f"{volumes}/{OLD}/data/sub"}, {"source": "tmpfs"}]}
    with tarfile.open(path, "w") as tar:
        for name, content in (
            ("config.dump", json.dumps(config).encode()),
            ("spec.dump", json.dumps(spec).encode()),
            ("checkpoint/pages-1.img", pages),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def read(path: Path, name: str) -> bytes:
    with tarfile.open(path) as tar:
        member = tar.extractfile(name)
        assert member
        return member.read()


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


def test_an_import_mounts_the_volumes_of_its_own_pod(tmp_path: Path) -> None:
    volumes = tmp_path / "volumes"
    pages = f'"{volumes}/{OLD}/data"'.encode()
    path = export(tmp_path / "shop.tar", str(volumes), pages=pages)
    point_at_volumes(path, volumes / NEW)
    assert OLD.encode() not in read(path, "config.dump")
    assert f"{volumes}/{NEW}/data".encode() in read(path, "config.dump")
    assert f"{volumes}/{NEW}/data/sub".encode() in read(path, "spec.dump")
    assert read(path, "checkpoint/pages-1.img") == pages, "memory is left alone"


def test_volumes_that_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    path = export(tmp_path / "shop.tar", "/mnt/volumes")
    with pytest.raises(UnpackError, match="CHECKPOINT_PATH"):
        point_at_volumes(path, tmp_path / "volumes" / NEW)
