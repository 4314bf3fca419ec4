"""What the kernel killed for want of memory, by its own log."""

from __future__ import annotations

import os
from pathlib import Path

from tryitnow.agent.sandbox.kernel_log import OOMKill, oom_kills, read_kernel_log

ID = "c0ffee11" * 8
CGROUP = f"/try-it-now/libpod_parent/libpod-{ID}"

OWN_LIMIT = (
    "6,901,123456789,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),"
    f"cpuset=libpod-{ID},mems_allowed=0,oom_memcg={CGROUP},task_memcg={CGROUP},"
    "task=mariadbd,pid=4711,uid=999\n"
)
WHOLE_NODE = (
    "6,902,223456789,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,"
    f"mems_allowed=0,global_oom,task_memcg={CGROUP},task=tail,pid=4712,uid=0\n"
    " SUBSYSTEM=memory\n"
)
LIMIT_ABOVE = (
    "6,903,323456789,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,"
    f"mems_allowed=0,oom_memcg=/try-it-now,task_memcg={CGROUP},task=a, b,pid=4713,uid=0\n"
)
NOISE = (
    "6,900,123456000,-;mariadbd invoked oom-killer: gfp_mask=0xcc0, order=0, oom_score_adj=1000\n",
    "3,904,423456789,-;Memory cgroup out of memory: Killed process 4711 (mariadbd)\n",
    "no record at all",
    "",
)


def test_who_was_killed_and_whose_limit_it_was() -> None:
    own, node, above = oom_kills([*NOISE, OWN_LIMIT, WHOLE_NODE, LIMIT_ABOVE])
    assert own == OOMKill(123.456789, "mariadbd", CGROUP, CGROUP)
    assert own.is_in(ID)
    assert own.is_limit_of(ID)
    assert (node.program, node.limited) == ("tail", "")
    assert node.is_in(ID)
    assert (above.program, above.limited, above.is_limit_of(ID)) == ("a, b", "/try-it-now", False)


def test_each_record_is_read_and_the_end_is_not_waited_for(tmp_path: Path) -> None:
    """A read of the kernel's log gives one record; a FIFO without news ends as it does."""
    fifo = tmp_path / "kmsg"
    os.mkfifo(fifo)
    writer = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    os.write(writer, OWN_LIMIT.encode())
    try:
        assert read_kernel_log(fifo) == (OWN_LIMIT,)
    finally:
        os.close(writer)


def test_a_log_that_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    assert read_kernel_log(tmp_path / "kmsg") == ()
