"""What is asked of the cluster for a demo."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tryitnow.api.demoinstance import DemoInstance, StartPolicy
from tryitnow.client import InvalidRequestError
from tryitnow.client.request import DemoRequest, as_duration


def test_only_what_was_asked_for_is_sent() -> None:
    body = DemoRequest(checkpoint="shop", name="annas").body("shops")
    assert body == {
        "metadata": {"name": "annas", "namespace": "shops"},
        "spec": {"checkpointRef": {"name": "shop"}},
    }


def test_everything_that_was_asked_for_is_sent() -> None:
    request = DemoRequest(
        checkpoint="shop",
        ttl=timedelta(minutes=90),
        host="anna.example",
        parameters={"title": "Anna"},
        start=StartPolicy.RESTORE_ONLY,
    )
    assert request.body("shops")["spec"] == {
        "checkpointRef": {"name": "shop"},
        "ttl": "1h30m",
        "host": "anna.example",
        "parameters": {"title": "Anna"},
        "start": "RestoreOnly",
    }


def test_what_is_sent_is_what_the_model_reads() -> None:
    request = DemoRequest(checkpoint="shop", ttl="10m", host="a.example", parameters={"a": "b"})
    spec = DemoInstance.model_validate(request.body("shops")).spec
    assert (spec.ttl, spec.host, spec.parameters) == (
        timedelta(minutes=10),
        "a.example",
        {"a": "b"},
    )


def test_a_name_is_made_that_is_a_dns_label_and_not_made_twice() -> None:
    request = DemoRequest(checkpoint="the.shop-" + "x" * 100)
    one, other = (request.body("shops")["metadata"]["name"] for _ in range(2))
    assert one != other
    assert len(one) <= 63
    assert "." not in one


def test_how_long_to_wait_is_written_as_in_manifests() -> None:
    assert as_duration("1h30m") == timedelta(minutes=90)
    with pytest.raises(InvalidRequestError, match="write it like"):
        as_duration("soon")
