"""Two controllers: one acts. The other takes over when it is gone, and neither acts beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import requests

from lab.cluster import Cluster
from tests.system.conftest import Kubectl
from tests.system.notes import notes_spec, visit
from tests.system.objects import Objects, wait_until
from tryitnow.kubernetes.election import Timing

TIMING = Timing()
LOOK_S = 1.2 * TIMING.retry_period.total_seconds()
"""Longest pause between two looks at the lease."""

SLACK_S = 10.0
"""For a busy machine."""

UNITS = {"controller": 8080, "controller-2": 8081}
"""Both share the control plane's address, so the lab gives the second another port."""


@pytest.fixture(scope="module")
def two(cluster: Cluster) -> Iterator[None]:
    """A second controller that stands by."""
    cluster.install("--set=controller.replicas=2")
    wait_until(lambda: sorted(roles(cluster).values()) == [0, 1], "one leader, one in reserve")
    yield
    cluster.install()
    wait_until(lambda: roles(cluster) == {"controller": 1}, "one controller, and it leads")


def roles(cluster: Cluster) -> dict[str, int]:
    """Unit -> whether it says that it leads, of those that answer."""
    found = {}
    for unit, port in UNITS.items():
        leads = [line for line in metrics(cluster, port) if line.startswith("tryitnow_leader ")]
        if leads:
            found[unit] = int(float(leads[0].split()[1]))
    return found


def metrics(cluster: Cluster, port: int) -> list[str]:
    session = requests.Session()
    session.trust_env = False
    try:
        answer = session.get(f"http://{cluster.control_plane_address}:{port}/metrics", timeout=5)
    except requests.RequestException:  # it ends in the midst of its answer, perhaps
        return []
    return answer.text.splitlines()


def leader(cluster: Cluster) -> str:
    (found,) = [unit for unit, leads in roles(cluster).items() if leads]
    return found


def other(unit: str) -> str:
    return next(name for name in UNITS if name != unit)


def holder(kubectl: Kubectl) -> str:
    words = ("-n", "tryitnow-system", "get", "lease", "tryitnow-controller")
    return kubectl(*words, "-o", "jsonpath={.spec.holderIdentity}").stdout


def has_written(cluster: Cluster, unit: str) -> list[str]:
    """Requests of a controller that change something, its looks at the lease apart."""
    return [
        line
        for line in metrics(cluster, UNITS[unit])
        if line.startswith("tryitnow_kubernetes_request_duration_seconds_count")
        and 'verb="GET"' not in line
    ]


@pytest.mark.usefixtures("two")
def test_the_one_in_reserve_does_nothing(
    cluster: Cluster, objects: Objects, notes_image: str, kubectl: Kubectl
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image))
    objects.ready_checkpoint("notes")
    objects.demo("first", "notes")
    assert visit(objects.ready_demo("first")).get("/healthz").status_code == 200
    first, second = leader(cluster), other(leader(cluster))
    assert has_written(cluster, first)
    assert has_written(cluster, second) == []
    assert len(objects.notes_of("first", "Bound")) == 1
    pods = ("-n", "tryitnow-system", "get", "pods", "-l", "app.kubernetes.io/component=controller")
    ready = '{range .items[*]}{.status.conditions[?(@.type=="Ready")].status} {end}'
    assert kubectl(*pods, "-o", f"jsonpath={ready}").stdout.split() == ["True", "True"]


@pytest.mark.usefixtures("two")
def test_a_leader_that_is_stopped_hands_over_at_once(cluster: Cluster, kubectl: Kubectl) -> None:
    first, second = leader(cluster), other(leader(cluster))
    name = holder(kubectl)
    cluster.stop(first)
    stopped_at = time.monotonic()
    wait_until(lambda: roles(cluster) == {second: 1}, f"{second} to lead", 30)
    assert time.monotonic() - stopped_at < LOOK_S + SLACK_S
    assert holder(kubectl) not in {"", name}
    cluster.start(first)
    wait_until(lambda: roles(cluster) == {first: 0, second: 1}, f"{first} to stand by")


@pytest.mark.usefixtures("two")
def test_a_leader_that_breaks_down_is_followed_when_its_lease_has_run_out(
    cluster: Cluster, objects: Objects, notes_image: str
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image))
    objects.ready_checkpoint("notes")
    first, second = leader(cluster), other(leader(cluster))
    cluster.crash(first)
    crashed_at = time.monotonic()
    demos = [f"demo-{number}" for number in range(3)]
    for demo in demos:
        objects.demo(demo, "notes")
    wait_until(lambda: roles(cluster) == {second: 1}, f"{second} to lead", 60)
    took = time.monotonic() - crashed_at
    lease_s = TIMING.lease_duration.total_seconds()
    # It was renewed at most one period before the crash, or a little more on a busy machine.
    assert lease_s - LOOK_S - 3 < took < lease_s + LOOK_S + SLACK_S
    for demo in demos:
        assert visit(objects.ready_demo(demo)).get("/healthz").status_code == 200
        assert len(objects.notes_of(demo, "Bound")) == 1
    cluster.start(first)
    wait_until(lambda: roles(cluster) == {first: 0, second: 1}, f"{first} to stand by")
