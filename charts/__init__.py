"""The Helm chart, and what is made from it: the kustomize manifests, the values' page, the checks.

Nothing of this is needed to run try-it-now; `make manifests`, `make docs` and `make lint` use it.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts/try-it-now"
