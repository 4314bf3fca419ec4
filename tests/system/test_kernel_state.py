"""Everything that a kernel keeps for processes is there after a restore, in each demo."""

from __future__ import annotations

from pathlib import Path

from tests.system import kernel_state
from tests.system.notes import notes_spec, visit
from tests.system.objects import Objects

PROGRAM = Path(kernel_state.__file__).read_text()


def test_whatever_processes_hold_survives(objects: Objects, notes_image: str) -> None:
    objects.config_map("kernel-state", program=PROGRAM)
    spec = notes_spec(notes_image, criu={"tcp": "Established"})
    spec["template"]["volumes"] = [{"name": "program", "configMap": {"name": "kernel-state"}}]
    spec["template"]["containers"][0] |= {
        "command": ["catatonit", "--", "python3", "/program/program"],
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
    }
    spec["readiness"] = {"httpGet": {"path": "/"}, "timeout": "30s"}
    objects.checkpoint("kernel-state", spec)
    objects.ready_checkpoint("kernel-state")
    for name in ("first", "second"):
        objects.demo(name, "kernel-state", start="RestoreOnly")
        client = visit(objects.ready_demo(name))
        for time in ("once", "twice"):
            found = client.get("/check", timeout=60).json()
            assert found == dict.fromkeys(kernel_state.HOLD, "kept"), time
