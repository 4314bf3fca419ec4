"""What the processes of a demo may do to the kernel, however the demo was started."""

from __future__ import annotations

import pytest

from tests.system.nodes import LabNodes
from tests.system.notes import notes_spec
from tests.system.objects import Objects
from tryitnow.api.demoinstance import StartPolicy

ALLOWED = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 10, 18))
"""Of linux/capability.h: CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7,
NET_BIND_SERVICE 10, SYS_CHROOT 18."""


def facts_of(status: str) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (s.partition(":") for s in status.splitlines())}


@pytest.mark.parametrize("start", [StartPolicy.RESTORE_ONLY, StartPolicy.COLD_START])
def test_a_demo_has_few_capabilities_and_gains_no_privileges(
    start: StartPolicy, module_objects: Objects, nodes: LabNodes, notes_image: str
) -> None:
    if start is StartPolicy.RESTORE_ONLY:
        module_objects.checkpoint("notes", notes_spec(notes_image))
        module_objects.ready_checkpoint("notes")
    name = f"held-{start.lower()}"
    module_objects.demo(name, "notes", start=start)
    demo = module_objects.ready_demo(name)
    node = demo.status.node_name
    assert node
    pid = nodes.inspect(node, nodes.main_container(demo))["State"]["Pid"]
    facts = facts_of(nodes.shell(node, f"cat /proc/{pid}/status"))
    assert facts["NoNewPrivs"] == "1"
    assert int(facts["CapBnd"], 16) & ~ALLOWED == 0
    assert int(facts["CapInh"], 16) == int(facts["CapAmb"], 16) == 0
