"""What the pages say about doctor is what it says."""

from __future__ import annotations

import re

import pytest

from tests.pages import DOCS, blocks
from tests.unit.doctor.conftest import Node
from tryitnow.doctor import limits, room
from tryitnow.doctor.checks import CheckName
from tryitnow.doctor.host import Process
from tryitnow.doctor.kernel import Usage
from tryitnow.doctor.names import ESSENTIAL, NODE_LIMITS
from tryitnow.doctor.network import Listener
from tryitnow.doctor.report import exit_status, render_text

PAGE = "nodes.md"


def rows() -> dict[str, str]:
    """Each name in the first column of the page's tables of checks, and its line."""
    section = (DOCS / PAGE).read_text().partition("## What doctor says")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return {
        name: line for line in lines for name in line.split("|")[1].strip().split(", ")
        if name not in {"check", "limit"}
    }  # fmt: skip


@pytest.fixture
def usual(node: Node) -> Node:
    """A node with the usual defaults of its kernel, and somebody else on one of its ports."""
    return node.with_limits(
        inotify_instances=128, inotify_watches=502_120, aio=Usage(65_536, 0)
    ).with_network(listeners=(Listener(20443, Process(812, "nginx")),))


def test_the_page_shows_what_doctor_prints(usual: Node) -> None:
    [shown] = [text for text in blocks(PAGE, "") if text.startswith("ok ")]
    assert shown.strip() == render_text(usual.checks)
    assert exit_status(usual.checks) == 0


def test_the_page_names_every_check() -> None:
    assert set(rows()) == {name.value for name in CheckName}


def test_limits_are_in_a_table_of_their_own() -> None:
    names = list(rows())
    assert set(names[-len(NODE_LIMITS) :]) == {name.value for name in NODE_LIMITS}


@pytest.mark.parametrize(
    ("name", "number"),
    [
        (CheckName.FREE_SPACE, room.COMFORTABLE_BYTES >> 30),
        (CheckName.INODES, room.INODES_OF_AN_APPLICATION),
        (CheckName.INODES, room.BYTES_PER_INODE >> 10),
        (CheckName.MEMORY, room.DEMO_BYTES >> 20),
        (CheckName.PROCESSES, limits.TASKS),
        (CheckName.FILES, limits.OPEN_FILES),
        (CheckName.FILES, limits.OPEN_FILES_OF_ONE),
        (CheckName.INOTIFY, limits.INOTIFY_INSTANCES),
        (CheckName.INOTIFY, limits.INOTIFY_WATCHES),
        (CheckName.AIO, limits.AIO_EVENTS),
        (CheckName.CONNTRACK, limits.CONNECTIONS),
        (CheckName.LOCKS, limits.LOCKS),
        (CheckName.LOCKS, limits.PRE_CREATED),
    ],
)
def test_the_pages_numbers_are_doctors(name: CheckName, number: int) -> None:
    assert re.search(rf"\b{number:,}\b", rows()[name])


def test_the_page_names_what_a_remedy_raises(node: Node) -> None:
    none_left = Usage(1, 1)
    full = node.with_limits(
        tasks=none_left, files=none_left, aio=none_left, conntrack=none_left,
        inotify_instances=1, inotify_watches=1,
    ).with_podman(free_locks=0)  # fmt: skip
    for name in ("processes", "open files", "inotify", "AIO", "conntrack", "Podman locks"):
        remedy = full.check(name).remedy
        keys = re.findall(r"\b((?:kernel|fs|net)\.[\w.-]+)=", remedy) or ["num_locks"]
        assert all(f"`{key}`" in rows()[name] for key in keys), name


def test_the_runbook_tells_what_each_failure_stops() -> None:
    text = (DOCS / "runbooks/TryItNowDoctorFails.md").read_text()
    lines = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    essential, of_the_node = (set(line.split(", ")) for line in lines[1:3])
    warn_only = {CheckName.MEMORY, CheckName.INOTIFY, CheckName.AIO, CheckName.LOCAL_PORTS}
    assert essential == {name.value for name in ESSENTIAL}
    assert of_the_node == {name.value for name in NODE_LIMITS - warn_only}
