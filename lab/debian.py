"""Makes Debian root file systems with debootstrap, from the mirror this machine already uses."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab import LabError, cache, host_packages
from lab.progress import step
from lab.shell import run_watched

# Part of every key: raise it when the way a tree is made changes.
_RECIPE = "1"

_APT_DIRECTORY = Path("/etc/apt")
_SCRIPTS = Path("/usr/share/debootstrap/scripts")


def tree(suite: str, packages: Sequence[str]) -> Path:
    """A minimal Debian of that suite with those packages, from the cache or newly made."""
    names = sorted(set(packages))
    include = [f"--include={','.join(names)}"] if names else []

    def make(target: Path) -> None:
        # bookworm's debootstrap knows no suite newer than trixie by name; all follow sid's script.
        script = _SCRIPTS / (suite if (_SCRIPTS / suite).exists() else "sid")
        what = f"making a Debian {suite}" + (f" with {len(names)} packages" if names else "")
        with step(what, usually="45 s") as current:
            run_watched(
                "debootstrap", "--variant=minbase", *include,
                suite, target, mirror(), script, step=current,
            )  # fmt: skip
        for leftover in ("var/cache/apt/archives", "var/lib/apt/lists", "debootstrap"):
            shutil.rmtree(target / leftover, ignore_errors=True)
        # debootstrap copies these two from this machine: neither is true inside the lab.
        for copied in ("etc/resolv.conf", "etc/hostname"):
            (target / copied).unlink(missing_ok=True)

    return cache.entry(
        f"debian-{suite}", cache.key(_RECIPE, suite, platform.machine(), *names), make
    )


def mirror() -> str:
    """The URI that this machine's apt takes its own release from."""
    codename = host_packages.release()
    for uri, suites, components in _sources():
        if codename in suites and "main" in components and uri.startswith(("http", "file")):
            return uri
    raise LabError(
        f"No source for Debian {codename} main in {_APT_DIRECTORY}: the lab takes its packages "
        "from the mirror of this machine's own apt sources, so there has to be one."
    )


def _sources() -> Iterator[tuple[str, list[str], list[str]]]:
    """(URI, suites, components) of each apt source, in both of apt's notations."""
    lists = _APT_DIRECTORY / "sources.list.d"
    for path in sorted(lists.glob("*.sources")):
        yield from _deb822(path.read_text())
    for path in [_APT_DIRECTORY / "sources.list", *sorted(lists.glob("*.list"))]:
        if path.exists():
            yield from _one_line(path.read_text())


def _deb822(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    for stanza in text.split("\n\n"):
        fields: dict[str, str] = {}
        last = ""
        for line in stanza.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0].isspace():
                fields[last] = f"{fields.get(last, '')} {line.strip()}"
                continue
            name, _, value = line.partition(":")
            last = name.strip().lower()
            fields[last] = value.strip()
        if fields.get("enabled", "yes") == "no" or "deb" not in fields.get("types", "").split():
            continue
        for uri in fields.get("uris", "").split():
            yield uri, fields.get("suites", "").split(), fields.get("components", "").split()


def _one_line(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] != "deb":
            continue
        if words[1].startswith("["):  # options, which may hold spaces
            end = next(at for at, word in enumerate(words) if word.endswith("]"))
            words = [words[0], *words[end + 1 :]]
        yield words[1], [words[2]], words[3:]
