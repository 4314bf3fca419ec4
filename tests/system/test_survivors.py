"""Everything that a kernel keeps for processes is there after a restore, in each demo."""

from __future__ import annotations

from pathlib import Path

from tests.system import survivors
from tests.system.notes import notes_spec, visit
from tests.system.objects import Objects

PROGRAM = Path(survivors.__file__).read_text()


def test_whatever_processes_hold_survives(objects: Objects, notes_image: str) -> None:
    objects.config_map("survivors", program=PROGRAM)
    spec = notes_spec(notes_image, criu={"tcp": "Established"})
    spec["template"]["volumes"] = [{"name": "program", "configMap": {"name": "survivors"}}]
    spec["template"]["containers"][0] |= {
        "command": ["catatonit", "--", "python3", "/program/program"],
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
    }
    spec["readiness"] = {"httpGet": {"path": "/"}, "timeout": "30s"}
    objects.checkpoint("survivors", spec)
    objects.ready_checkpoint("survivors")
    for name in ("first", "second"):
        objects.demo(name, "survivors", start="RestoreOnly")
        visitor = visit(objects.ready_demo(name))
        for time in ("once", "twice"):
            found = visitor.get("/check", timeout=60).json()
            assert found == dict.fromkeys(survivors.HOLD, "kept"), time
