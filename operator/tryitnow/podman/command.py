"""The ``podman`` command against the node's socket: where a person's terminal goes to a container.

Terminals, signals and sizes of windows are what podman's own client is good at; everything else
goes through ``client``.
"""

from __future__ import annotations

from collections.abc import Sequence


def logs_argv(socket: str, container: str, *, follow: bool, tail: int | None) -> list[str]:
    """Return the command that prints what a container wrote."""
    options = ["--follow"] if follow else []
    if tail is not None:
        options.append(f"--tail={tail}")
    return [*_podman(socket), "logs", *options, container]


def exec_argv(socket: str, container: str, command: Sequence[str], *, terminal: bool) -> list[str]:
    """Return the command that runs another one inside of a container."""
    options = ["--interactive", "--tty"] if terminal else ["--interactive"]
    return [*_podman(socket), "exec", *options, container, *command]


def _podman(socket: str) -> list[str]:
    return ["podman", "--remote", f"--url={socket}"]
