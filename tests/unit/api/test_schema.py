"""The CustomResourceDefinitions, as they are generated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tryitnow.api.schema import KINDS, Kind, crd, rendered

CRDS = Path(__file__).parents[3] / "crds"

Schema = dict[str, Any]


def _nodes(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Walk through all schemas below one, with the path that a user would write."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from _nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _nodes(schema["additionalProperties"], f"{path}[*]")


def _root(kind: Kind) -> Schema:
    root: Schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return root


by_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.model.kind_name for kind in KINDS])


def test_the_files_in_crds_are_what_the_models_say() -> None:
    found = {p.name: p.read_text() for p in CRDS.glob("tryitnow.dev_*.yaml")}
    assert found == rendered(), "run `make crds`"


def test_kustomize_installs_all_of_them() -> None:
    listed = yaml.safe_load((CRDS / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(rendered())


@by_kind
def test_every_field_is_described(kind: Kind) -> None:
    silent = [
        path
        for path, schema in _nodes(_root(kind), kind.model.kind_name)
        # Items are described with their list; metadata is Kubernetes' own.
        if not path.endswith(("]", ".metadata")) and not schema.get("description")
    ]
    assert silent == []


@by_kind
def test_the_schema_is_structural_and_defaults_nothing(kind: Kind) -> None:
    forbidden = {"default", "$ref", "anyOf", "oneOf", "allOf", "title", "const", "nullable"}
    types = {"object", "array", "string", "integer", "boolean"}
    for path, schema in _nodes(_root(kind), kind.model.kind_name):
        # Quantities are the one kind that has two types, and a word of Kubernetes' own for it.
        assert schema.get("type") in types or schema["x-kubernetes-int-or-string"], path
        assert not forbidden & schema.keys(), path


@by_kind
def test_a_list_says_what_it_holds_and_what_tells_its_items_apart(kind: Kind) -> None:
    for path, schema in _nodes(_root(kind), kind.model.kind_name):
        if schema.get("type") != "array":
            continue
        assert "items" in schema, path
        if schema.get("x-kubernetes-list-type") == "map":
            keys = set(schema["x-kubernetes-list-map-keys"])
            assert keys <= set(schema["items"]["required"]), path


@by_kind
def test_what_agents_and_people_select_by_is_a_field(kind: Kind) -> None:
    version = crd(kind)["spec"]["versions"][0]
    paths = [f["jsonPath"] for f in version.get("selectableFields", [])]
    assert paths == list(kind.selectable)
    for path in paths:
        schema = _root(kind)
        for part in path.removeprefix(".").split("."):
            schema = schema["properties"][part]
        assert schema["type"] in {"string", "integer", "boolean"}, "or the API server refuses it"
        assert "x-kubernetes-list-type" not in schema


_OF_KUBERNETES = (".apiVersion", ".kind", ".metadata")
"""Fields at the top of each object, which the API server checks by rules of its own."""


def _is_bounded(schema: Schema) -> bool:
    match schema.get("type"):
        case "boolean":
            return True
        case "string":
            return "maxLength" in schema or "enum" in schema
        case "integer":
            return "maximum" in schema and "minimum" in schema
        case "array":
            return "maxItems" in schema
        case "object":
            return "additionalProperties" not in schema or "maxProperties" in schema
    rules = [rule["message"] for rule in schema["x-kubernetes-validations"]]
    return "maxLength" in schema and any("at most" in rule for rule in rules)


@by_kind
def test_each_number_text_list_and_map_has_a_maximum(kind: Kind) -> None:
    boundless = [
        path
        for path, schema in _nodes(_root(kind), "")
        if path not in _OF_KUBERNETES and not _is_bounded(schema)
    ]
    assert boundless == []


@by_kind
def test_each_duration_has_a_maximum(kind: Kind) -> None:
    rules = [
        rule
        for _, schema in _nodes(_root(kind), "")
        for rule in schema.get("x-kubernetes-validations", [])
        if "must be a duration" in rule["message"]
    ]
    assert all("of at most" in rule["message"] and " <= " in rule["rule"] for rule in rules)


def test_an_agent_can_watch_its_own_objects_only() -> None:
    selectable = {kind.model.kind_name: kind.selectable for kind in KINDS}
    assert ".status.nodeName" in selectable["DemoInstance"]
    assert ".spec.nodeName" in selectable["NodeCheckpoint"]


@by_kind
def test_columns_show_fields_that_exist(kind: Kind) -> None:
    fields = {path for path, _ in _nodes(_root(kind), "")}
    for column in crd(kind)["spec"]["versions"][0]["additionalPrinterColumns"]:
        path = column["jsonPath"]
        if path == ".metadata.creationTimestamp":
            continue
        if ".conditions[" in path:
            path = f".status.conditions[].{path.rsplit('.', 1)[1]}"
        assert path in fields


@by_kind
def test_every_kind_is_in_the_category_and_has_a_status(kind: Kind) -> None:
    spec = crd(kind)["spec"]
    assert spec["names"]["categories"] == ["tryitnow"]
    assert spec["versions"][0]["subresources"]["status"] == {}


def test_short_names_are_short_and_unique() -> None:
    names = [name for kind in KINDS for name in kind.short_names]
    assert names == ["ckpt", "ckptrev", "demo", "demos", "nckpt", "nagent"]


def test_only_the_spec_is_required_of_a_user() -> None:
    for kind in KINDS:
        assert _root(kind)["required"] == ["spec"]
    by_name = {kind.model.kind_name: _root(kind)["properties"]["spec"] for kind in KINDS}
    assert by_name["Checkpoint"]["required"] == ["template"]
    assert by_name["DemoInstance"]["required"] == ["checkpointRef"]


def test_rules_say_what_is_wrong() -> None:
    for kind in KINDS:
        for _, schema in _nodes(_root(kind), ""):
            for rule in schema.get("x-kubernetes-validations", []):
                assert rule["message"]
                assert rule["rule"]


def test_kubectl_scale_sets_the_warm_sandboxes() -> None:
    by_name = {kind.model.kind_name: kind for kind in KINDS}
    subresources = crd(by_name["Checkpoint"])["spec"]["versions"][0]["subresources"]
    assert subresources["scale"] == {
        "specReplicasPath": ".spec.pool.warm",
        "statusReplicasPath": ".status.warmReady",
        "labelSelectorPath": ".status.selector",
    }
