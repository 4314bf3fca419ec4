"""The samples are what the API server accepts, unknown fields refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.conftest import Kubectl
from tests.system.samples import SAMPLES


def _samples() -> list[Path]:
    found = sorted(SAMPLES.glob("*.yaml"))
    return [path for path in found if path.name != "kustomization.yaml"]  # no object


@pytest.mark.parametrize("sample", _samples(), ids=lambda path: path.name)
def test_the_api_server_accepts_it(sample: Path, kubectl: Kubectl) -> None:
    how = ["--server-side", "--dry-run=server", "--validate=strict"]
    applied = kubectl("apply", *how, f"--filename={sample}")
    assert applied.returncode == 0, applied.stderr
    assert "serverside-applied" in applied.stdout
