"""Programs of our own that run inside a machine, built with Go: its first process, and `pause`."""

from __future__ import annotations

import platform
from pathlib import Path

from lab import binaries, cache
from lab.progress import step
from lab.shell import run

_HERE = Path(__file__).parent
_PROGRAMS = ("init", "pause")


def program(name: str) -> Path:
    """One of the programs, from the cache or newly built; it needs no libraries."""

    def make(target: Path) -> None:
        binaries.require_go("the programs inside a machine")
        with step("building the programs inside a machine", usually="10 s"):
            run(
                "go", "build", "-trimpath", "-ldflags=-s -w", "-o", f"{target}/",
                *(f"./{name}" for name in _PROGRAMS), cwd=_HERE, env={"CGO_ENABLED": "0"},
            )  # fmt: skip

    sources = [path.read_text() for path in (_HERE / "go.mod", *sorted(_HERE.glob("*/*.go")))]
    return cache.entry("guest", cache.key("1", platform.machine(), *sources), make) / name
