"""The volumes of pods on the node's disk: ``volumes/<pod>/<volume>``, bound into containers.

Directories are reachable for root and the containers alone: what lies above them is 0700.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tryitnow.agent.sandbox import SandboxError
from tryitnow.api.template import Container, Template
from tryitnow.podman.client import Mount


class VolumeError(SandboxError):
    """A volume cannot be made; the message says which and why."""


class VolumeStore:
    """The directory of all volumes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self) -> None:
        """Make the directory, private to root."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)

    def make(self, tag: str, template: Template) -> None:
        """Make the empty volumes of a pod. Blocking."""
        home = self.directory / tag
        home.mkdir(mode=0o700)
        for volume in template.volumes:
            path = home / volume.name
            path.mkdir()
            # Any user of a container may write into an emptyDir, as the kubelet makes it.
            path.chmod(0o777 if volume.empty_dir is not None else 0o755)

    def path(self, tag: str, volume: str) -> Path:
        """Return where a volume of a pod lies."""
        return self.directory / tag / volume

    def copy_in(self, tag: str, volume: str, frozen: Path) -> None:
        """Fill a volume with what it held at the freeze. Blocking.

        Raises:
            VolumeError: the disk is full or broken.

        """
        # GNU cp keeps holes, owners and attributes, and shares blocks where the disk can.
        argv = ["cp", "--archive", "--reflink=auto", "--no-target-directory"]
        done = subprocess.run(
            [*argv, frozen, self.path(tag, volume)], capture_output=True, text=True, check=False
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
        """Return what a container sees of its pod's volumes. Blocking.

        Raises:
            VolumeError: a subPath leads out of its volume.

        """
        volumes = {volume.name: volume for volume in template.volumes}
        found = []
        for mount in container.volume_mounts:
            root = self.path(tag, mount.name)
            source = root
            if mount.sub_path is not None:
                # What is in the volume is the application's: a link in it may lead anywhere.
                source = (root / mount.sub_path).resolve()
                if not source.is_relative_to(root.resolve()):
                    msg = (
                        f"containers[{container.name}].volumeMounts[{mount.mount_path}].subPath "
                        f"{mount.sub_path!r} leads out of the volume"
                    )
                    raise VolumeError(msg)
                if not source.exists():
                    source.mkdir(parents=True)  # it may be a file, as those of a ConfigMap are
            read_only = mount.read_only or volumes[mount.name].empty_dir is None
            found.append(Mount(source, mount.mount_path, read_only))
        return tuple(found)

    def remove(self, tag: str) -> None:
        """Remove the volumes of a pod; fine when there are none. Blocking."""
        home = self.directory / tag
        while home.exists():
            # Whoever looks for what nobody owns may be at the same.
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(home)

    def tags(self) -> set[str]:
        """Return whose volumes lie here. Blocking."""
        return {path.name for path in self.directory.iterdir()}
