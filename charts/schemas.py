"""JSON schemas of everything that the chart renders, for `kubeconform -strict`.

Those of Kubernetes come from the sources that the lab's kube-apiserver is built from, those of the
Prometheus operator from its module, ours from crds/: nothing is fetched from anywhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from charts import ROOT
from lab import binaries, cache

_PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
_ARGO_CD = "github.com/argoproj/argo-cd/v3@v3.1.9"
_MONITORS = ("podmonitors", "prometheusrules")
_CONTROL_PLANE = ROOT / "lab/control-plane"
_KUBERNETES = "k8s.io/kubernetes"

LOCATION = "{{ .Group }}_{{ .ResourceAPIVersion }}_{{ .ResourceKind }}.json"
"""Name of a schema's file as kubeconform looks for it; it writes kinds in lower case."""

_REFERENCE = "#/definitions/"

Schema = dict[str, Any]


def directory() -> Path:
    """The directory of the schemas."""
    crds = sorted((ROOT / "crds").glob("tryitnow.dev_*.yaml"))
    made_from = [(_CONTROL_PLANE / "go.mod").read_text(), _PROMETHEUS_OPERATOR]
    made_from += [crd.read_text() for crd in crds]

    def make(target: Path) -> None:
        kubernetes = binaries.module_files(_CONTROL_PLANE, _KUBERNETES)
        _write_builtin(kubernetes / "api/openapi-spec/swagger.json", target)
        for crd in (*crds, *monitoring_crds()):
            _write_custom(yaml.safe_load(crd.read_text()), target)

    return cache.entry("schemas", cache.key("2", *made_from), make)


def monitoring_crds() -> list[Path]:
    """The Prometheus operator's kinds that the chart can make objects of."""
    module = binaries.module_files(_CONTROL_PLANE, _PROMETHEUS_OPERATOR)
    directory = module / "example/prometheus-operator-crd"
    return [directory / f"monitoring.coreos.com_{kind}.yaml" for kind in _MONITORS]


def argo_cd_crds() -> list[Path]:
    """Argo CD's kinds that manifests/argocd has objects of."""
    module = binaries.module_files(_CONTROL_PLANE, _ARGO_CD)
    return [module / f"manifests/crds/{kind}-crd.yaml" for kind in ("application", "appproject")]


def _write(target: Path, group: str, version: str, kind: str, schema: Schema) -> None:
    # kubeconform takes the version of the core API for its group.
    (target / f"{group or version}_{version}_{kind.lower()}.json").write_text(json.dumps(schema))


def _write_builtin(swagger: Path, target: Path) -> None:
    definitions: dict[str, Schema] = json.loads(swagger.read_text())["definitions"]
    for name, definition in definitions.items():
        kinds = definition.get("x-kubernetes-group-version-kind", [])
        if len(kinds) != 1:
            continue  # those of several groups, such as DeleteOptions, are no objects
        needed = {found: _strict(definitions[found]) for found in _needed(name, definitions)}
        kind = kinds[0]
        schema = {"$ref": f"{_REFERENCE}{name}", "definitions": needed}
        _write(target, kind["group"], kind["version"], kind["kind"], schema)


def _needed(name: str, definitions: dict[str, Schema]) -> set[str]:
    """Names of a definition and of all that it refers to."""
    found: set[str] = set()
    left = [name]
    while left:
        current = left.pop()
        if current not in found:
            found.add(current)
            left += _references(definitions[current])
    return found


def _references(schema: Schema) -> Iterator[str]:
    yield from re.findall(rf'"\$ref": "{_REFERENCE}([^"]+)"', json.dumps(schema))


def _write_custom(crd: dict[str, Any], target: Path) -> None:
    spec = crd["spec"]
    for version in spec["versions"]:
        schema = _strict(version["schema"]["openAPIV3Schema"])
        schema["properties"] |= {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
        }
        _write(target, spec["group"], version["name"], spec["names"]["kind"], schema)


def _strict(schema: Any) -> Any:  # noqa: ANN401 - JSON
    """Say in JSON schema what Kubernetes says in words of its own; refuse unknown fields."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    strict = {name: _strict(part) for name, part in schema.items() if name != "properties"}
    if "properties" in schema:  # names of fields, which may be called like parts of a schema
        strict["properties"] = {name: _strict(p) for name, p in schema["properties"].items()}
    if strict.get("type") == "string" and "Quantity" in str(strict.get("description", ""))[:20]:
        strict["type"] = ["string", "number"]
    if "properties" in strict and not strict.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    return strict
