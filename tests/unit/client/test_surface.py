"""What other projects import, and what it costs those who only have it installed."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tryitnow.client

CHECKOUT = Path(__file__).resolve().parents[3]


def test_every_name_of_the_surface_is_there() -> None:
    for name in tryitnow.client.__all__:
        assert getattr(tryitnow.client, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        tryitnow.client.nonsense  # noqa: B018


def test_the_pytest_plugin_loads_nothing_before_it_is_used() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    module = project["entry-points"]["pytest11"]["tryitnow"]
    heavy = ["kubernetes", "pydantic", "aiohttp", "tryitnow.api"]
    code = f"import sys, {module}; sys.exit(any(m in sys.modules for m in {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=CHECKOUT / "operator")
    assert done.returncode == 0


def test_every_command_of_the_package_exists() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    for target in project["scripts"].values():
        module, _, function = target.partition(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))
