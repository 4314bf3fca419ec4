"""Completion: of shells, and of kubectl."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.unit.builders import make_checkpoint, make_demo
from tests.unit.cli.conftest import Run
from tests.unit.fakes import FakeKubernetes
from tryitnow.cli.completion import complete_for_kubectl


def completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-tryitnow", *words])
    complete_for_kubectl()
    *found, directive = capsys.readouterr().out.splitlines()
    assert directive == ":4"
    return [line.partition("\t")[0] for line in found]


@pytest.mark.usefixtures("run")
def test_names_come_from_the_cluster(
    kubernetes: FakeKubernetes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kubernetes.put(make_checkpoint("shop"))
    kubernetes.put(make_checkpoint("blog", namespace="blogs"))
    kubernetes.put(make_demo("annas"))
    assert completed(monkeypatch, capsys, "demo", "") == ["shop"]
    assert completed(monkeypatch, capsys, "demo", "-n", "blogs", "") == ["blog"]
    assert completed(monkeypatch, capsys, "logs", "a") == ["annas"]
    assert completed(monkeypatch, capsys, "status", "") == ["demo/annas", "ckpt/shop"]
    assert completed(monkeypatch, capsys, "status", "-n", "") == ["blogs", "default"]


@pytest.mark.usefixtures("run")
def test_a_cluster_that_does_not_answer_completes_nothing(
    kubernetes: FakeKubernetes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kubernetes.is_down = True
    assert completed(monkeypatch, capsys, "demo", "") == []


def test_commands_and_options_need_no_cluster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completed(monkeypatch, capsys, "re") == ["report", "reset"]
    assert completed(monkeypatch, capsys, "demo", "shop", "--start", "R") == ["RestoreOnly"]
    assert "--ttl" in completed(monkeypatch, capsys, "demo", "shop", "--t")


def test_bash_takes_the_script(run: Run) -> None:
    script = run("completion", "bash").output
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert "complete -o nosort -F _tryitnow_completion tryitnow" in script


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_scripts_of_their_own(run: Run, shell: str) -> None:
    assert f"_TRYITNOW_COMPLETE={shell}_complete" in run("completion", shell).output
