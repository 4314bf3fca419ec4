"""What the image installs is what pyproject.toml asks for, and everything says its licence."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]

PIN = re.compile(r"^(\S+)==([^\s;]+)", re.MULTILINE)


HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())

LOCKED = {
    "requirements.txt": PROJECT["project"]["dependencies"],
    "requirements-build.txt": PROJECT["build-system"]["requires"],
}


@pytest.mark.parametrize("file", LOCKED)
def test_every_dependency_is_pinned_to_a_version_that_will_do(file: str) -> None:
    locked = (CHECKOUT / file).read_text()
    pinned = {canonicalize_name(name): version for name, version in PIN.findall(locked)}
    for line in LOCKED[file]:
        wanted = Requirement(line)
        version = pinned.get(canonicalize_name(wanted.name))
        assert version, f"{file} lacks {wanted.name}: `make lock`"
        assert version in wanted.specifier, f"{wanted.name} {version} is not {wanted}: `make lock`"


@pytest.mark.parametrize("file", LOCKED)
def test_every_pin_has_hashes(file: str) -> None:
    entries = re.split(r"^(?=\S+==)", (CHECKOUT / file).read_text(), flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        assert HASH.search(entry), f"{entry.split()[0]} has no hash: `make lock`"


def test_the_image_takes_nothing_from_pypi_that_has_no_hash() -> None:
    """No isolated build: it would fetch the build backend anew, whatever its version is by then."""
    commands = (CHECKOUT / "Containerfile").read_text().replace("\\\n", " ").split("&&")
    fetching = [line for line in commands if re.search(r"/pip .*\b(install|wheel)\b", line)]
    assert len(fetching) == 4
    for line in fetching:
        assert "--require-hashes" in line or "--no-index" in line, line
    assert all("--no-build-isolation" in line for line in fetching if " wheel " in line)


def test_the_licence_is_said_wherever_people_look_for_it() -> None:
    text = (CHECKOUT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert PROJECT["project"]["license-files"] == ["LICENSE"]
    chart = yaml.safe_load((CHECKOUT / "charts/try-it-now/Chart.yaml").read_text())
    assert chart["annotations"]["artifacthub.io/license"] == "Apache-2.0"
    label = 'org.opencontainers.image.licenses="Apache-2.0"'
    assert label in (CHECKOUT / "Containerfile").read_text()
