"""What is read beside whole objects, as the API server sends it."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.aio import client as aio

from tryitnow.kubernetes import reading
from tryitnow.kubernetes.reading import Reading


@pytest.mark.parametrize(
    ("items", "labels"),
    [
        (None, {}),  # of none, a list in this form says null
        ([], {}),
        (
            [{"metadata": {"name": "a", "labels": {"disk": "ssd"}}}, {"metadata": {"name": "b"}}],
            {"a": {"disk": "ssd"}, "b": {}},
        ),
    ],
)
async def test_the_labels_of_nodes_of_none_as_well(
    items: list[Any] | None, labels: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(*_: object, query: dict[str, str], **__: object) -> dict[str, Any]:
        assert query == {"fieldSelector": "spec.unschedulable=true"}
        return {"kind": "PartialObjectMetadataList", "items": items}

    monkeypatch.setattr(reading, "get_json", answer)
    assert await Reading(aio.ApiClient()).node_labels(cordoned=True) == labels
