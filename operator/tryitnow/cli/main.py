"""``tryitnow``: one command for all programs; also ``kubectl tryitnow``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from datetime import timedelta

from tryitnow import __version__
from tryitnow.api.duration import parse_duration
from tryitnow.settings import InvalidSettingError, agent_settings, controller_settings


def main(argv: list[str] | None = None) -> None:
    """Run a command and exit with its status."""
    arguments = _parser().parse_args(argv)
    try:
        status = arguments.run(arguments)
    except InvalidSettingError as error:
        print(f"tryitnow: {error}", file=sys.stderr)
        status = 2
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tryitnow", description="Frozen applications, thawed on demand in Kubernetes."
    )
    parser.add_argument("--version", action="version", version=f"tryitnow {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    controller = commands.add_parser("controller", help="run the cluster's controller")
    controller.set_defaults(run=_controller)

    agent = commands.add_parser("agent", help="run the agent of this node")
    agent.set_defaults(run=_agent)

    doctor = commands.add_parser(
        "doctor",
        help="check what this node needs, and how to mend it",
        description="Exit status: 0 the node can thaw, 1 it can only start cold, 2 it can run "
        "nothing.",
    )
    doctor.add_argument("--json", action="store_true", help="print the result as JSON")
    doctor.set_defaults(run=_doctor)

    check = commands.add_parser(
        "check-installation",
        help="check that a controller leads and a node can run demos",
        description="Asks the API server only. Exit status: 0 all is well, 1 it is not.",
    )
    check.set_defaults(run=_check_installation)

    end = commands.add_parser(
        "end-demos",
        help="stop the controller, end all demos and drop all copies, before an uninstallation",
    )
    end.add_argument(
        "--timeout",
        type=_duration,
        default=timedelta(minutes=2),
        help="how long the nodes' agents get for it (default: 2m)",
    )
    end.set_defaults(run=_end_demos)
    return parser


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _logging() -> None:
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # Kopf tells each event that it hands over; what came of it is in our own lines.
    logging.getLogger("kopf").setLevel(logging.WARNING)


# The programs are imported only when they run: the doctor needs no Kopf.


def _controller(_: argparse.Namespace) -> int:
    from tryitnow.controller.main import run

    settings = controller_settings()
    _logging()
    asyncio.run(run(settings))
    return 0


def _agent(_: argparse.Namespace) -> int:
    from tryitnow.agent.main import run

    settings = agent_settings()
    _logging()
    asyncio.run(run(settings))
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from tryitnow.cli.doctor import doctor

    return doctor(as_json=arguments.json)


def _check_installation(_: argparse.Namespace) -> int:
    from tryitnow.cli.check_installation import run

    settings = controller_settings()
    _logging()
    return asyncio.run(run(settings))


def _end_demos(arguments: argparse.Namespace) -> int:
    from tryitnow.cli.end_demos import run

    settings = controller_settings()
    _logging()
    return asyncio.run(run(settings, arguments.timeout))
