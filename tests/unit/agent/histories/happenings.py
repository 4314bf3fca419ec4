"""What happens to a node by chance: what people do, what breaks, and what a bad day brings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.unit.agent.histories.cluster import NODE
from tests.unit.agent.histories.machine import Leftover
from tests.unit.agent.histories.mishaps import Happening, Mishaps
from tests.unit.agent.histories.people import CHECKPOINTS
from tests.unit.agent.histories.service import Trouble
from tests.unit.fakes import Running
from tests.unit.network import HANGS
from tryitnow.agent.sandbox.names import demo_name, parse
from tryitnow.api.checkpoint import OnCrash, Pool
from tryitnow.api.demoinstance import DemoInstance, StartPolicy
from tryitnow.api.meta import Key, find_condition
from tryitnow.api.nodeagent import CONFIRM_STORAGE_ANNOTATION, STORAGE_CHANGED, NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.podman.errors import (
    CRIUError,
    PodmanBusyError,
    PodmanError,
    PodmanUnreachableError,
)
from tryitnow.podman.limits import as_node_limit

CALLS = (
    "build image", "checkpoint", "create container", "create pod", "create stopped", "exec",
    "has_image", "init", "inspect", "inspect pod", "list", "list pods", "look into", "pause",
    "pid", "pull", "reload network", "remove", "remove pod", "remove_image", "rename",
    "restore prepared", "start", "start infra", "stop pod", "unpause",
)  # fmt: skip


def _limit() -> Exception:
    limit = as_node_limit("inotify_add_watch: no space left on device")
    assert limit is not None
    return limit


ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: PodmanUnreachableError("Podman does not answer"),
    lambda: PodmanBusyError("Podman is busy"),
    lambda: PodmanError("500: internal error"),
    _limit,
)


@dataclass
class Happenings(Mishaps):
    """All that may happen; each returns what it was, None when it was nothing."""

    def all(self) -> list[Happening]:
        """Return all of them; what is there twice happens twice as often."""
        return [
            # People.
            self.demo_is_created, self.demo_is_created, self.demo_is_created,
            self.demo_is_deleted, self.demo_is_reset, self.checkpoint_changes, self.pool_changes,
            self.object_is_touched, self.node_checkpoint_is_deleted,
            # Containers.
            self.container_ends, self.container_ends, self.all_containers_of_one_end,
            self.application_is_ill, self.applications_are_well, self.container_crashes_on,
            self.containers_are_stable, self.container_is_removed,
            # Podman.
            self.call_fails, self.call_fails, self.call_is_slow, self.call_hangs,
            self.call_breaks_off, self.criu_refuses, self.podman_is_away, self.podman_is_well,
            self.podman_is_well, self.podman_is_killed, self.podman_leaves_conmon,
            self.podman_is_blind, self.storage_is_exchanged, self.storage_is_back, self.prune,
            self.registry_is_away, self.hooks_fail, self.hooks_work,
            # The API server.
            self.api_is_away, self.api_is_slow, self.api_refuses, self.api_is_well,
            self.api_is_well, self.watches_break, self.backup_is_made, self.backup_is_restored,
            # The node.
            self.agent_is_killed, self.agent_is_killed, self.agent_is_restarted, self.boot,
            self.rules_are_lost, self.port_is_taken, self.ports_are_free, self.disk_is_full,
            self.disk_has_room, self.memory_is_short, self.memory_is_there, self.mark_is_lost,
            self.software_changes, self.criu_changes, self.archive_is_damaged,
        ]  # fmt: skip

    # -- people ------------------------------------------------------------------------------------

    def demo_is_created(self) -> str | None:
        if len(self.people.demos()) >= 6:
            return None
        policy = self.chance.choice(
            (StartPolicy.PREFER_RESTORE, StartPolicy.PREFER_RESTORE, StartPolicy.PREFER_RESTORE,
             StartPolicy.RESTORE_ONLY, StartPolicy.COLD_START)
        )  # fmt: skip
        on_crash = OnCrash.RESET if self.chance.random() < 0.15 else OnCrash.KEEP
        checkpoint = self.chance.choice(sorted(self.cluster.wanted))
        demo = self.people.create(checkpoint, policy, on_crash)
        return f"{demo.metadata.name} of {checkpoint} is created: {policy}, {on_crash}"

    def demo_is_deleted(self) -> str | None:
        demo = self._any_demo()
        if demo is None:
            return None
        self.people.delete(demo)
        return f"{demo.metadata.name} is deleted"

    def demo_is_reset(self) -> str | None:
        demo = self._any_demo()
        if demo is None or self.chance.random() < 0.5:
            return None
        self.people.reset(demo)
        return f"somebody asks for a fresh {demo.metadata.name}"

    def checkpoint_changes(self) -> str:
        checkpoint = self.chance.choice(CHECKPOINTS)
        self.people.publish(checkpoint, self._pool())
        return f"another revision of {checkpoint}"

    def pool_changes(self) -> str:
        checkpoint = self.chance.choice(sorted(self.cluster.wanted))
        self.cluster.wanted[checkpoint].pool = pool = self._pool()
        return f"{checkpoint} gets a pool of {pool.warm}{', paused' * pool.pause}"

    def _pool(self) -> Pool:
        return Pool(warm=self.chance.choice((0, 1, 1, 2)), pause=self.chance.random() < 0.2)

    def object_is_touched(self) -> str | None:
        objects = [*self.cluster.all_of(DemoInstance), *self.cluster.all_of(NodeCheckpoint)]
        if not objects:
            return None
        one = self.chance.choice(objects)
        label = {"metadata": {"labels": {"touched": str(self.chance.random())}}}
        self.cluster.change(one, label)
        return f"{one.key} gets a label"

    def node_checkpoint_is_deleted(self) -> str | None:
        found = [one for one in self.cluster.all_of(NodeCheckpoint) if not one.is_deleting]
        if not found or self.chance.random() < 0.5:
            return None
        one = self.chance.choice(found)
        self.cluster.remove(one)
        return f"{one.key} is deleted"

    # -- containers --------------------------------------------------------------------------------

    def _any_demo(self) -> DemoInstance | None:
        demos = self.people.demos()
        return self.chance.choice(demos) if demos else None

    def _any_sandbox(self) -> Running | None:
        mains = [one for name, one in self.podman._containers.items() if parse(name)]
        return self.chance.choice(mains) if mains else None

    def _end(self, main: Running, members: list[Running]) -> str:
        self._has_crashed(main.state.name)
        for one in members:
            self.podman.end_container(one.state.name, self.chance.choice((0, 1, 137)))
        return f"{', '.join(one.state.name for one in members)} ends"

    def container_ends(self) -> str | None:
        main = self._any_sandbox()
        if main is None:
            return None
        members = [m for m in self.podman.members(self.podman.pod_of(main)) if m.state.alive]
        return self._end(main, [self.chance.choice(members)]) if members else None

    def all_containers_of_one_end(self) -> str | None:
        main = self._any_sandbox()
        if main is None:
            return None
        return self._end(main, self.podman.members(self.podman.pod_of(main)))

    def application_is_ill(self) -> str | None:
        main = self._any_sandbox()
        if main is None:
            return None
        status = self.chance.choice((503, HANGS, 404))
        self.podman.statuses[main.state.id] = status
        return f"{main.state.name} answers {status}"

    def applications_are_well(self) -> str:
        self.podman.statuses.clear()
        return "all applications are well"

    def container_crashes_on(self) -> str | None:
        main = self._any_sandbox()
        if main is None:
            return None
        one = self.chance.choice(self.podman.members(self.podman.pod_of(main)))
        self.podman.crashing.add(one.state.id)
        self._end(main, [one])
        return f"{one.state.name} is in a crash loop"

    def containers_are_stable(self) -> str:
        self.podman.crashing.clear()
        return "no container is in a crash loop"

    def container_is_removed(self) -> str | None:
        main = self._any_sandbox()
        if main is None or self.chance.random() < 0.7:
            return None
        one = self.chance.choice(self.podman.members(self.podman.pod_of(main)))
        self._is_removed([one])
        self.podman._drop(one.state.name)
        return f"somebody removes {one.state.name}"

    def _is_removed(self, gone: list[Running]) -> None:
        pods = {self.podman.pod_of(one) for one in gone}
        for demo in self.people.demos():
            main = self.people.main_of(demo)
            if main is None or main in gone or self.podman.pod_of(main) in pods:
                self.people.gives_up(demo)

    # -- Podman ------------------------------------------------------------------------------------

    def _trouble(self, **how: object) -> str:
        calls = self.chance.sample(CALLS, self.chance.choice((1, 1, 2, 4)))
        share = self.chance.choice((0.3, 1.0))
        trouble = Trouble(calls, share=share, **how)  # type: ignore[arg-type]
        self.podman.troubles.append(trouble)
        return f"{', '.join(calls)} ({share})"

    def call_fails(self) -> str:
        error = self.chance.choice(ERRORS)
        return f"Podman fails: {self._trouble(error=error)}: {error()!r:.40}"

    def call_is_slow(self) -> str:
        seconds = self.chance.choice((0.2, 2.0, 15.0))
        return f"Podman takes {seconds} s longer: {self._trouble(seconds=seconds)}"

    def call_hangs(self) -> str:
        return f"Podman hangs: {self._trouble(hangs=True)}"

    def call_breaks_off(self) -> str:
        return f"Podman breaks off when it is done: {self._trouble(breaks_off=True)}"

    def criu_refuses(self) -> str:
        calls = ("checkpoint", "restore prepared")
        trouble = Trouble(calls, lambda: CRIUError("CRIU refused", "Error: a log"), share=0.7)
        self.podman.troubles.append(trouble)
        return "CRIU refuses"

    def podman_is_away(self) -> str:
        self.podman.is_killed()
        away = Trouble(error=lambda: PodmanUnreachableError("Podman does not answer"))
        self.podman.troubles.insert(0, away)
        return "Podman is away"

    def podman_is_well(self) -> str:
        self.podman.troubles.clear()
        self.podman.is_blind = self.podman.registry_is_away = False
        return "Podman is well"

    def podman_is_killed(self) -> str:
        self.podman.is_killed()
        return "Podman is killed and started again"

    def podman_leaves_conmon(self) -> str | None:
        """Have Podman killed in the middle of starting a pod again."""
        down = [pod for pod in self.podman.pods.values() if not pod.infra_running]
        if not down:
            return None
        pod = self.chance.choice(down)
        ports = frozenset(port.host_port for port in self.podman._made_pods[pod.name].ports)
        if any(self.podman.network.holder(port) for port in ports):
            return None
        self.podman.is_killed()
        self.podman.network.foreign |= ports
        self.machine.leftovers.append(Leftover(0, pod.infra_id, f"{pod.name}-infra", ports))
        return f"Podman is killed while it starts {pod.name}; its conmon is left"

    def podman_is_blind(self) -> str:
        self.podman.is_blind = True
        return "Podman lists nothing"

    def storage_is_exchanged(self) -> str | None:
        if self.podman.has_lost_storage() or self.chance.random() < 0.5:
            return None
        self.podman.is_killed()
        self.podman.loses_storage()
        return "Podman's storage is not mounted"

    def storage_is_back(self) -> str | None:
        if not self.podman.has_lost_storage():
            return None
        self.podman.is_killed()
        # What was made meanwhile goes with the storage that it was made in.
        for demo in self.people.demos():
            if str(demo_name(demo)) in self.podman.containers():
                self.people.lose_with_storage(demo)
        self.podman.finds_storage()
        return "Podman's storage is mounted again"

    def prune(self) -> str | None:
        if self.podman.has_lost_storage() or self.chance.random() < 0.5:
            return None
        gone = self.podman.prune()
        self._is_removed(gone)
        return f"podman system prune -a: {', '.join(one.state.name for one in gone)}"

    def registry_is_away(self) -> str:
        self.podman.registry_is_away = True
        return "the registry is away"

    def hooks_fail(self) -> str:
        self.podman.hooks_fail = True
        return "hooks fail"

    def hooks_work(self) -> str:
        self.podman.hooks_fail = False
        return "hooks work"

    # -- the end of all that -----------------------------------------------------------------------

    def all_is_well(self) -> None:
        """End all that is broken."""
        if self.podman.has_lost_storage():
            self.storage_is_back()
        for end in (
            self.podman_is_well, self.applications_are_well, self.containers_are_stable,
            self.hooks_work, self.api_is_well, self.ports_are_free, self.disk_has_room,
            self.memory_is_there,
        ):  # fmt: skip
            end()
        self.machine.criu = True
        self._is_examined()

    def person_looks(self) -> list[str]:
        """Have a person do what the statuses ask people to do; return what that was."""
        done = []
        agent = self.cluster._objects.get((NodeAgent.plural, Key("", NODE)))
        if agent is not None:
            read = NodeAgent.model_validate(agent)
            changed = find_condition(read.status.conditions, STORAGE_CHANGED)
            asked = read.metadata.annotations.get(CONFIRM_STORAGE_ANNOTATION)
            if changed is not None and changed.status == "True" and asked != read.status.storage.id:
                value = {CONFIRM_STORAGE_ANNOTATION: read.status.storage.id}
                self.cluster.change(read, {"metadata": {"annotations": value}})
                done.append(f"a person confirms the storage: {changed.message}")
        for demo in self.people.demos():
            if not demo.wants_reset and self.people.needs_reset(demo):
                self.people.reset(demo)
                done.append(f"a person resets {demo.metadata.name}: {demo.status.phase}")
        return done
