"""What Podman tells about how a container ended."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.unit.podman.libpod import FakeLibpod
from tryitnow.podman.client import Podman

NAME = "tryitnow_demo_default_anna_12345678"
ENDED = datetime(2026, 11, 30, 6, 36, 24, 488053, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # As Podman 5.8 writes it, in the time zone of the node.
        ({"OOMKilled": True, "FinishedAt": "2026-11-30T07:36:24.488053123+01:00"}, (True, ENDED)),
        ({"OOMKilled": False, "FinishedAt": "2026-11-30T06:36:24.488053Z"}, (False, ENDED)),
        ({"OOMKilled": False, "FinishedAt": "0001-01-01T00:00:00Z"}, (False, None)),
        ({}, (False, None)),
    ],
    ids=["no memory", "ended", "never ended", "not told"],
)
async def test_it_is_reported_when_a_container_ended_and_whether_for_want_of_memory(
    libpod: FakeLibpod,
    podman: Podman,
    text: dict[str, object],
    expected: tuple[bool, datetime | None],
) -> None:
    state = {"Running": False, "ExitCode": 137, "Pid": 0} | text
    libpod.on_json(
        "GET", f"/containers/{NAME}/json", {"Name": NAME, "Id": "c0ffee", "State": state}
    )
    found = await podman.inspect(NAME)
    assert found is not None
    assert (found.oom_killed, found.finished_at) == expected


async def test_a_listing_tells_when_containers_ended(libpod: FakeLibpod, podman: Podman) -> None:
    item = {"Names": [NAME], "Id": "c0ffee", "State": "exited", "ExitCode": 1}
    never = -62135596800  # Go's zero time
    listed = [item | {"ExitedAt": int(ENDED.timestamp())}, item | {"ExitedAt": never}, item]
    libpod.on_json("GET", "/containers/json", listed)
    found = await podman.list_containers("tryitnow_")
    assert [one.finished_at for one in found] == [ENDED.replace(microsecond=0), None, None]
