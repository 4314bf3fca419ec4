"""Pods: several containers, volumes, files and secrets, checkpointed and restored together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.cluster import Cluster
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import PORT, on_node, visit
from tests.system.objects import Objects, condition, is_true, wait_until
from tests.system.test_crashes import LATE, PRECREATED, kill, unit_of
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, StartedBy

NODE = NODES[0]
PASSWORD = "s3cret-in-the-environment"
KEY = "s3cret-in-a-file"


def pod_spec(image: str, node: str = NODE, **changes: Any) -> dict[str, Any]:
    """Two notebooks that share a volume, an init container before them, and what they are given."""
    first = {
        "name": "seed",
        "image": image,
        "command": ["sh", "-c", "test -d /data/second && echo seeded > /data/seed"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    second = {
        "name": "second",
        "image": image,
        "restartPolicy": "Always",
        "env": [{"name": "PORT", "value": "81"}, {"name": "DATA", "value": "/data"}],
        "startupProbe": {"httpGet": {"path": "/healthz", "port": 81}},
        "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "second"}],
    }
    secret = {"secretKeyRef": {"name": "given", "key": "password"}}
    main = {
        "name": "notes",
        "image": image,
        "ports": [{"containerPort": PORT}],
        "env": [{"name": "PASSWORD", "valueFrom": secret}],
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "keys", "mountPath": "/data/files/keys"},
            {"name": "conf", "mountPath": "/conf"},
        ],
    }
    volumes = [
        {"name": "data", "emptyDir": {}},
        {"name": "keys", "secret": {"secretName": "given", "items": [_KEY_FILE]}},
        {"name": "conf", "configMap": {"name": "given"}},
    ]
    template = {"initContainers": [second, first], "containers": [main], "volumes": volumes}
    readiness = {"httpGet": {"path": "/healthz"}, "expectedBody": "ok", "timeout": "30s"}
    return {
        "template": template,
        "readiness": readiness,
        "distribution": on_node(node),
        **changes,
    }


_KEY_FILE = {"key": "file", "path": "key.txt"}

HOOKS = {
    "beforeCheckpoint": [
        {"exec": {"command": ["sh", "-c", "echo quiesced > /data/files/quiesced"]}}
    ],
    "afterRestore": [
        {"exec": {"command": ["sh", "-c", "env | grep ^TRYITNOW_ > /data/files/identity"]}},
        {
            "container": "second",
            "exec": {"command": ["sh", "-c", "hostname > /data/files/name; cat /etc/hostname"]},
        },
    ],
}


def give(objects: Objects) -> None:
    objects.secret("given", password=PASSWORD, file=KEY)
    objects.config_map("given", greeting="hello")


@pytest.fixture(scope="module")
def checkpointed(module_objects: Objects, notes_image: str) -> Iterator[Checkpoint]:
    give(module_objects)
    parameters = [
        {"name": "shop-title", "default": "Notes"},
        {"name": "language", "values": ["en", "fr"]},
    ]
    module_objects.checkpoint("pod", pod_spec(notes_image, hooks=HOOKS, parameters=parameters))
    yield module_objects.ready_checkpoint("pod")
    for demo in module_objects.all(DemoInstance):
        module_objects.delete(DemoInstance, demo.metadata.name)


def file_of(demo: DemoInstance, name: str) -> str:
    answer = visit(demo).get(f"/files/{name}")
    assert answer.status_code == 200, f"{name}: {answer.text}"
    return answer.text.strip()


def second_of(nodes: LabNodes, demo: DemoInstance) -> str:
    """Podman's name of the second container of a demo."""
    main = nodes.main_container(demo)
    return f"{nodes.pod_of(NODE, main)}_second"


@pytest.mark.usefixtures("checkpointed")
def test_each_demo_has_its_volumes_files_secrets_and_name(
    module_objects: Objects, nodes: LabNodes
) -> None:
    module_objects.demo("one", "pod", host="one.example.com", parameters={"shop-title": "Mine"})
    module_objects.demo("two", "pod", parameters={"language": "fr"})
    one, two = module_objects.ready_demo("one"), module_objects.ready_demo("two")
    assert {one.status.started_by, two.status.started_by} == {StartedBy.RESTORE}
    for demo in (one, two):
        assert file_of(demo, "quiesced") == "quiesced"
        main = nodes.main_container(demo)
        seen = nodes.podman(NODE, "exec", main, "sh", "-c",
                            "for f in /data/seed /data/files/keys/key.txt /conf/greeting"
                            " /etc/hostname; do cat $f; echo; done; echo $PASSWORD;"
                            " ! touch /conf/x 2>/dev/null")  # fmt: skip
        assert seen.split() == ["seeded", KEY, "hello", demo.metadata.name, PASSWORD]
        named = nodes.podman(NODE, "exec", second_of(nodes, demo), "cat", "/data/files/name")
        assert named.strip() == demo.metadata.name
    told = dict(line.split("=", 1) for line in file_of(one, "identity").splitlines())
    assert told.pop("TRYITNOW_SECRET") != file_of(two, "identity")
    assert told == {
        "TRYITNOW_NAME": "one",
        "TRYITNOW_NAMESPACE": module_objects.namespace,
        "TRYITNOW_UID": one.metadata.uid,
        "TRYITNOW_HOST": "one.example.com",
        "TRYITNOW_URL": "http://one.example.com",
        "TRYITNOW_NODE": NODE,
        "TRYITNOW_PORT": str(one.status.host_port),
        "TRYITNOW_STARTED_BY": "Restore",
        "TRYITNOW_PARAM_SHOP_TITLE": "Mine",
    }
    his = file_of(two, "identity")
    assert f"TRYITNOW_URL={two.status.url}" in his
    assert "TRYITNOW_PARAM_SHOP_TITLE=Notes" in his
    assert "TRYITNOW_PARAM_LANGUAGE=fr" in his
    assert visit(one).post("/files/mine", "hers").status_code == 201
    assert visit(two).get("/files/mine").status_code == 404
    assert visit(one).post("/notes", "hers").status_code == 201
    assert visit(two).notes() == []


