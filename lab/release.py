"""The operator in a lab: the chart, installed with Helm as on any cluster."""

from __future__ import annotations

import time
from pathlib import Path

from lab import LabError, binaries, identity
from lab.api import Api
from lab.shell import run
from lab.state import Lab

CHECKOUT = Path(__file__).resolve().parent.parent
CHART = CHECKOUT / "charts/try-it-now"
VALUES = Path(__file__).parent / "values.yaml"
NAME = "try-it-now"

_HELM_WITHIN_S = 120
_SERVED_WITHIN_S = 30.0


def helm(lab: Lab, *words: str | Path) -> str:
    """Run Helm as the administrator."""
    # Its own files stay in the lab's directory, and are gone with it.
    home = lab.directory / "helm"
    env = {f"HELM_{what}_HOME": str(home / what.lower()) for what in ("CACHE", "CONFIG", "DATA")}
    argv = (binaries.tool("helm"), f"--kubeconfig={lab.kubeconfig}",
            f"--namespace={identity.NAMESPACE}", *words)  # fmt: skip
    return run(*argv, env=env)


def install(
    lab: Lab,
    api: Api,
    *words: str | Path,
    values: Path = VALUES,
    within_s: int = _HELM_WITHIN_S,
) -> None:
    """Install the chart, or bring the release up to date; waits until its Pods are ready."""
    label = {"pod-security.kubernetes.io/enforce": "privileged"}
    metadata = {"name": identity.NAMESPACE, "labels": label}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    api.apply(f"/api/v1/namespaces/{identity.NAMESPACE}", namespace)
    helm(
        lab, "upgrade", "--install", NAME, CHART, f"--values={values}", *words,
        "--wait", f"--timeout={within_s}s",
    )  # fmt: skip
    _wait_served(api)


def uninstall(lab: Lab) -> None:
    """Uninstall the release; CRDs and Checkpoints stay."""
    helm(lab, "uninstall", NAME, "--wait", f"--timeout={_HELM_WITHIN_S}s")


def _wait_served(api: Api) -> None:
    """Wait until our kinds can be listed: Established comes a second before their storage."""
    group = "/apis/tryitnow.dev/v1alpha1"
    deadline = time.monotonic() + _SERVED_WITHIN_S
    plurals = "checkpoints", "checkpointrevisions", "demoinstances", "nodecheckpoints", "nodeagents"
    for plural in plurals:
        while not api.answers(f"{group}/{plural}"):
            if time.monotonic() > deadline:
                raise LabError(f"The API server does not list {plural}: see its log.")
            time.sleep(0.02)
