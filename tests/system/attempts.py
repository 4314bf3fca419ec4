"""Attempts at the API server with somebody's token, made from RBAC, the kinds, and their objects.

Every write is a dry run: admission decides about it as about any other, and nothing is changed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from lab.cluster import Cluster
from tests.system.rights import WRITES, Resource, Right, Rights

_METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}
_MERGE = "application/merge-patch+json"
_OF_ALL = frozenset({"list", "watch", "deletecollection"})
_NOBODYS = "nobody-has-this-name"

REFUSED = frozenset({403, 422})
"""RBAC and admission policies answer 403, the rules of a CRD 422."""

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Attempt:
    """A request that must be refused."""

    right: Right
    path: str
    what: str = ""
    """What is written."""

    body: Body = field(default_factory=dict)
    refused_by: frozenset[int] = frozenset({403})

    def __str__(self) -> str:
        return f"{self.right} at {self.path} {self.what}".strip()


class Intruder:
    """Whoever has a token."""

    def __init__(self, cluster: Cluster, token: str) -> None:
        self._server = f"https://{cluster.control_plane_address}:6443"
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(Path(cluster.lab.certificates) / "ca.crt")
        self._session.headers["Authorization"] = f"Bearer {token}"

    def request(
        self,
        verb: str,
        path: str,
        body: Body | None = None,
        *,
        dry_run: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Make a request; a write changes nothing unless told to."""
        query = {"dryRun": "All"} if dry_run and verb in WRITES else {}
        if verb == "watch":
            query = {"watch": "1", "timeoutSeconds": "1"}
        kind = _MERGE if verb == "patch" else "application/json"
        return self._session.request(
            _METHODS[verb],
            self._server + path,
            params=query,
            data=json.dumps(body) if body is not None and verb in WRITES else None,
            headers={"Content-Type": kind, **(headers or {})},
            timeout=20,
        )

    def succeeded(self, attempts: Iterable[Attempt]) -> list[str]:
        """Make all attempts; return those that were not refused as they should be."""
        found = []
        for attempt in attempts:
            answer = self.request(attempt.right.verb, attempt.path, attempt.body)
            if answer.status_code not in attempt.refused_by:
                found.append(f"{attempt}: {answer.status_code} {answer.text[:300]}")
        return found


def beyond(resources: Iterable[Resource], rights: Rights, namespace: str) -> Iterator[Attempt]:
    """Everything that RBAC does not give in a namespace and for the whole cluster."""
    for resource in resources:
        for verb in sorted(resource.verbs):
            right = Right(resource.group, resource.name, verb)
            if rights.has(right):
                continue
            names_one = verb not in _OF_ALL and (verb != "create" or "/" in resource.name)
            yield Attempt(right, resource.path(namespace, _NOBODYS if names_one else ""))


# -- what RBAC gives, at objects and fields that are not the account's -----------------------------


@dataclass(frozen=True)
class Target:
    """An object that is there, and how much of it belongs to whoever tries."""

    resource: Resource
    body: Body
    is_own: bool = False
    """Whether the account may write some of it: then only foreign fields are tried."""

    own_spec: frozenset[str] = frozenset()
    """Fields of the spec that it may write."""

    owns_metadata: bool = False

    @property
    def path(self) -> str:
        """Path of the object."""
        metadata = self.body["metadata"]
        return self.resource.path(metadata.get("namespace", ""), metadata["name"])


def within(rights: Iterable[Right], targets: Iterable[Target]) -> Iterator[Attempt]:
    """Writes that RBAC gives, at what is not the account's own."""
    by_kind: dict[tuple[str, str], list[Target]] = {}
    for target in targets:
        plural = target.resource.name.partition("/")[0]
        by_kind.setdefault((target.resource.group, plural), []).append(target)
    for right in sorted(rights):
        plural, _, subresource = right.resource.partition("/")
        for target in by_kind.get((right.group, plural), ()):
            path = f"{target.path}/{subresource}" if subresource else target.path
            for what, change in _changes(target, subresource):
                body = _merged(target.body, change) if right.verb == "update" else change
                if right.verb in {"patch", "update"}:
                    yield Attempt(right, path, what, body, REFUSED)


