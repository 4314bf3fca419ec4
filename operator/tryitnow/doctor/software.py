"""Podman, its runtime and CRIU: the required software and its versions."""

from __future__ import annotations

from collections.abc import Iterator

from tryitnow.api.nodeagent import Check
from tryitnow.doctor.facts import NodeFacts
from tryitnow.doctor.mounts import Mount
from tryitnow.doctor.names import CheckName
from tryitnow.doctor.podman import PodmanFacts
from tryitnow.doctor.verdicts import failed, install, passed, tail, warned
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
opt`). Tried on 6.18: 3.17 and 4.1.1 fail, 4.2.1 works. Distributions may have fixed older ones."""

HIDDEN_GUARDS_KERNELS = ((6, 13), (6, 16))
"""From the first of these on programs may put light guard pages into their memory (glibc does so
from 2.42 on, below the stack of each thread), and from the second on the kernel shows CRIU where
(criu issue 2626, pull request 2652). Between them a checkpoint of such a program fails."""


def software(facts: NodeFacts) -> Iterator[Check]:
    """Judge the software."""
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
    if facts.podman is not None and facts.mounts.run is not None:
        yield _criu_cache(facts.mounts.run)
    yield _network_lock(facts)


def _root(facts: NodeFacts) -> Check:
    if facts.user == 0:
        return passed(CheckName.ROOT, "runs as root")
    return failed(
        CheckName.ROOT,
        f"runs as user {facts.user}; CRIU needs root, and so does Podman that uses it",
        "`sudo tryitnow doctor`; in a cluster the agent runs as root and privileged",
    )


def _podman(facts: NodeFacts) -> Check:
    name = CheckName.PODMAN
    if facts.podman is None:
        return failed(name, facts.podman_problem, _reach_podman(facts))
    version = facts.podman.version
    if facts.podman.rootless:
        return failed(
            name,
            f"{version}, but rootless: CRIU cannot checkpoint its containers",
            "`systemctl enable --now podman.socket` as root, and "
            "PODMAN_SOCKET=unix:///run/podman/podman.sock",
        )
    if parse_version(version) < MINIMUM_PODMAN:
        return failed(name, f"{version or 'of an unknown version'}; 4 or later is needed",
                     install(facts, debian="podman", fedora="podman"))  # fmt: skip
    if parse_version(version) < TCP_CLOSE_PODMAN:
        return warned(
            name,
            f"{version}; before 5.7 Podman cannot close connections in a restore, so an "
            "application that has any open at its checkpoint starts cold",
            f"{install(facts, debian='podman', fedora='podman')}, from a release that has 5.7",
        )
    return passed(name, f"{version}, rootful, at {facts.podman_socket}")


def _reach_podman(facts: NodeFacts) -> str:
    if facts.podman_command.missing:
        return install(facts, debian="podman crun", fedora="podman crun")
    if facts.user != 0:
        return "run it as root"
    return (
        "the agent's Pod serves it: `kubectl --namespace tryitnow-system logs POD podman`; a "
        "Podman of the node's own: `systemctl enable --now podman.socket`"
    )


def _storage_driver(podman: PodmanFacts) -> Check:
    driver = podman.storage_driver
    if driver == "overlay":
        return passed(CheckName.STORAGE_DRIVER, driver)
    cost = "it copies the whole image for every container" if driver == "vfs" else "it is untried"
    return warned(
        CheckName.STORAGE_DRIVER,
        f"{driver or 'unknown'}: works, but {cost}",
        'driver = "overlay" under [storage] in /etc/containers/storage.conf, then '
        "`podman system reset` (removes all images and containers of the node)",
    )


def _runtime(facts: NodeFacts, podman: PodmanFacts) -> Check:
    name, runtime = CheckName.RUNTIME, podman.runtime_name
    found = f"{runtime} {version_in(podman.runtime_version)}".strip()
    crun = install(facts, debian="crun criu libcriu2", fedora="crun criu criu-libs")
    if runtime not in {"crun", "runc"}:
        return failed(
            name,
            f"{found or 'unknown'} cannot checkpoint with CRIU; crun and runc can",
            f'{crun}, and runtime = "crun" under [engine] in /etc/containers/containers.conf',
        )
    if runtime == "crun" and "+CRIU" not in podman.runtime_version:
        return failed(name, f"{found}, built without CRIU (no +CRIU in `crun --version`)", crun)
    if not facts.runtime_checkpoint.ok:
        text = tail(facts.runtime_checkpoint)
        return failed(
            name, f"{found} cannot checkpoint: `{runtime} checkpoint --help`: {text}", crun
        )
    if runtime == "crun" and not facts.libcriu:
        # Neither +CRIU nor `checkpoint --help` tells: crun loads it at the checkpoint.
        return failed(
            name,
            f"{found} with +CRIU, but libcriu.so.2 is missing: it loads that to checkpoint",
            install(facts, debian="libcriu2", fedora="criu-libs"),
        )
    return passed(name, f"{found}{' with +CRIU' if runtime == 'crun' else ''}")


def _criu_enabled(facts: NodeFacts) -> Check:
    if facts.criu_enabled:
        return passed(CheckName.CRIU_ENABLED, "true")
    return failed(
        CheckName.CRIU_ENABLED,
        "CRIU was switched off on purpose, by CRIU_ENABLED=false",
        "set CRIU_ENABLED=true in the agent's environment (`agent.criuEnabled` of the chart) to "
        "restore demos",
    )


def _criu_version(facts: NodeFacts) -> Check:
    name = CheckName.CRIU_VERSION
    newer = install(facts, debian="criu libcriu2", fedora="criu criu-libs")
    if not facts.criu.ok:
        return failed(name, tail(facts.criu), newer)
    found = parse_version(facts.criu.output)
    version = version_in(facts.criu.output)
    if found < MINIMUM_CRIU:
        return failed(name, f"{version or facts.criu.output}; 3.11 or later is needed", newer)
    if found < SOCKET_OPTIONS_CRIU and parse_version(facts.kernel) >= SOCKET_OPTIONS_KERNEL:
        return warned(
            name,
            f"{version}; from Linux 6.16 on, CRIU before 4.2 cannot checkpoint anything with a "
            "network socket, unless the distribution has fixed it",
            f"{newer}, from a release that has 4.2",
        )
    first, shown = HIDDEN_GUARDS_KERNELS
    if first <= parse_version(facts.kernel) < shown:
        return warned(
            name,
            f"{version}; Linux {version_in(facts.kernel)} does not show CRIU the light guard pages "
            "of threads: programs with glibc 2.42 or later (Fedora 43) cannot be checkpointed",
            "a kernel from 6.16 on with CRIU 4.2; until then, images with an older glibc",
        )
    return passed(name, version)


def _criu_check(facts: NodeFacts) -> Check:
    if facts.criu_check.ok:
        return passed(CheckName.CRIU_CHECK, tail(facts.criu_check))
    return failed(
        CheckName.CRIU_CHECK,
        tail(facts.criu_check),
        "`criu check -v4` names what the kernel lacks; it needs CONFIG_CHECKPOINT_RESTORE, and in "
        "a container to be privileged",
    )


def _criu_cache(run: Mount) -> Check:
    name = CheckName.CRIU_CACHE
    if run.type == "tmpfs":
        return passed(name, "/run of Podman is a tmpfs")
    return warned(
        name,
        f"/run of Podman is on {run.type}: CRIU keeps there what it knows of the kernel "
        "(criu.kdat), but on a tmpfs only, and finds it out anew at each restore",
        "mount a tmpfs at /run of Podman's container, as the chart does: an emptyDir with "
        "`medium: Memory`",
    )


def _network_lock(facts: NodeFacts) -> Check:
    if facts.iptables.ok:
        return passed(CheckName.NETWORK_LOCK, facts.iptables.output.splitlines()[0])
    # nft alone does not help: CRIU locks by nftables through a library, and only when it was
    # built to do so by default. Tried with Debian's 4.2.1: every checkpoint fails.
    return warned(
        CheckName.NETWORK_LOCK,
        f"{tail(facts.iptables)}: CRIU calls it in checkpoints and restores, and fails, unless it "
        "was built to use nftables as on Fedora",
        install(facts, debian="iptables", fedora="iptables-nft"),
    )
