"""The heavy application of the samples: WordPress with its database, as `make demo` shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab import images
from lab.cluster import Cluster
from tests.system.notes import visit
from tests.system.objects import Objects
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, StartedBy

SAMPLES = Path(__file__).parents[2] / "manifests/samples"


@pytest.fixture(scope="module")
def shop(cluster: Cluster, module_objects: Objects) -> Iterator[Checkpoint]:
    images.ensure(cluster, "wordpress")
    sample = yaml.safe_load((SAMPLES / "wordpress.yaml").read_text())
    module_objects.checkpoint(sample["metadata"]["name"], sample["spec"])
    yield module_objects.ready_checkpoint(sample["metadata"]["name"], 180)
    for demo in module_objects.all(DemoInstance):
        module_objects.delete(DemoInstance, demo.metadata.name)


@pytest.mark.usefixtures("shop")
def test_a_demo_of_the_shop_shows_its_page_and_keeps_what_is_written_to_itself(
    module_objects: Objects,
) -> None:
    sample = yaml.safe_load((SAMPLES / "demo-wordpress.yaml").read_text())
    for name in ("anna", "ben"):
        module_objects.create(DemoInstance, name, sample["spec"])
    demos = [module_objects.ready_demo(name) for name in ("anna", "ben")]
    assert {demo.status.started_by for demo in demos} == {StartedBy.RESTORE}
    anna, ben = map(visit, demos)
    page = anna.get("/").text
    assert "<title>Lab Shop" in page
    assert page.count("<article") + page.count("wp-block-post ") >= 1
    assert anna.post("/?lab_write=Hers").status_code == 201
    assert ben.post("/?lab_write=His").status_code == 201
    hers, his = anna.get("/?lab_posts=1").json(), ben.get("/?lab_posts=1").json()
    assert "Hers" in hers
    assert "His" not in hers
    assert "His" in his
    assert "Hers" not in his
    assert len(his) > 50


def test_links_lead_to_the_demo_itself(shop: Checkpoint, module_objects: Objects) -> None:
    module_objects.demo("linked", shop.metadata.name)
    client = visit(module_objects.ready_demo("linked"))
    answer = client.get("/")
    assert answer.status_code == 200, "no redirect elsewhere"
    assert f'href="{client.url}' in answer.text


def test_the_shop_starts_cold_as_well(shop: Checkpoint, module_objects: Objects) -> None:
    module_objects.demo("cold", shop.metadata.name, start="ColdStart")
    demo = module_objects.ready_demo("cold")
    assert demo.status.started_by is StartedBy.COLD_START
    assert "<title>Lab Shop" in visit(demo).get("/").text
