"""The order in which the kernel kills processes when a node's memory is used up."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

OOM_SCORE_ADJ = 1000
"""What the kubelet gives Pods of the class BestEffort: nothing is reserved for demos, so they go
first. Else they had that of their Podman, in a critical Pod (-997)."""

_PROC = Path("/proc")


def let_go_first(pid: int, proc: Path = _PROC) -> None:
    """Have a process of a container, and what it has started, go as early as the container itself.

    Podman gives a container's score to its first process only; a command that is run in it later
    has that of conmon. In our image that is the same (``image/conmon``), where Podman is the node's
    own it is not. A PID that is none of a container's here is left alone.
    """
    try:
        if _pid_namespace(proc, str(pid)) == _pid_namespace(proc, "self"):
            return
        for process in _with_descendants(proc, pid):
            (proc / str(process) / "oom_score_adj").write_text(str(OOM_SCORE_ADJ))
    except (FileNotFoundError, ProcessLookupError):
        return  # it has ended
    except OSError as error:
        logger.warning(
            "a command in a container keeps the memory score of Podman, so that others may be "
            "killed before it: %s; the agent's Pod must be privileged and see the node's processes",
            error,
        )


def _pid_namespace(proc: Path, process: str) -> Path:
    return (proc / process / "ns/pid").readlink()


def _with_descendants(proc: Path, pid: int) -> Iterator[int]:
    # Each before its children are looked for: what it starts from then on inherits its score.
    yield pid
    for children in (proc / str(pid) / "task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, children.read_text().split()):
                yield from _with_descendants(proc, child)
