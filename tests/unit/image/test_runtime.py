"""The OCI runtime of our image: what it starts in containers goes first when memory ends."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

IMAGE = Path(__file__).parents[3] / "image"


def test_what_the_runtime_starts_has_the_score_of_demos(tmp_path: Path) -> None:
    """Also where it is started by a Podman that the kernel is to spare."""
    real = tmp_path / "crun"
    real.write_text('#!/bin/sh\necho "$(cat /proc/self/oom_score_adj)" "$@"\n')
    real.chmod(0o755)
    ours = tmp_path / "ours"
    ours.write_text((IMAGE / "crun").read_text().replace("/usr/bin/crun", str(real)))
    ours.chmod(0o755)
    ran = subprocess.run(
        [ours, "exec", "a b"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
    )
    assert ran.stdout == b"1000 exec a b\n"


def test_podman_calls_our_runtime() -> None:
    engine = tomllib.loads((IMAGE / "containers.conf").read_text())["engine"]
    assert engine["runtimes"][engine["runtime"]] == ["/usr/libexec/try-it-now/crun"]
    containerfile = (IMAGE.parent / "Containerfile").read_text()
    (copied,) = [line for line in containerfile.splitlines() if "image/crun " in line]
    assert copied.endswith(" /usr/libexec/try-it-now/")
