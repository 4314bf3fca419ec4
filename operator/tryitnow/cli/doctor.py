"""``tryitnow doctor``: what this node has, what it lacks, and how to mend it."""

from __future__ import annotations

import asyncio
import os
import platform

from tryitnow.doctor import examine
from tryitnow.doctor.report import exit_status, render_json, render_text
from tryitnow.settings import agent_settings


def doctor(*, as_json: bool) -> int:
    """Examine this node, print what was found, and return the exit status."""
    # A person on a node has none of the agent's environment; only its paths matter here.
    defaults = {"NODE_NAME": platform.node(), "NODE_ADDRESS": "127.0.0.1"}
    settings = agent_settings({**defaults, **os.environ})
    checks = asyncio.run(examine(settings)).checks
    print(render_json(checks, settings.node_name) if as_json else render_text(checks))
    return exit_status(checks)
