"""What RBAC gives to whom, and all that it does not: read from the API server itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab.api import Api

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})

Found = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class Right:
    """A verb on a kind of resource."""

    group: str
    resource: str
    """With its subresource, as in ``pods/exec``."""

    verb: str

    def __str__(self) -> str:
        where = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {where}"


@dataclass(frozen=True)
class Resource:
    """A kind of resource that the API server serves."""

    group: str
    version: str
    name: str
    is_namespaced: bool
    verbs: frozenset[str]

    def path(self, namespace: str, name: str = "") -> str:
        """Path of one object, or of all where the name is empty."""
        root = f"/apis/{self.group}" if self.group else "/api"
        within = f"/namespaces/{namespace}" if self.is_namespaced else ""
        plural, _, subresource = self.name.partition("/")
        parts = [f"{root}/{self.version}{within}/{plural}", name, subresource]
        return "/".join(part for part in parts if part)


def resources(api: Api) -> list[Resource]:
    """All kinds of resources, subresources included."""
    groups = _got(api, "/apis")["groups"]
    served = [("", "v1"), *((g["name"], g["preferredVersion"]["version"]) for g in groups)]
    return [
        Resource(group, version, r["name"], r["namespaced"], frozenset(r["verbs"]) & {*_VERBS})
        for group, version in served
        for r in _got(api, f"/apis/{group}/{version}" if group else "/api/v1")["resources"]
    ]


@dataclass(frozen=True)
class Account:
    """A ServiceAccount."""

    namespace: str
    name: str

    @property
    def _subjects(self) -> set[tuple[str, str]]:
        return {
            ("User", f"system:serviceaccount:{self.namespace}:{self.name}"),
            ("Group", "system:authenticated"),
            ("Group", "system:serviceaccounts"),
            ("Group", f"system:serviceaccounts:{self.namespace}"),
        }

    def has(self, subject: Found, namespace: str) -> bool:
        """Whether the subject of a binding in a namespace is this account, alone or with others."""
        if subject["kind"] == "ServiceAccount":
            where = subject.get("namespace") or namespace
            return (where, subject["name"]) == (self.namespace, self.name)
        return (subject["kind"], subject["name"]) in self._subjects

    def is_meant_by(self, subject: Found, namespace: str) -> bool:
        """Whether the subject of a binding in a namespace is this account alone."""
        return self.has(subject, namespace) and subject["kind"] != "Group"


class Rights:
    """The rights of an account in one namespace (with those that it has everywhere)."""

    def __init__(self, api: Api, account: Account, namespace: str) -> None:
        self._rules: list[Found] = []
        self.own: list[Found] = []
        """Rules of bindings for this account alone."""

        for binding, role in _bound(api, namespace):
            subjects = binding.get("subjects", [])
            if any(account.has(subject, namespace) for subject in subjects):
                self._rules += role["rules"] or []
            if any(account.is_meant_by(subject, namespace) for subject in subjects):
                self.own += role["rules"] or []

    def has(self, right: Right) -> bool:
        """Whether it may do something with an object of any name."""
        return any(_gives(rule, right) for rule in self._rules)

    def own_rights(self) -> set[Right]:
        """All that bindings for this account alone give."""
        return {
            Right(group, resource, verb)
            for rule in self.own
            for group in rule.get("apiGroups", [])
            for resource in rule.get("resources", [])
            for verb in rule["verbs"]
        }


def _bound(api: Api, namespace: str) -> Iterator[tuple[Found, Found]]:
    cluster_roles = {r["metadata"]["name"]: r for r in _got(api, f"{_RBAC}/clusterroles")["items"]}
    for binding in _got(api, f"{_RBAC}/clusterrolebindings")["items"]:
        if (role := cluster_roles.get(binding["roleRef"]["name"])) is not None:
            yield binding, role
    within = f"{_RBAC}/namespaces/{namespace}"
    roles = {r["metadata"]["name"]: r for r in _got(api, f"{within}/roles")["items"]}
    for binding in _got(api, f"{within}/rolebindings")["items"]:
        of_kind = cluster_roles if binding["roleRef"]["kind"] == "ClusterRole" else roles
        yield binding, of_kind[binding["roleRef"]["name"]]


def _gives(rule: Found, right: Right) -> bool:
    def has(values: list[str], value: str) -> bool:
        return value in values or "*" in values

    return (
        not rule.get("resourceNames")
        and has(rule.get("apiGroups", []), right.group)
        and has(rule.get("resources", []), right.resource)
        and has(rule["verbs"], right.verb)
    )


def _got(api: Api, path: str) -> dict[str, Any]:
    found = api.get(path)
    assert found is not None, path
    return found
