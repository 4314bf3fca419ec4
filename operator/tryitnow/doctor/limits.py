"""Limits of the kernel and of Podman, against what MAX_INSTANCES demos need.

A limit that holds fewer demos is a warning; one that has nothing left for a single one more is a
failure, where no demo starts without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tryitnow.api.nodeagent import Check, Verdict
from tryitnow.doctor.facts import NodeFacts
from tryitnow.doctor.kernel import Group, KernelFacts, Usage
from tryitnow.doctor.names import CheckName
from tryitnow.doctor.podman import PodmanFacts
from tryitnow.doctor.verdicts import FEWER_DEMOS, failed, passed, sysctl, warned

CONTAINERS = 3
"""Of a demo: an application, its database, and the one that holds the pod's namespaces."""

TASKS = 128
"""Processes and threads of a demo, an estimate: a JVM and its threads."""

TASKS_OF_CONMONS = 2 * CONTAINERS
"""Of a demo, where Podman's own service is: a conmon for each container, and commands in them."""

TASKS_OF_THE_NODE = 2048
"""The kernel's own, those of the kubelet, of the runtime and of other Pods: an estimate."""

PIDS_AT_MOST = 1 << 22
"""The kernel's own limit of pid_max on 64-bit machines (PID_MAX_LIMIT)."""

OPEN_FILES = 2048
"""Of a demo: MariaDB keeps up to 2,000 tables open (table_open_cache)."""

COUNTLESS_FILES = 1 << 62
"""systemd sets fs.file-max to the largest number that there is."""

OPEN_FILES_OF_ANY = 1 << 20
"""The kernel's own default of nr_open, and what Podman allows a container. CRIU gives processes the
limits that they had; the kernel refuses one above nr_open."""

OPEN_FILES_OF_ONE = 65_536
"""Of one process: Elasticsearch does not start below 65,535."""

INOTIFY_INSTANCES = CONTAINERS + 1
"""Of a demo, as root: each conmon has one, to notice when the memory ends, and the application."""

INOTIFY_INSTANCES_OF_THE_NODE = 32
"""systemd, udev, kubelet, container runtime: each some, an estimate."""

INOTIFY_WATCHES = 256
"""Of a demo, an estimate: a program that watches the directories of its source."""

AIO_EVENTS = 2661
"""Of a demo with a MySQL, by its defaults: ten I/O threads with 256 each, and 101."""

CONNECTIONS = 256
"""Of a demo, an estimate: some browsers' six at a time, and closed ones, remembered for 120 s."""

LOCKS = CONTAINERS + 1
"""Of a demo: of each container and of the pod."""

PRE_CREATED = 4
"""Sandboxes that wait for demos, for each Checkpoint."""

_SEVERITY = (Verdict.PASS, Verdict.WARN, Verdict.FAIL)


def limits(facts: NodeFacts) -> Iterator[Check]:
    """Judge the limits; those that the kernel does not have are left out."""
    known, demos = facts.limits, facts.wanted.demos
    if known.tasks is not None:
        yield _processes(known.tasks, known.groups, demos)
    if known.files is not None:
        yield _files(known.files, known, demos)
    if known.inotify_instances is not None and known.inotify_watches is not None:
        yield _inotify(
            known.inotify_instances,
            known.inotify_watches,
            demos,
            exhausted=known.inotify_exhausted,
        )
    if known.aio is not None:
        yield _aio(known.aio, demos)
    if known.conntrack is not None:
        yield _conntrack(known.conntrack, demos)
    if facts.podman is not None and facts.podman.free_locks is not None:
        yield _locks(facts.podman, facts.podman.free_locks, demos, facts.directory.archives)


def _processes(tasks: Usage, groups: Sequence[Group], demos: int) -> Check:
    needed = TASKS_OF_THE_NODE + demos * TASKS
    value = min(PIDS_AT_MOST, _more(needed, tasks.limit))
    checks = [
        _tasks(
            tasks,
            f"{tasks.used} of {tasks.limit} processes and threads",
            _Need(of_others=TASKS_OF_THE_NODE, of_a_demo=TASKS, demos=demos),
            sysctl({"kernel.pid_max": value, "kernel.threads-max": value}),
        ),
        *(_tasks_of(group, demos) for group in groups),
    ]
    return max(checks, key=lambda check: _SEVERITY.index(check.verdict))


def _tasks_of(group: Group, demos: int) -> Check:
    unit = group.path.name
    return _tasks(
        group.tasks,
        f"{group.tasks.used} of {group.tasks.limit} processes and threads in cgroup {group.path}",
        _Need(of_others=0, of_a_demo=TASKS if group.has_demos else TASKS_OF_CONMONS, demos=demos),
        f"on the node itself `systemctl set-property {unit} TasksMax=infinity`"
        if group.path.suffix in {".slice", ".service", ".scope"}
        else f"on the node itself `echo max > /sys/fs/cgroup{group.path}/pids.max`",
    )


@dataclass(frozen=True)
class _Need:
    of_others: int
    of_a_demo: int
    demos: int


def _tasks(tasks: Usage, found: str, need: _Need, more: str) -> Check:
    name, remedy = CheckName.PROCESSES, f"{more}; or {FEWER_DEMOS}"
    if tasks.left < need.of_a_demo:
        return failed(name, f"{found}: none left for another demo", remedy)
    held = _held(tasks.limit - need.of_others, need.of_a_demo)
    if held < need.demos:
        return warned(name, f"{found}: it holds {held} of {need.demos} demos", remedy)
    total = need.of_others + need.demos * need.of_a_demo
    return passed(name, f"{found}; {need.demos} demos need {total}")


