"""One history of a node: what happens by chance, what always holds, how all gets well again."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.unit.agent.histories.happenings import Happenings
from tests.unit.agent.histories.life import LIFE
from tests.unit.agent.histories.machine import SANDBOX_BYTES, Machine
from tests.unit.agent.histories.people import ANY_PORT, CHECKPOINTS, People, says_ready
from tests.unit.sandbox import State
from tests.unit.virtual_time import LoneLoop
from tryitnow.agent.checkpoints import plan
from tryitnow.agent.sandbox.names import Role
from tryitnow.api.checkpoint import Pool
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase

STEPS = 15
PAUSES = (0.0, 0.02, 0.05, 0.2, 0.5, 1.0, 1.0, 3.0, 6.0, 15.0)
"""Seconds between two things that happen."""

SILENT_SECONDS = 60.0
"""For no longer may a demo be called ready that does not answer (design decision 7)."""

WELL_SECONDS = 1500.0
"""After that long without faults all must be well: the longest pause between two tries has five
minutes, and several things may wait for each other."""

STEP_SECONDS = 5.0
RETEST_SHARE = 10
PRECREATED = 1
"""Shorter and fewer than the real ones: they only make a history long."""

MEMORY_DIRECTORY = Path("/dev/shm")
"""Files there need no disk, on which each sync waits."""


class HistoryError(AssertionError):
    """Something did not hold; the message has the history."""


class _Bugs(logging.Handler):
    """Keeps what is logged of bugs of ours."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        life = LIFE.get()
        if record.exc_info and not (life is not None and life.has_ended):
            self.found.append(logging.Formatter().format(record))


@dataclass
class History:
    """One history."""

    machine: Machine
    chance: random.Random
    bugs: list[str]
    lines: list[str] = field(default_factory=list)
    """What happened, to be read by people."""

    _silent_since: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.people = People(self.machine)
        self.happenings = Happenings(self.machine, self.people, self.chance)
        self.cluster, self.podman = self.machine.cluster, self.machine.podman

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return asyncio.get_running_loop().time()

    def note(self, what: str) -> None:
        """Write down what happens."""
        self.lines.append(f"{self.now:8.2f} {what}")

    async def run(self) -> None:
        """Live it from the beginning to the end."""
        await self._begin()
        for _ in range(STEPS):
            await self._step()
        await self._gets_well()
        await self._ends()

    async def _begin(self) -> None:
        for checkpoint in CHECKPOINTS[: self.chance.choice((1, 2, 2))]:
            self.people.publish(checkpoint, Pool(warm=self.chance.choice((0, 1, 2))))
        self.machine.begin()
        if self.chance.random() < 0.8:
            await asyncio.sleep(8)  # most is built
        for _ in range(self.chance.randrange(3)):
            self.note(str(self.happenings.demo_is_created()))
        await self._pass(self.chance.choice((0.0, 1.0, 10.0)))

    async def _step(self) -> None:
        happening = self.chance.choice(self.happenings.all())()
        what = await happening if isinstance(happening, Awaitable) else happening
        if what is None:
            return
        self.note(what)
        if what.startswith(("the agent", "the node")):
            self._silent_since.clear()
        self.check()
        await self._pass(self.chance.choice(PAUSES))

    async def _pass(self, seconds: float) -> None:
        """Let time pass, and look what is meanwhile."""
        while seconds > 0:
            await asyncio.sleep(min(seconds, STEP_SECONDS))
            seconds -= STEP_SECONDS
            self.check()
            self.people.visit()

    # -- what always holds -------------------------------------------------------------------------

    def check(self) -> None:
        """See that what always holds, holds."""
        if self.bugs:
            raise AssertionError(self.bugs[0])
        for demo in self.people.demos():
            self._check_letter(demo)
            self._check_ready(demo)
            self._check_port(demo)
        self._check_node()

    def _check_letter(self, demo: DemoInstance) -> None:
        letter = self.people.visits[demo.metadata.uid].letter
        if letter is not None:
            assert self.people.is_kept(demo, letter), f"the data of {demo.metadata.name} is gone"

    def _check_ready(self, demo: DemoInstance) -> None:
        process, uid = self.machine.process, demo.metadata.uid
        serves = process is not None and process.is_serving and not self.cluster.is_down
        hears = self.cluster.error is None and self.cluster.seconds < 1
        wrong = self.people.answer_of(demo) if says_ready(demo) else None
        if wrong is None or not serves or not hears:
            self._silent_since.pop(uid, None)
            return
        since = self._silent_since.setdefault(uid, self.now)
        silent = self.now - since
        assert silent <= SILENT_SECONDS, (
            f"{demo.metadata.name} is called ready and does not answer for {silent:.0f} s: {wrong}"
        )

    def _check_port(self, demo: DemoInstance) -> None:
        visit = self.people.visits[demo.metadata.uid]
        if demo.status.host_port is not None:
            if visit.port is None:
                visit.port = demo.status.host_port
            assert visit.port in {ANY_PORT, demo.status.host_port}, (
                f"{demo.metadata.name} has another URL"
            )

    def _check_node(self) -> None:
        node = self.machine.node
        if node is None:
            return
        assert node.memory.reserved_bytes >= 0
        assert node.disk.reserved_bytes >= 0
        if node.guard.problem is None and not self.podman.has_lost_storage():
            for actor in node.checkpoints:
                if actor.generation is not None:
                    assert actor.generation.directory.is_dir(), "what is prepared is not there"
        waiting = node.checkpoints.stock_names
        for name, one in self.podman.everything().items():
            if name in waiting and not one.state.alive and one.home is not None:
                link = one.home / "checkpoint"
                assert not link.is_symlink() or link.exists(), f"{name} has lost its pages"
        spaces = self.podman.network.namespaces.values()
        opened = {space.pod for space in spaces if space.firewall is State.OPEN}
        for name in node.checkpoints.waiting_names & self.podman.everything().keys():
            pod = self.podman.pod_of(self.podman.everything()[name])
            assert pod not in opened, f"{name} waits, and strangers can use it"
        stock = sum(
            one.state.running and name.startswith(f"tryitnow_{Role.WARM}")
            for name, one in self.podman.everything().items()
        )
        if self.machine.memory_bytes:
            assert stock * SANDBOX_BYTES <= self.machine.memory_bytes

    # -- the end of all faults ---------------------------------------------------------------------

    async def _gets_well(self) -> None:
        self.happenings.all_is_well()
        self.note("--- all faults end")
        until = self.now + WELL_SECONDS
        while (problems := self._problems()) and self.now < until:
            await self._people_help()
        assert not problems, f"it does not get well: {problems}"
        self.people.visit()
        self.check()

    async def _people_help(self) -> None:
        await self._pass(STEP_SECONDS)
        for done in self.happenings.person_looks():
            self.note(done)

    def _problems(self) -> list[str]:
        """Return what is not well."""
        problems = [
            f"{demo.metadata.name}: {demo.status.phase}: {_ready_of(demo)}"
            for demo in self.people.demos()
            if not says_ready(demo) or self.people.answer_of(demo) is not None or demo.wants_reset
        ]
        held = {one.spec.revision: one for one in self.cluster.all_of(NodeCheckpoint)}
        for order in self.cluster.wanted.values():
            one = held.pop(order.revision.spec.identity, None)
            if one is None or one.status.phase is not NodeCheckpointPhase.READY:
                problems.append(f"{order.revision.key}: {one and _ready_of(one)}")
            elif one.status.warm_ready != order.pool.warm or one.spec.pool != order.pool:
                problems.append(
                    f"{one.key}: {one.status.warm_ready} of {order.pool}: {one.status.warm_message}"
                )
        problems += [f"{one.key} is still there" for one in held.values()]
        node = self.machine.node
        if node is None or node.guard.problem is not None:
            problems.append(f"the guard: {node and node.guard.problem}")
        return problems

    async def _ends(self) -> None:
        self.note("--- all is deleted")
        self.cluster.wanted.clear()
        for demo in self.people.demos():
            self.people.delete(demo)
        until = self.now + WELL_SECONDS
        while (left := self._left()) and self.now < until:
            await self._people_help()
        assert not left, f"something is left: {left}"

    def _left(self) -> list[str]:
        """Return what is left of demos and revisions."""
        node, home = self.machine.node, self.machine.directory
        assert node is not None
        left = [str(one.key) for one in self.cluster.all_of(DemoInstance)]
        left += [str(one.key) for one in self.cluster.all_of(NodeCheckpoint)]
        left += [*self.podman.containers(), *self.podman.ghosts, *self.podman.pods]
        left += sorted(self.podman.images)
        for directory in ("checkpoints", "data", "volumes", "trash"):
            left += [f"{directory}/{path.name}" for path in (home / directory).iterdir()]
        left += [f"port of {owner}" for owner in sorted(node.ports.owners())]
        if node.memory.reserved_bytes or node.disk.reserved_bytes:
            left.append(f"{node.memory.reserved_bytes}, {node.disk.reserved_bytes} bytes")
        return left


