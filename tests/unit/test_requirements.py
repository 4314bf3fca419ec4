"""What the image installs is what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]

PIN = re.compile(r"^(\S+)==([^\s;]+)", re.MULTILINE)


def test_every_dependency_is_pinned_to_a_version_that_will_do() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    locked = (CHECKOUT / "requirements.txt").read_text()
    pinned = {canonicalize_name(name): version for name, version in PIN.findall(locked)}
    for line in project["dependencies"]:
        wanted = Requirement(line)
        version = pinned.get(canonicalize_name(wanted.name))
        assert version, f"requirements.txt lacks {wanted.name}: `make lock`"
        assert version in wanted.specifier, f"{wanted.name} {version} is not {wanted}: `make lock`"
