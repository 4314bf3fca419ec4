"""The virtual environment in which the project is linted and tested, kept in the cache."""

from __future__ import annotations

import importlib.util
import platform
import sys
import tomllib
from pathlib import Path

from lab import cache, host_packages
from lab.progress import step
from lab.shell import run_watched

CHECKOUT = Path(__file__).resolve().parent.parent


def python() -> Path:
    """The interpreter of an environment with all that pyproject.toml names, ``dev`` included.

    The project itself is not installed: checkouts share the environment, each with its own code.
    """
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = sorted([*project["dependencies"], *project["optional-dependencies"]["dev"]])

    def make(target: Path) -> None:
        if not importlib.util.find_spec("ensurepip"):
            host_packages.install(["python3-venv"])
        with step(f"installing {len(wanted)} Python packages", usually="30 s") as current:
            run_watched(sys.executable, "-m", "venv", target, step=current)
            # By `-m`: the entry is renamed when complete, which scripts with a path in their
            # first line would not survive.
            run_watched(target / "bin/python", "-m", "pip", "install", *wanted, step=current)

    version = f"{platform.python_version()} {sys.base_prefix}"
    key = cache.key("1", version, platform.machine(), *wanted)
    return cache.entry("venv", key, make) / "bin/python"
