"""Records the main job in a terminal, for the README.

``python -m lab.recording FILE`` runs the commands on a lab of its own and writes what stood in the
terminal as an SVG in which each line comes when it came. Nothing in it is written by hand.
"""

from __future__ import annotations

import errno
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lab import LabError, images, terminal
from lab.cluster import CHECKOUT, Cluster

LAB = "recording"

COMMANDS = (
    "kubectl apply -f manifests/samples/wordpress.yaml",
    "kubectl wait --for=condition=Ready checkpoint/wordpress --timeout=5m",
    "url=$(tryitnow demo wordpress --name annas-demo --ttl 1h)",
    'curl --silent "$url" | grep "<title>"',
    "kubectl get demoinstances",
)

COLUMNS = 136

LONGEST_PAUSE_S = 2.0
"""Nobody wants to watch an application start; how long it took, the commands say."""

READ_S = 0.8
"""A pause before each command, as a person would make it."""

_PROMPT = "$ "
_DONE = re.compile(rb"\x1b\]done (\d+)\x07")
"""What the shell says to the recorder after each command; terminals print no such thing."""


@dataclass(frozen=True)
class Line:
    """A line of the terminal, and when it was there, in seconds from the beginning."""

    at: float
    text: str


def record(environment: dict[str, str]) -> Iterator[Line]:
    """Run the commands one after the other in one shell.

    Raises:
        LabError: a command failed.

    """
    script = "\n".join(
        f"printf '%s\\n' {shlex.quote(_PROMPT + command)}\n{command}\nprintf '\\e]done %d\\a' $?"
        for command in COMMANDS
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["bash", "-c", script], stdin=theirs, stdout=theirs, stderr=theirs, cwd=CHECKOUT,
        env={**environment, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"},
    ):  # fmt: skip
        os.close(theirs)
        clock, before = 0.0, time.monotonic()
        for line in _lines(ours):
            now = time.monotonic()
            clock, before = clock + min(now - before, LONGEST_PAUSE_S), now
            clock += READ_S if _PROMPT.encode() in line else 0
            failed = [code for code in _DONE.findall(line) if code != b"0"]
            if failed:
                raise LabError(f"a command failed: {line!r}")
            yield Line(clock, _DONE.sub(b"", line).decode().rstrip())


def _lines(screen: int) -> Iterator[bytes]:
    rest = b""
    while chunk := _read(screen):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _read(screen: int) -> bytes:
    try:
        return os.read(screen, 65536)
    except OSError as error:
        if error.errno != errno.EIO:  # how a terminal says that nobody is there any more
            raise
        return b""


def draw(lines: list[Line]) -> str:
    """Return the recording as an SVG."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    for line in lines:
        style = "bold" if line.text.startswith(_PROMPT) else ""
        console.print(Text.from_ansi(line.text, style=style), no_wrap=True, crop=True)
    picture = console.export_svg(title="a private demo of a shop, restored", unique_id="demo")
    # Who looks at a README asks nobody for fonts.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    appears = "".join(
        f".at-{number}{{animation:appear 0s {line.at:.2f}s both}}\n"
        for number, line in enumerate(lines)
    )
    animation = (
        "@keyframes appear{from{visibility:hidden}}\n"
        f"@media (prefers-reduced-motion:no-preference){{\n{appears}}}\n"
    )
    picture = picture.replace("</style>", f"{animation}</style>", 1)
    return re.sub(
        r'<text class="([^"]*)"([^>]*clip-path="url\(#demo-line-(\d+)\)")',
        r'<text class="\1 at-\3"\2',
        picture,
    )


def main(picture: Path) -> None:
    """Write the picture."""
    cluster = Cluster(LAB)
    cluster.down()
    try:
        cluster.up()
        images.ensure(cluster, "wordpress")
        with tempfile.TemporaryDirectory() as home:
            programs = Path(home) / "bin"
            terminal.install(programs)
            environment = {**terminal.environment(cluster.kubeconfig, programs), "HOME": home}
            lines = list(record(environment))
        picture.write_text(draw(lines))
    finally:
        cluster.down()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
