"""A node: a Debian with Podman and CRIU in namespaces of its own, held by one process.

What a machine without CAP_SYS_RESOURCE and with cgroup v1 hierarchies beside v2 makes necessary is
written into the node's configuration here, and nowhere else: an agent on a normal node needs none.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

from lab import cgroups, network
from lab.state import Lab

_INIT = Path(__file__).parent / "node" / "init.sh"
_CRUN_CONF = Path(__file__).parents[1] / "image" / "crun.conf"

SOCKET = "unix:///run/podman/podman.sock"
SECRETS = "/run/secrets/tryitnow"
PYTHON = "/opt/try-it-now/bin/python"
"""In a node: the image's, with the operator's dependencies."""

OPERATOR = "/opt/try-it-now/operator"
"""In a node: this checkout's package, ahead of the image's own."""

# What CRIU would raise the limit of open files to (fs.nr_open of the machine).
_USUAL_NR_OPEN = 1048576

# A name for the registry that is the same in every lab, for manifests that people copy.
REGISTRY_ALIAS = "registry.lab:5000"


@dataclass(frozen=True)
class NodeImage:
    """The files that all nodes of a lab share."""

    tree: Path
    operator: Path
    bytecode: Path

    @property
    def made_from(self) -> list[str]:
        """Paths that a running node cannot change."""
        return [str(self.tree), str(self.operator)]


def prepare(
    lab: Lab, node: str, image: NodeImage, registry: str, addresses: dict[str, str]
) -> None:
    """Make the directories and configuration of a node, before it is held for the first time."""
    home = lab.node_directory(node)
    for name in ("upper", "work", "root", "containers", "data", "secrets"):
        (home / name).mkdir(parents=True, exist_ok=True)
    (home / "secrets").chmod(0o700)
    (home / "data").chmod(0o700)
    for path, content in _files(node, registry, addresses).items():
        target = home / "upper" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    (home / "upper/usr/local/bin/tryitnow").chmod(0o755)
    if _lowest_nr_open():
        (home / "nr_open").write_text(f"{_lowest_nr_open()}\n")
    binds = [
        # Overlay on overlay is refused, so container storage is a plain directory.
        (home / "containers", "/var/lib/containers", "rw"),
        (home / "data", "/var/lib/try-it-now", "rw"),
        (home / "secrets", SECRETS, "ro"),
        # In front of the package in the image: an edit needs no new image.
        (image.operator, OPERATOR, "ro"),
        (image.bytecode, "/var/cache/try-it-now", "rw"),
    ]
    lines = [f"{source} {target} {mode}\n" for source, target, mode in binds]
    (home / "binds").write_text("".join(lines))
    cgroups.make(lab, node)


def init_argv(lab: Lab, node: str, tree: Path, namespace: str) -> list[str]:
    """The command that is the node: it ends when the node is switched off."""
    home = lab.node_directory(node)
    settings = {
        "INIT_NAME": node,
        "INIT_LOWER": tree,
        "INIT_UPPER": home / "upper",
        "INIT_WORK": home / "work",
        "INIT_ROOT": home / "root",
        "INIT_BINDS": home / "binds",
        "INIT_NR_OPEN": home / "nr_open" if _lowest_nr_open() else "",
        "INIT_OWN_NETWORK": "yes" if namespace == lab.node_namespace(node) else "no",
    }
    # The cgroup namespace begins at the group of the process that makes it; only then does the
    # process move on to the group for the node's own processes.
    join = 'echo 0 > "$0/cgroup.procs"; exec "$@"'
    return [
        "sh", "-c", join, str(cgroups.of_node(lab, node)),
        "unshare", "--cgroup",
        "sh", "-c", join, str(cgroups.system_of_node(lab, node)),
        "nsenter", f"--net={network.NAMESPACES / namespace}",
        "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child",
        "env", *(f"{name}={value}" for name, value in settings.items()),
        "sh", str(_INIT),
    ]  # fmt: skip


def enter_argv(lab: Lab, node: str, init_pid: int, argv: list[str]) -> list[str]:
    """The command that runs another command inside a node.

    The command is nsenter's child and dies with it, so whoever kills what it started kills what
    runs in the node.
    """
    return [
        "sh", "-c", 'echo 0 > "$0/cgroup.procs"; exec "$@"',
        str(cgroups.system_of_node(lab, node)),
        "nsenter", f"--target={init_pid}", "--mount", "--uts", "--ipc", "--net", "--pid",
        "--cgroup", "--", "setpriv", "--pdeathsig", "KILL", "--", *argv,
    ]  # fmt: skip


def podman_service() -> list[str]:
    """Podman's API, as the agent's Pod starts it."""
    return ["/usr/libexec/try-it-now/podman-service"]


def init_pid(lab: Lab, node: str) -> int | None:
    """The process that is the node, once it is complete: before, there is half a machine."""
    process = lab.process(node)
    if process and process.name() == "catatonit":
        return process.pid
    return None


def _lowest_nr_open() -> int | None:
    """The hard limit of open files, where it is lower than what CRIU would set."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard if 0 <= hard < _USUAL_NR_OPEN else None


def _files(node: str, registry: str, addresses: dict[str, str]) -> dict[str, str]:
    """Path in the node -> content, of all that differs from the operator's image."""
    hosts = [f"{address} {name}\n" for name, address in sorted(addresses.items())]
    alias = REGISTRY_ALIAS.partition(":")[0]
    hosts.append(f"{registry.partition(':')[0]} {alias}\n")
    return {
        "etc/hostname": f"{node}\n",
        "etc/hosts": "127.0.0.1 localhost\n" + "".join(hosts),
        # No name server can be reached from here: without this file each lookup asks localhost.
        "etc/resolv.conf": "options timeout:1 attempts:1\n",
        "etc/containers/containers.conf.d/lab.conf": _containers_conf(),
        "etc/containers/registries.conf": _registries_conf(registry),
        # The other modes of CRIU fail beside cgroup v1 hierarchies. After a restore all processes
        # but the first are then in the wrong cgroup, which the agent puts right everywhere.
        "etc/criu/crun.conf": f"{_CRUN_CONF.read_text()}manage-cgroups=ignore\n",
        "usr/local/bin/tryitnow": (
            "#!/bin/sh\n"
            f"export PYTHONPATH={OPERATOR}\n"
            "export PYTHONPYCACHEPREFIX=/var/cache/try-it-now\n"
            f'exec {PYTHON} -m tryitnow "$@"\n'
        ),
    }


def _containers_conf() -> str:
    lines = [
        "[containers]",
        "pids_limit = 0",  # needs the pids controller, which may be in cgroup v1 here
    ]
    limit = _lowest_nr_open()
    if limit:
        lines.append(f'default_ulimits = ["nofile={limit}:{limit}"]')
    return "\n".join(lines) + "\n"


def _registries_conf(registry: str) -> str:
    """Plain HTTP to the lab's registry; short names go nowhere else."""
    parts = ["unqualified-search-registries = []\n"]
    parts += [
        f'[[registry]]\nlocation = "{location}"\ninsecure = true\n'
        for location in (registry, REGISTRY_ALIAS)
    ]
    return "\n".join(parts)
