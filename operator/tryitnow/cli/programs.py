"""The programs of the cluster, as their Pods start them."""

from __future__ import annotations

import asyncio
import logging
import sys

from tryitnow import __version__
from tryitnow.printable import LogLines

logger = logging.getLogger(__name__)


def run(program: str) -> int:
    """Run ``controller`` or ``agent`` until it is asked to stop; returns the exit status."""
    log_to_stderr()
    # Before everything that takes time: a minute on a node that is overloaded, where an empty log
    # would tell nothing of a program that the kubelet kills.
    logger.info("%s of try-it-now %s is loading", program, __version__)
    from tryitnow.settings import InvalidSettingError

    try:
        return _PROGRAMS[program]()
    except InvalidSettingError as error:
        sys.stderr.write(f"tryitnow: {error}\n")
        return 2


def _controller() -> int:
    from tryitnow.settings import controller_settings

    settings = controller_settings()
    from tryitnow.controller.main import run as run_controller

    asyncio.run(run_controller(settings))
    return 0


def _agent() -> int:
    from tryitnow.settings import agent_settings

    settings = agent_settings()
    from tryitnow.agent.main import run as run_agent

    asyncio.run(run_agent(settings))
    return 0


_PROGRAMS = {"controller": _controller, "agent": _agent}


def log_to_stderr() -> None:
    """Write log lines as all programs do."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogLines("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # Kopf tells each event that it hands over; what came of it is in our own lines.
    logging.getLogger("kopf").setLevel(logging.WARNING)