def _changes(target: Target, subresource: str) -> Iterator[tuple[str, Body]]:
    """Changes of an object, one of each kind, that must be refused."""
    if subresource == "status":
        if not target.is_own:
            yield "status", {"status": {"conditions": []}}
        return
    metadata = target.body["metadata"]
    if not target.owns_metadata:
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}
        finalizers = metadata.get("finalizers", [])
        fields: dict[str, Any] = {
            "labels": {"x": "y"},
            "annotations": {"x": "y"},
            "ownerReferences": [*metadata.get("ownerReferences", []), owner],
            "finalizers": [*finalizers, "example.com/foreign"],
        }
        for name, value in fields.items():
            yield f"metadata.{name}", {"metadata": {name: value}}
        if not target.is_own and finalizers:
            yield "no finalizers", {"metadata": {"finalizers": []}}
        if metadata.get("ownerReferences"):
            yield "no owner", {"metadata": {"ownerReferences": []}}
    for name in sorted(set(target.body["spec"]) - target.own_spec):
        yield f"spec.{name} removed", {"spec": {name: None}}
        yield f"spec.{name} replaced", {"spec": {name: _other(target.body["spec"][name])}}


def _other(value: Any) -> Any:
    """Return another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return f"{value}0"
        case dict():
            return {name: _other(inner) for name, inner in value.items()}
        case _:
            return []


def _merged(body: Body, change: Body) -> dict[str, Any]:
    merged = copy.deepcopy(dict(body))
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            merged[name] = _merged(merged.get(name) or {}, value)
        else:
            merged[name] = value
    return merged


def new_node_agents(resource: Resource, own: str, other: str) -> Iterator[Attempt]:
    """NodeAgents that the agent of a node must not make."""
    right = Right(resource.group, resource.name, "create")
    foreign = {"apiVersion": "v1", "kind": "Node", "name": other, "uid": "x"}
    cases: dict[str, tuple[str, str, Body]] = {
        "another node's": (other, other, {}),
        "its node, another name": (f"{own}-new", own, {}),
        "another node, its name": (own, other, {}),
        "labels": (own, own, {"labels": {"x": "y"}}),
        "annotations": (own, own, {"annotations": {"x": "y"}}),
        "finalizers": (own, own, {"finalizers": ["example.com/foreign"]}),
        "our finalizer": (own, own, {"finalizers": ["tryitnow.dev/node"]}),
        "another owner": (own, own, {"ownerReferences": [foreign]}),
    }
    for what, (name, node, metadata) in cases.items():
        body = {
            "apiVersion": f"{resource.group}/{resource.version}",
            "kind": "NodeAgent",
            "metadata": {"name": name, **metadata},
            "spec": {"nodeName": node},
        }
        yield Attempt(right, resource.path(""), what, body, REFUSED)


def events(resource: Resource, namespace: str, program: str) -> Iterator[Attempt]:
    """Events that a program of ours must not record."""
    right = Right(resource.group, resource.name, "create")
    ours = {"apiVersion": "tryitnow.dev/v1alpha1", "kind": "DemoInstance", "name": "x"}
    theirs = {"apiVersion": "v1", "kind": "Pod", "name": "x"}
    cases = {
        "about a Pod": (theirs, f"tryitnow.dev/{program}"),
        "as the kubelet": (ours, "kubelet"),
        "as another program": (ours, "tryitnow.dev/other"),
    }
    for what, (regarding, reporter) in cases.items():
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": "x", "namespace": namespace},
            "action": "x",
            "reason": "x",
            "type": "Normal",
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "regarding": {**regarding, "namespace": namespace},
            "reportingController": reporter,
            "reportingInstance": "x",
        }
        yield Attempt(right, resource.path(namespace), what, body)
