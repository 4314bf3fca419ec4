"""A slow answer is no missing CRIU: what a busy node is taken for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.doctor.conftest import Missing, Node, late
from tryitnow.api.archive import Versions
from tryitnow.api.nodeagent import Check, Verdict
from tryitnow.doctor import Examination, examine, versions
from tryitnow.doctor.checks import CheckName, unanswered
from tryitnow.doctor.report import KEPT_ANSWERS, can_run, criu_available, merge
from tryitnow.doctor.timeouts import load as load_now
from tryitnow.doctor.timeouts import timeouts_for
from tryitnow.settings import agent_settings

PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL

SLOW: list[tuple[str, dict[str, Any]]] = [
    ("OCI runtime", {"runtime_checkpoint": late("crun")}),
    ("OCI runtime", {"libcriu": None}),
    ("CRIU", {"criu": late("criu")}),
    ("criu check", {"criu_check": late("criu")}),
    ("network lock", {"iptables": late("iptables-restore")}),
    ("firewall", {"nft": late("nft")}),
]


def examined(node: Node) -> Examination:
    """What an examination of a made-up node comes to, without one before it."""
    late_checks = unanswered(node.facts)
    podman = node.facts.podman
    return Examination(
        checks=node.checks,
        versions=versions(node.facts),
        controllers=node.facts.controllers,
        selinux=podman is not None and podman.selinux,
        unanswered=dict.fromkeys(late_checks, 1),
        busy=frozenset(late_checks),
    )


def check(examination: Examination, name: str) -> Check:
    (found,) = [check for check in examination.checks if check.name == name]
    return found


# -- the first look --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "change"), SLOW)
def test_a_first_look_without_an_answer_says_busy_and_blames_nothing(
    node: Node, name: str, change: dict[str, Any]
) -> None:
    found = node.but(is_our_image=True, **change).check(name)
    assert found.verdict is not PASS
    assert found.found.startswith("busy, looking again: ")
    assert "did not end" in found.found
    assert "newer image" not in found.remedy
    assert "install" not in found.remedy
    assert "DOCTOR_TIMEOUT" in found.remedy


def test_podman_that_listens_and_does_not_answer_is_busy(node: Node, missing: Missing) -> None:
    found = node.with_busy_podman().but(podman_command=missing("podman")).check("Podman")
    assert found.found == "busy, looking again: Podman did not answer within 10 s"
    assert "install" not in found.remedy


def test_other_checks_of_a_busy_node_are_as_ever(node: Node) -> None:
    busy = node.but(criu=late("criu"))
    others = [each for each in busy.checks if each.name != "CRIU"]
    assert {each.verdict for each in others} == {PASS}


# -- the next looks --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "change"), SLOW)
def test_what_was_known_stays_while_there_is_no_answer(
    node: Node, name: str, change: dict[str, Any]
) -> None:
    good = examined(node)
    after = merge(good, examined(node.but(**change)))
    assert after.checks == good.checks
    assert after.versions == good.versions
    assert criu_available(after.checks)[0]
    assert dict(after.unanswered) == {name: 1}
    assert after.busy == frozenset()


def test_known_facts_count_for_some_examinations_and_no_more(node: Node) -> None:
    slow = examined(node.but(criu=late("criu")))
    examination = examined(node)
    for number in range(1, KEPT_ANSWERS + 1):
        examination = merge(examination, slow)
        assert criu_available(examination.checks)[0], number
        assert examination.unanswered["CRIU"] == number
    examination = merge(examination, slow)
    available, why = criu_available(examination.checks)
    assert not available
    assert why.startswith("CRIU: busy, looking again")
    assert "newer image" not in why
    assert examination.versions.criu == ""
    assert examination.busy == {"CRIU"}


def test_an_answer_begins_the_count_anew(node: Node) -> None:
    good, slow = examined(node), examined(node.but(criu=late("criu")))
    examination = good
    for _ in range(3):
        for _ in range(KEPT_ANSWERS):
            examination = merge(examination, slow)
        examination = merge(examination, good)
        assert examination == good


def test_a_missing_criu_is_reported_at_once(node: Node, missing: Missing) -> None:
    after = merge(examined(node), examined(node.but(criu=missing("criu"))))
    assert criu_available(after.checks)[1].startswith("CRIU: criu is not installed")


def test_a_bad_verdict_stays_as_well(node: Node, missing: Missing) -> None:
    bad = examined(node.but(criu_check=missing("criu")))
    after = merge(bad, examined(node.but(criu_check=late("criu"))))
    assert check(after, "criu check").found == "criu is not installed"


def test_a_node_that_was_busy_from_the_start_stays_busy_until_it_answers(node: Node) -> None:
    slow = examined(node.but(criu=late("criu")))
    examination = slow
    for _ in range(KEPT_ANSWERS):
        examination = merge(examination, slow)
        assert check(examination, "CRIU").found.startswith("busy, looking again")
        assert examination.busy == {"CRIU"}
    examination = merge(examination, examined(node))
    assert check(examination, "CRIU").found == "4.2.1"
    assert not examination.unanswered


def test_of_several_slow_answers_each_is_counted_alone(node: Node) -> None:
    both = node.but(criu=late("criu"), nft=late("nft"))
    examination = merge(examined(node), examined(node.but(nft=late("nft"))))
    examination = merge(examination, examined(both))
    assert dict(examination.unanswered) == {"CRIU": 1, "firewall": 2}


def test_podman_counts_while_its_socket_accepts_with_all_that_only_it_tells(node: Node) -> None:
    node = node.with_podman(selinux=True).with_mounts(selinux_enforcing=True)
    good, busy = examined(node), examined(node.with_busy_podman())
    examination = good
    for _ in range(KEPT_ANSWERS + 3):
        examination = merge(examination, busy)
        assert examination.checks == good.checks
    assert examination.versions == good.versions
    assert examination.selinux
    assert can_run(examination.checks)[0]
    assert criu_available(examination.checks)[0]


def test_podman_whose_socket_refuses_counts_no_more(node: Node) -> None:
    refused = node.without_podman("no process listens at the socket /run/podman/podman.sock")
    examination = merge(examined(node), examined(node.with_busy_podman()))
    examination = merge(examination, examined(refused))
    assert can_run(examination.checks) == (
        False,
        "Podman: no process listens at the socket /run/podman/podman.sock (to fix it: "
        f"{refused.check('Podman').remedy})",
    )
    assert not any(each.name == "Podman locks" for each in examination.checks)


def test_what_was_measured_is_new_though_podman_is_busy(node: Node) -> None:
    after = merge(examined(node), examined(node.with_disk(free_bytes=0).with_busy_podman()))
    assert check(after, "free space").verdict is FAIL


def test_merged_checks_are_in_their_order(node: Node) -> None:
    busy = node.with_busy_podman().but(nft=late("nft"), criu=late("criu"))
    after = merge(examined(node), examined(busy))
    assert [each.name for each in after.checks] == list(CheckName)


def test_versions_of_a_new_criu_are_taken_though_podman_is_busy(node: Node) -> None:
    before = replace(examined(node), versions=Versions(criu="4.1", podman="5.7", runtime="crun 1"))
    after = merge(before, examined(node.with_busy_podman()))
    assert (after.versions.criu, after.versions.podman) == ("4.2.1", "5.7")
    assert after.versions.cpu_features == node.facts.cpu_features


# -- time ------------------------------------------------------------------------------------------


def test_each_look_without_an_answer_waits_longer_up_to_a_limit() -> None:
    waits = [
        timeouts_for(None, attempts).command.total_seconds() for attempts in (0, 1, 2, 3, 1000)
    ]
    assert waits == [5, 10, 20, 30, 30]


def test_criu_check_and_podman_have_more_time_than_a_command() -> None:
    first = timeouts_for(None, 0)
    assert first.command < first.podman < first.criu_check


@pytest.mark.parametrize(
    ("load", "seconds"), [(0.0, 5), (0.3, 5), (1.0, 5), (2.0, 10), (3.5, 17.5), (200.0, 20)]
)
def test_a_busy_node_has_more_time_at_the_first_look(load: float, seconds: float) -> None:
    assert timeouts_for(None, 0, load).command == timedelta(seconds=seconds)


def test_the_load_of_this_machine_is_reported_for_each_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (6.0, 1.0, 1.0))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert load_now() == 1.5


def test_a_time_limit_of_the_settings_stays_as_it_is() -> None:
    assert timeouts_for(timedelta(minutes=1), 0) == timeouts_for(timedelta(minutes=1), 9, load=9.0)
    assert timeouts_for(timedelta(minutes=1), 0).command == timedelta(minutes=1)


async def test_an_examination_goes_on_from_the_last_one(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def gather(settings: object, *, waits: object) -> object:
        del settings
        asked.append(waits)
        return node.facts if len(asked) == 1 else node.but(criu=late("criu")).facts

    monkeypatch.setattr("tryitnow.doctor.gather", gather)
    monkeypatch.setattr("tryitnow.doctor.load", lambda: 1.5)
    settings = agent_settings(
        {"NODE_NAME": "node-1", "NODE_ADDRESS": "192.0.2.1", "CHECKPOINT_PATH": str(tmp_path)}
    )
    first = await examine(settings)
    second = await examine(settings, first)
    third = await examine(settings, second)
    assert first.checks == second.checks == third.checks
    assert third.unanswered == {"CRIU": 2}
    assert asked == [
        timeouts_for(None, 0, 1.5),
        timeouts_for(None, 0, 1.5),
        timeouts_for(None, 1, 1.5),
    ]
