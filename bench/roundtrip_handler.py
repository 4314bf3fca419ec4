"""A whole operator in one handler: what is created gets a status. Sent to a node as text."""

from __future__ import annotations

from typing import Any

import kopf


@kopf.on.login()
def login(**arguments: Any) -> kopf.ConnectionInfo | None:
    """Identify as the controller does."""
    return kopf.login_via_client(**arguments)


@kopf.on.startup()
async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Do nothing beside: no events, no scanning, no peers."""
    settings.posting.enabled = False
    settings.scanning.disabled = True


# Of Kopf's handlers the quickest: it keeps no record of its own on the object.
@kopf.on.event("bench.tryitnow.dev", "v1", "pings")
async def ping(event: kopf.RawEvent, patch: kopf.Patch, **_: Any) -> None:
    """Answer once."""
    if event["type"] != "DELETED" and "seen" not in event["object"].get("status", {}):
        patch.status["seen"] = True


if __name__ == "__main__":
    kopf.run(clusterwide=True, standalone=True)
