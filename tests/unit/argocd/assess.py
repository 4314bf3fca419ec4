"""Health as Argo CD finds it: its rule for deleted objects, then the Lua in its sandbox.

Argo CD runs such scripts in Lua 5.1 with the basic functions and ``table`` alone: no ``string``,
``math``, ``os``, ``io``, not even methods of strings (its util/lua/lua.go, version 3.6). What a
script could do here and not there must fail here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from lupa.lua51 import LuaRuntime, lua_type

CUSTOMIZATIONS = Path(__file__).parents[3] / "manifests/argocd/resource_customizations"

_SANDBOX = """
debug.setmetatable("", nil)
local hidden = { "string", "math", "os", "io", "debug", "coroutine", "package", "python" }
for _, name in ipairs(hidden) do
  _G[name] = nil
end
"""


class HealthStatus(StrEnum):
    """What a script may answer."""

    PROGRESSING = "Progressing"
    HEALTHY = "Healthy"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"


@dataclass(frozen=True)
class Health:
    """Status and message, as Argo CD shows them."""

    status: HealthStatus
    message: str = ""


def script(kind: str, group: str = "tryitnow.dev") -> Path:
    """Return where the check of a kind stands."""
    return CUSTOMIZATIONS / group / kind / "health.lua"


def assess(manifest: Mapping[str, Any]) -> Health:
    """Return the health of an object."""
    if manifest["metadata"].get("deletionTimestamp"):
        return Health(HealthStatus.PROGRESSING, "Pending deletion")
    group = manifest["apiVersion"].partition("/")[0]
    return run(script(manifest["kind"], group).read_text(), manifest)


def run(source: str, manifest: Mapping[str, Any]) -> Health:
    """Return what a script says of an object."""
    lua = LuaRuntime(register_builtins=False, register_eval=False)
    lua.execute(_SANDBOX)
    lua.globals()["obj"] = _to_lua(lua, manifest)
    answer = lua.execute(source)
    assert lua_type(answer) == "table", f"Argo CD expects a table, not {answer!r}"
    found = dict(answer.items())
    assert found.keys() <= {"status", "message"}, found
    return Health(HealthStatus(found["status"]), found.get("message", ""))


def _to_lua(lua: LuaRuntime, value: object) -> object:
    if isinstance(value, Mapping):
        return lua.table_from({key: _to_lua(lua, inner) for key, inner in value.items()})
    if isinstance(value, list):
        return lua.table_from([_to_lua(lua, inner) for inner in value])
    return value
