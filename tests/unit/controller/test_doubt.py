"""An agent decides nothing for other nodes: what it says is held against its Node and revision."""

from __future__ import annotations

import pytest

from tests.unit.builders import (
    IMAGE,
    NOW,
    PINNED,
    REVISION,
    add_node,
    make_agent,
    make_archive,
    make_checkpoint,
    make_container,
    make_definition,
    make_node,
    make_node_checkpoint,
    make_revision,
    make_state,
    make_template,
)
from tryitnow.api.archive import Archive
from tryitnow.api.meta import find_condition
from tryitnow.api.nodecheckpoint import Fetch, NodeCheckpoint
from tryitnow.controller.build import choose_builder
from tryitnow.controller.checkpoint import observe
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.doubt import doubt
from tryitnow.controller.plan import Plan, plan
from tryitnow.controller.status import status_from

GIB = 1 << 30
LIAR = 1 << 50

DIGEST = "sha256:" + "9" * 64
EVIL = f"evil.example/shop@{DIGEST}"


def world(*node_checkpoints: NodeCheckpoint, builders: dict[str, str] | None = None) -> Cluster:
    """Three nodes; node-c is the one that lies."""
    cluster = Cluster(builder_selector=builders or {}, listed=True)
    cluster.checkpoints.update(make_checkpoint())
    cluster.revisions.update(make_revision())
    for name in ("node-a", "node-b"):
        add_node(cluster, make_agent(name), labels={"builds": "yes"}, memory="16Gi")
    add_node(cluster, make_agent("node-c", memory=LIAR), memory="16Gi")
    for node_checkpoint in node_checkpoints:
        cluster.node_checkpoints.update(node_checkpoint)
    return cluster


def planned(cluster: Cluster) -> Plan:
    (checkpoint,) = cluster.checkpoints
    return plan(observe(cluster, checkpoint, NOW))


def message(cluster: Cluster) -> str:
    (checkpoint,) = cluster.checkpoints
    status = status_from(checkpoint, planned(cluster))
    ready = find_condition(status.conditions, "Ready")
    assert ready is not None
    return f"{ready.reason}: {ready.message}"


# -- builders -------------------------------------------------------------------------------------


def test_an_agent_that_claims_the_most_memory_builds_nothing_unless_its_node_is_a_builder() -> None:
    order = planned(world(builders={"builds": "yes"})).build.order
    assert order is not None
    assert order.node_name in {"node-a", "node-b"}


def test_a_claim_counts_no_more_than_what_the_node_gives_to_pods() -> None:
    state = make_state(make_agent(memory=LIAR), node=make_node(memory="16Gi"))
    assert state.memory_available_bytes == 16 * GIB
    assert (
        make_state(make_agent(memory=GIB), node=make_node(memory="16Gi")).memory_available_bytes
        == GIB
    )
    chosen = [
        choose_builder(
            make_checkpoint(uid=f"uid-{number}"),
            [
                make_state(make_agent("honest", memory=16 * GIB), node=make_node("honest")),
                make_state(make_agent("liar", memory=LIAR), node=make_node("liar", memory="16Gi")),
            ],
            None,
        )
        for number in range(20)
    ]
    assert {state.name for state in chosen if state} == {"honest", "liar"}, "no more than chance"


def test_where_no_node_may_build_the_checkpoint_says_which_label_to_give() -> None:
    cluster = world(builders={"nobody": "has-it"})
    assert planned(cluster).build.order is None
    assert message(cluster).startswith("NoBuilder: ")
    assert "controller.builderSelector" in message(cluster)


# -- what a builder says that it built ------------------------------------------------------------


@pytest.mark.parametrize(
    "image",
    [
        EVIL,
        f"registry.example/other@{DIGEST}",
        f"registry.example/shop/more@{DIGEST}",
        IMAGE,
        "registry.example/shop@sha256:short",
        "localhost/shop",
        "",
    ],
)
def test_an_archive_of_another_image_than_the_revisions_never_serves(image: str) -> None:
    for reported in ({"archive": make_archive(image=image)}, {"images": {"shop": image}}):
        built = make_node_checkpoint("node-a", **reported)
        result = planned(world(built))
        assert result.serving.revision is None
        assert result.build.failures.last is not None
        assert result.build.failures.last.reason == "ReportRefused"
        assert built in result.delete, "and another node builds it"
        assert not result.create