def _files(files: Usage, known: KernelFacts, demos: int) -> Check:
    name, needed = CheckName.FILES, demos * OPEN_FILES
    remedy = f"{sysctl({'fs.file-max': _more(needed, files.limit)})}; or {FEWER_DEMOS}"
    limit = "any number" if files.limit > COUNTLESS_FILES else files.limit
    found = f"{files.used} of {limit}"
    if files.left < OPEN_FILES:
        return failed(name, f"{found}: none left for another demo", remedy)
    held = _held(files.limit, OPEN_FILES)
    if held < demos:
        return warned(name, f"{found}: it holds {held} of {demos} demos", remedy)
    of_one, of_any = known.open_files, known.most_open_files
    if of_any is not None and of_any < OPEN_FILES_OF_ANY:
        return warned(
            name,
            f"{found}, but at most {of_any} for a process: what was checkpointed where a process "
            f"may have {OPEN_FILES_OF_ANY} cannot be restored here",
            sysctl({"fs.nr_open": OPEN_FILES_OF_ANY}),
        )
    if of_one is not None and of_one < OPEN_FILES_OF_ONE:
        return warned(
            name,
            f"{found}, but {of_one} for each process of a demo: some databases need "
            f"{OPEN_FILES_OF_ONE} to start",
            "a higher limit for Podman's service (LimitNOFILE of podman.service, or of the "
            "container runtime that starts the agent's Pod)",
        )
    return passed(name, f"{found}; {demos} demos need {needed}")


def _inotify(instances: int, watches: int, demos: int, *, exhausted: bool) -> Check:
    name = CheckName.INOTIFY
    needed = INOTIFY_INSTANCES_OF_THE_NODE + demos * INOTIFY_INSTANCES
    needed_watches = demos * INOTIFY_WATCHES
    found = f"{instances} instances and {watches} watches for each user"
    more = {}
    if exhausted or instances < needed:
        more["fs.inotify.max_user_instances"] = _more(needed, instances)
    if watches < needed_watches:
        more["fs.inotify.max_user_watches"] = _more(needed_watches, watches)
    remedy = f"{sysctl(more)}; or {FEWER_DEMOS}"
    # Podman starts a container without one: it then only does not notice that memory ends.
    if exhausted:
        return warned(
            name,
            f"{found}, and root has no instance left: applications that watch files fail, and "
            "nobody notices when a demo runs out of memory",
            remedy,
        )
    held = min(
        _held(instances - INOTIFY_INSTANCES_OF_THE_NODE, INOTIFY_INSTANCES),
        _held(watches, INOTIFY_WATCHES),
    )
    if held < demos:
        return warned(name, f"{found}: they hold {held} of {demos} demos", remedy)
    return passed(
        name, f"{found}; {demos} demos need {needed} instances and {needed_watches} watches"
    )


def _aio(aio: Usage, demos: int) -> Check:
    name, needed = CheckName.AIO, demos * AIO_EVENTS
    remedy = f"{sysctl({'fs.aio-max-nr': _more(needed, aio.limit)})}; or {FEWER_DEMOS}"
    found = f"{aio.used} of {aio.limit} events"
    # Only some applications use it: the others start all the same.
    if aio.left < AIO_EVENTS:
        return warned(name, f"{found}: none left for another demo with a MySQL", remedy)
    held = _held(aio.limit, AIO_EVENTS)
    if held < demos:
        return warned(name, f"{found}: it holds {held} of {demos} demos with a MySQL each", remedy)
    return passed(name, f"{found}; {demos} demos with a MySQL each need {needed}")


def _conntrack(conntrack: Usage, demos: int) -> Check:
    name, needed = CheckName.CONNTRACK, demos * CONNECTIONS
    value = _more(needed, conntrack.limit)
    remedy = f"{sysctl({'net.netfilter.nf_conntrack_max': value})}; or {FEWER_DEMOS}"
    found = f"{conntrack.used} of {conntrack.limit} connections"
    if conntrack.left < CONNECTIONS:
        return failed(name, f"{found}: the kernel drops new ones, to demos too", remedy)
    held = _held(conntrack.limit, CONNECTIONS)
    if held < demos:
        return warned(name, f"{found}: it holds {held} of {demos} demos", remedy)
    return passed(name, f"{found}; {demos} demos need {needed}")


def _locks(podman: PodmanFacts, free: int, demos: int, checkpoints: int) -> Check:
    name = CheckName.LOCKS
    needed = (demos + PRE_CREATED * checkpoints) * LOCKS
    # Podman tells what is free only. Each container has one: there are at least so many in all.
    there = free + podman.containers
    remedy = (
        "remove containers and volumes that nobody needs (`podman ps --all --external`, `podman "
        f"volume ls`), or num_locks = {_more(needed, there)} under [engine] in "
        "containers.conf (`agent.podman.containersConf`) and `podman system renumber` while "
        "nothing runs"
    )
    found = f"{free} free beside {podman.containers} containers"
    if free < LOCKS:
        return failed(name, f"{found}: none left for another demo", remedy)
    wanted = f"{demos} demos and what is pre-created for {checkpoints} archives need {needed}"
    if there < needed:
        return warned(name, f"{found}; {wanted}", remedy)
    return passed(name, f"{found}; {wanted}")


def _held(limit: int, each: int) -> int:
    return max(0, limit) // each


def _more(needed: int, limit: int) -> int:
    """Return what to raise a limit to: a power of two, above the limit where that was used up."""
    return 1 << (max(needed, limit + 1) - 1).bit_length()
