"""Remedies for CRIU's messages, each met on real applications, and for images that are refused.

docs/checkpoint.md has the same table of CRIU's, docs/security/images.md that of images. Limits of
the node have theirs in ``limits``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Remedy:
    """The remedy for a message.

    Attributes:
        sign: What stands in the message.
        text: What to do.

    """

    sign: str
    text: str


REMEDIES = (
    Remedy("file locks are hold", "set spec.criu.fileLocks: true"),
    Remedy("io_uring", "switch io_uring off in the application (MariaDB: innodb_use_native_aio=0)"),
    Remedy(
        "In-flight connection",
        "somebody connected, and the application has not accepted the connection yet: let it "
        "accept, or stop the program that connects (such as a probe) before the checkpoint. The "
        "line skip-in-flight in /etc/criu/crun.conf of the agents' Podman makes CRIU drop such "
        "connections",
    ),
    Remedy(
        "Connected TCP socket",
        "close the connection before the checkpoint, or set spec.criu.tcp",
    ),
    Remedy(
        "Unsupported proto 262",
        "the application listens by Multipath TCP, as programs made with Go do: set "
        "GODEBUG=multipathtcp=0 in its environment",
    ),
    Remedy(
        "ghost file",
        "close the deleted file before the checkpoint, or raise ghost-limit in /etc/criu/crun.conf",
    ),
    Remedy(
        "Can't lookup mount",
        "remove the bind mount, or keep the data inside the container; POSIX message queues "
        "(/dev/mqueue) cannot be checkpointed",
    ),
    Remedy(
        "Can't dump that handle",
        "a file is watched (inotify) outside of the directories that CRIU searches: name its "
        "directory in /etc/criu/crun.conf of the agents' Podman, as irmap-scan-path=/DIRECTORY",
    ),
    Remedy(
        "Can't get rlimit",
        "CRIU may not read the limits of another user's process: Podman needs CAP_SYS_RESOURCE on "
        "this node, as the agent's privileged Pod has it",
    ),
    Remedy(
        "nested user namespace",
        "a process runs in a user namespace of its own, as a browser's sandbox does: switch that "
        "off (Chromium: --no-sandbox)",
    ),
    Remedy(
        "Can't dump file",
        "the application has a file open that CRIU cannot checkpoint, such as a device; CRIU's "
        "message names it: close it before the checkpoint",
    ),
    Remedy(
        "Can't set FPU registers",
        "the processor has more state than this CRIU knows: use a newer CRIU, as a newer image of "
        "the operator has it",
    ),
    Remedy(
        "Not supported images version",
        "another version of CRIU made the checkpoint: use the same image of the operator on all "
        "nodes",
    ),
    Remedy(
        "Unseizable non-zombie",
        "another program traces a process of the application, such as a debugger or strace: stop "
        "it before the checkpoint",
    ),
    Remedy(
        "infect",
        "CRIU cannot restore a mapping, such as PHP's JIT buffer: set opcache.jit_buffer_size=0",
    ),
    Remedy(
        "MADV_GUARD_INSTALL",
        "the node's kernel (Linux 6.13 to 6.15) has light guard pages and does not show them to "
        "CRIU: use Linux 6.16 or newer, or an image with a glibc older than 2.42",
    ),
)

PULL_REMEDIES = (
    Remedy(
        "signature was required, but no signature exists",
        "the image has no signature that the agents' policy accepts (agent.podman.policy): sign it "
        "by its digest and push the signature, or have an administrator accept its repository",
    ),
    Remedy(
        "is rejected by policy",
        "the agents' policy accepts no image of this repository (agent.podman.policy): use a "
        "repository that it names, or have an administrator add this one",
    ),
    Remedy(
        "Source image rejected",
        "no signature of the image is one that the agents' policy accepts (agent.podman.policy): "
        "sign it with a key that the policy names, or have an administrator add the key",
    ),
)

_EXIT_CODES = {
    132: (
        "it executed an instruction that this processor lacks (SIGILL), as after a restore on "
        "another kind of machine: keep the Checkpoint to one kind of node by "
        "spec.distribution.nodeSelector"
    ),
}
"""By a container's exit code: 128 and the signal."""


def remedy_for(lines: Iterable[str]) -> str:
    """Return what to do about the first line, in reading order, that something is known about.

    Empty where nothing is.
    """
    for line in lines:
        for remedy in REMEDIES:
            if remedy.sign in line:
                return remedy.text
    return ""


def remedy_for_pull(message: str) -> str:
    """Return what to do about an image that Podman refuses; empty where nothing is known."""
    found = (remedy.text for remedy in PULL_REMEDIES if remedy.sign in message)
    return next(found, "")


def remedy_for_exit(exit_code: int) -> str:
    """Return what is known about a container's exit code; empty for most."""
    return _EXIT_CODES.get(exit_code, "")