def test_an_image_that_the_revision_pins_is_that_very_image() -> None:
    definition = make_definition(image=PINNED)
    for image, is_good in ((PINNED, True), (f"registry.example/shop@{DIGEST}", False)):
        built = make_node_checkpoint("node-a", archive=make_archive(image=image))
        assert (doubt(built, definition) == "") is is_good


def test_each_container_has_an_image_of_its_own_repository() -> None:
    containers = (make_container("shop"), make_container("mail", "registry.example/mail:1", ()))
    definition = make_definition(
        template=make_template().model_copy(update={"containers": containers})
    )
    mail = f"registry.example/mail@{DIGEST}"
    good = make_archive(images={"shop": PINNED, "mail": mail})
    assert doubt(make_node_checkpoint(archive=good), definition) == ""
    for images in (
        {"shop": PINNED},
        {"shop": mail, "mail": PINNED},
        {"shop": PINNED, "mail": EVIL},
    ):
        reported = make_node_checkpoint(archive=make_archive(images=images))
        assert "container" in doubt(reported, definition)


def test_images_are_held_against_names_as_people_write_them() -> None:
    hub = f"docker.io/library/nginx@{DIGEST}"
    definition = make_definition(image="nginx")
    assert doubt(make_node_checkpoint(archive=make_archive(image=hub)), definition) == ""


# -- what a node says that fetched ----------------------------------------------------------------


def fetched(node: str, reported: Archive) -> NodeCheckpoint:
    return make_node_checkpoint(node, fetch=Fetch(archive=make_archive()), archive=reported)


def test_a_node_that_was_to_fetch_brings_no_archive_of_its_own() -> None:
    own = make_archive(b"of an intruder", image=EVIL)
    result = planned(world(fetched("node-c", own)))
    assert result.serving.revision is None, "the builder is gone, and this one is not believed"
    result = planned(world(make_node_checkpoint("node-a"), fetched("node-c", own)))
    assert result.serving.archive == make_archive()
    sources = [s.node_name for spec in result.create if spec.fetch for s in spec.fetch.sources]
    assert "node-c" not in sources


def test_of_a_node_that_fetched_only_the_digest_counts() -> None:
    result = planned(world(fetched("node-c", make_archive(image=EVIL))))
    assert result.serving.archive == make_archive()


# -- where archives are fetched from --------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://203.0.113.9:443/x",
        "https://node-b.example:9443/archives",
        "https://node-a.example:22/archives",
        "http://node-a.example:9443/archives",
        "https://node-a.example:9443/archives/../x",
        "https://node-a.example:9443/archives?x=",
        "https://me@node-a.example:9443/archives",
    ],
)
def test_a_url_that_is_not_at_the_nodes_own_address_is_not_handed_on(url: str) -> None:
    cluster = world(make_node_checkpoint("node-a"))
    cluster.agents.update(make_agent("node-a", transfer_url=url).model_copy())
    for spec in planned(cluster).create:
        assert spec.fetch is not None
        assert spec.fetch.sources == ()
    assert f"nothing is fetched from node-a ({url})" in message(cluster)


def test_the_url_at_the_nodes_own_address_and_port_is_handed_on() -> None:
    assert REVISION
    orders = planned(world(make_node_checkpoint("node-a"))).create
    urls = {source.url for spec in orders if spec.fetch for source in spec.fetch.sources}
    assert urls == {"https://node-a.example:9443/archives"}


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    agent = make_agent(transfer_url="https://[fd00::1]:9443/archives")
    assert make_state(agent, node=make_node(address="fd00::1")).transfer_url
    assert not make_state(agent, node=make_node(address="fd00::2")).transfer_url
