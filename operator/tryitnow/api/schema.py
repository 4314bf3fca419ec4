"""CustomResourceDefinitions from the models: ``python -m tryitnow.api.schema crds`` writes them.

Kubernetes wants a structural schema (no ``$ref``, no ``anyOf`` that carries types), so
pydantic's JSON schema is unfolded and cleaned here. Nothing is defaulted in the schema: a default
would be written into the user's object, and GitOps tools would report a difference.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.descriptions import describe
from tryitnow.api.meta import GROUP, VERSION, Resource
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint

Schema = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of ``kubectl get``."""

    name: str
    path: str
    type: str = "string"
    description: str = ""
    priority: int = 0
    """0 is always shown, 1 with ``-o wide`` only."""


@dataclass(frozen=True)
class Kind:
    """The parts of a CustomResourceDefinition beside its schema."""

    model: type[Resource]
    short_names: tuple[str, ...]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()
    scale: dict[str, str] | None = None
    """Paths of the scale subresource."""

    rules: tuple[dict[str, str], ...] = ()
    categories: tuple[str, ...] = field(default=("tryitnow",))


def _ready(what: str) -> str:
    return f'.status.conditions[?(@.type=="Ready")].{what}'


_SHORT_NAME_RULE = {
    "rule": "self.metadata.name.size() <= 63",
    "message": "metadata.name must be at most 63 characters, as it becomes a label and a host name",
}

_NAME_IS_NODE_RULE = {
    "rule": "self.metadata.name == self.spec.nodeName",
    "message": "metadata.name must be spec.nodeName: a node has one NodeAgent, of its own name",
}

_WHY = "Message of the condition Ready."
_AGE = Column("Age", ".metadata.creationTimestamp", "date", "Time since the object was created.")

KINDS = (
    Kind(
        model=Checkpoint,
        short_names=("ckpt",),
        scale={
            "specReplicasPath": ".spec.pool.warm",
            "statusReplicasPath": ".status.warmReady",
            "labelSelectorPath": ".status.selector",
        },
        rules=(_SHORT_NAME_RULE,),
        columns=(
            Column("Ready", _ready("status"), description="Whether demos can be restored."),
            Column("Phase", ".status.phase", description="Its phase."),
            Column("Nodes", ".status.nodes", description="Nodes ready / desired."),
            Column("Warm", ".status.warm", description="Warm sandboxes ready / desired."),
            Column("Revision", ".status.currentRevision", description="Revision that serves."),
            Column("Size", ".status.archive.sizeBytes", "integer", "Archive size in bytes.", 1),
            Column("Since", ".status.readySince", "date", "Time since it became ready."),
            _AGE,
            Column("Message", _ready("message"), description=_WHY, priority=1),
        ),
    ),
    Kind(
        model=CheckpointRevision,
        short_names=("ckptrev",),
        selectable=(".spec.checkpoint",),
        columns=(
            Column("Checkpoint", ".spec.checkpoint", description="Checkpoint that it belongs to."),
            Column("Number", ".spec.number", "integer", "Revisions are counted from 1."),
            Column(
                "Built",
                '.status.conditions[?(@.type=="Built")].status',
                description="Whether it has been built, and a test restore answered.",
            ),
            Column("Built-By", ".status.builtBy", description="Node that built it."),
            Column("Size", ".status.archive.sizeBytes", "integer", "Archive size in bytes."),
            _AGE,
        ),
    ),
    Kind(
        model=DemoInstance,
        short_names=("demo", "demos"),
        selectable=(".status.nodeName", ".spec.checkpointRef.name"),
        rules=(_SHORT_NAME_RULE,),
        columns=(
            Column("Checkpoint", ".spec.checkpointRef.name", description="Its Checkpoint."),
            Column("Ready", _ready("status"), description="Whether it answers at its URL."),
            Column("Phase", ".status.phase", description="Its phase."),
            Column("Started-By", ".status.startedBy", description="Method of the last start."),
            Column("Node", ".status.nodeName", description="Node that runs it."),
            Column("URL", ".status.url", description="URL of the application."),
            Column("Took", ".status.timings.total", description="From the bind until ready."),
            Column("Since", ".status.readyAt", "date", "Time since it first became ready."),
            Column("Expires", ".status.expiresAt", description="Time of its deletion."),
            Column(
                "Fallback",
                ".status.fallbackReason",
                description="Reason for a cold start although a restore was allowed.",
                priority=1,
            ),
            Column("Message", _ready("message"), description=_WHY, priority=1),
            _AGE,
        ),
    ),
    Kind(
        model=NodeCheckpoint,
        short_names=("nckpt",),
        selectable=(".spec.nodeName", ".spec.checkpoint"),
        columns=(
            Column("Checkpoint", ".spec.checkpoint", description="Checkpoint that it belongs to."),
            Column("Revision", ".spec.revision", description="Identity of its revision."),
            Column("Node", ".spec.nodeName", description="Node that keeps it."),
            Column("Phase", ".status.phase", description="Its phase on the node."),
            Column("Warm", ".status.warmReady", "integer", "Warm sandboxes that wait."),
            Column("Progress", ".status.progress", description="The agent's current step."),
            _AGE,
            Column("Message", _ready("message"), description=_WHY, priority=1),
        ),
    ),
    Kind(
        model=NodeAgent,
        short_names=("nagent",),
        selectable=(".spec.nodeName",),
        rules=(_NAME_IS_NODE_RULE,),
        columns=(
            Column("Ready", _ready("status"), description="Whether it can run demos."),
            Column(
                "CRIU",
                '.status.conditions[?(@.type=="CRIUAvailable")].status',
                description="Whether it can checkpoint and restore.",
            ),
            Column("Address", ".status.address", description="Address of the node."),
            Column("Heartbeat", ".status.heartbeat", "date", "Time since the agent's last report."),
            _AGE,
            Column(
                "Message",
                '.status.conditions[?(@.type=="CRIUAvailable")].message',
                description="Message of the condition CRIUAvailable.",
                priority=1,
            ),
        ),
    ),
)

