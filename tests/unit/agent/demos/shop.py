"""A shop of two containers with a volume, and the demos that people have of it on node-a."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.unit.builders import (
    PORT,
    make_checkpoint_of,
    make_container,
    make_definition,
    make_demo,
    make_revision,
    pinned,
)
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.sandbox import FakeFirewall, FakeHosts
from tryitnow.agent.demos.crashes import Crashes
from tryitnow.agent.demos.reconcile import reconcile_demo
from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.demos.verdicts import THRESHOLD, Verdicts
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.names import Role, demo_name
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.definition import Definition, Readiness
from tryitnow.api.demoinstance import RESET_ANNOTATION, DemoInstance, DemoInstancePhase
from tryitnow.api.hooks import Hook, Hooks
from tryitnow.api.meta import Condition, ConditionStatus, Resource, find_condition
from tryitnow.api.template import (
    EmptyDir,
    Exec,
    InitContainer,
    RestartPolicy,
    StartupProbe,
    Template,
    Volume,
    VolumeMount,
)

RENAME, DROP, DB_READY = ("rename-shop",), ("drop-database",), ("db-ready",)

HOOKS = Hooks(
    after_restore=(Hook(exec=Exec(command=RENAME)),),
    before_delete=(Hook(exec=Exec(command=DROP)),),
)

LETTER = b"what a person wrote"


def shop_template() -> Template:
    """Return a database that must answer before the shop begins, and the shop."""
    mount = VolumeMount(name="data", mount_path="/data")
    database = InitContainer(
        name="db",
        image="registry.example/db:1",
        restart_policy=RestartPolicy.ALWAYS,
        startup_probe=StartupProbe(exec=Exec(command=DB_READY)),
        volume_mounts=(mount,),
    )
    return Template(
        init_containers=(database,),
        containers=(make_container(ports=(PORT,), volume_mounts=(mount,)),),
        volumes=(Volume(name="data", empty_dir=EmptyDir()),),
    )


def shop_definition(timeout: timedelta = timedelta(seconds=10)) -> Definition:
    """Describe the shop, with hooks; ``timeout`` is the one of its readiness."""
    readiness = Readiness(timeout=timeout, restore_timeout=timeout)
    whole = make_definition(template=shop_template(), readiness=readiness)
    return whole.model_copy(update={"hooks": HOOKS})


class Clock:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, duration: timedelta | float) -> None:
        """Let time pass."""
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
        self.now += seconds


class Shop:
    """The demos of one node, as its agent sees them."""

    def __init__(
        self,
        node: Node,
        kubernetes: FakeKubernetes,
        podman: FakePodman,
        firewall: FakeFirewall,
        hosts: FakeHosts,
    ) -> None:
        self.kubernetes = kubernetes
        self.podman = podman
        self.firewall = firewall
        self.hosts = hosts
        self.clock = Clock()
        self.kernel_log: list[str] = []
        self.revision = self.defined(shop_definition())
        self.node = node
        self.tools = self._tools(node)
        kubernetes.on_write = self._written

    def _tools(self, node: Node) -> DemoTools:
        return replace(
            node.demo_tools,
            crashes=Crashes(self.clock),
            verdicts=Verdicts(),
            kernel_log=lambda: self.kernel_log,
        )

    def reboot(self) -> None:
        """Have the node started again, with another agent."""
        self.podman.reboot()
        self.tools = replace(self._tools(self.node), boot_id="of the next boot")

    def _written(self, resource: Resource) -> None:
        if isinstance(resource, DemoInstance) and resource.status.node_name == self.node.name:
            self.node.demos.update(resource)

    def defined(self, definition: Definition, checkpoint: str = "shop") -> CheckpointRevision:
        """Have a revision in the cluster that was built."""
        images = {member.name: pinned(member.image) for member in definition.template.members}
        self.revision = self.kubernetes.put(
            make_revision(checkpoint, definition=definition, images=images)
        )
        self.kubernetes.put(make_checkpoint_of(self.revision))
        return self.revision

    async def follow(self, node: Node) -> None:
        """Go on with the agent that follows the one that was killed."""
        self.node = node
        self.tools = self._tools(node)
        node.demos.replace(await self.kubernetes.list_all(DemoInstance))
        mains = await node.sandboxes.list_all()
        node.ports.adopt(state for name, state in mains if name.role is not Role.TRASH)

    def ordered(self, name: str = "annas-demo", **changes: Any) -> DemoInstance:
        """Have a demo that was bound to this node and is to be started."""
        defaults: dict[str, Any] = {
            "node": "node-a",
            "revision": self.revision.spec.identity,
            "phase": DemoInstancePhase.STARTING,
        }
        return self.node.demos.update(
            self.kubernetes.put(make_demo(name, **{**defaults, **changes}))
        )

    async def ready(self, name: str = "annas-demo", **changes: Any) -> DemoInstance:
        """Have a demo that is ready, and in which a person wrote something."""
        demo = self.ordered(name, **changes)
        await self.resync(demo)
        demo = self.seen(demo)
        assert demo.was_ready, demo.status
        self.letter(demo).write_bytes(LETTER)
        self.podman.log.clear()
        self.podman.executed.clear()
        self.firewall.states.clear()
        self.kubernetes.events.clear()
        return demo

    async def resync(self, demo: DemoInstance) -> timedelta | None:
        """Have the agent look at a demo."""
        return await reconcile_demo(self.tools, demo.key)

    def seen(self, demo: DemoInstance) -> DemoInstance:
        """Return what the cluster says of a demo."""
        return self.kubernetes.find(demo)

    def condition(self, demo: DemoInstance, type_: str = "Ready") -> Condition:
        """Return a condition of a demo, as the cluster has it."""
        found = find_condition(self.seen(demo).status.conditions, type_)
        assert found is not None
        return found

    def ready_of(self, demo: DemoInstance) -> tuple[ConditionStatus, str]:
        """Return status and reason of Ready."""
        ready = self.condition(demo)
        return ready.status, ready.reason

    def main(self, demo: DemoInstance) -> str:
        """Return the name of a demo's main container."""
        return str(demo_name(demo))

    def pod(self, demo: DemoInstance) -> str:
        """Return the name of the pod of a demo."""
        [found] = [
            pod.name
            for pod in self.podman.pods.values()
            if self.podman.state(self.main(demo)).pod == pod.id
        ]
        return found

    def database(self, demo: DemoInstance) -> str:
        """Return the name of the container with a demo's database."""
        return f"{self.pod(demo)}_db"

    def letter(self, demo: DemoInstance) -> Path:
        """Return the file in which a person wrote something."""
        tag = self.pod(demo).removeprefix("tryitnow_pod_")
        return self.node.volumes.path(tag, "data") / "letter.txt"

    def is_kept(self, demo: DemoInstance) -> bool:
        """Whether what a person wrote is there, in the demo that has the name."""
        letter = self.letter(demo)
        return letter.exists() and letter.read_bytes() == LETTER

    def crash(self, demo: DemoInstance, exit_code: int = 137) -> None:
        """End the main container of a demo."""
        self.podman.stop(self.main(demo), exit_code)

    def ask_for_reset(self, demo: DemoInstance, value: str = "1") -> DemoInstance:
        """Have a person ask for a fresh demo."""
        newest = self.seen(demo)
        annotations = {**newest.metadata.annotations, RESET_ANNOTATION: value}
        metadata = newest.metadata.model_copy(update={"annotations": annotations})
        changed = newest.model_copy(update={"metadata": metadata})
        return self.node.demos.update(self.kubernetes.put(changed))

    async def delete(self, demo: DemoInstance) -> None:
        """Have a person delete a demo."""
        await self.kubernetes.delete(self.seen(demo))
        self.node.demos.update(self.seen(demo))

    def commands(self) -> list[tuple[str, ...]]:
        """Return what was run in containers, but for startup probes."""
        return [command for _, command, _ in self.podman.executed if command != DB_READY]

    def fails_to_answer(self, demo: DemoInstance, answer: str = "no answer") -> None:
        """Have the probes find that a demo does not answer."""
        for _ in range(THRESHOLD):
            self.tools.verdicts.note(demo.metadata.uid, answer)

    def answers(self, demo: DemoInstance) -> None:
        """Have a probe find that a demo answers."""
        self.tools.verdicts.note(demo.metadata.uid, None)
