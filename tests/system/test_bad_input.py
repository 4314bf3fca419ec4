"""Bad input is refused by name, or ends in a condition that says what to change."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.system.conftest import Kubectl
from tests.system.notes import notes_spec, visit
from tests.system.objects import Objects, condition, is_true
from tryitnow.api.checkpoint import Checkpoint, CheckpointPhase
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import API_VERSION

IMAGE = "registry.lab:5000/notes:latest"


def manifest(kind: str, spec: dict[str, Any], namespace: str) -> str:
    metadata = {"name": "bad", "namespace": namespace}
    body = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
    return yaml.safe_dump(body)


def checkpoint_with(**changes: Any) -> dict[str, Any]:
    spec = notes_spec(IMAGE)
    spec["template"]["containers"][0] |= changes.pop("container", {})
    return spec | changes


REFUSED = [
    ("an unknown field", "Checkpoint", checkpoint_with(container={"imag": "x"}), "imag"),
    ("an unknown field above", "Checkpoint", checkpoint_with(templat={}), "templat"),
    ("no image", "Checkpoint", checkpoint_with(container={"image": None}), "containers[0].image"),
    ("an empty image", "Checkpoint", checkpoint_with(container={"image": ""}), "image"),
    (
        "an image with a space that is none of ASCII's",
        "Checkpoint",
        checkpoint_with(container={"image": f"{IMAGE}\N{NO-BREAK SPACE}"}),
        "containers[0].image",
    ),
    (
        "an image of one node",
        "Checkpoint",
        checkpoint_with(container={"image": "localhost/tryitnow/prepared:1"}),
        "containers[0].image",
    ),
    (
        "the ID of an image",
        "Checkpoint",
        checkpoint_with(container={"image": f"sha256:{'5' * 64}"}),
        "containers[0].image",
    ),
    (
        "an image with its transport",
        "Checkpoint",
        checkpoint_with(container={"image": f"docker://{IMAGE}"}),
        "containers[0].image",
    ),
    (
        "less than no memory",
        "Checkpoint",
        checkpoint_with(container={"resources": {"limits": {"memory": -1}}}),
        "containers[0].resources.limits.memory",
    ),
    (
        "thousandths of a byte",
        "Checkpoint",
        checkpoint_with(container={"resources": {"limits": {"memory": "512m"}}}),
        "containers[0].resources.limits.memory",
    ),
    ("no containers", "Checkpoint", {"template": {"containers": []}}, "spec.template.containers"),
    (
        "a port out of range",
        "Checkpoint",
        checkpoint_with(container={"ports": [{"containerPort": 65536}]}),
        "containerPort",
    ),
    (
        "a readiness port that no container has",
        "Checkpoint",
        checkpoint_with(readiness={"httpGet": {"port": 81}}),
        "spec.readiness.httpGet.port",
    ),
    (
        "a bad duration",
        "Checkpoint",
        checkpoint_with(readiness={"timeout": "five minutes"}),
        "spec.readiness.timeout",
    ),
    (
        "a start that may take for ever",
        "Checkpoint",
        checkpoint_with(readiness={"timeout": "36500d"}),
        "spec.readiness.timeout",
    ),
    (
        "a restore that may take longer than anybody waits",
        "Checkpoint",
        checkpoint_with(readiness={"restoreTimeout": "10m1s"}),
        "spec.readiness.restoreTimeout",
    ),
    (
        "a hook that may hold up a deletion for ever",
        "Checkpoint",
        checkpoint_with(
            hooks={"beforeDelete": [{"exec": {"command": ["true"]}, "timeout": "9999999999d"}]}
        ),
        "spec.hooks.beforeDelete[0].timeout",
    ),
    (
        "more memory than any machine has",
        "Checkpoint",
        checkpoint_with(container={"resources": {"limits": {"memory": "2Pi"}}}),
        "containers[0].resources.limits.memory",
    ),
    (
        "a path without a slash",
        "Checkpoint",
        checkpoint_with(warmUp={"paths": ["index.php"]}),
        "spec.warmUp.paths[0]",
    ),
    (
        "two containers of one name",
        "Checkpoint",
        {"template": {"containers": checkpoint_with()["template"]["containers"] * 2}},
        "spec.template.containers",
    ),
    (
        "the only port is that of an init container that ends",
        "Checkpoint",
        {
            "template": {
                "containers": [{"name": "app", "image": IMAGE}],
                "initContainers": [
                    {"name": "init", "image": IMAGE, "ports": [{"containerPort": 80}]}
                ],
            }
        },
        "spec.template.containers",
    ),
    ("no reference", "DemoInstance", {}, "checkpointRef"),
    ("a bad ttl", "DemoInstance", {"checkpointRef": {"name": "x"}, "ttl": "-1s"}, "spec.ttl"),
    (
        "a ttl of more than a year",
        "DemoInstance",
        {"checkpointRef": {"name": "x"}, "ttl": "365d1s"},
        "spec.ttl",
    ),
    (
        "an unknown way to start",
        "DemoInstance",
        {"checkpointRef": {"name": "x"}, "start": "Quickly"},
        "spec.start",
    ),
]


@pytest.mark.parametrize(
    ("kind", "spec", "field"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_the_api_server_refuses_it_and_names_the_field(
    kind: str, spec: dict[str, Any], field: str, kubectl: Kubectl, module_objects: Objects
) -> None:
    text = manifest(kind, spec, module_objects.namespace)
    applied = kubectl("apply", "--filename=-", stdin=text)
    assert applied.returncode != 0, f"accepted: {applied.stdout}"
    assert field in applied.stderr


def test_what_a_demo_is_a_copy_of_cannot_be_changed(
    kubectl: Kubectl, module_objects: Objects
) -> None:
    module_objects.demo("fixed", "nothing")
    change = '{"spec": {"checkpointRef": {"name": "other"}}}'
    patched = kubectl(
        "patch", "demo", "fixed", "-n", module_objects.namespace, "--type=merge", "-p", change
    )
    assert patched.returncode != 0
    assert "spec.checkpointRef" in patched.stderr
    assert "immutable" in patched.stderr


def test_a_reference_to_nothing_is_told_and_served_once_it_exists(
    objects: Objects, notes_image: str
) -> None:
    objects.demo("hopeful", "later")
    waiting = objects.wait(DemoInstance, "hopeful", lambda d: bool(d.status.conditions))
    ready = condition(waiting, "Ready")
    assert ready.reason == "CheckpointNotFound"
    assert ready.message.startswith("spec.checkpointRef.name")
    assert waiting.status.phase is DemoInstancePhase.PENDING
    objects.checkpoint("later", notes_spec(notes_image))
    objects.ready_demo("hopeful")


def test_an_image_that_cannot_be_pulled_is_told_and_tried_again(
    objects: Objects, notes_image: str
) -> None:
    missing = notes_image.rpartition("/")[0] + "/no-such-image:1"
    objects.checkpoint("bad", notes_spec(missing))
    failed = objects.wait(Checkpoint, "bad", lambda c: c.status.build_attempts >= 2, 60)
    assert failed.status.last_failure
    assert failed.status.last_failure.reason == "ImagePullFailed"
    assert failed.status.last_failure.message.startswith("spec.template.containers[0].image")
    assert missing in failed.status.last_failure.message
    assert not is_true(failed.status.conditions, "Stalled"), "the registry may get it yet"
    objects.patch(Checkpoint, "bad", {"spec": notes_spec(notes_image)})
    objects.ready_checkpoint("bad")


def test_an_application_that_never_becomes_ready_is_told_with_what_it_answered(
    objects: Objects, notes_image: str
) -> None:
    spec = notes_spec(notes_image, env={"NEVER_READY": "1"})
    spec["readiness"]["timeout"] = "4s"
    objects.checkpoint("never", spec)
    stalled = objects.wait(
        Checkpoint, "never", lambda c: is_true(c.status.conditions, "Stalled"), 180
    )
    assert stalled.status.phase is CheckpointPhase.FAILED
    ready = condition(stalled, "Ready")
    assert ready.reason == "ApplicationNotReady"
    assert "spec.readiness" in ready.message
    assert "503" in ready.message
    objects.demo("hopeless", "never")
    demo = objects.wait(
        DemoInstance, "hopeless", lambda d: d.status.phase is DemoInstancePhase.FAILED, 180
    )
    assert condition(demo, "Stalled").status == "True"
    assert condition(demo, "Ready").reason == "ApplicationNotReady"


def test_an_application_that_ends_at_its_start_is_told_with_its_last_words(
    objects: Objects, notes_image: str
) -> None:
    objects.checkpoint("dead", notes_spec(notes_image, env={"EXIT_AT_START": "7"}))
    failed = objects.wait(Checkpoint, "dead", lambda c: c.status.last_failure is not None)
    assert failed.status.last_failure
    assert "ended before it was ready" in failed.status.last_failure.message
    assert "exit" in failed.status.last_failure.message.lower()


def test_an_application_that_criu_cannot_dump_is_told_with_the_tail_of_its_log(
    objects: Objects, notes_image: str
) -> None:
    objects.checkpoint("stubborn", notes_spec(notes_image, env={"UNDUMPABLE": "1"}))
    failed = objects.wait(Checkpoint, "stubborn", lambda c: c.status.last_failure is not None)
    assert failed.status.last_failure
    assert failed.status.last_failure.reason == "CheckpointFailed"
    assert "ghost file" in failed.status.last_failure.message
    objects.demo("cold", "stubborn")
    assert visit(objects.ready_demo("cold")).get("/healthz").status_code == 200
