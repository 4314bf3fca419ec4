"""What identifies a revision: which changes make a new one, and how objects are named after it."""

from __future__ import annotations

import pytest

from tests.unit.builders import (
    REVISION,
    UID_OF_SHOP,
    make_checkpoint,
    make_definition,
    make_revision,
    make_spec,
    make_template,
)
from tryitnow.api.checkpoint import Checkpoint, CheckpointSpec, OnCrash, Pool
from tryitnow.api.checkpointrevision import (
    MAX_NAME,
    CheckpointRevision,
    checkpoint_revision_name,
)
from tryitnow.api.definition import (
    IDENTITY_DIGITS,
    CRIUOptions,
    Definition,
    HTTPGet,
    Readiness,
    TCPPolicy,
    WarmUp,
)
from tryitnow.api.hooks import Hook, Hooks, Parameter
from tryitnow.api.nodecheckpoint import node_checkpoint_name
from tryitnow.api.template import Exec


def test_an_identity_has_128_bits() -> None:
    assert IDENTITY_DIGITS * 4 == 128
    assert len(REVISION) == IDENTITY_DIGITS
    assert set(REVISION) <= set("0123456789abcdef")


def test_an_identity_is_the_same_for_the_same_content_whatever_wrote_it() -> None:
    explicit = CheckpointSpec.model_validate(
        {
            "template": make_template().to_api(),
            "readiness": {"expectedStatus": 200, "timeout": "300s"},
            "criu": {"tcp": "Close"},
        }
    )
    assert explicit.definition().identity(UID_OF_SHOP) == REVISION
    read = Checkpoint.model_validate(make_checkpoint().to_api())
    assert read.spec.definition().identity(UID_OF_SHOP) == REVISION


def test_an_identity_is_what_it_was() -> None:
    """A change of this number makes new revisions of all Checkpoints when we are updated."""
    assert REVISION == "a1fdda169e05d9c9eb09dcd3e506c179"


def test_a_field_that_a_later_version_adds_makes_no_new_revision() -> None:
    """Defaults do not count: what an older version wrote has none of them."""
    whole = make_definition()
    older = {k: v for k, v in whole.to_api().items() if k not in {"hooks", "parameters"}}
    assert Definition.model_validate(older).identity("uid") == whole.identity("uid")


def test_checkpoints_do_not_share_revisions() -> None:
    """A Checkpoint that was made anew under its old name starts anew."""
    definition = make_definition()
    assert definition.identity("uid-1") != definition.identity("uid-2")


@pytest.mark.parametrize(
    "changed",
    [
        make_spec(image="registry.example/shop:1.3"),
        make_spec(template=make_template(args=("--fast",))),
        make_spec(template=make_template(ports=(8080, 8081))),
        make_spec(readiness=Readiness(expected_status=204)),
        make_spec(warm_up=WarmUp(paths=("/",))),
        make_spec(criu=CRIUOptions(tcp=TCPPolicy.ESTABLISHED)),
        make_spec().model_copy(
            update={"hooks": Hooks(before_delete=(Hook(exec=Exec(command=("drop",))),))}
        ),
        make_spec().model_copy(update={"parameters": (Parameter(name="title"),)}),
    ],
    ids=["image", "args", "ports", "readiness", "warmUp", "criu", "hooks", "parameters"],
)
def test_what_a_demo_is_made_of_makes_a_new_revision(changed: CheckpointSpec) -> None:
    assert changed.definition().identity(UID_OF_SHOP) != REVISION


@pytest.mark.parametrize(
    "changed",
    [
        make_spec(node_selector={"disk": "fast"}, copies=2),
        make_spec().model_copy(update={"pool": Pool(warm=3)}),
        make_spec().model_copy(update={"on_crash": OnCrash.RESET}),
    ],
    ids=["distribution", "pool", "onCrash"],
)
def test_where_and_how_many_makes_no_new_revision(changed: CheckpointSpec) -> None:
    assert changed.definition().identity(UID_OF_SHOP) == REVISION


def test_a_definition_that_was_changed_by_hand_is_seen() -> None:
    revision = make_revision()
    assert revision.is_consistent
    assert CheckpointRevision.model_validate(revision.to_api()).is_consistent
    changed = revision.spec.model_copy(update={"definition": make_definition(image="other:1")})
    assert not revision.model_copy(update={"spec": changed}).is_consistent


def test_readiness_asks_the_first_port_unless_told_otherwise() -> None:
    template = make_template(ports=(80, 443))
    assert make_definition(template=template).probe_port == 80
    readiness = Readiness(http_get=HTTPGet(port=443))
    assert make_definition(template=template, readiness=readiness).probe_port == 443


# -- names ----------------------------------------------------------------------------------------


def test_a_revision_is_named_by_its_checkpoint_and_identity() -> None:
    assert make_revision().metadata.name == f"shop-{REVISION}"


def test_a_long_name_of_a_checkpoint_still_makes_a_valid_name_of_its_own() -> None:
    first = checkpoint_revision_name("c" * 252 + "1", REVISION)
    second = checkpoint_revision_name("c" * 252 + "2", REVISION)
    assert len(first) <= MAX_NAME
    assert first != second
    assert first.endswith(REVISION)


def test_a_revision_on_a_node_is_named_by_both() -> None:
    assert node_checkpoint_name("shop", REVISION, "node-a") == f"shop.{REVISION}.node-a"


def test_a_long_node_name_still_makes_a_valid_name_of_its_own() -> None:
    first = node_checkpoint_name("c" * 63, REVISION, "n" * 250 + "one")
    second = node_checkpoint_name("c" * 63, REVISION, "n" * 250 + "two")
    assert len(first) <= MAX_NAME
    assert first != second
