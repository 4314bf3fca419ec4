"""Builds the operator's image from the Containerfile, as a machine without Docker Hub can.

The base that the Containerfile names comes from Docker Hub. Where that is out of reach, a Debian
made by debootstrap stands in for it, with what the official slim image leaves out left out. All
images lie in a storage of their own in the cache, so that the machine's Podman or Buildah, if it
has one, sees none of this.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import cache, debian, host_packages
from lab.progress import step
from lab.shell import run, run_watched

CHECKOUT = Path(__file__).resolve().parent.parent
CONTAINERFILE = CHECKOUT / "Containerfile"

SUITE = "forky"

IMAGE = "localhost/try-it-now"

# Tagged, so that pruning what an earlier build left spares what the next one starts from.
_DEPENDENCIES = "localhost/try-it-now-dependencies"
_BASE = "localhost/try-it-now-base"

# The same for every build, so that the same files make the same image: 2026-01-01.
_SOURCE_DATE_EPOCH = "1767225600"

# What debian:forky-slim has dpkg leave out.
_NOT_IN_SLIM = ("doc", "info", "locale", "man")

_LOCK = "buildah"

_RECIPES = ("Containerfile", "requirements.txt", "requirements-build.txt")

# Part of every key: raise it when the way an image is made changes.
_RECIPE = "2"


def version() -> str:
    """The version that this checkout is of."""
    found: str = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    return found


def key() -> str:
    """A hash of everything below our own package in the image."""
    files = [(CHECKOUT / name).read_bytes() for name in _RECIPES]
    return cache.key(_RECIPE, *files, cache.tree_key(CHECKOUT / "image"))


def build(base: str | None = None) -> str:
    """Build the image of this checkout and return its reference in the cache's storage.

    Args:
        base: the image to build from instead of one that debootstrap makes.

    """
    # Checkouts share the storage, and none may take another one's image for its own.
    reference = f"{IMAGE}:{version()}-{cache.key(str(CHECKOUT))}"
    with (
        _builder(base) as arguments,
        step("building the operator's image", usually="60 s the first time") as current,
    ):
        for more in (
            ["--target=dependencies", f"--tag={_DEPENDENCIES}"],
            [f"--tag={reference}"],
        ):
            run_watched(*buildah("build", *arguments, *more, str(CHECKOUT)), step=current)
        run(*buildah("rmi", "--prune"))
    return reference


def podman(*words: str) -> str:
    """Do what `podman build`, `push` or `rmi` does with these words, as this machine can."""
    command, *others = words
    if command == "build":
        with _builder(None) as arguments:
            return run(*buildah("build", *arguments, *others), cwd=CHECKOUT)
    if command == "push":
        others.insert(0, "--tls-verify=false")  # the lab's registry
    return run(*buildah(command, *others))


@contextmanager
def _builder(base: str | None) -> Iterator[list[str]]:
    """The options of a build on this machine; no other one builds meanwhile."""
    host_packages.ensure_buildah()
    with cache.lock(_LOCK), _pip_settings() as secrets:
        run(*buildah("rm", "--all"))  # what an interrupted build left would be in the way below
        yield [
            "--isolation=chroot",  # works where containers cannot be run
            "--network=host",
            "--layers",
            f"--timestamp={_SOURCE_DATE_EPOCH}",
            f"--build-arg=BASE={base or _base()}",
            f"--build-arg=VERSION={version()}",
            f"--build-arg=REVISION={_revision()}",
            *secrets,
        ]


def export(reference: str, target: Path) -> None:
    """Copy an image's root file system into a directory."""
    with mounted(reference) as root:
        run("cp", "--archive", f"{root}/.", target)


def save(reference: str, archive: Path) -> str:
    """Write an image as an OCI archive, and return what it is named there."""
    name = f"{IMAGE}:{version()}"
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.unlink(missing_ok=True)
    with step(f"writing {archive}", usually="10 s") as current:
        run_watched(*buildah("push", reference, f"oci-archive:{archive}:{name}"), step=current)
    return name


def push(reference: str, registry: str) -> str:
    """Push an image to a lab's registry, and return its reference there."""
    target = f"{registry}/try-it-now:{identity(reference)[:12]}"
    with step(f"pushing {target}", usually="10 s") as current:
        run_watched(
            *buildah("push", "--tls-verify=false", reference, f"docker://{target}"), step=current
        )
    return target


