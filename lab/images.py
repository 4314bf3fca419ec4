"""Builds the images of the lab's example applications and pushes them to the lab's registry.

An application is a folder, by name in lab/apps/ or anywhere:

    app.json     {"suite", "packages", "entrypoint", "cmd", "exposed_ports", "env", "base"}
    rootfs/      copied over a Debian of that suite with those packages
    prepare.sh   optional, run by sh in a chroot of it

With a `base`, the name of another application, it starts from the suite, packages, entrypoint and
rootfs/ of that one, and its prepare.sh runs after that of that one.

The image is `REGISTRY/NAME:KEY` and `REGISTRY/NAME:latest`, where KEY is a hash of all that.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import LabError, cache, debian, registry
from lab.cluster import Cluster
from lab.progress import step

_APPS = Path(__file__).parent / "apps"
_ASSEMBLE = Path(__file__).parent / "node" / "assemble.sh"

# Part of every key: raise it when the way an image is made changes.
_RECIPE = "1"

_FIELDS = {"suite", "packages", "entrypoint", "cmd", "exposed_ports", "env", "base"}


@dataclass(frozen=True)
class App:
    """One application's folder, read and checked."""

    name: str
    folder: Path
    suite: str
    packages: list[str]
    entrypoint: list[str]
    cmd: list[str]
    exposed_ports: list[str]
    env: dict[str, str]
    base: App | None = None

    @property
    def folders(self) -> list[Path]:
        """What the root file system is made from, in order."""
        return [*(self.base.folders if self.base else []), self.folder]

    @property
    def key(self) -> str:
        """A hash of everything the image is made from."""
        trees = [cache.tree_key(folder) for folder in self.folders]
        return cache.key(_RECIPE, _ASSEMBLE.read_text(), *trees)

    def changes(self) -> list[str]:
        """The image's configuration in the words of a Containerfile."""
        lines = [f"ENV {name}={value}" for name, value in self.env.items()]
        lines += [f"EXPOSE {port}" for port in self.exposed_ports]
        if self.entrypoint:
            lines.append(f"ENTRYPOINT {json.dumps(self.entrypoint)}")
        if self.cmd:
            lines.append(f"CMD {json.dumps(self.cmd)}")
        return lines


def ensure(cluster: Cluster, name_or_dir: str | Path) -> str:
    """The reference of an application's image, built and pushed where the registry lacks it."""
    app = load(name_or_dir)
    reference = f"{cluster.registry}/{app.name}:{app.key}"
    number = cluster.shape.network
    with cache.lock(f"image-{app.name}"):
        if not registry.has(number, app.name, app.key):
            tree = debian.tree(app.suite, app.packages)
            _build_and_push(cluster, app, tree, reference)
    return reference


def load(name_or_dir: str | Path) -> App:
    """Read an application's folder."""
    folder = Path(name_or_dir)
    if not (folder / "app.json").exists():
        folder = _APPS / name_or_dir
    described = folder / "app.json"
    if not described.exists():
        raise LabError(f"{name_or_dir}: no app.json there, and none in {folder}.")
    content: dict[str, Any] = json.loads(described.read_text())
    unknown = sorted(set(content) - _FIELDS)
    if unknown:
        raise LabError(f"{described} has unknown fields: {', '.join(unknown)}")
    base = load(content["base"]) if "base" in content else None
    return App(
        name=folder.resolve().name,
        folder=folder.resolve(),
        base=base,
        suite=content.get("suite", base.suite if base else "trixie"),
        packages=[*(base.packages if base else []), *content.get("packages", [])],
        entrypoint=list(content.get("entrypoint", base.entrypoint if base else [])),
        cmd=list(content.get("cmd", [])),
        exposed_ports=[str(port) for port in content.get("exposed_ports", [])],
        env={name: str(value) for name, value in content.get("env", {}).items()},
    )


def _build_and_push(cluster: Cluster, app: App, tree: Path, reference: str) -> None:
    node = cluster.builder
    latest = f"{reference.rpartition(':')[0]}:latest"
    with step(f"image {app.name}: assembling", usually="10 s"):
        _import(cluster, node, app, tree, reference)
    with step(f"image {app.name}: pushing", usually="10 s"):
        try:
            for target in (reference, latest):
                # zstd at its lowest level costs less time than writing the bytes plain.
                _podman(
                    cluster, node, "push", "--quiet", "--compression-format=zstd",
                    "--compression-level=1", reference, target,
                )  # fmt: skip
        finally:
            # The builder is a node like the others: it pulls the image when it runs it.
            _podman(cluster, node, "rmi", "--force", reference)


def _import(cluster: Cluster, node: str, app: App, tree: Path, reference: str) -> None:
    """Stream the assembled tree into the node's Podman as an image of one layer."""
    scratch = cache.directory("scratch") / f"{cluster.lab.name}-{app.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    source = scratch.with_suffix(".app")
    changes = [word for change in app.changes() for word in ("--change", change)]
    environment = {
        "ASSEMBLE_TREE": str(tree),
        "ASSEMBLE_APP": str(source),
        "ASSEMBLE_SCRATCH": str(scratch),
        "PATH": cluster.environment(node)["PATH"],
    }
    log = scratch.with_suffix(".log")
    try:
        _merge(app.folders, source)
        with (
            log.open("w") as complaints,
            subprocess.Popen(
                ["unshare", "--mount", "sh", str(_ASSEMBLE)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,  # a file: a full pipe would stop prepare.sh
                env=environment,
            ) as assembling,
        ):
            importing = subprocess.run(
                cluster.enter(node, ["podman", "import", "--quiet", *changes, "-", reference]),
                stdin=assembling.stdout,
                capture_output=True,
                text=True,
                env=cluster.environment(node),
                check=False,
            )
            assert assembling.stdout is not None
            assembling.stdout.close()
        if assembling.returncode != 0:
            message = log.read_text(errors="replace")[-2000:]
            raise LabError(f"Assembling {app.name} failed:\n{message}")
        if importing.returncode != 0:
            raise LabError(f"Importing {app.name} into {node} failed:\n{importing.stderr}")
    finally:
        for used in (scratch, source):
            shutil.rmtree(used, ignore_errors=True)
        log.unlink(missing_ok=True)


def _merge(folders: list[Path], target: Path) -> None:
    """Make one application's folder of its base's and its own."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    scripts = []
    for folder in folders:
        if (folder / "rootfs").is_dir():
            shutil.copytree(folder / "rootfs", target / "rootfs", symlinks=True, dirs_exist_ok=True)
        if (folder / "prepare.sh").is_file():
            scripts.append((folder / "prepare.sh").read_text())
    if scripts:
        (target / "prepare.sh").write_text("\ncd /\n".join(scripts))


def _podman(cluster: Cluster, node: str, *words: str) -> None:
    done = cluster.exec(node, ["podman", *words], check=False, timeout=600)
    if done.returncode != 0:
        raise LabError(f"podman {' '.join(words)} on {node}:\n{done.stderr.strip()}")
