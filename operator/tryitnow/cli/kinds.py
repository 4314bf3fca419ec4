"""Our kinds, as people call them."""

from __future__ import annotations

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Resource
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint

MODELS: list[type[Resource]] = [
    DemoInstance,
    Checkpoint,
    NodeCheckpoint,
    NodeAgent,
    CheckpointRevision,
]
"""In the order in which a bare name is looked for."""

_SHORT: dict[type[Resource], tuple[str, ...]] = {
    DemoInstance: ("demo", "demos"),
    Checkpoint: ("ckpt", "ckpts"),
    NodeCheckpoint: (),
    NodeAgent: ("node", "nodes"),
    CheckpointRevision: ("ckptrev",),
}


def model_of(word: str) -> type[Resource] | None:
    """Return the kind that a person means; None where it is none of ours."""
    wanted = word.lower()
    for model in MODELS:
        if wanted in {model.kind_name.lower(), model.plural, *_SHORT[model]}:
            return model
    return None


def short_kind(model: type[Resource]) -> str:
    """Return what a person would type."""
    return (*_SHORT[model], model.kind_name.lower())[0]
