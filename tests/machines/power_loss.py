"""Power losses at random moments, with ten demos running and a build under way.

    python3 -m lab python -- -m tests.machines.power_loss --times 20 --seed 1

makes a lab of its own with one machine. A seed makes the same moments again. After each loss, all
demos must answer with their data, no archive may be torn, and nothing of what was begun may stay.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass, field

from lab import images
from lab.cluster import Cluster
from lab.machines import fleet
from lab.machines.machine import Machine
from lab.progress import log_line, step
from tests.machines import guestbook
from tests.machines.guestbook import FOLDER, Guest
from tests.machines.waiting import READY_WITHIN, ready_checkpoint, ready_demo, wait_long
from tests.system.objects import Objects
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance

DEMOS = 10
LONGEST_S = 150.0
"""Until the power is cut, after a new build was asked for: a whole build takes about as long."""

BACK_WITHIN = 300.0
"""From a Node that is Ready again to the answers of all demos."""

_TORN = """
cd /var/lib/try-it-now/checkpoints
for description in *.md; do
    [ -e "$description" ] || continue
    wanted=$(sed -n 's/^sha256: *//p' "$description" | tr -d "'\\"")
    found=$(sha256sum "${description%.md}.tar.zst" | cut -d' ' -f1)
    [ "$wanted" = "$found" ] || echo "$description"
done
"""


@dataclass
class Sweep:
    """Ten demos on a machine that loses power again and again."""

    cluster: Cluster
    machine: Machine
    objects: Objects
    image: str
    demos: int = DEMOS
    written: dict[str, list[str]] = field(default_factory=dict)
    rounds: int = 0

    def prepare(self) -> None:
        """Have the demos, each with an entry of its own."""
        self.objects.checkpoint(guestbook.NAME, self._spec())
        ready_checkpoint(self.objects, guestbook.NAME)
        for number in range(self.demos):
            self.objects.demo(f"demo-{number}", guestbook.NAME)
        for number in range(self.demos):
            name = f"demo-{number}"
            Guest(ready_demo(self.objects, name)).write(f"I am {name}")
            self.written[name] = [f"I am {name}"]

    def lose_power(self, after_s: float, back_within: float = BACK_WITHIN) -> float:
        """Ask for a build and a demo, write to all, cut the power; returns the seconds to be back.

        Args:
            after_s: When to cut it.
            back_within: Most seconds from a Node that is Ready to the answers of all demos.

        """
        self.rounds += 1
        extra = f"extra-{self.rounds}"
        self.objects.patch(Checkpoint, guestbook.NAME, {"spec": self._spec()})
        self.objects.demo(extra, guestbook.NAME)
        for name, entries in self.written.items():
            entries.append(f"round {self.rounds}")
            self._guest(name).write(entries[-1])
        with step(f"round {self.rounds}: {after_s:.0f} s until the power is cut"):
            time.sleep(after_s)  # the moment is what is tried
        self.machine.power_loss()
        with step("power on", usually="1 min"):
            self.machine.power_on()
            fleet.wait_ready(self.machine, self.cluster.api)
        started = time.monotonic()
        for name in self.written:
            left = back_within - (time.monotonic() - started)
            wait_long(self._guest(name).is_answered, f"{name} to answer", max(left, 0.0))
        took = time.monotonic() - started
        for name, entries in self.written.items():
            assert self._guest(name).entries() == entries, name
        self._settle(extra)
        return took

    def _settle(self, extra: str) -> None:
        """What was under way at the loss comes to its end, and leaves nothing behind."""
        ready_demo(self.objects, extra)
        self.objects.delete(DemoInstance, extra)
        self.objects.wait_gone(DemoInstance, extra, READY_WITHIN)
        ready_checkpoint(self.objects, guestbook.NAME)
        torn = self.machine.shell(_TORN).split()
        assert not torn, f"archives that are not what their descriptions promise: {torn}"
        running = int(self.machine.shell("pgrep --count --exact redis-server || true"))
        assert running == self.demos, f"{running} databases run for {self.demos} demos"

    def _guest(self, name: str) -> Guest:
        demo = self.objects.get(DemoInstance, name)
        assert demo, f"{name} is gone"
        return Guest(demo)

    def _spec(self) -> dict[str, object]:
        """Another revision in each round: a change of the environment is enough."""
        spec = guestbook.spec(self.image)
        (container,) = spec["template"]["containers"]
        container["env"] = [{"name": "ROUND", "value": str(self.rounds)}]
        return spec


def main() -> None:
    """Run the sweep on a lab of its own."""
    parser = argparse.ArgumentParser(prog="tests.machines.power_loss", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="power losses (default: 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: 1)")
    parser.add_argument("--demos", type=int, default=DEMOS, help=f"(default: {DEMOS})")
    parser.add_argument("--lab", default="powerloss", help="its name (default: powerloss)")
    parser.add_argument("--keep", action="store_true", help="leave the lab, and take one that is")
    parser.add_argument(
        "--within", type=float, default=BACK_WITHIN,
        help=f"most seconds until all demos answer (default: {BACK_WITHIN:.0f})",
    )  # fmt: skip
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    cluster = Cluster(arguments.lab, nodes=0, machines=1)
    objects: Objects | None = None
    try:
        cluster.up()
        (machine,) = cluster.machines.values()
        objects = Objects(cluster.kubeconfig, f"powerloss-{arguments.seed}-{int(time.time())}")
        objects.create_namespace()
        image = images.ensure(cluster, FOLDER)
        sweep = Sweep(cluster, machine, objects, image, demos=arguments.demos)
        sweep.prepare()
        for number in range(1, arguments.times + 1):
            after = moments.uniform(0.0, LONGEST_S)
            took = sweep.lose_power(after, arguments.within)
            log_line(f"power loss {number} of {arguments.times}: cut after {after:.0f} s, "
                     f"all demos back {took:.0f} s after the node was")  # fmt: skip
    finally:
        if objects:
            objects.close()
        if not arguments.keep:
            cluster.down()


if __name__ == "__main__":
    main()
