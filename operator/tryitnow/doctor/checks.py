"""What a node must have, and what it should have: pure judgements of what was found.

A check whose answer follows from another one's failure is left out: one cause, one line.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from enum import StrEnum

from tryitnow.api.nodeagent import Check, Verdict
from tryitnow.doctor.facts import NodeFacts, PodmanFacts
from tryitnow.doctor.host import Outcome
from tryitnow.doctor.version import parse_version, version_in

MINIMUM_PODMAN = (4,)
"""The first with netavark; what came before is out of support."""

TCP_CLOSE_PODMAN = (5, 7)
"""The first with `container restore --tcp-close` (podman pull request 26895); 5.4 lacks it, as
tried."""

MINIMUM_CRIU = (3, 11)
"""What Podman itself asks for (`MinCriuVersion` in its pkg/criu)."""

SOCKET_OPTIONS_KERNEL = (6, 16)
SOCKET_OPTIONS_CRIU = (4, 2)
"""From Linux 6.16 on CRIU before 4.2 fails on every inet socket (criu issue 2705: `Can't get 1:16
opt`). Tried on 6.18: 3.17 and 4.1.1 fail, 4.2.1 works. Distributions may have mended older ones."""

FREE_BYTES_NEEDED = 1 << 30
"""1 GiB. A small shop (WordPress and MariaDB) is 319 MB when frozen without compression; a build
and one download of a new revision beside the old one are three of them."""

FREE_BYTES_COMFORTABLE = 10 << 30
"""10 GiB: one archive of a large application (7.5 GB in benchmarkoor pull request 282) and some."""

LIMITED_BY = frozenset({"cpu", "memory", "pids"})
"""The controllers behind the limits of a template, by the names of both."""

_TAIL_LINES = 4
"""`criu check` says which features failed, then the verdict."""

_OPEN_TO_OTHERS = 0o077


class CheckName(StrEnum):
    """Names of the checks, in their order. Programs know checks by them: they never change."""

    LINUX = "Linux"
    ROOT = "root"
    PODMAN = "Podman"
    STORAGE_DRIVER = "storage driver"
    RUNTIME = "OCI runtime"
    CRIU_ENABLED = "CRIU_ENABLED"
    CRIU_VERSION = "CRIU"
    CRIU_CHECK = "criu check"
    NETWORK_LOCK = "network lock"
    CGROUPS = "cgroups"
    LIMITS = "resource limits"
    GATE = "pod gate"
    DIRECTORY = "checkpoint path"
    FREE_SPACE = "free space"


def judge(facts: NodeFacts) -> tuple[Check, ...]:
    """Return a verdict on everything that matters, in the order in which to mend it."""
    if facts.system != "Linux":
        return (
            _fail(
                CheckName.LINUX,
                f"this is {facts.system}",
                "run it on a node: Podman's containers and CRIU exist on Linux only",
            ),
        )
    return tuple(_checks(facts))


def _checks(facts: NodeFacts) -> Iterator[Check]:
    yield _pass(CheckName.LINUX, f"kernel {facts.kernel}")
    yield _root(facts)
    yield _podman(facts)
    if facts.podman is not None:
        yield _storage_driver(facts.podman)
        yield _runtime(facts, facts.podman)
    yield _criu_enabled(facts)
    yield _criu_version(facts)
    # Without root it fails for that reason alone.
    if not facts.criu.missing and facts.user == 0:
        yield _criu_check(facts)
    yield _network_lock(facts)
    yield _cgroups(facts)
    yield _limits(facts)
    yield _gate(facts)
    if not (facts.directory.problem and facts.user != 0):
        yield _directory(facts)
    yield _free_space(facts)


def _root(facts: NodeFacts) -> Check:
    if facts.user == 0:
        return _pass(CheckName.ROOT, "runs as root")
    return _fail(
        CheckName.ROOT,
        f"runs as user {facts.user}; CRIU needs root, and so does Podman that uses it",
        "`sudo tryitnow doctor`; in a cluster the agent runs as root and privileged",
    )


def _podman(facts: NodeFacts) -> Check:
    name = CheckName.PODMAN
    if facts.podman is None:
        return _fail(name, facts.podman_problem, _reach_podman(facts))
    version = facts.podman.version
    if facts.podman.rootless:
        return _fail(
            name,
            f"{version}, but rootless: CRIU cannot freeze its containers",
            "`systemctl enable --now podman.socket` as root, and "
            "PODMAN_SOCKET=unix:///run/podman/podman.sock",
        )
    if parse_version(version) < MINIMUM_PODMAN:
        return _fail(name, f"{version or 'of an unknown version'}; 4 or later is needed",
                     _install(facts, debian="podman", fedora="podman"))  # fmt: skip
    if parse_version(version) < TCP_CLOSE_PODMAN:
        return _warn(
            name,
            f"{version}; before 5.7 a copy cannot be thawed with its connections closed, so an "
            "application that has any open when it is frozen starts cold",
            f"{_install(facts, debian='podman', fedora='podman')}, from a release that has 5.7",
        )
    return _pass(name, f"{version}, rootful, at {facts.podman_socket}")


def _reach_podman(facts: NodeFacts) -> str:
    if facts.podman_command.missing:
        return _install(facts, debian="podman crun", fedora="podman crun")
    if facts.user != 0:
        return "run it as root"
    return (
        "the agent's Pod serves it: `kubectl --namespace tryitnow-system logs POD podman`; a "
        "Podman of the node's own: `systemctl enable --now podman.socket`"
    )


def _storage_driver(podman: PodmanFacts) -> Check:
    driver = podman.storage_driver
    if driver == "overlay":
        return _pass(CheckName.STORAGE_DRIVER, driver)
    cost = "it copies the whole image for every container" if driver == "vfs" else "it is untried"
    return _warn(
        CheckName.STORAGE_DRIVER,
        f"{driver or 'unknown'}: works, but {cost}",
        'driver = "overlay" under [storage] in /etc/containers/storage.conf, then '
        "`podman system reset` (removes all images and containers of the node)",
    )


def _runtime(facts: NodeFacts, podman: PodmanFacts) -> Check:
    name, runtime = CheckName.RUNTIME, podman.runtime_name
    found = f"{runtime} {version_in(podman.runtime_version)}".strip()
    crun = _install(facts, debian="crun criu libcriu2", fedora="crun criu criu-libs")
    if runtime not in {"crun", "runc"}:
        return _fail(
            name,
            f"{found or 'unknown'} cannot freeze with CRIU; crun and runc can",
            f'{crun}, and runtime = "crun" under [engine] in /etc/containers/containers.conf',
        )
    if runtime == "crun" and "+CRIU" not in podman.runtime_version:
        return _fail(name, f"{found}, built without CRIU (no +CRIU in `crun --version`)", crun)
    if not facts.runtime_checkpoint.ok:
        tail = _tail(facts.runtime_checkpoint)
        return _fail(name, f"{found} cannot freeze: `{runtime} checkpoint --help`: {tail}", crun)
    if runtime == "crun" and not facts.libcriu:
        # Neither +CRIU nor `checkpoint --help` tells: crun loads it when it freezes.
        return _fail(
            name,
            f"{found} with +CRIU, but libcriu.so.2 is missing, which it loads to freeze",
            _install(facts, debian="libcriu2", fedora="criu-libs"),
        )
    return _pass(name, f"{found}{' with +CRIU' if runtime == 'crun' else ''}")


def _criu_enabled(facts: NodeFacts) -> Check:
    if facts.criu_enabled:
        return _pass(CheckName.CRIU_ENABLED, "true")
    return _fail(
        CheckName.CRIU_ENABLED,
        "CRIU was switched off on purpose, by CRIU_ENABLED=false",
        "set CRIU_ENABLED=true in the agent's environment (`agent.criuEnabled` of the chart) to "
        "have demos thawed",
    )


def _criu_version(facts: NodeFacts) -> Check:
    name = CheckName.CRIU_VERSION
    install = _install(facts, debian="criu libcriu2", fedora="criu criu-libs")
    if not facts.criu.ok:
        return _fail(name, _tail(facts.criu), install)
    found = parse_version(facts.criu.output)
    version = version_in(facts.criu.output)
    if found < MINIMUM_CRIU:
        return _fail(name, f"{version or facts.criu.output}; 3.11 or later is needed", install)
    if found < SOCKET_OPTIONS_CRIU and parse_version(facts.kernel) >= SOCKET_OPTIONS_KERNEL:
        return _warn(
            name,
            f"{version}; from Linux 6.16 on, CRIU before 4.2 cannot freeze anything with a "
            "network socket, unless the distribution has mended it",
            f"{install}, from a release that has 4.2",
        )
    return _pass(name, version)


def _criu_check(facts: NodeFacts) -> Check:
    if facts.criu_check.ok:
        return _pass(CheckName.CRIU_CHECK, _tail(facts.criu_check))
    return _fail(
        CheckName.CRIU_CHECK,
        _tail(facts.criu_check),
        "`criu check -v4` names what the kernel lacks; it needs CONFIG_CHECKPOINT_RESTORE, and in "
        "a container to be privileged",
    )


def _network_lock(facts: NodeFacts) -> Check:
    if facts.iptables.ok:
        return _pass(CheckName.NETWORK_LOCK, facts.iptables.output.splitlines()[0])
    # nft alone does not help: CRIU locks by nftables through a library, and only when it was
    # built to do so by default. Tried with Debian's 4.2.1: every freeze fails.
    return _warn(
        CheckName.NETWORK_LOCK,
        f"{_tail(facts.iptables)}: CRIU calls it while it freezes and thaws, and fails, unless it "
        "was built to use nftables as on Fedora",
        _install(facts, debian="iptables", fedora="iptables-nft"),
    )


def _cgroups(facts: NodeFacts) -> Check:
    if facts.cgroup_v2 and not facts.cgroup_v1:
        return _pass(CheckName.CGROUPS, "v2")
    beside = f" ({', '.join(facts.cgroup_v1)})" if facts.cgroup_v1 else ""
    found = f"v2, but v1 hierarchies{beside} beside it" if facts.cgroup_v2 else f"v1{beside}"
    remedy = _cgroup_v2_only(facts)
    if "manage-cgroups=ignore" in facts.criu_config.replace(" ", ""):
        found += (
            ": CRIU leaves cgroups alone, so a thaw puts only the first process into the "
            "container's; the agent moves the others, about 20 ms each"
        )
    else:
        runtime = facts.podman.runtime_name if facts.podman else "crun"
        found += ": CRIU often cannot put these back, and freezes or thaws fail"
        remedy += (
            "; or have CRIU leave them alone: `mkdir -p /etc/criu && "
            f"echo manage-cgroups=ignore >> /etc/criu/{runtime}.conf`"
        )
    return _warn(CheckName.CGROUPS, found, remedy)


def _limits(facts: NodeFacts) -> Check:
    missing = sorted(LIMITED_BY - facts.controllers)
    if not missing:
        return _pass(CheckName.LIMITS, ", ".join(sorted(LIMITED_BY)))
    return _warn(
        CheckName.LIMITS,
        f"cgroup v2 has no controller for {', '.join(missing)} here: containers run without those "
        "of spec.template.containers[].resources.limits",
        _cgroup_v2_only(facts),
    )


def _gate(facts: NodeFacts) -> Check:
    if facts.nft.ok:
        return _pass(CheckName.GATE, facts.nft.output.splitlines()[0])
    return _warn(
        CheckName.GATE,
        f"nft does not run ({_tail(facts.nft)}): applications of several containers, with volumes "
        "or with afterRestore hooks cannot run here",
        _install(facts, debian="nftables", fedora="nftables"),
    )


def _cgroup_v2_only(facts: NodeFacts) -> str:
    options = "systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all"
    if "fedora" in facts.distribution:
        return f"`grubby --update-kernel=ALL --args='{options}' && reboot`"
    if "debian" in facts.distribution:
        return (
            f"add `{options}` to GRUB_CMDLINE_LINUX in /etc/default/grub, then "
            "`update-grub && reboot`"
        )
    return f"boot the kernel with `{options}`"


def _directory(facts: NodeFacts) -> Check:
    name, found = CheckName.DIRECTORY, facts.directory
    path = shlex.quote(str(found.path))
    if found.problem:
        return _fail(name, f"{path}: {found.problem}", f"`ls -ld {path}`, as root")
    if not found.exists:
        if found.writable:
            return _pass(name, f"{path} is not there yet; the agent makes it")
        make = f"`install -d -m 0700 -o root -g root {path}`"
        return _fail(name, f"{path} is not there and cannot be made", make)
    if not found.is_directory:
        return _fail(name, f"{path} is no directory", "set CHECKPOINT_PATH to one")
    mend = []
    if found.owner != 0:
        mend.append(f"`chown root:root {path}`")
    if found.mode & _OPEN_TO_OTHERS:
        mend.append(f"`chmod 0700 {path}`")
    if mend:
        return _fail(
            name,
            f"{path} is {found.mode:04o} and user {found.owner}'s; archives hold the "
            "application's memory, secrets included, and must be root's alone",
            ", then ".join(mend),
        )
    if not found.writable:
        return _fail(name, f"{path} cannot be written to", f"`touch {path}/x` says why, as root")
    return _pass(name, f"{path}, {found.mode:04o}, root's")


def _free_space(facts: NodeFacts) -> Check:
    name = CheckName.FREE_SPACE
    path = shlex.quote(str(facts.directory.path))
    free = facts.directory.free_bytes
    if free is None:
        return _fail(name, f"unknown for {path}", f"`df -h {path}`")
    found = f"{free / (1 << 30):.1f} GiB for {path}"
    remedy = (
        f"delete Checkpoints that nobody needs (`df -h {path}` shows the file system), or set "
        "CHECKPOINT_PATH to a larger one"
    )
    if free < FREE_BYTES_NEEDED:
        return _fail(name, f"{found}; less than 1 GiB holds no application", remedy)
    if free < FREE_BYTES_COMFORTABLE:
        return _warn(name, f"{found}; a large application needs 10 GiB", remedy)
    return _pass(name, found)


def _install(facts: NodeFacts, *, debian: str, fedora: str) -> str:
    if facts.is_our_image:
        return f"use a newer image of try-it-now, or one with {debian} added (`image` of the chart)"
    on_debian, on_fedora = f"`apt-get install -y {debian}`", f"`dnf install -y {fedora}`"
    if "debian" in facts.distribution:
        return on_debian
    if "fedora" in facts.distribution:
        return on_fedora
    return f"on Debian {on_debian}, on Fedora {on_fedora}"


def _tail(outcome: Outcome) -> str:
    """Return the end of what a command wrote, on one line: a condition's message is one."""
    lines = [line.strip() for line in outcome.output.splitlines() if line.strip()]
    return "; ".join(lines[-_TAIL_LINES:]) or f"ended with status {outcome.status}"


def _pass(name: CheckName, found: str) -> Check:
    return Check(name=name, verdict=Verdict.PASS, found=found)


def _warn(name: CheckName, found: str, remedy: str) -> Check:
    return Check(name=name, verdict=Verdict.WARN, found=found, remedy=remedy)


def _fail(name: CheckName, found: str, remedy: str) -> Check:
    return Check(name=name, verdict=Verdict.FAIL, found=found, remedy=remedy)
