"""``tryitnow doctor``: what this node has, what it lacks, and how to fix it."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from typing import TYPE_CHECKING

import click

from tryitnow.cli.options import output
from tryitnow.cli.output import emit

if TYPE_CHECKING:
    from tryitnow.doctor import Examination
    from tryitnow.settings import AgentSettings

ATTEMPTS = 3
"""Examinations of a node that is busy."""


@click.command
@click.option("--json", "json_too", is_flag=True, help="The same as -o json.")
@output
def doctor(*, json_too: bool, as_json: bool) -> None:
    """Check what this node needs, and how to fix it.

    Exit status: 0 demos can be restored, 1 they can only start cold, 2 none can start.
    """
    from tryitnow.doctor.report import exit_status, render_json, render_text
    from tryitnow.settings import agent_settings

    # A person on a node has none of the agent's environment; only its paths matter here.
    defaults = {"NODE_NAME": platform.node(), "NODE_ADDRESS": "127.0.0.1"}
    settings = agent_settings({**defaults, **os.environ})
    checks = asyncio.run(_with_time(settings)).checks
    wants_json = as_json or json_too
    emit(render_json(checks, settings.node_name) if wants_json else render_text(checks))
    sys.exit(exit_status(checks))


async def _with_time(settings: AgentSettings) -> Examination:
    """Examine the node again while it is too busy to answer, with more time for each answer."""
    from tryitnow.doctor import examine

    examination = await examine(settings)
    for _ in range(ATTEMPTS - 1):
        if not examination.unanswered:
            break
        emit(f"no answer in time: {', '.join(examination.unanswered)}; looking again", err=True)
        examination = await examine(settings, examination)
    return examination
