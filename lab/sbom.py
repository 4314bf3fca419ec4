"""Writes the bill of materials of the operator's image, checked against CycloneDX's schema.

``python -m lab.sbom FILE`` builds the image first. The image has the same text in it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from image import sbom
from lab import LabError, operator_image

SHIPPED = "usr/share/try-it-now/sbom.cdx.json"
"""Where the image has it (Containerfile)."""


def problem(text: str) -> str:
    """Say what the schema does not allow; empty when all is right."""
    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    return "" if found is None else str(found)


def check(root: Path) -> str:
    """Return the text that an image has, when it fits the schema and what is installed there.

    Raises:
        LabError: it does not.

    """
    text = (root / SHIPPED).read_text()
    if text != sbom.text(root):
        raise LabError(f"/{SHIPPED} of the image is not what is installed in it.")
    if wrong := problem(text):
        raise LabError(f"/{SHIPPED} of the image does not fit CycloneDX 1.6: {wrong}")
    return text


def main() -> None:
    """Build the image, and write its bill of materials."""
    target = Path(sys.argv[1])
    with operator_image.mounted(operator_image.build()) as root:
        text = check(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


if __name__ == "__main__":
    main()
