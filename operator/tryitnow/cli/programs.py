"""The programs of the cluster, as their Pods start them."""

from __future__ import annotations

import asyncio
import logging
import sys

from tryitnow.settings import InvalidSettingError, agent_settings, controller_settings


def run(program: str) -> int:
    """Run ``controller`` or ``agent`` until it is asked to stop; returns the exit status."""
    try:
        return _PROGRAMS[program]()
    except InvalidSettingError as error:
        sys.stderr.write(f"tryitnow: {error}\n")
        return 2


def _controller() -> int:
    from tryitnow.controller.main import run as run_controller

    settings = controller_settings()
    log_to_stderr()
    asyncio.run(run_controller(settings))
    return 0


def _agent() -> int:
    from tryitnow.agent.main import run as run_agent

    settings = agent_settings()
    log_to_stderr()
    asyncio.run(run_agent(settings))
    return 0


_PROGRAMS = {"controller": _controller, "agent": _agent}


def log_to_stderr() -> None:
    """Write log lines as all programs do."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # Kopf tells each event that it hands over; what came of it is in our own lines.
    logging.getLogger("kopf").setLevel(logging.WARNING)
