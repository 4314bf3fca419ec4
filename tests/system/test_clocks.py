"""What a restored application sees of time, on a node whose clocks are others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab import nodes as lab_nodes
from lab import supervise
from lab.cluster import Cluster
from lab.supervise import Unit
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import PORT, on_node, visit
from tests.system.objects import Objects, wait_until
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance

HERE, AHEAD = NODES
AHEAD_S = 30 * 86400
"""By so much the second node was booted before the first."""

WAITS_S = 12
"""Long enough that nothing has waited it out at the checkpoint."""

WITHIN_S = 3.0
"""By so much a moment may be off on a busy machine."""

PROGRAM = f"""
import http.server, json, os, select, socket, threading, time
CLOCKS = {{"monotonic": time.CLOCK_MONOTONIC, "boottime": time.CLOCK_BOOTTIME,
          "realtime": time.CLOCK_REALTIME}}
ended = {{}}
def now():
    return {{name: time.clock_gettime(clock) for name, clock in CLOCKS.items()}}
began = now()
def by_timer(clock, absolute):
    timer = os.timerfd_create(clock)
    initial = {WAITS_S} + (time.clock_gettime(clock) if absolute else 0)
    os.timerfd_settime(timer, flags=os.TFD_TIMER_ABSTIME if absolute else 0, initial=initial)
    return os.read(timer, 8)
WAYS = {{
    "sleep": lambda: time.sleep({WAITS_S}),
    "select": lambda: select.select([], [], [], {WAITS_S}),
    "poll": lambda: select.poll().poll({WAITS_S} * 1000),
    "epoll": lambda: select.epoll().poll({WAITS_S}),
    "condition": lambda: threading.Event().wait({WAITS_S}),
    "timerfd monotonic": lambda: by_timer(time.CLOCK_MONOTONIC, False),
    "timerfd monotonic, absolute": lambda: by_timer(time.CLOCK_MONOTONIC, True),
    "timerfd boottime, absolute": lambda: by_timer(time.CLOCK_BOOTTIME, True),
    "timerfd realtime": lambda: by_timer(time.CLOCK_REALTIME, False),
    "timerfd realtime, absolute": lambda: by_timer(time.CLOCK_REALTIME, True),
}}
def wait(name):
    WAYS[name]()
    ended[name] = now()
for name in WAYS:
    threading.Thread(target=wait, args=(name,), daemon=True).start()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = {{"began": began, "now": now(), "ended": ended, "ways": len(WAYS),
                "uptime": float(open("/proc/uptime").read().split()[0])}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())
http.server.ThreadingHTTPServer(("", {PORT}), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def _node_that_was_booted_long_before(cluster: Cluster) -> Iterator[None]:
    """All that Podman starts on it, CRIU included, sees clocks that are ahead."""
    shifted = ["unshare", "--time", f"--monotonic={AHEAD_S}", f"--boottime={AHEAD_S}", "--"]
    _redefine(cluster, [*shifted, *lab_nodes.podman_service()])
    yield
    _redefine(cluster, lab_nodes.podman_service())


def _redefine(cluster: Cluster, argv: list[str]) -> None:
    unit = Unit(f"podman-{AHEAD}", argv, node=AHEAD, forks=True)
    supervise.define(cluster.lab, unit)


def clock_spec(image: str, node: str) -> dict[str, Any]:
    container = {
        "name": "clock",
        "image": image,
        "command": ["python3", "-c", PROGRAM],
        "ports": [{"containerPort": PORT}],
    }
    readiness = {"timeout": "30s"}
    return {
        "template": {"containers": [container]},
        "readiness": readiness,
        "distribution": on_node(node),
    }


@pytest.mark.usefixtures("_node_that_was_booted_long_before")
@pytest.mark.parametrize("built_on", NODES)
def test_clocks_that_count_from_the_boot_go_on_from_the_checkpoint_on_whatever_node(
    objects: Objects, nodes: LabNodes, notes_image: str, built_on: str
) -> None:
    objects.checkpoint("clock", clock_spec(notes_image, built_on))
    objects.ready_checkpoint("clock")
    everywhere = {"spec": {"distribution": {"nodeSelector": None}}}
    objects.patch(Checkpoint, "clock", everywhere)
    objects.wait_node_checkpoints("clock", NODES)
    for name in ("one", "two"):
        objects.demo(name, "clock", start="RestoreOnly")
    demos = [objects.ready_demo(name) for name in ("one", "two")]
    assert {demo.status.node_name for demo in demos} == set(NODES)
    for demo in demos:
        wall_clock = time.time()
        told = asked(demo)
        began, now = told["began"], told["now"]
        passed = {clock: now[clock] - began[clock] for clock in began}
        lay = passed["realtime"] - passed["monotonic"]
        ahead = began["monotonic"] - time.clock_gettime(time.CLOCK_MONOTONIC)
        assert (ahead > AHEAD_S / 2) is (built_on == AHEAD), "the clocks of the nodes are alike"
        assert 0 < passed["monotonic"] < passed["realtime"], "it stood still meanwhile"
        assert abs(passed["monotonic"] - passed["boottime"]) < 0.1
        assert wall_clock <= now["realtime"] <= time.time()
        assert abs(told["uptime"] - now["boottime"]) < 0.1
        assert told["uptime"] <= uptime_of_command(nodes, demo) <= asked(demo)["uptime"]
        ended = wait_ended(demo)
        for way, at in ended.items():
            waited = {clock: at[clock] - began[clock] for clock in at}
            assert abs(waited["monotonic"] - WAITS_S) < WITHIN_S, (way, waited)
            # What was left of it, also where a moment of the wall clock was meant.
            assert abs(waited["realtime"] - lay - WAITS_S) < WITHIN_S, (way, waited)


def uptime_of_command(nodes: LabNodes, demo: DemoInstance) -> float:
    """What a command in the container sees, such as a hook."""
    assert demo.status.node_name
    main = nodes.main_container(demo)
    # By the service: crun tells by the time of its start, as clocks here have it, whether a process
    # is still the one that it started.
    words = ("--remote", f"--url={lab_nodes.SOCKET}", "exec", main, "cat", "/proc/uptime")
    return float(nodes.podman(demo.status.node_name, *words).split()[0])


def asked(demo: DemoInstance) -> dict[str, Any]:
    told: dict[str, Any] = visit(demo).get().json()
    return told


def wait_ended(demo: DemoInstance) -> dict[str, dict[str, float]]:
    """Wait until everything that waits in the application has ended."""
    wait_until(lambda: len(asked(demo)["ended"]) == asked(demo)["ways"], "it to wait", 3 * WAITS_S)
    found: dict[str, dict[str, float]] = asked(demo)["ended"]
    return found
