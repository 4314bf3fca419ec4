"""From a Checkpoint that is applied to a demo that answers, and what is kept on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.system.conftest import Kubectl
from tests.system.nodes import CHECKPOINTS, NODES, LabNodes
from tests.system.notes import notes_spec, visit
from tests.system.objects import Objects, condition, wait_until
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, StartedBy
from tryitnow.api.nodecheckpoint import NodeCheckpoint


@pytest.fixture(scope="module")
def checkpointed(module_objects: Objects, notes_image: str) -> Iterator[Checkpoint]:
    """A Checkpoint that all tests of this file restore from."""
    module_objects.checkpoint("notes", notes_spec(notes_image, warmUp={"paths": ["/", "/notes"]}))
    yield module_objects.ready_checkpoint("notes")
    for demo in module_objects.all(DemoInstance):
        module_objects.delete(DemoInstance, demo.metadata.name)


def builder_of(objects: Objects) -> str:
    built = [c.spec.node_name for c in objects.all(NodeCheckpoint) if c.spec.fetch is None]
    assert len(built) == 1
    return built[0]


def test_a_ready_checkpoint_was_verified_and_lies_on_every_node(
    checkpointed: Checkpoint, module_objects: Objects
) -> None:
    assert checkpointed.status.nodes == "2/2"
    assert condition(checkpointed, "Verified").status == "True"
    assert condition(checkpointed, "Distributed").status == "True"
    assert module_objects.notes_of("notes", "Building")
    assert module_objects.notes_of("notes", "Verified")


def test_the_archive_and_its_description_are_private_and_say_what_they_are(
    checkpointed: Checkpoint, nodes: LabNodes
) -> None:
    archive = checkpointed.status.archive
    assert archive
    for node in NODES:
        assert nodes.shell(node, f"stat -c %a:%u {CHECKPOINTS}").strip() == "700:0"
        found = sorted(nodes.files(node, CHECKPOINTS, f"{checkpointed.metadata.namespace}_notes_"))
        assert [name.partition(".")[2] for name in found] == ["md", "tar.zst"]
        described, archived = (f"{CHECKPOINTS}/{name}" for name in found)
        assert nodes.shell(node, f"stat -c %a:%u {described} {archived}").split() == ["600:0"] * 2
        assert nodes.shell(node, f"sha256sum {archived}").split()[0] == archive.sha256
        facts = yaml.safe_load(nodes.shell(node, f"cat {described}").split("---")[1])
        assert facts["sha256"] == archive.sha256
        assert facts["image_digest"].startswith("sha256:")
        told = {"image", "created", "criu_version", "podman_version", "kernel", "size_bytes"}
        assert all(facts[key] for key in told)


@pytest.mark.usefixtures("checkpointed")
def test_the_other_node_restores_a_demo_from_an_archive_that_it_fetched(
    module_objects: Objects,
) -> None:
    module_objects.demo("elsewhere", "notes")
    demo = module_objects.ready_demo("elsewhere")
    assert demo.status.node_name != builder_of(module_objects)
    assert demo.status.started_by is StartedBy.RESTORE
    assert demo.status.fallback_reason is None
    assert "<h1>Notes</h1>" in visit(demo).get("/").text
    timings = demo.status.timings
    assert timings
    assert timings.criu
    assert timings.restore
    assert timings.total
    assert timings.criu < timings.restore < timings.total


@pytest.mark.usefixtures("checkpointed")
def test_what_is_written_in_one_demo_is_not_in_another(
    module_objects: Objects,
) -> None:
    for name in ("anna", "ben"):
        module_objects.demo(name, "notes")
    anna, ben = (visit(module_objects.ready_demo(name)) for name in ("anna", "ben"))
    assert anna.memory_id() == ben.memory_id(), "both are restored from the one process"
    assert anna.post("/notes", "anna's").status_code == 201
    assert anna.post("/files/hers", "secret").status_code == 201
    assert ben.post("/notes", "ben's").status_code == 201
    assert anna.notes() == ["anna's"]
    assert ben.notes() == ["ben's"]
    assert anna.get("/files/hers").text == "secret"
    assert ben.get("/files/hers").status_code == 404


@pytest.mark.usefixtures("checkpointed")
def test_kubectl_shows_and_waits_for_what_people_ask(
    module_objects: Objects, kubectl: Kubectl
) -> None:
    namespace = module_objects.namespace
    module_objects.demo("seen", "notes", ttl="1h")
    waited = kubectl("wait", "-n", namespace, "--for=condition=Ready", "demo/seen", "--timeout=30s")
    assert waited.returncode == 0, waited.stderr
    shown = kubectl("get", "checkpoints,demoinstances", "-A").stdout
    heads = [line.split() for line in shown.splitlines() if line.startswith("NAMESPACE")]
    assert {"READY", "PHASE", "NODES", "SINCE"} <= set(heads[0])
    assert {"READY", "STARTED-BY", "NODE", "URL", "TOOK", "SINCE", "EXPIRES"} <= set(heads[1])
    seen = module_objects.ready_demo("seen")
    row = next(line for line in shown.splitlines() if "demoinstance.tryitnow.dev/seen" in line)
    assert {"Restore", seen.status.node_name, seen.status.url} <= set(row.split())
    assert kubectl("get", "tryitnow", "-n", namespace).returncode == 0
    assert "notes" in kubectl("get", "ckpt", "-n", namespace).stdout


@pytest.mark.parametrize("kind", ["checkpoint", "demoinstance", "nodecheckpoint", "nodeagent"])
def test_every_field_is_explained(kind: str, kubectl: Kubectl) -> None:
    crd = json.loads(kubectl("get", "crd", f"{kind}s.tryitnow.dev", "-o", "json").stdout)
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    unexplained: list[str] = []

    def look(path: str, node: dict[str, object]) -> None:
        properties = node.get("properties", {})
        assert isinstance(properties, dict)
        for name, below in properties.items():
            if not below.get("description") and f"{path}.{name}" != ".metadata":
                unexplained.append(f"{path}.{name}")
            look(f"{path}.{name}", below)
        for inner in ("items", "additionalProperties"):
            if isinstance(below := node.get(inner), dict):
                look(path, below)

    look("", schema)
    assert unexplained == []
    explained = kubectl("explain", f"{kind}.spec", "--recursive")
    assert explained.returncode == 0, explained.stderr


def test_a_changed_template_is_checkpointed_again_and_then_serves(
    objects: Objects, notes_image: str
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image))
    first = objects.ready_checkpoint("notes").status.current_revision
    objects.patch(Checkpoint, "notes", {"spec": notes_spec(notes_image, env={"TITLE": "Second"})})
    objects.wait(
        Checkpoint, "notes", lambda c: c.status.current_revision not in {first, None}, 90.0
    )
    objects.wait_node_checkpoints("notes", NODES)
    objects.demo("new", "notes")
    assert "<h1>Second</h1>" in visit(objects.ready_demo("new")).get("/").text
    wait_until(
        lambda: (
            {c.spec.revision for c in objects.all(NodeCheckpoint)} != {first}
            and len(objects.all(NodeCheckpoint)) == 2
        ),
        "the old revision to be dropped",
    )
