"""Prints the lab's current step, its progress and its duration: one line per step."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

# Where the lines go. `python -m lab image` prints its result on stdout, so these go to stderr.
stream: TextIO = sys.stdout

_FIRST_SIGN_OF_LIFE_S = 5.0


class Step:
    """One running step; `at` is the latest thing it said about how far it is."""

    def __init__(self, what: str, usually: str) -> None:
        self.what = what
        self.usually = usually
        self.detail = ""
        self.started = time.monotonic()

    def at(self, detail: str) -> None:
        """Remember the newest line of output, to be shown while waiting."""
        self.detail = detail.strip()[:60]

    def line(self, end: str = "") -> str:
        """The step in one line, with the elapsed time."""
        waiting = f"{self.what} … {time.monotonic() - self.started:.0f} s"
        if self.usually:
            waiting += f" (usually {self.usually})"
        return f"{waiting}{end}{'  ' + self.detail if self.detail else ''}"


@contextmanager
def step(what: str, *, usually: str = "") -> Iterator[Step]:
    """Announce a step, show that it lives while it runs, and say how long it took."""
    current = Step(what, usually)
    finished = threading.Event()
    ticker = threading.Thread(target=_tick, args=(current, finished), daemon=True)
    ticker.start()
    outcome = "failed after"
    try:
        yield current
        outcome = "done in"
    finally:
        finished.set()
        ticker.join()
        took = time.monotonic() - current.started
        _write(f"{what}: {outcome} {took:.1f} s", last=True)


def say(text: str) -> None:
    """One line that is not a step."""
    _write(text, last=True)


def _tick(current: Step, finished: threading.Event) -> None:
    """On a terminal rewrite the line each second; in a log write ever fewer lines."""
    if stream.isatty():
        while not finished.wait(1.0):
            _write(current.line(), last=False)
        return
    pause = _FIRST_SIGN_OF_LIFE_S
    while not finished.wait(pause):
        _write(current.line(), last=True)
        pause = min(pause * 2, 60.0)


def _write(text: str, *, last: bool) -> None:
    clear = "\r\x1b[K" if stream.isatty() else ""
    stream.write(clear + text + ("\n" if last else ""))
    stream.flush()
