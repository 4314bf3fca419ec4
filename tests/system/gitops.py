"""Applying and comparing as Argo CD does: the desired object against the live one.

The prediction is the API server's own, by a dry run of the very apply that a sync would do, in both
of Argo CD's ways: server-side apply under its name, and client-side apply, where kubectl merges the
last applied, the desired and the live object. As Argo CD does (gitops-engine, pkg/diff), the
comparison leaves out managedFields, resourceVersion, the last applied object, the status, and what
it does not manage: a finalizer may come between reading the live object and the dry run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lab.cluster import Cluster
from tryitnow.api.meta import API_VERSION

MANAGER = "argocd-controller"

Manifest = dict[str, Any]
Name = tuple[str, str]
"""Kind and name."""

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
        self.desired: dict[Name, Manifest] = {}

    def want(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        """Have Git say so."""
        self.desired[kind, name] = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "namespace": self._namespace},
            "spec": spec,
        }

    def apply(self, respecting: Sequence[str] = ()) -> None:
        """Sync: create and change what differs.

        Args:
            respecting: JSON pointers of what Argo CD was told to ignore; with its option
                RespectIgnoreDifferences it puts the live values in the place of Git's there.

        """
        if respecting:
            live = self.live()
            for name, desired in self.desired.items():
                for pointer in respecting:
                    _take_over(pointer, live[name], desired)
        self._apply()

    def live(self) -> dict[Name, Manifest]:
        """Return the objects as they are in the cluster."""
        words = ["get", "--show-managed-fields", "--output=json", "--filename=-"]
        stdin = yaml.safe_dump_all(self.desired.values())
        return _by_name(self._cluster.kubectl(*words, stdin=stdin).stdout)

    def differences(self) -> dict[Name, list[Difference]]:
        """Return what a sync would change, by the objects that it would change."""
        live = self.live()
        predicted = _by_name(self._apply("--dry-run=server", "--output=json"))
        found = {
            name: list(_compare("", _comparable(live[name]), _comparable(predicted[name])))
            for name in self.desired
        }
        return {name: differences for name, differences in found.items() if differences}

    def _apply(self, *words: str) -> str:
        if self._server_side:
            # Argo CD forces conflicts: Git is right.
            words = ("--server-side", "--force-conflicts", *words)
        command = ["apply", f"--field-manager={MANAGER}", *words, "--filename=-"]
        stdin = yaml.safe_dump_all(self.desired.values())
        return self._cluster.kubectl(*command, stdin=stdin).stdout


def _take_over(pointer: str, live: Manifest, desired: Manifest) -> None:
    *above, last = pointer.strip("/").split("/")
    for step in above:
        live, desired = live[step], desired[step]
    desired[last] = live[last]


def _by_name(told: str) -> dict[Name, Manifest]:
    found = json.loads(told)
    items: list[Manifest] = found["items"] if found["kind"] == "List" else [found]
    return {(item["kind"], item["metadata"]["name"]): item for item in items}


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
        if name not in {"managedFields", "resourceVersion", "annotations", "finalizers"}
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