async def _play_out(history: History, script: Script) -> None:
    control = asyncio.create_task(history.cluster.control())
    try:
        await script(history)
    finally:
        control.cancel()
        if history.machine.process is not None:
            await history.machine.process.kill()


def _ready_of(one: DemoInstance | NodeCheckpoint) -> str:
    found = [c for c in one.status.conditions if c.type == "Ready"]
    return f"{found[0].reason}: {found[0].message}" if found else "nothing is said"


Script = Callable[["History"], Awaitable[None]]


def live(seed: int, script: Script = History.run) -> History:
    """Live the history of a seed, or another one with its chances.

    Raises:
        HistoryError: something did not hold.

    """
    chance = random.Random(seed)
    random.seed(seed)
    # The same name each time: sets of paths are in an order that follows from the names.
    directory = MEMORY_DIRECTORY / f"tryitnow-seed-{seed}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    bugs = _Bugs()
    logging.getLogger().addHandler(bugs)
    level = logging.getLogger("tryitnow").level
    logging.getLogger("tryitnow").setLevel(logging.ERROR)
    loop = LoneLoop()
    loop.set_exception_handler(
        lambda _, context: bugs.found.append(f"{context['message']}: {context.get('exception')!r}")
    )
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            machine = Machine(directory, chance)
            machine.prepare(loop, monkeypatch)
            monkeypatch.setattr(plan, "RETEST_AFTER", plan.RETEST_AFTER / RETEST_SHARE)
            monkeypatch.setattr(plan, "PRECREATED", PRECREATED)
            history = History(machine, chance, bugs.found)
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                try:
                    runner.run(_play_out(history, script))
                except AssertionError as error:
                    lines = "\n".join(history.lines)
                    msg = f"seed {seed}: {error}\n{lines}"
                    raise HistoryError(msg) from error
    finally:
        logging.getLogger().removeHandler(bugs)
        logging.getLogger("tryitnow").setLevel(level)
        shutil.rmtree(directory, ignore_errors=True)
    return history
