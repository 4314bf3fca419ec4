#!/usr/bin/python3
"""Prints the software bill of materials of an image, from what is installed in it (CycloneDX 1.6).

Debian's packages are those that dpkg knows, and Python's those in the programs' environment.
The same files give the same text: it has no time and no random number.

    sbom.py [ROOT]
"""

import json
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

OURS = "try-it-now"
PYTHON = "opt/try-it-now/lib/python3*/site-packages"


def bill_of_materials(root: Path) -> dict[str, Any]:
    """Return the document for the file system below a directory."""
    release = os_release(root)
    system = {
        "type": "operating-system",
        "bom-ref": "operating-system",
        "name": release["ID"],
        # A suite that is not released yet has no number.
        "version": release.get("VERSION_ID") or release.get("VERSION_CODENAME", ""),
    }
    packages = sorted([*debian(root, release), *python(root)], key=lambda each: each["bom-ref"])
    # Of the Python packages, ours is what the image is made for.
    ours = next(each for each in packages if each["purl"].startswith(f"pkg:pypi/{OURS}@"))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": OURS,
                "version": ours["version"],
            }
        },
        "components": [system, *packages],
    }
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True))
    return {**document, "serialNumber": f"urn:uuid:{number}"}


def os_release(root: Path) -> dict[str, str]:
    """Return the fields of os-release(5)."""
    lines = (root / "usr/lib/os-release").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {name: value.strip("\"'") for name, value in pairs}


def debian(root: Path, release: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the packages that dpkg has installed."""
    for stanza in (root / "var/lib/dpkg/status").read_text().split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " "
        )
        if not fields.get("Status", "").endswith(" installed"):
            continue
        name, version = fields["Package"], fields["Version"]
        qualifiers = {"arch": fields["Architecture"]}
        if codename := release.get("VERSION_CODENAME"):
            qualifiers["distro"] = f"{release['ID']}-{codename}"
        # Debian's advisories are about source packages.
        if source := fields.get("Source"):
            qualifiers["upstream"] = source.replace(" (", "@").rstrip(")")
        yield component(f"deb/{release['ID']}", name, version, qualifiers)


def python(root: Path) -> Iterator[dict[str, Any]]:
    """Yield the packages of the programs' Python environment."""
    directories = [str(path) for path in root.glob(PYTHON)]
    for found in distributions(path=directories):
        name = found.name.lower().replace("_", "-")
        yield {**component("pypi", name, found.version, {}), **licences(found)}


def licences(found: Distribution) -> dict[str, Any]:
    """Return what a Python package says of its licence in SPDX's words; most do."""
    if "License-Expression" not in found.metadata:
        return {}
    return {"licenses": [{"expression": found.metadata["License-Expression"]}]}


def component(kind: str, name: str, version: str, qualifiers: dict[str, str]) -> dict[str, Any]:
    """Return a package, by its package URL."""
    words = "&".join(f"{key}={quote(value, safe=':')}" for key, value in sorted(qualifiers.items()))
    url = f"pkg:{kind}/{quote(name, safe='')}@{quote(version, safe=':')}"
    url += f"?{words}" if words else ""
    return {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}


def text(root: Path) -> str:
    """Return the document as it is written to a file."""
    return json.dumps(bill_of_materials(root), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text(Path(sys.argv[1] if len(sys.argv) > 1 else "/")))
