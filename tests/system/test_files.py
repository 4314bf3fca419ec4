"""A demo has the files of the checkpoint, in whatever way the application changed its image's."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from tests.system.nodes import NODES, LabNodes
from tests.system.notes import notes_spec, on_node, visit
from tests.system.objects import Objects
from tryitnow.api.demoinstance import DemoInstance

NODE = NODES[0]


def change() -> None:
    """Run in the container before the checkpoint: each way to change files of an image."""
    import os
    import shutil

    def write(path: str, text: str) -> None:
        with open(path, "w") as file:  # noqa: PTH123
            file.write(text)

    # No node has a file of that name: whoever asks the node whether it is one, loses it.
    with open("/usr/local/bin/notes", "a") as program:  # noqa: PTH123
        program.write("# changed\n")
    os.chmod("/usr/local/bin", 0o750)  # noqa: PTH101
    os.chown("/usr/local/bin", 33, 34)
    # A link: what it leads to must stay.
    os.unlink("/etc/os-release")  # noqa: PTH108
    os.unlink("/etc/issue")  # noqa: PTH108
    shutil.rmtree("/usr/share/python3")
    os.makedirs("/usr/share/python3/new/empty")  # noqa: PTH103
    os.chmod("/usr/share/python3", 0o2770)  # noqa: PTH101
    write("/usr/share/python3/only", "this")
    shutil.rmtree("/usr/share/debconf", ignore_errors=True)
    shutil.rmtree("/media")
    os.symlink("/tmp", "/media")  # noqa: PTH211
    shutil.rmtree("/usr/share/base-files")
    write("/usr/share/base-files", "a file, where there was a directory")
    os.unlink("/etc/debian_version")  # noqa: PTH108
    os.mkdir("/etc/debian_version")  # noqa: PTH102
    write("/etc/debian_version/inside", "a directory, where there was a file")
    os.mkdir("/opt/new", 0o711)  # noqa: PTH102
    write("/opt/new/program", "#!/bin/sh\n")
    os.chmod("/opt/new/program", 0o4755)  # noqa: PTH101
    os.link("/opt/new/program", "/opt/new/same")


def manifest() -> str:
    """Run in the container: what there is, with kind, mode, owner and content."""
    import hashlib
    import json
    import os

    found = {}
    for root in ("/etc", "/media", "/opt", "/usr/local", "/usr/share"):
        below = [os.path.join(d, n) for d, ds, fs in os.walk(root) for n in (*ds, *fs)]  # noqa: PTH118
        for path in (root, *below, "/usr/lib/os-release"):
            if path in {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}:
                continue  # the container's own, by Podman
            about = os.lstat(path)
            told = [oct(about.st_mode), about.st_uid, about.st_gid]
            if os.path.islink(path):  # noqa: PTH114
                told.append(os.readlink(path))  # noqa: PTH115
            elif os.path.isfile(path):  # noqa: PTH113
                with open(path, "rb") as file:  # noqa: PTH123
                    told += [about.st_nlink, hashlib.sha256(file.read()).hexdigest()[:16]]
            found[path] = told
    return json.dumps(found)


SCRIPT = f"{inspect.getsource(manifest)}\nprint(manifest())"
CHANGES = (
    f"{inspect.getsource(change)}\nchange()\n{inspect.getsource(manifest)}\n"
    "open('/manifest', 'w').write(manifest())"
)


@pytest.mark.parametrize("with_volume", [False, True], ids=["export", "bundle"])
def test_a_demo_has_the_files_of_the_checkpoint_in_whatever_way_they_were_changed(
    objects: Objects, notes_image: str, nodes: LabNodes, *, with_volume: bool
) -> None:
    hook = {"exec": {"command": ["python3", "-c", CHANGES]}, "timeout": "30s"}
    spec = notes_spec(notes_image, distribution=on_node(NODE), hooks={"beforeCheckpoint": [hook]})
    if with_volume:
        spec["template"]["volumes"] = [{"name": "scratch", "emptyDir": {}}]
        spec["template"]["containers"][0]["volumeMounts"] = [
            {"name": "scratch", "mountPath": "/scratch"}
        ]
    objects.checkpoint("notes", spec)
    objects.ready_checkpoint("notes")
    objects.demo("restored", "notes", start="RestoreOnly")
    assert_as_checkpointed(nodes, objects.ready_demo("restored"))


def test_an_application_that_watches_its_files_hears_of_changes_after_the_restore(
    objects: Objects, notes_image: str
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image, env={"WATCH": "1"}))
    objects.ready_checkpoint("notes")
    objects.demo("watching", "notes", start="RestoreOnly")
    client = visit(objects.ready_demo("watching"))
    assert client.get("/heard").json() is False
    assert client.post("/files/settings", "new").status_code == 201
    assert client.get("/heard").json() is True


def assert_as_checkpointed(nodes: LabNodes, demo: DemoInstance) -> None:
    container = nodes.main_container(demo)
    then = read(nodes.podman(NODE, "exec", container, "cat", "/manifest"))
    now = read(nodes.podman(NODE, "exec", container, "python3", "-c", SCRIPT))
    assert then["/usr/local/bin"] == ["0o40750", 33, 34], "the changes were not made"
    differing = {path for path in then.keys() | now.keys() if then.get(path) != now.get(path)}
    assert {path: (then.get(path), now.get(path)) for path in differing} == {}


def read(text: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = json.loads(text)
    return found
