"""What a container asks for beyond the capabilities that each has, with a Pod's field names."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tryitnow.api.meta import Model

CAPABILITY = r"^[A-Z][A-Z0-9_]*$"
"""A capability as Kubernetes writes it, without CAP_."""

CapabilityNames = Annotated[
    tuple[Annotated[str, Field(min_length=3, max_length=32, pattern=CAPABILITY)], ...],
    Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"}),
]


class Capabilities(Model):
    """Capabilities of the kernel, without the prefix CAP_."""

    add: CapabilityNames = ()
    """Capabilities beyond those that each container has (agent.containers.capabilities of the
    chart). The administrator says which may be asked for."""

    drop: CapabilityNames = ()
    """Capabilities that the container does not have; ALL drops all but those of add."""


class SecurityContext(Model):
    """Rights of a container's processes."""

    allow_privilege_escalation: bool = False
    """Whether a process can gain rights that its parent lacks, by set-user-ID programs such as sudo
    or by capabilities of a file. Defaults to false, other than in a Pod."""

    capabilities: Capabilities = Capabilities()
    """Capabilities to add and to drop."""
