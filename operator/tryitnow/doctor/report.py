"""The report of the checks, for people, for programs, and for a condition."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

from tryitnow.api.nodeagent import Check, Verdict
from tryitnow.doctor.examination import Examination
from tryitnow.doctor.names import ESSENTIAL, NODE_LIMITS, OF_PODMAN, CheckName
from tryitnow.doctor.verdicts import worst

KEPT_ANSWERS = 5
"""Examinations in a row that may get no answer before the known facts no longer count."""

_NOT_EXAMINED = "the node has not been examined yet"

_WIDTH = 80
_MARKS = {Verdict.PASS: "ok", Verdict.WARN: "warn", Verdict.FAIL: "FAIL"}

# Stands for a space that must not become a line's end.
_GLUE = "\N{NO-BREAK SPACE}"


def merge(previous: Examination, current: Examination) -> Examination:
    """Return what is known after an examination: a slow answer is no other answer.

    Where the current one got no answer in time, the previous verdict stays for KEPT_ANSWERS
    examinations. Podman's stays for as long as its socket accepts connections; whether it hangs is
    asked elsewhere, every few seconds.
    """
    attempts = {name: previous.unanswered.get(name, 0) + 1 for name in current.unanswered}
    known = {check.name: check for check in previous.checks if check.name not in previous.busy}
    kept = {
        name
        for name, count in attempts.items()
        if name in known and (count <= KEPT_ANSWERS or name == CheckName.PODMAN)
    }
    podman_kept = CheckName.PODMAN in kept
    checks = {check.name: check for check in current.checks}
    checks |= {name: known[name] for name in kept}
    if podman_kept:
        reported = OF_PODMAN & known.keys() - checks.keys()
        checks |= {name: known[name] for name in reported}
    order = list(CheckName)
    return replace(
        current,
        checks=tuple(sorted(checks.values(), key=lambda check: order.index(CheckName(check.name)))),
        versions=current.versions.model_copy(update=_kept_versions(previous, kept)),
        selinux=previous.selinux if podman_kept else current.selinux,
        unanswered=attempts,
        busy=current.busy - kept,
    )


def _kept_versions(previous: Examination, kept: Set[str]) -> dict[str, str]:
    versions = {}
    if CheckName.CRIU_VERSION in kept:
        versions["criu"] = previous.versions.criu
    if CheckName.PODMAN in kept:
        versions |= {"podman": previous.versions.podman, "runtime": previous.versions.runtime}
    return versions


def summary(checks: Sequence[Check]) -> Verdict:
    """Return the worst verdict; Fail when nothing was checked."""
    return worst(checks).verdict if checks else Verdict.FAIL


def can_run(checks: Sequence[Check]) -> tuple[bool, str]:
    """Return whether containers can be started at all, and why (not), for a condition."""
    if not checks:
        return False, _NOT_EXAMINED
    failed = [check for check in _failed(checks) if check.name in ESSENTIAL]
    if failed:
        return False, _reasons(failed)
    return True, "; ".join(f"{c.name} {c.found}" for c in checks if c.name == CheckName.PODMAN)


def criu_available(checks: Sequence[Check]) -> tuple[bool, str]:
    """Return whether the node can checkpoint and restore, and why (not), for a condition."""
    if not checks:
        return False, _NOT_EXAMINED
    failed = [check for check in _failed(checks) if check.name not in NODE_LIMITS]
    switched_off = [check for check in failed if check.name == CheckName.CRIU_ENABLED]
    if failed:
        # CRIU was switched off on purpose: the other problems do not matter then.
        return False, _reasons(switched_off or failed)
    reported = (CheckName.CRIU_VERSION, CheckName.RUNTIME)
    return True, "; ".join(f"{c.name} {c.found}" for c in checks if c.name in reported)


def can_take(checks: Sequence[Check]) -> tuple[bool, str]:
    """Return whether the node has room for another demo, and why not."""
    if not checks:
        return False, _NOT_EXAMINED
    failed = [check for check in _failed(checks) if check.name in NODE_LIMITS]
    return not failed, _reasons(failed)


def exit_status(checks: Sequence[Check]) -> int:
    """Return 0 when all works, 1 when demos can only start cold, 2 when none can start."""
    if not (can_run(checks)[0] and can_take(checks)[0]):
        return 2
    return 0 if criu_available(checks)[0] else 1


def render_text(checks: Sequence[Check]) -> str:
    """Return the report for a terminal; commands to copy are never broken over two lines."""
    width = max((len(check.name) for check in checks), default=0)
    lines = [line for check in checks for line in _lines(check, width)]
    return "\n".join([*lines, "", _conclusion(checks)])


def render_json(checks: Sequence[Check], node_name: str) -> str:
    """Return the report for programs; the keys never change, and are all always there."""
    runs, runs_message = can_run(checks)
    takes, takes_message = can_take(checks)
    restores, restores_message = criu_available(checks)
    report = {
        "node": node_name,
        "verdict": summary(checks).value,
        "exitStatus": exit_status(checks),
        "canRun": {"status": runs, "message": runs_message},
        "canTake": {"status": takes, "message": takes_message},
        "criuAvailable": {"status": restores, "message": restores_message},
        "checks": [
            {
                "name": check.name,
                "verdict": check.verdict.value,
                "found": check.found,
                "remedy": check.remedy,
            }
            for check in checks
        ],
    }
    return json.dumps(report, indent=2, ensure_ascii=False)


def _failed(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if check.verdict is Verdict.FAIL]


def _reasons(failed: Sequence[Check]) -> str:
    return "; ".join(
        f"{check.name}: {check.found}" + (f" (to fix it: {check.remedy})" if check.remedy else "")
        for check in failed
    )


def _lines(check: Check, width: int) -> Iterator[str]:
    head = f"{_MARKS[check.verdict]:<4}  {check.name:<{width}}  "
    yield _wrap(check.found, head, " " * len(head))
    if check.remedy:
        yield _wrap(check.remedy, " " * len(head) + "→ ", " " * (len(head) + 2))


def _wrap(text: str, first: str, following: str) -> str:
    wrapped = textwrap.fill(
        _glue_commands(text),
        _WIDTH,
        initial_indent=first,
        subsequent_indent=following,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapped.replace(_GLUE, " ")


def _glue_commands(text: str) -> str:
    # Commands stand in backticks: every second part.
    parts = text.split("`")
    parts[1::2] = [part.replace(" ", _GLUE) for part in parts[1::2]]
    return "`".join(parts)


def _conclusion(checks: Sequence[Check]) -> str:
    warned = sum(check.verdict is Verdict.WARN for check in checks)
    warnings = f" Warnings: {warned}." if warned else ""
    ends = (
        "This node can restore demos.",
        "Demos start cold on this node: it cannot restore them.",
        "No demo can start on this node.",
    )
    return ends[exit_status(checks)] + warnings
