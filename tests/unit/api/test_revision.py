"""Which changes to a Checkpoint make a new revision, and how names are formed from it."""

from __future__ import annotations

import pytest

from tests.unit.builders import REVISION, make_blueprint, make_checkpoint, make_spec, make_template
from tryitnow.api.checkpoint import (
    Checkpoint,
    CheckpointSpec,
    CRIUOptions,
    HTTPGet,
    Readiness,
    TCPPolicy,
    WarmUp,
)
from tryitnow.api.nodecheckpoint import MAX_NAME, node_checkpoint_name


def test_a_revision_is_the_same_for_the_same_content_whatever_wrote_it() -> None:
    explicit = CheckpointSpec.model_validate(
        {
            "template": make_template().to_api(),
            "readiness": {"expectedStatus": 200, "timeout": "300s"},
            "criu": {"tcp": "Close"},
        }
    )
    assert explicit.blueprint().revision() == REVISION
    read = Checkpoint.model_validate(make_checkpoint().to_api())
    assert read.spec.blueprint().revision() == REVISION


def test_a_revision_is_ten_hexadecimal_digits() -> None:
    assert len(REVISION) == 10
    assert set(REVISION) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "changed",
    [
        make_spec(image="registry.example/shop:1.3"),
        make_spec(template=make_template(args=("--fast",))),
        make_spec(template=make_template(ports=(8080, 8081))),
        make_spec(readiness=Readiness(expected_status=204)),
        make_spec(warm_up=WarmUp(paths=("/",))),
        make_spec(criu=CRIUOptions(tcp=TCPPolicy.ESTABLISHED)),
    ],
    ids=["image", "args", "ports", "readiness", "warmUp", "criu"],
)
def test_what_shapes_the_frozen_image_makes_a_new_revision(changed: CheckpointSpec) -> None:
    assert changed.blueprint().revision() != REVISION


def test_where_copies_go_makes_no_new_revision() -> None:
    moved = make_spec(node_selector={"disk": "fast"}, copies=2)
    assert moved.blueprint().revision() == REVISION


def test_readiness_asks_the_first_port_unless_told_otherwise() -> None:
    template = make_template(ports=(80, 443))
    assert make_blueprint(template=template).probe_port == 80
    readiness = Readiness(http_get=HTTPGet(port=443))
    assert make_blueprint(template=template, readiness=readiness).probe_port == 443


def test_a_copy_is_named_by_checkpoint_revision_and_node() -> None:
    assert node_checkpoint_name("shop", "0123456789", "node-a") == "shop.0123456789.node-a"


def test_a_long_node_name_still_makes_a_valid_name_of_its_own() -> None:
    first = node_checkpoint_name("c" * 63, "0123456789", "n" * 250 + "one")
    second = node_checkpoint_name("c" * 63, "0123456789", "n" * 250 + "two")
    assert len(first) <= MAX_NAME
    assert first != second
