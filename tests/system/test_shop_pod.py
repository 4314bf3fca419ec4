"""The shop as a pod: many at once, checkpointed while orders come in, each with its own data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pages import walkthrough
from tests.system.nodes import VOLUMES, LabNodes
from tests.system.notes import Client, visit
from tests.system.objects import Objects
from tests.system.samples import sample
from tests.system.terminal import Terminal
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, StartedBy

AT_ONCE = 5
BUILT_WITHIN = 180.0
DEMOS = [f"shop-{number}" for number in range(AT_ONCE)]

ELSEWHERE = {"www.w3.org", "gmpg.org", "wordpress.org", "api.w.org"}
"""Names in the pages that are no links to the shop: of markup, and of who made it."""


@pytest.fixture(scope="module")
def shop(module_objects: Objects, shop_images: dict[str, str]) -> Iterator[Checkpoint]:
    """The sample, with two writers in a loop while it is checkpointed."""
    spec = sample("shop-pod.yaml", "Checkpoint", shop_images)["spec"]
    container = spec["template"]["containers"][0]
    container["env"].append({"name": "SHOP_LOAD", "value": "2"})
    spec["hooks"]["afterRestore"].insert(0, {"exec": {"command": ["stop-load"]}, "timeout": "30s"})
    # So that each PHP process has drawn random numbers before the checkpoint: siblings share them.
    spec["warmUp"] = {"paths": ["/", "/?lab_identity=1"], "rounds": 8}
    spec["readiness"]["httpGet"]["host"] = "shop.example"
    spec["pool"] = {"warm": 1, "pause": True}
    module_objects.secret("shop-database", password="s3cret-of-the-database")
    module_objects.checkpoint("shop", spec)
    module_objects.ready_checkpoint("shop", BUILT_WITHIN)
    module_objects.settled_pool("shop", 1)
    yield module_objects.wait(Checkpoint, "shop", lambda c: c.status.warm_ready == 1)
    for demo in module_objects.all(DemoInstance):
        module_objects.delete(DemoInstance, demo.metadata.name)


@pytest.fixture(scope="module")
def demos(shop: Checkpoint, module_objects: Objects) -> list[DemoInstance]:
    """Five that run at once, the first from the pool; and one that is started cold."""

    def ask_for(name: str, **spec: Any) -> None:
        module_objects.demo(name, shop.metadata.name, host=f"{name}.example.com", **spec)

    first, *others = DEMOS
    ask_for(first)
    # Alone: beside four restores a warm sandbox may not answer as quickly as a claim wants.
    claimed = module_objects.ready_demo(first, 120)
    for name in others:
        ask_for(name)
    ask_for("shop-cold", start="ColdStart")
    return [claimed, *(module_objects.ready_demo(name, 120) for name in (*others, "shop-cold"))]


def asked(demo: DemoInstance, what: str) -> Any:
    answer = visit(demo).get(f"/?{what}=1", timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_each_way_of_starting_took_part(demos: list[DemoInstance]) -> None:
    started = [demo.status.started_by for demo in demos]
    assert started[0] is StartedBy.WARM, demos[0].to_api()["status"]
    assert set(started[:AT_ONCE]) == {StartedBy.WARM, StartedBy.RESTORE}
    assert started[-1] is StartedBy.COLD_START


def test_each_renders_its_own_host_and_never_sends_a_client_elsewhere(
    demos: list[DemoInstance],
) -> None:
    for demo in demos:
        for path in ("/", "/?s=tea", "/no-such-page/", "/wp-login.php"):
            answer = visit(demo).get(path, timeout=30)
            assert answer.status_code in {200, 404}, (demo.metadata.name, path, answer.headers)
            linked = set(re.findall(r"https?:\\?/\\?/([^/\\\"'\s<>?#]+)", answer.text))
            assert linked - ELSEWHERE == {demo.spec.host}


def test_who_comes_by_another_name_is_sent_to_the_demos_own(demos: list[DemoInstance]) -> None:
    """Else the test above would show nothing: a demo with the template's name redirects."""
    for demo in demos:
        answer = Client(demo.status.url, "shop.example").get("/")
        assert answer.status_code == 301
        assert answer.headers["Location"] == f"http://{demo.spec.host}/"


def test_what_is_written_in_one_is_in_no_other(demos: list[DemoInstance]) -> None:
    for demo in demos:
        placed = visit(demo).post(f"/?lab_order=customer-of-{demo.metadata.name}")
        assert placed.status_code == 201, placed.text
    for demo in demos:
        orders = [name for name in asked(demo, "lab_orders") if not name.startswith("writer-")]
        assert orders == [f"customer-of-{demo.metadata.name}"]


def test_shop_and_database_agree_after_a_checkpoint_under_load(demos: list[DemoInstance]) -> None:
    for demo in demos:
        found = asked(demo, "lab_check")
        assert found["damaged"] == []
        assert found["tables"] >= 14
        assert found["halves"] == []
        assert not found["only_shop"], "acknowledged, but not in the database"
        assert not found["only_database"], "in the database, but never acknowledged"
    for demo in demos[:AT_ONCE]:
        assert asked(demo, "lab_check")["orders"] > 1, "nothing was written before the checkpoint"


def test_siblings_issue_different_sessions_nonces_and_random_numbers(
    demos: list[DemoInstance],
) -> None:
    siblings = demos[:AT_ONCE]
    # More often than there are PHP processes: each has a generator of its own.
    drawn = [[asked(demo, "lab_identity") for _ in range(6)] for demo in siblings]
    for what in ("session", "random_bytes", "openssl", "mt_rand", "uniqid"):
        values = [found[what] for own in drawn for found in own]
        assert len(set(values)) == len(values), what
    for what in ("nonce", "cookie", "home", "host"):
        values = [own[0][what] for own in drawn]
        assert len(set(values)) == AT_ONCE, what


def test_what_a_copy_draws_is_seen_as_the_page_says(
    shop: Checkpoint, module_objects: Objects, terminal: Terminal
) -> None:
    module_objects.demo("anna", shop.metadata.name)
    module_objects.ready_demo("anna", 120)
    drawn = json.loads(terminal.run(walkthrough("identity.md")).stdout)
    assert {"session", "nonce", "openssl", "mt_rand"} <= drawn.keys()


def test_deleting_a_demo_removes_its_pod_volumes_and_ports(
    demos: list[DemoInstance], module_objects: Objects, nodes: LabNodes
) -> None:
    demo = demos[0]
    node, port, client = demo.status.node_name, demo.status.host_port, visit(demo)
    assert node
    container = nodes.main_container(demo)
    pod = nodes.pod_of(node, container)
    tag = pod.rpartition("_")[2]
    assert sorted(nodes.files(node, f"{VOLUMES}/{tag}")) == ["data", "uploads"]
    assert port in nodes.published_ports(node)
    module_objects.delete(DemoInstance, demo.metadata.name)
    module_objects.wait_gone(DemoInstance, demo.metadata.name)
    assert client.is_gone()
    assert pod not in nodes.pods(node)
    assert nodes.containers(node, tag) == []
    assert nodes.files(node, VOLUMES, tag) == []
    assert port not in nodes.published_ports(node)
