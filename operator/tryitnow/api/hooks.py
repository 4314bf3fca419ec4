"""Hooks: commands that the agent runs in a demo, and the parameters that they get."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from tryitnow.api.duration import ShortTimeout
from tryitnow.api.meta import Model
from tryitnow.api.template import LIST_MAP_BY_NAME, DnsLabel, Exec

MAX_HOOKS = 16


class Hook(Model):
    """One command."""

    container: DnsLabel | None = None
    """Container to run it in. Defaults to the first of spec.template.containers."""

    exec: Exec
    """The command."""

    timeout: ShortTimeout = timedelta(seconds=30)
    """Time after which it is killed and counts as failed, at most 10m. Defaults to 30s."""


HookList = Annotated[tuple[Hook, ...], Field(max_length=MAX_HOOKS)]


class Hooks(Model):
    """Commands to run before the checkpoint, after each start, and before a demo is deleted. They
    run one after the other."""

    before_checkpoint: HookList = ()
    """After the warm-up, before the checkpoint: flush, clear caches, drop the template's
    credentials. A failure fails the build."""

    after_restore: HookList = ()
    """After each start (a restore, a cold start, or a start after a crash), before clients can
    reach the demo: give it its host, its URL, its secrets. A failure fails that start. They may
    run more than once."""

    before_delete: HookList = ()
    """Before the demo is removed: drop its resources outside, such as its database. Where the
    demo's containers no longer run, the agent removes it without the hooks and records an Event."""


class Parameter(Model):
    """A value that the requester of a demo may set; hooks find it in their environment."""

    name: Annotated[
        str, Field(min_length=1, max_length=63, pattern=r"^[a-zA-Z]([-_a-zA-Z0-9]*[a-zA-Z0-9])?$")
    ]
    """Name of the parameter. Hooks find it as TRYITNOW_PARAM_NAME, in capital letters, with _
    for -."""

    description: Annotated[str, Field(max_length=1024)] = ""
    """Purpose of the parameter, for people."""

    default: Annotated[str, Field(max_length=4096)] | None = None
    """Value for a demo that sets none."""

    required: bool = False
    """Whether each demo must set it. Defaults to false."""

    values: Annotated[
        tuple[Annotated[str, Field(max_length=4096)], ...],
        Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ()
    """Values that it may have. Defaults to any."""

    @property
    def variable(self) -> str:
        """The environment variable in which hooks find it."""
        return f"TRYITNOW_PARAM_{self.name.upper().replace('-', '_')}"


ParameterList = Annotated[
    tuple[Parameter, ...], Field(max_length=64, json_schema_extra=LIST_MAP_BY_NAME)
]


def parameter_problems(declared: tuple[Parameter, ...], given: dict[str, str]) -> list[str]:
    """Return what is wrong with a demo's parameters, each a sentence that names the field."""
    by_name = {parameter.name: parameter for parameter in declared}
    known = ", ".join(sorted(by_name)) or "none"
    problems = [
        f"spec.parameters.{name} is not declared by the Checkpoint; it declares: {known}"
        for name in sorted(given)
        if name not in by_name
    ]
    for name, parameter in by_name.items():
        value = given.get(name)
        if value is None and parameter.required:
            problems.append(f"spec.parameters.{name} is required by the Checkpoint")
        if value is not None and parameter.values and value not in parameter.values:
            choices = ", ".join(parameter.values)
            problems.append(f"spec.parameters.{name} is {value!r}; it may be: {choices}")
    return problems


def parameter_values(declared: tuple[Parameter, ...], given: dict[str, str]) -> dict[str, str]:
    """Return the hooks' variables for a demo's parameters, defaults included."""
    values = {p.variable: p.default for p in declared if p.default is not None}
    # What was given counts, also where another parameter has the same variable.
    return values | {p.variable: given[p.name] for p in declared if p.name in given}
