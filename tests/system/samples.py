"""The samples that people start from, with the images of this lab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

SAMPLES = Path(__file__).parents[2] / "manifests/samples"


def sample(file: str, kind: str, images: dict[str, str]) -> dict[str, Any]:
    """The first object of a kind in a sample; ``images`` are references by application."""
    text = (SAMPLES / file).read_text()
    for name, reference in images.items():
        text = text.replace(f"registry.lab:5000/{name}:latest", reference)
    found: dict[str, Any] = next(
        document for document in yaml.safe_load_all(text) if document["kind"] == kind
    )
    return found
