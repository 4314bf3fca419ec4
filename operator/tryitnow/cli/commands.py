"""All commands on one page: their names, what they do, and where they live.

A command's own module is imported only when it runs (or its options are completed): the doctor
needs no Kubernetes client, and completion must be quick.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from tryitnow import __version__
from tryitnow.cli import programs
from tryitnow.cli.output import emit
from tryitnow.settings import InvalidSettingError

_PEOPLE = {
    "completion": "Print the completion script of a shell.",
    "confirm-storage": "Confirm the storage of a node after it changed.",
    "demo": "Start a demo, wait until it is ready, and print its URL.",
    "doctor": "Check this node, and print a fix for each problem.",
    "explain-slow": "Find the slow step of a demo's start, its cause and a fix.",
    "logs": "Print the output of a demo's application.",
    "mail": "List the mails that a demo sent, or show one.",
    "report": "Pack the facts for a bug report, without secrets.",
    "reset": "Replace a demo by a fresh one with the same name and URL.",
    "shell": "Run a command, by default a shell, inside of a demo.",
    "status": "Show checkpoints, nodes and slow starts, or one object with its Events.",
}
_MODULES = {
    "check-installation": "tryitnow.cli.check_installation",
    "completion": "tryitnow.cli.completion",
    "confirm-storage": "tryitnow.cli.confirm_storage",
    "demo": "tryitnow.cli.demo",
    "doctor": "tryitnow.cli.doctor",
    "end-demos": "tryitnow.cli.end_demos",
    "explain-slow": "tryitnow.cli.explain",
    "logs": "tryitnow.cli.container",
    "mail": "tryitnow.cli.mail",
    "report": "tryitnow.cli.report",
    "reset": "tryitnow.cli.reset",
    "shell": "tryitnow.cli.container",
    "status": "tryitnow.cli.status",
}
_HOOKS = {
    "check-installation": "Check that a controller leads and a node can run demos.",
    "end-demos": "Stop the controller, delete all demos and all NodeCheckpoints.",
}
_PROGRAMS = {
    "agent": "Run the agent of this node.",
    "controller": "Run the cluster's controller.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted({**_PEOPLE, **_HOOKS, **_PROGRAMS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name in _PROGRAMS:
            return _program(cmd_name)
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(_MODULES[cmd_name])
        found: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, commands in (
            ("For people", _PEOPLE),
            ("For the chart's hooks", _HOOKS),
            ("Programs of the cluster", _PROGRAMS),
        ):
            with formatter.section(title):
                formatter.write_dl(sorted(commands.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        commands = sorted({**_PEOPLE, **_HOOKS, **_PROGRAMS}.items())
        found = [CompletionItem(n, help=text) for n, text in commands if n.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - whatever the command returns
        try:
            return super().invoke(ctx)
        except InvalidSettingError as error:
            emit(f"tryitnow: {error}", err=True)
            sys.exit(2)


def _program(name: str) -> click.Command:
    def run() -> None:
        sys.exit(programs.run(name))

    return click.Command(name, callback=run, help=_PROGRAMS[name])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="tryitnow %(version)s")
def tryitnow() -> None:
    """Private demos, restored from checkpoints in Kubernetes. Also `kubectl tryitnow`."""
