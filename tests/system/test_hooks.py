"""Hooks that fail, hang, or show what they should not: said clearly, and without the secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.conftest import Kubectl
from tests.system.nodes import CHECKPOINTS, NODES, LabNodes
from tests.system.notes import notes_spec, on_node, visit
from tests.system.objects import Objects
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, FallbackReason, StartedBy

NODE = NODES[0]
PASSWORD = "s3cret-that-nobody-may-read"

# The hook fails after a restore. A cold start works, so that the ladder has a rung below.
MOODY = """
[ "$TRYITNOW_STARTED_BY" != ColdStart ] || exit 0
case $TRYITNOW_PARAM_MOOD in
    fails) echo "the password is $PASSWORD and the secret $TRYITNOW_SECRET"; exit 3 ;;
    hangs) echo "waiting with $PASSWORD"; sleep 60 ;;
esac
"""


@pytest.fixture(scope="module")
def moody(module_objects: Objects, notes_image: str) -> Iterator[Checkpoint]:
    spec: dict[str, Any] = notes_spec(notes_image, distribution=on_node(NODE))
    secret = {"secretKeyRef": {"name": "creds", "key": "password"}}
    spec["template"]["containers"][0]["env"] = [{"name": "PASSWORD", "valueFrom": secret}]
    spec["hooks"] = {"afterRestore": [{"exec": {"command": ["sh", "-c", MOODY]}, "timeout": "8s"}]}
    spec["parameters"] = [{"name": "mood", "values": ["fine", "fails", "hangs"]}]
    module_objects.secret("creds", password=PASSWORD)
    module_objects.checkpoint("moody", spec)
    yield module_objects.ready_checkpoint("moody")
    for demo in module_objects.all(DemoInstance):
        module_objects.delete(DemoInstance, demo.metadata.name)


@pytest.fixture(scope="module")
def demos(moody: Checkpoint, module_objects: Objects) -> dict[str, DemoInstance]:
    moods = ("fine", "fails", "hangs")
    for mood in moods:
        module_objects.demo(mood, moody.metadata.name, parameters={"mood": mood})
    return {mood: module_objects.ready_demo(mood) for mood in moods}


def test_a_hook_that_succeeds_keeps_the_restore(demos: dict[str, DemoInstance]) -> None:
    assert demos["fine"].status.started_by is StartedBy.RESTORE
    assert demos["fine"].status.timings
    assert demos["fine"].status.timings.hooks


@pytest.mark.parametrize(
    ("mood", "said"),
    [
        ("fails", "failed with exit status 3; it wrote:\nthe password is *** and the secret ***"),
        ("hangs", "waiting with ***"),
    ],
)
def test_a_hook_that_does_not_succeed_falls_down_the_ladder_and_is_told(
    mood: str, said: str, demos: dict[str, DemoInstance], module_objects: Objects
) -> None:
    demo = demos[mood]
    assert demo.status.started_by is StartedBy.COLD_START
    assert demo.status.fallback_reason is FallbackReason.HOOK_FAILED
    assert demo.status.fallback_message
    assert "spec.hooks.afterRestore[0] in container notes" in demo.status.fallback_message
    assert said in demo.status.fallback_message
    if mood == "hangs":
        assert "raise its timeout" in demo.status.fallback_message
    assert any(said in note for note in module_objects.notes_of(mood, "ColdStartFallback"))
    assert visit(demo).get("/healthz").status_code == 200


@pytest.mark.usefixtures("demos")
def test_no_secret_is_shown_anywhere(
    module_objects: Objects, nodes: LabNodes, kubectl: Kubectl
) -> None:
    kinds = "checkpoints,nodecheckpoints,demoinstances,events.events.k8s.io"
    listed = kubectl("get", kinds, "--namespace", module_objects.namespace, "--output=json")
    assert listed.returncode == 0, listed.stderr
    log = nodes.agent_log(NODE)
    described = nodes.shell(NODE, f"cat {CHECKPOINTS}/{module_objects.namespace}_*.md")
    assert PASSWORD not in listed.stdout
    assert PASSWORD not in log
    assert PASSWORD not in described
    # TRYITNOW_SECRET is 64 hexadecimal digits, as digests are, which follow "sha256:" or "sha256".
    told = [*module_objects.events("fails"), demo_text(module_objects, "fails")]
    about = [line for line in log.splitlines() if f"{module_objects.namespace}/fails" in line]
    assert about
    assert not re.search(r"\b[0-9a-f]{64}\b", json.dumps([*told, *about]))


def demo_text(objects: Objects, name: str) -> str:
    demo = objects.get(DemoInstance, name)
    assert demo
    return json.dumps(demo.status.to_api())
