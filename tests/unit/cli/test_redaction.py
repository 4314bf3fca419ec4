"""``tryitnow report``: what leaves the cluster, and what must not."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.unit.builders import (
    NOW,
    make_agent,
    make_checkpoint,
    make_condition,
    make_demo,
    make_revision,
)
from tests.unit.cli.conftest import Run
from tests.unit.fakes import FakeKubernetes
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.cli.redact import REDACTED, Redactor
from tryitnow.kubernetes.event_list import EventRecord

SECRET = "pa55w0rd-of-anna"


def planted() -> Checkpoint:
    """A Checkpoint with the secret in every place where people put one."""
    body = make_checkpoint().to_api()
    container = body["spec"]["template"]["containers"][0]
    container["env"] = [{"name": "PASSWORD", "value": SECRET}]
    container["command"] = ["/usr/bin/shop", f"--password={SECRET}"]
    container["args"] = ["serve", f"--dsn=db://anna:{SECRET}@db"]
    body["spec"]["warmUp"] = {"paths": [f"/login?token={SECRET}"]}
    body["spec"]["readiness"] = {"httpGet": {"path": f"/healthz?key={SECRET}"}}
    body["spec"]["hooks"] = {
        "afterRestore": [{"exec": {"command": ["sh", "-c", f"passwd {SECRET}"]}}]
    }
    body["spec"]["parameters"] = [
        {"name": "title", "default": SECRET, "values": [SECRET], "description": "the title"}
    ]
    body["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": json.dumps(body) + "\n"
    }
    printed = make_condition("Ready", holds=False, message=f"it printed:\nlogin with {SECRET}\nbye")
    body["status"]["conditions"] = [printed.to_api()]
    return Checkpoint.model_validate(body)


def demo_with_secrets() -> DemoInstance:
    body = make_demo("annas").to_api()
    body["spec"]["parameters"] = {"title": SECRET, "name": f"{SECRET}\nsecond line of it"}
    return DemoInstance.model_validate(body)


@pytest.fixture
def cluster(kubernetes: FakeKubernetes) -> FakeKubernetes:
    kubernetes.put(planted())
    kubernetes.put(make_revision(definition=planted().spec.definition()))
    kubernetes.put(demo_with_secrets())
    note = f"the hook said: {SECRET}, second line of it"
    kubernetes.recorded = [
        EventRecord(NOW, True, "HookFailed", note, "DemoInstance/annas"),
        EventRecord(NOW, False, "Pulled", "somebody else's", "Pod/other"),
    ]
    return kubernetes


@pytest.mark.usefixtures("cluster")
def test_a_planted_secret_is_nowhere_inside(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "bundle.tar.gz"
    done = run("report", "-o", str(target))
    assert done.exit_code == 0
    files = unpacked(target)
    assert not [name for name, text in files.items() if SECRET in text]
    assert not [name for name, text in files.items() if "second line of it" in text]
    assert SECRET not in done.output


@pytest.mark.usefixtures("cluster")
def test_what_explains_a_failure_is_still_inside(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "bundle.tar.gz"
    listed = run("report", "-o", str(target)).output
    files = unpacked(target)
    [checkpoint] = yaml.safe_load_all(files["bundle/checkpoints.yaml"])
    [revision] = yaml.safe_load_all(files["bundle/checkpointrevisions.yaml"])
    assert revision["spec"]["definition"]["template"] == checkpoint["spec"]["template"]
    container = checkpoint["spec"]["template"]["containers"][0]
    assert container["env"] == [{"name": "PASSWORD", "value": REDACTED}]
    assert container["command"] == ["/usr/bin/shop", REDACTED]
    assert checkpoint["spec"]["parameters"][0]["name"] == "title"
    assert "it printed:" in checkpoint["status"]["conditions"][0]["message"]
    assert "HookFailed: the hook said:" in files["bundle/events.txt"]
    assert "somebody else's" not in files["bundle/events.txt"]
    assert yaml.safe_load(files["bundle/versions.yaml"])["kubernetes"] == "v1.2.3"
    for name in files:
        assert name.removeprefix("bundle/") in listed


def test_what_cannot_be_reached_is_listed(run: Run, kubernetes: FakeKubernetes) -> None:
    kubernetes.put(make_agent("node-a"))
    files = json.loads(run("report", "-o", "json", "--metrics", "http://127.0.0.1:9/m").output)
    missing = files["not-in-here.txt"]
    assert "metrics-1.txt: http://127.0.0.1:9/m does not answer from here" in missing
    assert "metrics-node-a.txt" in missing


def test_short_values_are_blanked_where_they_stand_only() -> None:
    body = make_checkpoint().to_api()
    body["spec"]["template"]["containers"][0]["env"] = [{"name": "LANGUAGE", "value": "en"}]
    redactor = Redactor()
    cleaned = redactor.redacted(Checkpoint.model_validate(body))
    container = cleaned["spec"]["template"]["containers"][0]
    assert container["env"] == [{"name": "LANGUAGE", "value": REDACTED}]
    assert redactor.scrub("the container was open") == "the container was open"


def unpacked(target: Path) -> dict[str, str]:
    with tarfile.open(target) as archive:
        found = {}
        for member in archive.getmembers():
            content = archive.extractfile(member)
            assert content
            found[member.name] = content.read().decode()
        return found


@pytest.mark.parametrize(
    ("container", "shown"),
    [
        ({"args": [f"--db-password={SECRET}"]}, {"args": [REDACTED]}),
        ({"command": [f"/bin/app --token={SECRET}"]}, {"command": [f"/bin/app {REDACTED}"]}),
        ({"command": [f"PASSWORD={SECRET}"]}, {"command": [f"PASSWORD {REDACTED}"]}),
        ({"command": ["sh", "-c", f"mysql --password={SECRET} x"]},
         {"command": ["sh", REDACTED, REDACTED]}),
        ({"command": ["mysql", f"-u root -p {SECRET}"]}, {"command": ["mysql", REDACTED]}),
        ({"command": ["app", f"postgres://anna:{SECRET}@db/shop"]}, {"command": ["app", REDACTED]}),
    ],
)  # fmt: skip
def test_what_is_given_as_an_option_is_hidden_wherever_it_turns_up(
    container: dict[str, list[str]], shown: dict[str, list[str]]
) -> None:
    body = make_checkpoint().to_api()
    body["spec"]["template"]["containers"][0] |= container
    redactor = Redactor()
    cleaned = redactor.redacted(Checkpoint.model_validate(body))
    assert cleaned["spec"]["template"]["containers"][0].items() >= shown.items()
    assert redactor.scrub(f"access denied with {SECRET}!") == f"access denied with {REDACTED}!"
