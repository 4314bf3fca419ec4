"""The parts that all our resources share: the group, object metadata, conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

GROUP = "tryitnow.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

NODE_FINALIZER = f"{GROUP}/node"
"""Held while a node keeps something for the object: a container or an archive."""


CHECKPOINT_LABEL = f"{GROUP}/checkpoint"
REVISION_LABEL = f"{GROUP}/revision"


def now() -> datetime:
    """Return the present time in UTC: the only clock that goes into a status."""
    return datetime.now(UTC)


def _format_time(value: datetime) -> str:
    # metav1.Time is RFC 3339 without fractions; anything else breaks Go clients.
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[datetime, PlainSerializer(_format_time, return_type=str)]
"""A point in time, written as Kubernetes writes it (RFC 3339, whole seconds)."""


class Model(BaseModel):
    """A part of a resource: camelCase outside, snake_case inside, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        # The API server has refused or pruned unknown fields already; a newer CRD than
        # this program must not stop it from reading the fields that it knows.
        extra="ignore",
        # Models are read at each start of each program, and most of them never used there.
        defer_build=True,
    )

    def to_api(self) -> dict[str, Any]:
        """Return the JSON shape that the API server takes, without unset fields."""
        return self.model_dump(by_alias=True, mode="json", exclude_none=True)


def stored(model: Model) -> dict[str, Any]:
    """Return the JSON shape that a model was read from: without fields that were not there."""
    return model.model_dump(by_alias=True, mode="json", exclude_none=True, exclude_unset=True)


class ConditionStatus(StrEnum):
    """The three answers of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """One aspect of the object's state, as the Kubernetes API conventions define it."""

    type: Annotated[str, Field(max_length=316)]
    """The aspect, such as Ready or Stalled."""

    status: ConditionStatus
    """Whether it holds: True, False or Unknown."""

    reason: Annotated[str, Field(max_length=1024)]
    """Cause of the status, as one CamelCase word for programs."""

    message: Annotated[str, Field(max_length=32768)] = ""
    """Cause of the status, in a sentence for people, with the next step."""

    observed_generation: int | None = None
    """The metadata.generation that the condition describes."""

    last_transition_time: Time
    """Time of the status' last change."""


NO_SPACE = r"[^\s\x0b\x{85}\p{Z}]"
"""A character of a pattern that is no space, to the API server (whose ``\\S`` knows ASCII alone)
as to us: objects that the API server takes and we cannot read would never be reconciled."""


def set_condition(
    conditions: Sequence[Condition],
    type_: str,
    status: ConditionStatus,
    reason: str,
    message: str = "",
    *,
    generation: int | None = None,
    at: datetime | None = None,
) -> list[Condition]:
    """Return the conditions with one of them set; its transition time moves only with its status.

    Source of the rule: Kubernetes API conventions, "Typical status properties".
    """
    old = next((c for c in conditions if c.type == type_), None)
    changed = old is None or old.status != status
    new = Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message[:32768],
        observed_generation=generation,
        last_transition_time=(at or now()) if changed or old is None else old.last_transition_time,
    )
    if old is None:
        return [*conditions, new]
    return [new if c.type == type_ else c for c in conditions]


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        }
    ),
]
"""A status' conditions: at most one of each type."""


class ConditionedStatus(Model):
    """The part that the statuses of our kinds share."""

    conditions: Conditions = ()

    def with_condition(
        self, about: Resource, type_: str, holds: ConditionStatus, reason: str, message: str
    ) -> Self:
        """Return a copy that has one condition set, for the generation that ``about`` has now."""
        conditions = set_condition(
            self.conditions, type_, holds, reason, message, generation=about.metadata.generation
        )
        return self.model_copy(update={"conditions": tuple(conditions)})


def find_condition(conditions: Sequence[Condition], type_: str) -> Condition | None:
    """Return the condition of that type, if there is one."""
    return next((c for c in conditions if c.type == type_), None)


class OwnerReference(Model):
    """The object whose deletion takes this one along."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Model):
    """The metadata that we read; everything else in it is left alone."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    finalizers: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()


class Key(tuple[str, str]):
    """Namespace and name of an object: the key of work queues and stores."""

    __slots__ = ()

    def __new__(cls, namespace: str, name: str) -> Self:  # noqa: D102
        return super().__new__(cls, (namespace, name))

    @property
    def namespace(self) -> str:
        """The namespace, empty for a cluster-scoped object."""
        return self[0]

    @property
    def name(self) -> str:
        """The name."""
        return self[1]

    def __str__(self) -> str:
        return f"{self[0]}/{self[1]}" if self[0] else self[1]


class Identified:
    """The facts in an object's metadata, whether or not the rest of it can be read."""

    metadata: ObjectMeta

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return Key(self.metadata.namespace, self.metadata.name)

    @property
    def is_deleting(self) -> bool:
        """Whether its deletion was requested."""
        return self.metadata.deletion_timestamp is not None

    @property
    def has_finalizer(self) -> bool:
        """Whether a node may keep something for it."""
        return NODE_FINALIZER in self.metadata.finalizers


class Resource(Identified, Model):
    """A whole object of one of our kinds."""

    kind_name: ClassVar[str]
    plural: ClassVar[str]
    namespaced: ClassVar[bool] = True
    api_path: ClassVar[str] = f"/apis/{API_VERSION}"
    """Path of its kind's API."""

    metadata: ObjectMeta

    @staticmethod
    def key_of(metadata: Mapping[str, Any]) -> Key:
        """Return namespace and name from raw metadata."""
        return Key(metadata.get("namespace") or "", metadata["name"])

    def owner_reference(self) -> OwnerReference:
        """Return the reference that makes another object die with this one."""
        return OwnerReference(
            api_version=API_VERSION,
            kind=self.kind_name,
            name=self.metadata.name,
            uid=self.metadata.uid,
            controller=True,
            block_owner_deletion=True,
        )
