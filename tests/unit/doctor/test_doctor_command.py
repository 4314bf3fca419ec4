"""``tryitnow doctor`` on a node that is too busy to answer at once."""

from __future__ import annotations

import pytest

from tests.unit.doctor.conftest import Node, late
from tests.unit.doctor.test_doctor_busy import examined
from tryitnow.cli.main import main
from tryitnow.doctor import Examination
from tryitnow.doctor.report import merge
from tryitnow.settings import AgentSettings


class Looks:
    """Examines made-up nodes, one after the other."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = list(nodes)

    async def examine(
        self, settings: AgentSettings, previous: Examination | None = None
    ) -> Examination:
        del settings
        current = examined(self.nodes.pop(0))
        return merge(previous, current) if previous else current


def run(monkeypatch: pytest.MonkeyPatch, *nodes: Node) -> tuple[int | str | None, Looks]:
    attempts = Looks(*nodes)
    monkeypatch.setattr("tryitnow.doctor.examine", attempts.examine)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    return ended.value.code, attempts


def test_a_busy_node_is_reconciled_again_until_it_answers(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    busy = node.but(criu=late("criu"))
    code, attempts = run(monkeypatch, busy, busy, node)
    text = capsys.readouterr()
    assert code == 0
    assert attempts.nodes == []
    assert text.err.splitlines() == ["no answer in time: CRIU; looking again"] * 2
    assert "busy" not in text.out


def test_a_node_that_never_answers_is_reported_as_busy(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, attempts = run(monkeypatch, *[node.but(criu=late("criu"))] * 4)
    assert code == 1
    assert len(attempts.nodes) == 1
    assert "busy, looking again: criu did not end within 5 s" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_node_that_answers_is_reconciled_once(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, attempts = run(monkeypatch, node, node)
    assert code == 0
    assert len(attempts.nodes) == 1
    assert capsys.readouterr().err == ""