@pytest.mark.usefixtures("checkpointed")
@pytest.mark.parametrize(
    ("parameters", "wrong"),
    [({"shop-titel": "x"}, "spec.parameters.shop-titel"), ({"language": "de"}, "en, fr")],
    ids=["unknown", "another value"],
)
def test_parameters_that_the_checkpoint_does_not_declare_are_refused(
    parameters: dict[str, str], wrong: str, module_objects: Objects
) -> None:
    name = f"bad-{next(iter(parameters))}"
    module_objects.demo(name, "pod", parameters=parameters)
    refused = module_objects.wait(
        DemoInstance, name, lambda d: d.status.phase is DemoInstancePhase.FAILED
    )
    assert is_true(refused.status.conditions, "Stalled")
    ready = condition(refused, "Ready")
    assert ready.reason == "InvalidParameters"
    assert wrong in ready.message


@pytest.mark.usefixtures("checkpointed")
def test_a_container_of_a_pod_that_ends_is_started_again_with_the_demos_files(
    module_objects: Objects, nodes: LabNodes
) -> None:
    module_objects.demo("fallen", "pod")
    demo = module_objects.ready_demo("fallen")
    assert visit(demo).post("/notes", "kept").status_code == 201
    second = second_of(nodes, demo)
    nodes.podman(NODE, "exec", second, "sh", "-c", "echo kept > /data/files/own")
    nodes.podman(NODE, "kill", second)
    again = module_objects.wait(
        DemoInstance,
        "fallen",
        lambda d: d.status.restarts == 1 and d.status.phase is DemoInstancePhase.READY,
    )
    assert visit(again).notes() == ["kept"]
    assert nodes.inspect(NODE, second)["State"]["Running"]
    assert nodes.podman(NODE, "exec", second, "cat", "/data/files/own").strip() == "kept"
    (told,) = module_objects.notes_of("fallen", "Restarting")
    assert "container second ended with exit code 137" in told


def test_a_pod_whose_unpacked_data_is_damaged_is_unpacked_anew(
    checkpointed: Checkpoint, module_objects: Objects, nodes: LabNodes
) -> None:
    stem = f"{module_objects.namespace}_pod_{checkpointed.status.current_revision}"
    before = nodes.damage_generation(NODE, stem, "second")
    wait_until(lambda: nodes.generation(NODE, stem) not in {None, before}, "another generation")
    module_objects.demo("quick", "pod", start="RestoreOnly")
    demo = module_objects.ready_demo("quick")
    assert file_of(demo, "quiesced") == "quiesced"
    (main,) = nodes.containers(NODE, "_quick_")
    seen = nodes.podman(NODE, "exec", main, "cat", "/data/seed", "/data/files/keys/key.txt")
    assert seen.split() == ["seeded", KEY]


@pytest.mark.parametrize("program", ["agent", "podman"])
def test_killed_while_pods_are_restored(
    program: str, cluster: Cluster, objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    node = NODES[1]
    give(objects)
    objects.checkpoint("pod", pod_spec(notes_image, node, hooks=HOOKS))
    objects.ready_checkpoint("pod")
    names = [f"demo-{number}" for number in range(3)]
    for name in names:
        objects.demo(name, "pod")
    wait_until(
        lambda: bool(nodes.containers(node, f"tryitnow_demo_{objects.namespace}_")),
        "the first demo's container",
    )
    kill(cluster, unit_of(program, node))
    demos = [objects.ready_demo(name, LATE) for name in names]
    assert len({demo.status.url for demo in demos}) == len(names)
    for demo in demos:
        assert file_of(demo, "quiesced") == "quiesced"

    def mains() -> list[str]:
        found = nodes.containers(node, f"_{objects.namespace}_")
        return sorted(name.split("_")[3] for name in found if not name.startswith(PRECREATED))

    wait_until(lambda: mains() == names, "only the demos to run", LATE)
    wait_until(
        lambda: nodes.without_main_container(node) == [],
        "no pod or volume of nobody's to be left",
        LATE,
    )


def test_a_sidecar_that_ends_at_its_start_is_told_with_its_last_words(
    objects: Objects, notes_image: str
) -> None:
    give(objects)
    spec = pod_spec(notes_image)
    env = spec["template"]["initContainers"][0]["env"]
    env.append({"name": "EXIT_AT_START", "value": "7"})
    objects.checkpoint("dead", spec)
    failed = objects.wait(Checkpoint, "dead", lambda c: c.status.last_failure is not None)
    assert failed.status.last_failure
    message = failed.status.last_failure.message
    assert "containers[second].startupProbe" in message
    assert "leaving, as EXIT_AT_START says" in message
