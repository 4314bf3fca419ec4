"""The lab's command line: `python -m lab up`, `exec node-1 -- podman ps`, `down`, …"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from lab import (
    LabError,
    binaries,
    cleanup,
    cluster,
    demo,
    images,
    network,
    operator_image,
    progress,
    venv,
)
from lab.cluster import Cluster
from lab.machines.machine import Machine

_UNIT_COMMANDS = ("start", "stop", "restart", "kill9")


def main(argv: list[str]) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except LabError as error:
        sys.stderr.write(f"lab: {error}\n")
        return 1
    except BrokenPipeError:
        # `… | head` has seen enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: argparse.Namespace) -> int:
    command: str = arguments.command
    if command == "down" and arguments.all:
        for name in cleanup.names():
            _down(Cluster(name))
        return 0
    if command == "python":
        progress.stream = sys.stderr
        words = [str(venv.python()), *_words(arguments)]
        return cluster.run_in_foreground(words, dict(os.environ))
    if command == "tool":
        progress.stream = sys.stderr
        words = [str(binaries.tool(arguments.tool)), *_words(arguments)]
        return cluster.run_in_foreground(words, dict(os.environ))
    if command == "operator-image":
        _operator_image(arguments.archive, arguments.base)
        return 0
    lab = Cluster(arguments.name)
    if command == "demo":
        demo.show(Cluster(arguments.name, nodes=arguments.nodes or 2))
        _prometheus(lab, wanted=arguments.prometheus)
    elif command == "up":
        wanted = arguments.nodes if arguments.nodes is not None else 0 if arguments.machines else 2
        Cluster(
            arguments.name, nodes=wanted, machines=arguments.machines, operator=arguments.operator
        ).up()
        _prometheus(lab, wanted=arguments.prometheus)
        _out(f'reach it with: eval "$(python -m lab env --name {arguments.name})"')
    elif command == "down":
        _down(lab)
    elif command == "exec" and arguments.node in lab.machines:
        return _exec_in_machine(lab.machines[arguments.node], _words(arguments))
    elif command == "exec":
        entered = lab.enter(arguments.node, _words(arguments) or ["bash"])
        environment = lab.environment(arguments.node)
        environment["TERM"] = os.environ.get("TERM", "dumb")
        return cluster.run_in_foreground(entered, environment)
    elif command == "status":
        _status(lab)
    elif command == "kubeconfig":
        lab.shape  # noqa: B018 - says so when there is no such lab
        _out(str(lab.kubeconfig))
    elif command == "env":
        _env(lab)
    elif command == "image":
        progress.stream = sys.stderr
        _out(images.ensure(lab, arguments.image))
    elif command in _UNIT_COMMANDS:
        getattr(lab, command)(arguments.unit)
    return 0


def _words(arguments: argparse.Namespace) -> list[str]:
    """The command after the `--`, which keeps its options from being taken for ours."""
    argv: list[str] = arguments.argv
    return argv[1:] if argv[:1] == ["--"] else argv


def _exec_in_machine(machine: Machine, words: list[str]) -> int:
    """Without a terminal: the agent in a machine only tells what a command wrote at its end."""
    if not words:
        raise LabError("A machine has no shell for a terminal: name a command after `--`.")
    ended = machine.run(*words, check=False, within_s=3600)
    sys.stdout.write(ended.stdout)
    sys.stderr.write(ended.stderr)
    return ended.code


def _prometheus(lab: Cluster, *, wanted: bool) -> None:
    if wanted:
        lab.start_prometheus()
        _out(f"Prometheus: {lab.prometheus}/alerts")


def _down(lab: Cluster) -> None:
    with progress.step(f"taking lab {lab.lab.name} down"):
        lab.down()


def _status(lab: Cluster) -> None:
    for node in [*lab.node_names, *lab.machines]:
        _out(f"{node:24} {lab.node_address(node)}")
    _out(f"{'registry':24} {lab.registry}")
    for unit, found in lab.status().items():
        what = f"pid {found['pid']}" if found["pid"] else "stopped"
        if not found["pid"] and found["wanted"]:
            what = "waiting to start"
        changed = " ".join(f"{name}={value}" for name, value in found["env"].items())
        _out(f"{unit:24} {what:16} started {found['starts']}x  {changed}".rstrip())


def _operator_image(archive: Path, base: str | None) -> None:
    reference = operator_image.build(base)
    name = operator_image.save(reference, archive)
    _out(f"load it with `podman load --input {archive}`: {name}")


def _env(lab: Cluster) -> None:
    subnet = network.subnet(lab.shape.network)
    _out(f"export KUBECONFIG={lab.kubeconfig}")
    _out(f'export PATH="{binaries.kubectl_directory()}:$PATH"')
    # Where a proxy is set, requests to the lab must not go there.
    _out(f'export NO_PROXY="{subnet}${{NO_PROXY:+,$NO_PROXY}}" no_proxy="{subnet}"')


def _out(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--name", default="demo", help="which lab (default: demo)")
        return command

    up = add("up", "Make the cluster, or refresh the operator in it.")
    show = add("demo", "Make the cluster, checkpoint the shop and restore a demo of it.")
    for command in (up, show):
        command.add_argument(
            "--nodes", type=int, help="how many light nodes (default: 2; with machines: 0)"
        )
        command.add_argument(
            "--prometheus", action="store_true", help="with a Prometheus that scrapes the operator"
        )
    up.add_argument(
        "--machines", type=int, default=0,
        help="how many virtual machines with a kubelet and a kernel of their own (default: 0)",
    )  # fmt: skip
    up.add_argument(
        "--without-operator", dest="operator", action="store_false",
        help="only the cluster: no manifests, no controller, no agents",
    )  # fmt: skip
    down = add("down", "Remove the cluster and every trace of it.")
    down.add_argument("--all", action="store_true", help="all labs of this machine")
    run = add("exec", "Run a command in a node: exec node-1 -- podman ps")
    run.add_argument("node", help="node-1, node-2, …, machine-1, …, or control")
    run.add_argument("argv", nargs=argparse.REMAINDER, help="the command (default: bash)")
    add("status", "Show nodes, addresses and units.")
    add("kubeconfig", "Print the path of the administrator's kubeconfig.")
    add("env", "Print shell lines that point kubectl to the lab.")
    image = add("image", "Build an application's image, push it and print its reference.")
    image.add_argument("image", help="a name in lab/apps, or a directory of the same layout")
    tools = commands.add_parser(
        "python", help="Run the Python that has the project's tools: python -- -m pytest"
    )
    tools.add_argument("argv", nargs=argparse.REMAINDER)
    tool = commands.add_parser("tool", help="Run another tool: tool promtool -- check rules …")
    tool.add_argument("tool", choices=binaries.TOOLS)
    tool.add_argument("argv", nargs=argparse.REMAINDER)
    built = commands.add_parser("operator-image", help="Build the operator's image.")
    built.add_argument("archive", type=Path, help="the OCI archive to write")
    built.add_argument("--base", help="build from this image instead of a fresh Debian")
    for name in _UNIT_COMMANDS:
        add(name, f"{name} a unit (see status).").add_argument("unit")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
