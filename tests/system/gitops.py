"""Applying and comparing as Argo CD does: the desired object against the live one.

The prediction is the API server's own, by a dry run of the very apply that a sync would do, in both
of Argo CD's ways: server-side apply under its name, and client-side apply, where kubectl merges the
last applied, the desired and the live object. As Argo CD does (gitops-engine, pkg/diff), the
comparison leaves out managedFields, resourceVersion, the last applied object, and the status.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from lab.cluster import Cluster
from tryitnow.api.meta import API_VERSION

MANAGER = "argocd-controller"

Manifest = dict[str, Any]

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True)
class Difference:
    """A field that a sync would change."""

    path: str
    live: object
    desired: object


class Sync:
    """Brings objects of one namespace to what Git says, in one of the two ways."""

    def __init__(self, cluster: Cluster, namespace: str, *, server_side: bool) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._server_side = server_side
        self.desired: dict[tuple[str, str], Manifest] = {}

    def want(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        """Have Git say so."""
        self.desired[kind, name] = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "namespace": self._namespace},
            "spec": spec,
        }

    def apply(self) -> None:
        """Sync: create and change what differs."""
        self._apply(list(self.desired.values()))

    def live(self, kind: str, name: str) -> Manifest:
        """Return the object as it is in the cluster."""
        words = ["get", kind, name, f"--namespace={self._namespace}", "--show-managed-fields"]
        found: Manifest = json.loads(self._cluster.kubectl(*words, "--output=json").stdout)
        return found

    def differences(self, kind: str, name: str) -> list[Difference]:
        """Return what a sync would change about an object."""
        live = self.live(kind, name)
        predicted = self._apply([self.desired[kind, name]], "--dry-run=server", "--output=json")
        return list(_compare("", _comparable(live), _comparable(json.loads(predicted))))

    def out_of_sync(self) -> dict[str, list[Difference]]:
        """Return all objects that differ, with what a sync would change."""
        found = {f"{kind} {name}": self.differences(kind, name) for kind, name in self.desired}
        return {what: differences for what, differences in found.items() if differences}

    def _apply(self, manifests: list[Manifest], *words: str) -> str:
        if self._server_side:
            # Argo CD forces conflicts: Git is right.
            words = ("--server-side", "--force-conflicts", *words)
        stdin = yaml.safe_dump_all(manifests)
        command = ["apply", f"--field-manager={MANAGER}", *words, "--filename=-"]
        return self._cluster.kubectl(*command, stdin=stdin).stdout


def foreign_fields(live: Manifest) -> dict[str, set[str]]:
    """Return which parts of an object others than Argo CD own, by field manager."""
    found: dict[str, set[str]] = {}
    for entry in live["metadata"]["managedFields"]:
        if entry["manager"] != MANAGER:
            parts = found.setdefault(entry["manager"], set())
            for part, inner in entry["fieldsV1"].items():
                below = inner if part == "f:metadata" else [""]
                parts |= {f"{part}.{name}".removesuffix(".") for name in below}
    return found


def _comparable(manifest: Manifest) -> Manifest:
    metadata = {
        name: value
        for name, value in manifest["metadata"].items()
        if name not in {"managedFields", "resourceVersion", "annotations"}
    }
    annotations = dict(manifest["metadata"].get("annotations") or {})
    annotations.pop(_LAST_APPLIED, None)
    rest = {name: value for name, value in manifest.items() if name not in {"metadata", "status"}}
    return {**rest, "metadata": {**metadata, "annotations": annotations}}


def _compare(path: str, live: object, desired: object) -> Iterator[Difference]:
    if isinstance(live, dict) and isinstance(desired, dict):
        for name in sorted({*live, *desired}):
            yield from _compare(f"{path}/{name}", live.get(name), desired.get(name))
    elif live != desired:
        yield Difference(path, live, desired)