def configuration(reference: str) -> dict[str, Any]:
    """An image's configuration, in the words of the OCI image specification."""
    inspected: dict[str, Any] = json.loads(run(*buildah("inspect", "--type=image", reference)))
    found: dict[str, Any] = inspected["OCIv1"]["config"]
    return found


@contextmanager
def building() -> Iterator[None]:
    """Have the storage of images to oneself, with Buildah installed."""
    host_packages.ensure_buildah()
    with cache.lock(_LOCK):
        yield


@contextmanager
def mounted(reference: str) -> Iterator[Path]:
    """An image's root file system, to look at; nothing can be built meanwhile."""
    with cache.lock(_LOCK):
        container = run(*buildah("from", "--pull-never", reference)).strip()
        try:
            yield Path(run(*buildah("mount", container)).strip())
        finally:
            run(*buildah("rm", container))


def buildah(*words: str) -> list[str]:
    """The command line of Buildah with the cache's storage."""
    storage = cache.directory("buildah")
    # What is mounted is written down there, which must not outlive a reboot.
    state = Path("/run") / f"try-it-now-buildah-{cache.key(str(storage))}"
    return [
        "buildah", f"--root={storage}", f"--runroot={state}", "--storage-driver=overlay", *words,
    ]  # fmt: skip


def identity(reference: str) -> str:
    """An image's ID, whatever it is called: the digest of its configuration."""
    listed = run(*buildah("images", "--quiet", "--no-trunc", reference)).strip()
    return listed.removeprefix("sha256:")


def _base() -> str:
    """A stand-in for debian:forky-slim, made by debootstrap."""
    tree = debian.tree(SUITE, ())
    settings = _apt_settings()
    reference = f"{_BASE}:{cache.key(_RECIPE, tree.name, settings)}"
    known = run(*buildah("images", "--format={{.Name}}:{{.Tag}}")).split()
    if reference in known:
        return reference
    container = run(*buildah("from", "scratch")).strip()
    try:
        root = Path(run(*buildah("mount", container)).strip())
        run("cp", "--archive", f"{tree}/.", root)
        # An image has no devices: who runs it mounts them.
        for path in ("dev", *(f"usr/share/{name}" for name in _NOT_IN_SLIM)):
            shutil.rmtree(root / path)
            (root / path).mkdir()
        leave_out = "".join(f"path-exclude /usr/share/{name}/*\n" for name in _NOT_IN_SLIM)
        (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(leave_out)
        (root / "etc/apt/apt.conf.d/90machine").write_text(settings)
        run(*buildah("commit", "--quiet", container, reference))
    finally:
        run(*buildah("rm", container))
    return reference


def _apt_settings() -> str:
    """How this machine's apt fetches: proxies, and whether a mirror may be behind."""
    lines = run("apt-config", "dump", "Acquire").splitlines()
    # What kinds of files there are in a mirror, every apt knows itself.
    return "".join(f"{line}\n" for line in lines if "::IndexTargets" not in line)


@contextmanager
def _pip_settings() -> Iterator[list[str]]:
    """How this machine's pip finds packages, as secrets of the build."""
    listed = run(*host_packages.pip(), "config", "list").splitlines()
    # SCOPE.name='value', with `:env:` as the scope of what stands in the environment.
    pairs = [line.partition("=") for line in listed]
    settings = {name.rpartition(".")[2]: value.strip("'") for name, _, value in pairs}
    known = ("index-url", "extra-index-url")
    chosen: dict[str, str] = {name: settings[name] for name in known if name in settings}
    secrets = []
    if "cert" in settings:
        chosen["cert"] = "/run/secrets/certificates"
        secrets.append(f"--secret=id=certificates,src={settings['cert']}")
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write("[global]\n" + "".join(f"{name} = {value}\n" for name, value in chosen.items()))
        file.flush()
        yield [*secrets, f"--secret=id=pip.conf,src={file.name}"]


def _revision() -> str:
    """The commit of this checkout, where it is one."""
    asked = subprocess.run(
        ["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"
