"""The initrd of a machine: our own first process and the few modules that its disk needs.

A general one, as dracut makes it, took 15 to 36 s of each boot under emulation. This one takes one.
"""

from __future__ import annotations

import lzma
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from lab import LabError

_WANTED = ("virtio_pci", "virtio_blk")
"""ext4 is built into Debian's cloud kernels."""

_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_MAGIC = "070701"  # the "newc" form of cpio, which the kernel reads


def write(target: Path, init: Path, modules: Path) -> None:
    """Write an initrd.

    Args:
        target: The file to write.
        init: The first process: lab/machines/guest/init, built.
        modules: The directory of the kernel's modules, such as …/lib/modules/6.12.1-cloud-amd64.

    """
    chosen = _in_order(_WANTED, modules)
    archive = _Archive()
    archive.directory("modules")
    for name, content in chosen.items():
        archive.file(f"modules/{name}.ko", content, 0o644)
    order = "".join(f"{name}.ko\n" for name in chosen)
    archive.file("modules/order", order.encode(), 0o644)
    archive.file("init", init.read_bytes(), 0o755)
    target.write_bytes(archive.whole())


def _in_order(wanted: tuple[str, ...], modules: Path) -> dict[str, bytes]:
    """Module -> its content, each after those that it needs; those built in are not among them."""
    built_in = {_name(line) for line in (modules / "modules.builtin").read_text().split()}
    files = {_name(str(path)): path for path in (modules / "kernel").rglob("*.ko*")}
    chosen: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in chosen or name in built_in:
            return
        if name not in files:
            raise LabError(f"{modules} has no module {name}, and it is not built in either.")
        content = _content(files[name])
        found = _DEPENDS.search(content)
        for needed in found[1].decode().split(",") if found else []:
            if needed:
                add(_name(needed))
        chosen[name] = content

    for name in wanted:
        add(name)
    return chosen


def _name(path: str) -> str:
    return Path(path).name.partition(".")[0].replace("-", "_")


def _content(path: Path) -> bytes:
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".ko":
        return path.read_bytes()
    raise LabError(f"{path}: the lab unpacks no {path.suffix}, see lab/machines/initrd.py.")


@dataclass
class _Archive:
    """A cpio archive in memory."""

    parts: list[bytes] = field(default_factory=list)

    def directory(self, name: str) -> None:
        self._add(name, b"", stat.S_IFDIR | 0o755)

    def file(self, name: str, content: bytes, mode: int) -> None:
        self._add(name, content, stat.S_IFREG | mode)

    def whole(self) -> bytes:
        self._add("TRAILER!!!", b"", 0)
        return b"".join(self.parts)

    def _add(self, name: str, content: bytes, mode: int) -> None:
        path = name.encode() + b"\0"
        numbers = (
            len(self.parts) + 1,  # inode
            mode,
            0,  # uid
            0,  # gid
            1,  # links
            0,  # time
            len(content),
            *(0, 0, 0, 0),  # devices
            len(path),
            0,  # checksum, of no use in this form
        )
        header = _MAGIC + "".join(f"{number:08X}" for number in numbers)
        self.parts.append(_padded(header.encode() + path) + _padded(content))


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 4)