_KEPT = {
    "type", "description", "enum", "pattern", "format", "required", "maxLength", "minLength",
    "maxItems", "minItems", "minimum", "maximum", "maxProperties",
}  # fmt: skip


def structural(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """Unfold one node of pydantic's JSON schema into a structural schema."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[1]]
        # What is said where the model is used describes it better than its own docstring.
        return structural(
            {**target, **{k: v for k, v in schema.items() if k != "$ref"}}, definitions
        )
    if "anyOf" in schema:
        present = [s for s in schema["anyOf"] if s.get("type") != "null"]
        if len(present) != 1:
            msg = f"no structural schema for a union: {schema}"
            raise TypeError(msg)
        return structural(
            {**present[0], **{k: v for k, v in schema.items() if k != "anyOf"}}, definitions
        )
    out: Schema = {k: v for k, v in schema.items() if k in _KEPT or k.startswith("x-kubernetes-")}
    if "description" in out:
        out["description"] = " ".join(out["description"].split())
    if "const" in schema:
        out["enum"] = [schema["const"]]  # an enumeration of one
    if out.get("type") == "integer":
        out["format"] = "int64"
    if "properties" in schema:
        out["properties"] = {
            name: structural(value, definitions) for name, value in schema["properties"].items()
        }
    if "items" in schema:
        out["items"] = structural(schema["items"], definitions)
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        out["additionalProperties"] = structural(extra, definitions)
    return out


def crd(kind: Kind) -> Schema:
    """Return the CustomResourceDefinition of a kind."""
    describe()
    model = kind.model
    whole = model.model_json_schema(by_alias=True)
    definitions = whole.get("$defs", {})
    schema: Schema = {
        "type": "object",
        "description": " ".join((model.__doc__ or "").split()),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Always tryitnow.dev/v1alpha1."},
            "kind": {"type": "string", "description": f"Always {model.kind_name}."},
            "metadata": {"type": "object"},
            "spec": structural(whole["properties"]["spec"], definitions),
            "status": structural(whole["properties"]["status"], definitions),
        },
    }
    if kind.rules:
        schema["x-kubernetes-validations"] = list(kind.rules)
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {
            "status": {},
            **({"scale": kind.scale} if kind.scale else {}),
        },
        "additionalPrinterColumns": [
            {
                "name": c.name,
                "type": c.type,
                "jsonPath": c.path,
                "description": c.description,
                **({"priority": c.priority} if c.priority else {}),
            }
            for c in kind.columns
        ],
        "schema": {"openAPIV3Schema": schema},
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{model.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if model.namespaced else "Cluster",
            "names": {
                "kind": model.kind_name,
                "listKind": f"{model.kind_name}List",
                "plural": model.plural,
                "singular": model.kind_name.lower(),
                "shortNames": list(kind.short_names),
                "categories": list(kind.categories),
            },
            "versions": [version],
        },
    }


def rendered() -> dict[str, str]:
    """Return the files of ``crds/``: name to content."""
    return {
        f"{GROUP}_{d.model.plural}.yaml": (
            "# Generated from operator/tryitnow/api by `make crds`. Do not edit.\n"
            + yaml.safe_dump(crd(d), sort_keys=False, width=100)
        )
        for d in KINDS
    }


def main() -> None:
    """Write the files into the directory named by the first argument."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in rendered().items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    main()
