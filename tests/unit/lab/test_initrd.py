"""The initrd of a machine: modules in the order in which they can be loaded."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from lab import LabError
from lab.machines import initrd


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """Of a kernel that has PCI built in, as newer ones do."""
    drivers = tmp_path / "kernel/drivers"
    drivers.mkdir(parents=True)
    (drivers / "virtio_blk.ko").write_bytes(b"ELF\0license=GPL\0depends=virtio-ring,virtio\0")
    (drivers / "virtio_ring.ko.xz").write_bytes(lzma.compress(b"ELF\0depends=virtio\0"))
    (drivers / "virtio.ko").write_bytes(b"ELF\0depends=\0")
    (tmp_path / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\n")
    return tmp_path


def unpacked(archive: bytes) -> dict[str, bytes]:
    """Files and directories of a cpio archive in the form that kernels read."""
    found = {}
    at = 0
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, length = numbers[6], numbers[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        start = -(-(at + 110 + length) // 4) * 4
        found[name] = archive[start : start + size]
        at = -(-(start + size) // 4) * 4
    return found


def test_a_module_comes_after_those_that_it_needs(tmp_path: Path, modules: Path) -> None:
    init = tmp_path / "init"
    init.write_bytes(b"program")
    initrd.write(tmp_path / "initrd", init, modules)
    found = unpacked((tmp_path / "initrd").read_bytes())
    assert found["init"] == b"program"
    assert found["modules/order"].split() == [b"virtio.ko", b"virtio_ring.ko", b"virtio_blk.ko"]
    assert found["modules/virtio_ring.ko"] == b"ELF\0depends=virtio\0"
    assert list(found)[-1] == "TRAILER!!!"


def test_a_kernel_without_a_module_is_refused_before_it_boots(
    tmp_path: Path, modules: Path
) -> None:
    (modules / "kernel/drivers/virtio.ko").unlink()
    (tmp_path / "init").write_bytes(b"program")
    with pytest.raises(LabError, match="no module virtio, and it is not built in"):
        initrd.write(tmp_path / "initrd", tmp_path / "init", modules)
