"""Why a demo's containers ended: the application, the kernel for want of memory, or the node."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from tests.unit.agent.demos.shop import Shop
from tests.unit.fakes import FakeKubernetes
from tryitnow.agent.demos.ends import OOM_KILLED, RESTARTING, End, describe_end, read_boot_id
from tryitnow.agent.sandbox.kernel_log import OOMKill
from tryitnow.api.meta import ConditionStatus, now
from tryitnow.podman.client import ContainerState

ID = "c0ffee11" * 8
CGROUP = f"/try-it-now/libpod_parent/libpod-{ID}"
OF = "container db"


def ended(exit_code: int = 137, *, oom_killed: bool = False, ago: float = 1.0) -> ContainerState:
    return ContainerState(
        name="db",
        id=ID,
        running=False,
        exit_code=exit_code,
        pid=0,
        image="",
        ports=(),
        finished_at=now() - timedelta(seconds=ago),
        oom_killed=oom_killed,
    )


def kill(limited: str = CGROUP, *, ago: float = 2.0, cgroup: str = CGROUP) -> OOMKill:
    return OOMKill(time.monotonic() - ago, "mariadbd", cgroup, limited)


# -- memory ----------------------------------------------------------------------------------------


def test_its_own_limit_is_named_with_what_was_killed() -> None:
    end = describe_end(OF, ended(), "900Mi", [kill()])
    assert end.reason == OOM_KILLED
    assert end.what == (
        "container db ended with exit code 137 after the kernel had killed its mariadbd: its "
        "memory limit of 900Mi was reached. Raise resources.limits.memory of the container for new "
        "demos"
    )


def test_the_nodes_memory_is_told_from_its_own_limit() -> None:
    end = describe_end(OF, ended(), "900Mi", [kill(limited="")])
    assert end.reason == OOM_KILLED
    assert "the memory of the node was used up" in end.what
    assert "900Mi" not in end.what


def test_a_limit_of_a_cgroup_above_is_named() -> None:
    end = describe_end(OF, ended(), None, [kill(limited="/try-it-now")])
    assert "the memory limit of cgroup /try-it-now was reached" in end.what


def test_a_program_may_end_on_its_own_terms_when_its_child_was_killed() -> None:
    """Its exit code is not 137 then."""
    assert describe_end(OF, ended(1), "900Mi", [kill()]).reason == OOM_KILLED


@pytest.mark.parametrize(
    "other",
    [
        partial(kill, cgroup=CGROUP.replace("c0ffee11", "0badf00d")),
        partial(kill, ago=3600),
        partial(kill, ago=-60),
    ],
    ids=["of another container", "long ago", "of its next life"],
)
def test_what_was_killed_elsewhere_or_at_another_time_is_no_cause(
    other: Callable[[], OOMKill],
) -> None:
    """Podman never takes its mark back, and the kernel keeps its log."""
    state = ended(1, oom_killed=True)
    assert describe_end(OF, state, None, [other()]) == End(
        RESTARTING, "container db ended with exit code 1"
    )


@pytest.mark.parametrize(
    ("limit", "what"),
    [
        (None, "the memory of the node was used up"),
        ("900Mi", "its limit of 900Mi was reached, or the memory of the node"),
    ],
)
def test_without_the_kernels_log_podmans_mark_must_do(limit: str | None, what: str) -> None:
    end = describe_end(OF, ended(oom_killed=True), limit, [])
    assert end.reason == OOM_KILLED
    assert what in end.what


async def test_the_condition_and_the_event_say_so(shop: Shop, kubernetes: FakeKubernetes) -> None:
    demo = await shop.ready()
    shop.crash(demo)
    container = shop.podman.state(shop.main(demo)).id
    cgroup = f"/libpod_parent/libpod-{container}"
    at = int(time.monotonic() * 1_000_000)
    shop.kernel_log = [
        f"6,1,{at},-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
        f"oom_memcg={cgroup},task_memcg={cgroup},task=php,pid=1,uid=33\n"
    ]
    await shop.resync(demo)
    down = kubernetes.events[0]
    assert (down.reason, down.is_warning) == (OOM_KILLED, True)
    assert "the kernel had killed its php" in down.note
    assert "Its data is kept" in down.note


# -- the node --------------------------------------------------------------------------------------


async def test_a_reboot_is_not_the_applications_end(shop: Shop, kubernetes: FakeKubernetes) -> None:
    """Podman says exit code 0 or 137 of whatever ran before it."""
    demo = await shop.ready()
    shop.reboot()
    assert await shop.resync(demo) is None
    down, ready = kubernetes.events
    assert down.reason == "NodeRestarted"
    assert down.note == (
        "the node was started again, and all of its containers with it. It is started again. Its "
        "data is kept."
    )
    assert ready.reason == "Ready"
    assert shop.ready_of(demo) == (ConditionStatus.TRUE, "Restart")
    assert shop.seen(demo).status.node_boot_id == "of the next boot"
    assert shop.is_kept(demo)


async def test_an_end_after_the_reboot_is_the_applications(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    demo = await shop.ready()
    shop.reboot()
    await shop.resync(demo)
    kubernetes.events.clear()
    shop.crash(demo, 3)
    await shop.resync(demo)
    assert "ended with exit code 3" in kubernetes.events[0].note
    assert kubernetes.events[0].reason == RESTARTING, "it is the first that is its own"


async def test_a_demo_of_an_older_agent_tells_of_no_boot(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    demo = await shop.ready()
    status = shop.seen(demo).status.model_copy(update={"node_boot_id": None})
    old = shop.seen(demo).model_copy(update={"status": status})
    shop.node.demos.update(shop.kubernetes.put(old))
    shop.reboot()
    await shop.resync(demo)
    assert kubernetes.events[0].reason == RESTARTING


def test_the_boot_has_an_identity() -> None:
    assert len(read_boot_id()) == 36
