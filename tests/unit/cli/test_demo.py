"""``tryitnow demo``: what is printed where, and how scripts tell failures apart."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import Any

import pytest

from tests.unit.builders import make_demo
from tests.unit.cli.conftest import Run
from tests.unit.client.cluster import READY, answer, failing, refuse
from tests.unit.fakes import FakeKubernetes
from tryitnow.cli import demo
from tryitnow.kubernetes.errors import ForbiddenError, KubernetesError, RefusedError


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        (["--parameter", "title"], "'title' is not of the form NAME=VALUE"),
        (["--parameter", "a=1", "--parameter", "a=2"], "'a' is given twice"),
        (["--ttl", "soon"], "write it like"),
        (["--start", "Sometimes"], "is not one of"),
    ],
)
def test_wrong_usage_is_reported_and_nothing_is_created(
    run: Run, kubernetes: FakeKubernetes, words: list[str], reported: str
) -> None:
    done = run("demo", "shop", *words)
    assert done.exit_code == 2
    assert reported in done.output
    assert kubernetes.writes == []


def test_the_url_alone_goes_to_standard_output(run: Run, reached: FakeKubernetes) -> None:
    answer(reached, {**READY, "timings": {"restore": "400ms", "total": "412ms"}})
    done = run("demo", "shop", "--ttl", "10m")
    assert done.stdout == "http://node-a:20000\n"
    assert "ready in 0.41 s by Warm: restore 0.40 s" in done.stderr
    assert done.exit_code == 0


def test_programs_get_the_whole_object(run: Run, reached: FakeKubernetes) -> None:
    answer(reached, READY)
    reported = json.loads(run("demo", "shop", "--name", "annas", "-o", "json").stdout)
    assert reported["apiVersion"] == "tryitnow.dev/v1alpha1"
    assert (reported["metadata"]["name"], reported["status"]["nodeName"]) == ("annas", "node-a")


def test_one_that_ends_with_us_ends_though_nobody_reads_its_url(
    run: Run, reached: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(reached, READY)

    def unread(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(demo, "_print", unread)
    with pytest.raises(BrokenPipeError):
        run("demo", "shop", "--name", "annas", "--rm")
    assert not reached.has(make_demo("annas", namespace="shops"))


def test_one_that_is_reported_to_end_while_it_starts_leaves_nothing(
    run: Run, reached: FakeKubernetes
) -> None:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    done = run("demo", "shop", "--name", "annas", "--rm")
    assert done.exit_code == 6
    assert "nothing is left" in done.output
    assert not reached.has(make_demo("annas", namespace="shops"))


def test_why_it_was_started_cold_is_reported(run: Run, reached: FakeKubernetes) -> None:
    cold = {
        "startedBy": "ColdStart",
        "fallbackReason": "NotReadyHere",
        "fallbackMessage": "none lies",
    }
    answer(reached, {**READY, **cold})
    reported = run("demo", "shop", "--name", "annas").stderr
    assert "started cold because NotReadyHere: none lies" in reported
    assert "tryitnow explain-slow annas -n shops" in reported


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (failing("Ready", "CheckpointNotFound"), 4),
        (failing("Ready", "NoRoom"), 5),
        (failing("Stalled", "ImagePullFailed"), 6),
    ],
)
def test_scripts_can_tell_failures_apart(
    run: Run, reached: FakeKubernetes, status: dict[str, Any], code: int
) -> None:
    answer(reached, status)
    done = run("demo", "shop", "--timeout", "50ms")
    assert done.exit_code == code
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("tryitnow: ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RefusedError("spec.ttl: must be a duration"), 3),
        (ForbiddenError("exceeded quota: demos"), 3),
        (KubernetesError("no answer"), 7),
    ],
)
def test_scripts_can_tell_refusals_apart(
    run: Run,
    reached: FakeKubernetes,
    monkeypatch: pytest.MonkeyPatch,
    error: KubernetesError,
    code: int,
) -> None:
    monkeypatch.setattr(reached, "create", refuse(error))
    done = run("demo", "shop")
    assert done.exit_code == code
    assert str(error) in done.stderr


@pytest.mark.parametrize(
    "words",
    [("status", "demo/"), ("status", ""), ("logs", ""), ("shell", ""), ("explain-slow", "")],
)
def test_an_empty_name_is_none(run: Run, words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert "no object" in done.output
