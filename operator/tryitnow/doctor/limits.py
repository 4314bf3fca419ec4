"""Limits of the kernel and of Podman, against what MAX_INSTANCES demos need.

A limit that holds fewer demos is a warning; one that has nothing left for a single one more is a
failure, where no demo starts without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tryitnow.api.nodeagent import Check
from tryitnow.doctor.facts import NodeFacts
from tryitnow.doctor.kernel import Group, KernelFacts, Usage
from tryitnow.doctor.names import CheckName
from tryitnow.doctor.podman import PodmanFacts
from tryitnow.doctor.verdicts import FEWER_DEMOS, failed, passed, sysctl, warned, worst

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


@dataclass(frozen=True)
class _Need:
    """How much of something demos need."""

    demos: int
    of_a_demo: int
    of_others: int = 0
    """What the rest of the node needs, demos or not."""

    only: str = ""
    """Which demos need it; all where this is empty."""

    @property
    def total(self) -> int:
        return self.of_others + self.demos * self.of_a_demo

    def held(self, limit: int) -> int:
        """Return how many demos a limit holds."""
        return max(0, limit - self.of_others) // self.of_a_demo

    def raised(self, limit: int) -> int:
        """Return what to raise a limit to: a power of two, above the limit itself."""
        return 1 << (max(self.total, limit + 1) - 1).bit_length()


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
    need = _Need(demos, TASKS, of_others=TASKS_OF_THE_NODE)
    value = min(PIDS_AT_MOST, need.raised(tasks.limit))
    found = f"{tasks.used} of {tasks.limit} processes and threads"
    more = sysctl({"kernel.pid_max": value, "kernel.threads-max": value})
    of_all = _judge(CheckName.PROCESSES, tasks, need, found, more)
    return worst([of_all, *(_processes_of(group, demos) for group in groups)])


def _processes_of(group: Group, demos: int) -> Check:
    tasks, path = group.tasks, group.path
    need = _Need(demos, TASKS if group.has_demos else TASKS_OF_CONMONS)
    found = f"{tasks.used} of {tasks.limit} processes and threads in cgroup {path}"
    more = f"on the node itself `echo max > /sys/fs/cgroup{path}/pids.max`"
    if path.suffix in {".slice", ".service", ".scope"}:
        more = f"on the node itself `systemctl set-property {path.name} TasksMax=infinity`"
    return _judge(CheckName.PROCESSES, tasks, need, found, more)


def _files(files: Usage, known: KernelFacts, demos: int) -> Check:
    need = _Need(demos, OPEN_FILES)
    limit = "any number" if files.limit > COUNTLESS_FILES else files.limit
    found = f"{files.used} of {limit}"
    more = sysctl({"fs.file-max": need.raised(files.limit)})
    of_all = _judge(CheckName.FILES, files, need, found, more)
    return worst([of_all, *_files_of_a_process(found, known)])


def _files_of_a_process(found: str, known: KernelFacts) -> Iterator[Check]:
    of_one, of_any = known.open_files, known.most_open_files
    if of_any is not None and of_any < OPEN_FILES_OF_ANY:
        yield warned(
            CheckName.FILES,
            f"{found}, but at most {of_any} for a process: what was checkpointed where a process "
            f"may have {OPEN_FILES_OF_ANY} cannot be restored here",
            sysctl({"fs.nr_open": OPEN_FILES_OF_ANY}),
        )
    if of_one is not None and of_one < OPEN_FILES_OF_ONE:
        yield warned(
            CheckName.FILES,
            f"{found}, but {of_one} for each process of a demo: some databases need "
            f"{OPEN_FILES_OF_ONE} to start",
            "a higher limit for Podman's service (LimitNOFILE of podman.service, or of the "
            "container runtime that starts the agent's Pod)",
        )


def _inotify(instances: int, watches: int, demos: int, *, exhausted: bool) -> Check:
    name = CheckName.INOTIFY
    of_instances = _Need(demos, INOTIFY_INSTANCES, of_others=INOTIFY_INSTANCES_OF_THE_NODE)
    of_watches = _Need(demos, INOTIFY_WATCHES)
    found = f"{instances} instances and {watches} watches for each user"
    more = {}
    if exhausted or instances < of_instances.total:
        more["fs.inotify.max_user_instances"] = of_instances.raised(instances)
    if watches < of_watches.total:
        more["fs.inotify.max_user_watches"] = of_watches.raised(watches)
    remedy = f"{sysctl(more)}; or {FEWER_DEMOS}"
    # Podman starts a container without one: it then only does not notice that memory ends.
    if exhausted:
        return warned(
            name,
            f"{found}, and root has no instance left: applications that watch files fail, and "
            "no one notices when a demo runs out of memory",
            remedy,
        )
    held = min(of_instances.held(instances), of_watches.held(watches))
    if held < demos:
        return warned(name, f"{found}: they hold {held} of {demos} demos", remedy)
    needed = f"{of_instances.total} instances and {of_watches.total} watches"
    return passed(name, f"{found}; {demos} demos need {needed}")


def _aio(aio: Usage, demos: int) -> Check:
    need = _Need(demos, AIO_EVENTS, only="with a MySQL")
    more = sysctl({"fs.aio-max-nr": need.raised(aio.limit)})
    return _judge(CheckName.AIO, aio, need, f"{aio.used} of {aio.limit} events", more)


def _conntrack(conntrack: Usage, demos: int) -> Check:
    need = _Need(demos, CONNECTIONS)
    found = f"{conntrack.used} of {conntrack.limit} connections"
    more = sysctl({"net.netfilter.nf_conntrack_max": need.raised(conntrack.limit)})
    none_left = "the kernel drops new ones, to demos too"
    return _judge(CheckName.CONNTRACK, conntrack, need, found, more, none_left)


def _locks(podman: PodmanFacts, free: int, demos: int, checkpoints: int) -> Check:
    name = CheckName.LOCKS
    need = _Need(demos, LOCKS, of_others=PRE_CREATED * checkpoints * LOCKS)
    # Podman tells what is free only. Each container has one: there are at least so many in all.
    there = free + podman.containers
    remedy = (
        "remove unused containers and volumes (`podman ps --all --external`, `podman "
        f"volume ls`), or num_locks = {need.raised(there)} under [engine] in "
        "containers.conf (`agent.podman.containersConf`) and `podman system renumber` while "
        "nothing runs"
    )
    found = f"{free} free beside {podman.containers} containers"
    if free < LOCKS:
        return failed(name, f"{found}: none left for another demo", remedy)
    wanted = f"{demos} demos and what is pre-created for {checkpoints} archives need {need.total}"
    if there < need.total:
        return warned(name, f"{found}; {wanted}", remedy)
    return passed(name, f"{found}; {wanted}")


def _judge(
    name: CheckName,
    usage: Usage,
    need: _Need,
    found: str,
    more: str,
    none_left: str = "none left for another demo",
) -> Check:
    """Judge a limit by what is left now, then by what all demos need."""
    remedy = f"{more}; or {FEWER_DEMOS}"
    demos = f"demos {need.only}" if need.only else "demos"
    if usage.left < need.of_a_demo:
        if need.only:  # the others start all the same
            return warned(name, f"{found}: {none_left} {need.only}", remedy)
        return failed(name, f"{found}: {none_left}", remedy)
    held = need.held(usage.limit)
    if held < need.demos:
        return warned(name, f"{found}: it holds {held} of {need.demos} {demos}", remedy)
    return passed(name, f"{found}; {need.demos} {demos} need {need.total}")
