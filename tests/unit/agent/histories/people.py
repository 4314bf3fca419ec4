"""The people of a history: they have demos, write into them, and expect to find that again."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from pathlib import Path

from tests.unit.agent.demos.shop import HOOKS, shop_template
from tests.unit.agent.histories.cluster import NODE, Wanted
from tests.unit.agent.histories.machine import Machine
from tests.unit.builders import (
    UID_OF_SHOP,
    make_checkpoint_of,
    make_definition,
    make_demo,
    make_revision,
)
from tests.unit.fakes import Running
from tests.unit.network import UnreachableError
from tryitnow.agent.sandbox.names import demo_name
from tryitnow.api.checkpoint import OnCrash, Pool
from tryitnow.api.definition import Compression, CRIUOptions, Definition, Readiness
from tryitnow.api.demoinstance import (
    RESET_ANNOTATION,
    DemoInstance,
    DemoInstancePhase,
    StartPolicy,
)
from tryitnow.api.meta import ConditionStatus, find_condition

CHECKPOINTS = ("lone", "pair")
"""An application of one container, and one with a database, a volume and hooks."""


ANY_PORT = 0
UNTRUSTED_SECONDS = 90.0
"""Three full looks of the agent at node and cluster."""


@dataclass
class Visit:
    """What a person has of one demo."""

    uid: str
    letter: str | None = None
    """What was written into it and must be there; None: nothing, or it may be gone."""

    trusted_from: float = 0.0
    """Before that moment nothing is written: the agent does not know yet that the cluster
    is another one, and may start it once more (``test_found_faults``)."""

    port: int | None = None
    """Where it answers since it was ready first."""


class People:
    """Have demos."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._cluster = machine.cluster
        self._podman = machine.podman
        self._numbers = itertools.count(1)
        self._versions = itertools.count(1)
        self.visits: dict[str, Visit] = {}
        """By the demo's UID."""

    # -- what they ask for -------------------------------------------------------------------------

    def publish(self, checkpoint: str, pool: Pool) -> None:
        """Have a Checkpoint, or another revision of it."""
        definition = _definition(checkpoint, next(self._versions))
        revision = make_revision(
            checkpoint, definition=definition, uid=f"{UID_OF_SHOP}-{checkpoint}"
        )
        self._cluster.put(make_checkpoint_of(revision))
        self._cluster.wanted[checkpoint] = Wanted(self._cluster.add(revision), pool)

    def create(self, checkpoint: str, policy: StartPolicy, on_crash: OnCrash) -> DemoInstance:
        """Have a demo of what the Checkpoint is by now."""
        revision = self._cluster.wanted[checkpoint].revision
        name = f"demo-{next(self._numbers)}"
        demo = make_demo(
            name,
            checkpoint=checkpoint,
            start=policy,
            node=NODE,
            revision=revision.spec.identity,
            phase=DemoInstancePhase.STARTING,
            uid=self._cluster.new_uid(),
        )
        status = demo.status.model_copy(update={"on_crash": on_crash})
        self.visits[demo.metadata.uid] = Visit(demo.metadata.uid)
        return self._cluster.add(demo.model_copy(update={"status": status}))

    def demos(self) -> list[DemoInstance]:
        """Return all demos that nobody has deleted."""
        return [one for one in self._cluster.all_of(DemoInstance) if not one.is_deleting]

    def delete(self, demo: DemoInstance) -> None:
        """Delete a demo."""
        self.visits.pop(demo.metadata.uid, None)
        self._cluster.remove(demo)

    def reset(self, demo: DemoInstance) -> None:
        """Ask for a fresh demo."""
        self.gives_up(demo)
        value = str(next(self._numbers))
        self._cluster.change(demo, {"metadata": {"annotations": {RESET_ANNOTATION: value}}})

    def lose_with_storage(self, demo: DemoInstance) -> None:
        """Expect nothing of a demo that was made in a storage which is not there any more.

        What an earlier try left in the storage that is back has its name, and other ports.
        """
        self.gives_up(demo)
        self.visits[demo.metadata.uid].port = ANY_PORT

    def gives_up(self, demo: DemoInstance) -> None:
        """Expect no more to find what was written: it was lost for a reason beyond us."""
        self.visits[demo.metadata.uid].letter = None

    def find_cluster_restored(self) -> None:
        """Expect nothing of demos of which the cluster forgot that people had them."""
        known = {one.metadata.uid: one for one in self._cluster.all_of(DemoInstance)}
        trusted_from = asyncio.get_running_loop().time() + UNTRUSTED_SECONDS
        for uid in list(self.visits):
            demo = known.get(uid)
            if demo is None or demo.is_deleting:
                del self.visits[uid]
            elif not demo.was_ready or demo.wants_reset:
                self.visits[uid] = Visit(uid, trusted_from=trusted_from, port=ANY_PORT)
        for uid in known:
            # One that was deleted is back, and has nothing; its removal may be under way.
            self.visits.setdefault(uid, Visit(uid, trusted_from=trusted_from))

    def needs_reset(self, demo: DemoInstance) -> bool:
        """Whether only a person can help a demo: it was given up, or lost a container."""
        if demo.status.phase is DemoInstancePhase.FAILED:
            return True
        if (
            demo.status.phase in {DemoInstancePhase.NOT_ANSWERING, DemoInstancePhase.RESTARTING}
            and self.visits[demo.metadata.uid].port == ANY_PORT
        ):
            return True
        main = self.main_of(demo)
        if main is None or not demo.was_ready:
            return False
        pod = self._podman.pod_of(main)
        wanted = 1 + (demo.spec.checkpoint_ref.name == "pair")
        return not pod or len(self._podman.members(pod)) != wanted

    # -- what they find ----------------------------------------------------------------------------

    def main_of(self, demo: DemoInstance) -> Running | None:
        """Return a demo's main container, also while its storage is away."""
        return self._podman.everything().get(str(demo_name(demo)))

    def answer_of(self, demo: DemoInstance) -> str | None:
        """Ask a demo at its URL; return what is wrong, None when it answers."""
        port = demo.status.host_port
        if port is None:
            return "it has no URL"
        try:
            status = self._podman.network.ask(port)
        except UnreachableError as error:
            return str(error)
        return None if status == 200 else f"it answers {status}"

    def reached(self, demo: DemoInstance) -> Running:
        """Return the container that answers at a demo's URL."""
        assert demo.status.host_port is not None
        pod = self._podman.network.pod_at(demo.status.host_port)
        [main] = [one for one in self._podman.members(pod) if one.ports]
        return main

    def letter_in_volume(self, main: Running) -> Path:
        """Return where a letter lies in the volume of a sandbox."""
        tag = self._podman.pod_of(main).removeprefix("tryitnow_pod_")
        return self._machine.directory / "volumes" / tag / "data" / "letter.txt"

    def visit(self) -> None:
        """Have everybody visit, and write something where there is nothing yet."""
        for demo in self.demos():
            if says_ready(demo) and demo.status.host_port and self.answer_of(demo) is None:
                self._visit(demo)

    def _visit(self, demo: DemoInstance) -> None:
        visit, main = self.visits[demo.metadata.uid], self.reached(demo)
        inside = self._podman.inside[main.state.id]
        if demo.spec.checkpoint_ref.name == "pair":
            assert inside.personalized, f"{demo.key} lets people in before its hooks have run"
        assert str(demo_name(demo)) == main.state.name, f"at {demo.key} is {main.state.name}"
        trusts = asyncio.get_running_loop().time() >= visit.trusted_from
        if visit.letter is None and not demo.wants_reset and trusts:
            visit.letter = demo.metadata.uid
            inside.written.add(visit.letter)
            if demo.spec.checkpoint_ref.name == "pair":
                self.letter_in_volume(main).write_text(visit.letter)

    def is_kept(self, demo: DemoInstance, letter: str) -> bool:
        """Whether what was written into a demo is there, be the demo up or down."""
        main = self.main_of(demo)
        if main is None or letter not in self._podman.inside[main.state.id].written:
            return False
        if demo.spec.checkpoint_ref.name != "pair":
            return True
        path = self.letter_in_volume(main)
        return path.exists() and path.read_text() == letter


def says_ready(demo: DemoInstance) -> bool:
    """Whether a demo's status says that it answers."""
    ready = find_condition(demo.status.conditions, "Ready")
    return ready is not None and ready.status is ConditionStatus.TRUE


def _definition(checkpoint: str, version: int) -> Definition:
    criu = CRIUOptions(compression=Compression.NONE)
    # Another time limit is another revision.
    readiness = Readiness(
        timeout=f"{20 + version}s",
        restore_timeout="10s",
    )
    if checkpoint == "lone":
        return make_definition(criu=criu, readiness=readiness)
    pair = make_definition(template=shop_template(), criu=criu, readiness=readiness)
    return pair.model_copy(update={"hooks": HOOKS})
