"""The parts that all our resources share: the group, object metadata, conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

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


Time = Annotated[
    datetime,
    PlainSerializer(_format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 64}),
]
"""A point in time, written as Kubernetes writes it (RFC 3339, whole seconds)."""

Generation = Annotated[int, Field(ge=0, le=(1 << 53) - 1)]
"""A ``metadata.generation``. The maximum is the largest number that each JSON reader keeps."""

Count = Annotated[int, Field(ge=0, le=1 << 31)]
"""A number of things."""

ObjectName = Annotated[str, Field(max_length=253)]
"""Name of an object of the cluster: a DNS subdomain (RFC 1123)."""

ImageReference = Annotated[str, Field(max_length=1280)]
"""An image with its digest: as long as a template allows, and ``@sha256:`` with 64 digits."""


@dataclass(frozen=True)
class CutTo:
    """The maximum of a text of a status: what is longer is cut where it is made, and not refused.

    Such a text has words of other programs in it. A status that the API server refuses for their
    length would tell nobody anything.
    """

    characters: int

    def cut(self, text: str) -> str:
        """Return the text, or as much of it as is allowed."""
        return text if len(text) <= self.characters else text[: self.characters - 1] + "…"

    def __get_pydantic_core_schema__(
        self, source: type[str], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Cut when the model is made, and again when it is written: a copy is not validated."""
        return core_schema.no_info_after_validator_function(
            self.cut,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(
                self.cut, return_schema=core_schema.str_schema()
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Tell the API server of the maximum."""
        return {**handler(schema), "maxLength": self.characters}


Message = Annotated[str, CutTo(8192)]
"""A sentence or a few, with the end of another program's output at most."""

Line = Annotated[str, CutTo(253)]
"""A few words of a program about itself, such as its version."""


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

    observed_generation: Generation | None = None
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
        max_length=32,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
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
