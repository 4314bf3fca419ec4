"""``tryitnow logs`` and ``tryitnow shell``: from here to the container of a demo.

There is no channel of ours to a node. The way is Kubernetes' own: ``kubectl exec`` into the agent's
Pod of the node, where the same command runs with ``--on-node`` against Podman. Whoever may do that
may do anything on the node: the right to ``pods/exec`` in the agents' namespace says so.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import sys
from typing import TYPE_CHECKING

import click

from tryitnow.agent.sandbox.names import PREFIX, Role, parse, parse_member
from tryitnow.api.meta import Key
from tryitnow.cli.failures import FAILED, NOT_FOUND, STATUSES, CommandFailedError
from tryitnow.cli.names import complete_demo, some_name
from tryitnow.cli.options import where
from tryitnow.podman.command import exec_argv, logs_argv

if TYPE_CHECKING:
    from tryitnow.kubernetes.client import KubernetesApi
    from tryitnow.podman.client import ContainerState

_AGENT_LABELS = {"app.kubernetes.io/name": "try-it-now", "app.kubernetes.io/component": "agent"}
_AGENT_CONTAINER = "agent"

_SHELL = ["sh", "-c", "if command -v bash >/dev/null; then exec bash; else exec sh; fi"]

_member = click.option(
    "-c", "--container", help="Container of the template; by default the main one."
)
on_node_option = click.option(
    "--on-node", is_flag=True, help="This is the demo's node: ask its Podman, not the cluster."
)
agent_namespace_option = click.option(
    "--agent-namespace",
    default="tryitnow-system",
    show_default=True,
    help="Namespace of the agents' Pods.",
)


@click.command(epilog=STATUSES)
@click.argument("name", metavar="DEMO", callback=some_name, shell_complete=complete_demo)
@click.option("-f", "--follow", is_flag=True, help="Print new output as it comes.")
@click.option("--tail", type=click.IntRange(min=0), help="Print only so many lines.")
@_member
@on_node_option
@agent_namespace_option
@where
def logs(
    *,
    name: str,
    follow: bool,
    tail: int | None,
    container: str | None,
    on_node: bool,
    agent_namespace: str,
    namespace: str | None,
    context: str | None,
) -> None:
    """Print what a demo's application wrote since it was started.

    Needs the right to exec into the agents' Pods (docs/command-line.md).
    """
    if on_node:
        found = _found(Key(namespace or "default", name), container)
        _become(logs_argv(_socket(), found, follow=follow, tail=tail))
    words = ["logs", name, *_member_words(container), *(["--follow"] if follow else [])]
    if tail is not None:
        words.append(f"--tail={tail}")
    go_to_node(name, words, namespace, context, agent_namespace, terminal=False)


@click.command(epilog=STATUSES, context_settings={"ignore_unknown_options": False})
@click.argument("name", metavar="DEMO", callback=some_name, shell_complete=complete_demo)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@_member
@on_node_option
@agent_namespace_option
@where
def shell(
    *,
    name: str,
    command: tuple[str, ...],
    container: str | None,
    on_node: bool,
    agent_namespace: str,
    namespace: str | None,
    context: str | None,
) -> None:
    """Run COMMAND, by default a shell, inside of a demo.

    The exit status is the command's. Needs the right to exec into the agents' Pods
    (docs/command-line.md).
    """
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if on_node:
        found = _found(Key(namespace or "default", name), container)
        _become(exec_argv(_socket(), found, command or _SHELL, terminal=terminal))
    words = ["shell", name, *_member_words(container)]
    go_to_node(name, words, namespace, context, agent_namespace, terminal=terminal, more=command)


def _socket() -> str:
    from tryitnow.settings import podman_settings

    return podman_settings().socket


def _member_words(container: str | None) -> list[str]:
    return [] if container is None else [f"--container={container}"]


def _found(key: Key, member: str | None) -> str:
    """Return what Podman calls a container of a demo on this node."""
    states = [state for state in asyncio.run(_our_containers()) if state.running]
    main = next((state for state in states if _is_main(state.name, key)), None)
    if main is None:
        msg = (
            f"no container of the demo {key} runs on this node; where it is: "
            f"`kubectl get demoinstance {key.name} -n {key.namespace} -o wide`"
        )
        raise CommandFailedError(msg, NOT_FOUND)
    if member is None:
        return main.name
    pod = [state.name for state in states if main.pod and state.pod == main.pod]
    members = [(parse_member(name), name) for name in pod]
    by_member = {own: name for own, name in members if own is not None}
    if member not in by_member:
        known = ", ".join(sorted(by_member)) or "none"
        msg = f"{key} has no container {member} beside its main one (others: {known})"
        raise CommandFailedError(msg, NOT_FOUND)
    return by_member[member]


async def _our_containers() -> list[ContainerState]:
    from tryitnow.podman.client import Podman
    from tryitnow.podman.errors import PodmanFailure
    from tryitnow.settings import podman_settings

    podman = Podman(podman_settings())
    try:
        return await podman.list_containers(PREFIX)
    except PodmanFailure as error:
        raise CommandFailedError(str(error), FAILED) from error
    finally:
        podman.close()


def _is_main(container: str, key: Key) -> bool:
    name = parse(container)
    return name is not None and name.role is Role.DEMO and name.owner == key


def go_to_node(
    name: str,
    words: list[str],
    namespace: str | None,
    context: str | None,
    agent_namespace: str,
    *,
    terminal: bool,
    more: tuple[str, ...] = (),
) -> None:
    """Become the ``kubectl exec`` that runs our words in the agent's Pod of the demo's node."""
    # On the node nobody asks the cluster: half of the time of a start is spent on its client.
    from tryitnow.api.demoinstance import DemoInstance
    from tryitnow.cli.cluster import ask

    async def find(kubernetes: KubernetesApi, default: str) -> tuple[str, str]:
        key = Key(namespace or default, name)
        demo = await kubernetes.get(DemoInstance, key)
        node = demo.status.node_name
        if node is None:
            msg = f"{key} runs nowhere yet; see `tryitnow status demo/{name} -n {key.namespace}`"
            raise CommandFailedError(msg, FAILED)
        pods = await kubernetes.pods(agent_namespace, labels=_AGENT_LABELS, node_name=node)
        if not pods:
            msg = (
                f"no agent's Pod runs on {node} in namespace {agent_namespace} "
                "(--agent-namespace says where they are); on the node itself: "
                f"`tryitnow {words[0]} {name} -n {key.namespace} --on-node`"
            )
            raise CommandFailedError(msg, NOT_FOUND)
        return key.namespace, pods[0]

    home, pod = ask(context, find)
    ours = ["tryitnow", *words, "-n", home, "--on-node"]
    if more:
        ours += ["--", *more]
    _become(kubectl_exec(agent_namespace, pod, ours, context=context, terminal=terminal))


def kubectl_exec(
    namespace: str, pod: str, command: list[str], *, context: str | None, terminal: bool
) -> list[str]:
    """Return the ``kubectl exec`` that runs a command in an agent's container."""
    words = ["kubectl", "exec", "--stdin", f"--namespace={namespace}"]
    if terminal:
        words.append("--tty")
    if context is not None:
        words.append(f"--context={context}")
    return [*words, pod, f"--container={_AGENT_CONTAINER}", "--", *command]


def _become(argv: list[str]) -> None:
    """Let another program have this process: its terminal, its signals, its exit status."""
    program = shutil.which(argv[0])
    if program is None:
        raise CommandFailedError(f"{argv[0]} is not in PATH; it is needed here", FAILED)
    sys.stdout.flush()
    # The Kubernetes client has the kubeconfig's keys in files until this interpreter ends, and
    # there will be no such end.
    atexit._run_exitfuncs()
    os.execv(program, argv)
