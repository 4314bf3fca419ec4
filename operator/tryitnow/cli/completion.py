"""``tryitnow completion``, and what kubectl asks when somebody completes ``kubectl tryitnow``."""

from __future__ import annotations

import sys

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from tryitnow.cli.commands import tryitnow

_SHELLS: dict[str, type[ShellComplete]] = {
    "bash": BashComplete,
    "fish": FishComplete,
    "zsh": ZshComplete,
}
_VARIABLE = "_TRYITNOW_COMPLETE"
"""By this variable the script asks the program for completions (click's convention)."""

_DIRECTIVE_NO_FILES = 4
"""Cobra's ShellCompDirectiveNoFileComp (cobra/completions.go), which kubectl reads."""


@click.command
@click.argument("shell", type=click.Choice(sorted(_SHELLS)))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  source <(tryitnow completion bash)
    zsh:   source <(tryitnow completion zsh)
    fish:  tryitnow completion fish | source

    kubectl (1.26 or later) completes `kubectl tryitnow` by itself where the program
    kubectl_complete-tryitnow is in PATH, beside kubectl-tryitnow.
    """
    complete = _SHELLS[shell](tryitnow, {}, "tryitnow", _VARIABLE)
    # Not source(): it runs bash to look at its version, which need not be here.
    click.echo(complete.source_template % complete.source_vars())


def complete_for_kubectl() -> None:
    """Answer kubectl: one completion a line, with its meaning behind a tab, then a directive."""
    *before, begun = sys.argv[1:] or [""]
    complete = ShellComplete(tryitnow, {}, "tryitnow", _VARIABLE)
    for item in complete.get_completions(before, begun):
        if item.type != "plain":
            continue
        click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    click.echo(f":{_DIRECTIVE_NO_FILES}")
