"""CRIU's own log: Podman's error names the file, the reason stands in its lines.

What stands in an error is partly the application's, such as the path of a command that is missing.
So only what can be a log of Podman's is read: one directory of its storage has that form, and no
link below that is followed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from tryitnow.podman.remedies import remedy_for

_USERDATA = r"(/\S+)/([a-z]+-containers)/([0-9a-f]{64})/userdata"
"""A container's own directory in Podman's storage (containers/storage, ``ContainerDirectory``)."""

_LOG_FILE = re.compile(_USERDATA + r"/(dump|restore)\.log")
_RUNTIME_CALL = re.compile(r"`\S+ (checkpoint|restore) .*?--work-path " + _USERDATA)
"""Podman quotes the OCI runtime's command line where the runtime itself said nothing."""

_PREFIX = re.compile(r"^\(\d+\.\d+\)\s*(?:pie:\s*)?(?:\d+:\s*)?")
"""The time; in lines of a task that is being restored also the PID that it has, and "pie" where
they come from CRIU's code inside of it."""

_AFTER_EFFECT = re.compile(
    r"\b(cgroupd|uns): recv req error"  # helpers of CRIU, when CRIU hangs up
    r"|\b\d+ (exited, status=|killed by signal (9|15):)"  # tasks, when one of them failed
    r"|\bRestorer fail \d+$"
    r"|\b(Restoring|(Pre-)?[Dd]umping) FAILED"
    r"|\bKilling processes because of failure on restore"
    r"|\bParasite exited with "
    r"|\bCan't (init thread in parasite|dump thread)"
    r"|\bCommand \d+ for daemon failed"
    r"|\bDump \w+ \(pid: \d+\) failed with "
)
"""What CRIU says because something went wrong before. It explains nothing, unless it is all there
is."""

FIRST_LINES, LAST_LINES = 5, 3
"""Of CRIU's errors: the cause comes first, what CRIU was doing last. Short enough for a
condition."""

_LOG_BYTES = 64 << 20
"""Of a log; the largest that was seen had 12 MiB (14 processes of 1.9 GB)."""

_LINE_BYTES = 4096


@dataclass(frozen=True)
class CRIULog:
    """The content of CRIU's log.

    Attributes:
        errors: Its errors in reading order, each once, without time and PID, and without those
            that only follow from others; where it said none, its last lines.
        warnings: Its warnings, likewise.

    """

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.errors)

    @property
    def lines(self) -> str:
        """The lines with information."""
        shown = self.errors
        if len(shown) > FIRST_LINES + LAST_LINES:
            shown = (*shown[:FIRST_LINES], "…", *shown[-LAST_LINES:])
        return "\n".join(shown)

    def with_remedy(self) -> str:
        """Return the lines with information, and the remedy if it is known."""
        # A warning stands in each log of such a node: it explains what no error explains.
        remedy = remedy_for(self.errors) or remedy_for(self.warnings)
        return f"{self.lines}\nWhat to do: {remedy}" if remedy else self.lines


def read_log(error_text: str) -> CRIULog:
    """Read the log file that a Podman error names.

    Empty when the text names no log or the file cannot be read.
    """
    if found := _LOG_FILE.search(error_text):
        storage, containers, id_, name = found.groups()
    elif found := _RUNTIME_CALL.search(error_text):
        verb, storage, containers, id_ = found.groups()
        name = "dump" if verb == "checkpoint" else "restore"
    else:
        return CRIULog()
    try:
        # The storage itself may lie behind a link of the administrator's.
        below = PurePosixPath(containers, id_, "userdata", f"{name}.log")
        return _telling(_lines(storage, below))
    except OSError:
        return CRIULog()


def _telling(lines: Iterator[str]) -> CRIULog:
    # As dicts, for their order: each task that is restored says the same.
    errors: dict[str, None] = {}
    warnings: dict[str, None] = {}
    last: deque[str] = deque(maxlen=FIRST_LINES + LAST_LINES)
    for line in lines:
        text = _PREFIX.sub("", line)
        if text.startswith("Error"):
            errors[text] = None
        elif text.startswith("Warn"):
            warnings[text] = None
        last.append(text)
    causes = [text for text in errors if not _AFTER_EFFECT.search(text)]
    return CRIULog(tuple(causes) or tuple(errors) or tuple(last), tuple(warnings))


def _lines(directory: str, below: PurePosixPath) -> Iterator[str]:
    with contextlib.ExitStack() as opened:

        def step(path: str, flags: int, at: int | None = None) -> int:
            number = os.open(path, flags | os.O_RDONLY | os.O_NONBLOCK, dir_fd=at)
            opened.callback(os.close, number)
            return number

        here = step(directory, os.O_DIRECTORY)
        for part in below.parts[:-1]:
            here = step(part, os.O_DIRECTORY | os.O_NOFOLLOW, here)
        log = step(below.name, os.O_NOFOLLOW, here)
        if not stat.S_ISREG(os.fstat(log).st_mode):
            return
        # Line by line: at CRIU's level of detail a log may be larger than the agent.
        with os.fdopen(log, "rb", closefd=False) as file:
            while file.tell() < _LOG_BYTES and (line := file.readline(_LINE_BYTES)):
                yield line.decode(errors="replace").rstrip("\n")
