"""The volumes of sandboxes: ``volumes/<sandbox>/<volume>``, bound into containers.

Directories are reachable for root and the containers alone: the one above them is 0700. A volume
of memory is a tmpfs that is mounted there. What subPaths lead to is mounted beside the volumes.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tryitnow.agent.errors import VolumeError
from tryitnow.agent.storage.bundle import SUB_PATHS
from tryitnow.agent.storage.files import remove_tree, unmount_below
from tryitnow.agent.storage.sub_paths import LeadsOutError, hold
from tryitnow.api.quantity import parse_quantity
from tryitnow.api.template import Container, Medium, Template, Volume
from tryitnow.podman.client import Mount


class VolumeStore:
    """The directory of all volumes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self) -> None:
        """Make the directory, private to root."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)

    def make(self, tag: str, template: Template) -> None:
        """Make the empty volumes of a sandbox. Blocking.

        Raises:
            VolumeError: a tmpfs cannot be mounted.
            OSError: the disk is full or broken.

        """
        home = self.directory / tag
        home.mkdir(mode=0o700)
        for volume in template.volumes:
            path = home / volume.name
            path.mkdir()
            self._mount(volume, path)
            # Any user of a container may write into an emptyDir, as the kubelet makes it.
            path.chmod(0o777 if volume.empty_dir is not None else 0o755)

    def mount_memory(self, tag: str, template: Template) -> None:
        """Mount the volumes of memory again that a reboot has taken away. Blocking.

        Raises:
            VolumeError: a tmpfs cannot be mounted.

        """
        for volume in template.volumes:
            path = self.path(tag, volume.name)
            if _is_memory(volume) and not path.is_mount():
                self._mount(volume, path)
                path.chmod(0o777)

    @staticmethod
    def _mount(volume: Volume, path: Path) -> None:
        if volume.empty_dir is None or not _is_memory(volume):
            return
        limit = volume.empty_dir.size_limit
        options = f"mode=0777,size={int(parse_quantity(limit))}" if limit else "mode=0777"
        argv = ["mount", "-t", "tmpfs", "-o", options, "try-it-now", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            msg = f"volume {volume.name} cannot be mounted as memory: {done.stderr.strip()}"
            raise VolumeError(msg)

    def path(self, tag: str, volume: str) -> Path:
        """Return where a volume of a sandbox lies."""
        return self.directory / tag / volume

    def fill(self, tag: str, volume: str, content: Path) -> None:
        """Fill a volume with its content at the checkpoint. Blocking.

        Raises:
            VolumeError: the disk is full or broken.

        """
        # GNU cp keeps holes, owners and attributes, and shares blocks where the disk can.
        argv = ["cp", "--archive", "--reflink=auto", "--no-target-directory"]
        done = subprocess.run(
            [*argv, content, self.path(tag, volume)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            msg = f"volume {volume} cannot be copied: {done.stderr.strip()[-500:]}"
            raise VolumeError(msg)

    def write(self, tag: str, files: Mapping[str, Mapping[str, bytes]]) -> None:
        """Write the files of ConfigMaps and Secrets, by volume and name. Blocking."""
        for volume, contents in files.items():
            for name, content in contents.items():
                path = self.path(tag, volume) / name
                path.write_bytes(content)
                path.chmod(0o444)  # for whichever user the application runs as

    def mounts(self, tag: str, template: Template, container: Container) -> tuple[Mount, ...]:
        """Return what a container sees of its sandbox's volumes. Blocking.

        Raises:
            VolumeError: a subPath leads out of its volume.
            OSError: the disk is full or broken.

        """
        self.hold_sub_paths(tag, container)
        volumes = {volume.name: volume for volume in template.volumes}
        found = []
        for number, mount in enumerate(container.volume_mounts):
            source = self.path(tag, mount.name)
            if mount.sub_path is not None:
                source = self._held(tag, container, number)
            read_only = mount.read_only or volumes[mount.name].empty_dir is None
            found.append(Mount(source, mount.mount_path, read_only))
        return tuple(found)

    def hold_sub_paths(self, tag: str, container: Container) -> None:
        """Find anew what the subPaths of a container lead to, before each of its starts. Blocking.

        Raises:
            VolumeError: one leads out of its volume.
            OSError: the disk is full or broken.

        """
        for number, mount in enumerate(container.volume_mounts):
            if mount.sub_path is None:
                continue
            root, place = self.path(tag, mount.name), self._held(tag, container, number)
            try:
                hold(root, mount.sub_path, place)
            except LeadsOutError as error:
                msg = (
                    f"containers[{container.name}].volumeMounts[{mount.mount_path}].subPath "
                    f"{mount.sub_path!r} cannot be mounted: {error}; name a directory or a file "
                    "of the volume, without links on the way"
                )
                raise VolumeError(msg) from error

    def _held(self, tag: str, container: Container, number: int) -> Path:
        return self.directory / tag / SUB_PATHS / container.name / str(number)

    def remove(self, tag: str) -> None:
        """Remove the volumes of a sandbox; fine when there are none. Blocking.

        Raises:
            OSError: the disk is broken, or a volume of memory is in use.

        """
        home = self.directory / tag
        unmount_below(home)
        remove_tree(home)

    def tags(self) -> set[str]:
        """Return whose volumes lie here. Blocking."""
        return {path.name for path in self.directory.iterdir()}


def _is_memory(volume: Volume) -> bool:
    return volume.empty_dir is not None and volume.empty_dir.medium is Medium.MEMORY
