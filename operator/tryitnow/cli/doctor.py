"""``tryitnow doctor``: what this node has, what it lacks, and how to mend it."""

from __future__ import annotations

import asyncio
import os
import platform
import sys

import click

from tryitnow.cli.options import output


@click.command
@click.option("--json", "json_too", is_flag=True, help="The same as -o json.")
@output
def doctor(*, json_too: bool, as_json: bool) -> None:
    """Check what this node needs, and how to mend it.

    Exit status: 0 the node can thaw, 1 it can only start cold, 2 it can run nothing.
    """
    from tryitnow.doctor import examine
    from tryitnow.doctor.report import exit_status, render_json, render_text
    from tryitnow.settings import agent_settings

    # A person on a node has none of the agent's environment; only its paths matter here.
    defaults = {"NODE_NAME": platform.node(), "NODE_ADDRESS": "127.0.0.1"}
    settings = agent_settings({**defaults, **os.environ})
    checks = asyncio.run(examine(settings)).checks
    wants_json = as_json or json_too
    click.echo(render_json(checks, settings.node_name) if wants_json else render_text(checks))
    sys.exit(exit_status(checks))
