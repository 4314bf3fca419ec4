"""What ships is small, private and complete: the operator's image, without anything of the lab."""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import operator_image, sbom
from lab.cluster import CHECKOUT

SIZE_BOUND_MIB = 450
"""Of all files. 414 MiB when this was written: 86 Podman, 75 the Kubernetes client."""

USER = 65532


@pytest.fixture(scope="module")
def root(shipped: str) -> Iterator[Path]:
    with operator_image.mounted(shipped) as mounted:
        yield mounted


def files(root: Path) -> Iterator[tuple[Path, int, int]]:
    """Path below the root, mode and size of everything but links."""
    for path in root.rglob("*"):
        found = path.lstat()
        if not stat.S_ISLNK(found.st_mode):
            yield path.relative_to(root), found.st_mode, found.st_size


def test_it_is_small(root: Path) -> None:
    bytes_ = sum(size for _, mode, size in files(root) if stat.S_ISREG(mode))
    assert bytes_ >> 20 < SIZE_BOUND_MIB


def test_nobody_but_root_can_change_it_or_become_root_in_it(root: Path) -> None:
    found = list(files(root))
    open_ = [path for path, mode, _ in found if mode & stat.S_IWOTH and not mode & stat.S_ISVTX]
    assert not open_
    elevating = stat.S_ISUID | stat.S_ISGID
    assert not [path for path, mode, _ in found if mode & elevating and stat.S_ISREG(mode)]


@pytest.mark.parametrize("directory", ["var/cache", "var/lib/apt/lists", "var/log", "root/.cache"])
def test_what_only_its_making_needed_is_gone(root: Path, directory: str) -> None:
    assert not [path for path in (root / directory).rglob("*") if path.is_file()]


def test_it_says_what_it_is_and_runs_as_nobody(shipped: str) -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    found = operator_image.configuration(shipped)
    assert found["User"] == f"{USER}:{USER}"
    assert found["Entrypoint"] == ["tryitnow"]
    labels = found["Labels"]
    assert labels["org.opencontainers.image.title"] == project["name"]
    assert labels["org.opencontainers.image.version"] == project["version"]
    assert len(labels["org.opencontainers.image.revision"]) == 40
    assert labels["org.opencontainers.image.licenses"] == project["license"]
    assert labels["org.opencontainers.image.base.name"]


def test_it_has_the_code_of_this_checkout(root: Path) -> None:
    (packaged,) = root.glob("opt/try-it-now/lib/python3*/site-packages/tryitnow")
    sources = CHECKOUT / "operator/tryitnow"
    ours = {path.relative_to(sources): path.read_bytes() for path in sources.rglob("*.py")}
    theirs = {path.relative_to(packaged): path.read_bytes() for path in packaged.rglob("*.py")}
    assert ours == theirs


def test_it_has_its_bill_of_materials(root: Path) -> None:
    assert '"pkg:deb/debian/criu@' in sbom.check(root)
