"""The administrator's bounds for each container: its limits, its capabilities, its privileges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tryitnow.agent.errors import NodeShortError, NotAllowedError
from tryitnow.agent.health import LastHealth
from tryitnow.api.limits import LIMITS_UNENFORCED
from tryitnow.api.template import Container, ResourceLimits
from tryitnow.settings import ContainerSettings

_ALL = "ALL"

# By their numbers in linux/capability.h.
_BY_NUMBER = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip

_BY_PODMAN = frozenset(
    {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID",
     "SETPCAP", "SETUID", "SYS_CHROOT"}
)  # fmt: skip
"""What Podman gives root of a container by default (default_capabilities in containers.conf)."""

_LAST = Path("/proc/sys/kernel/cap_last_cap")


@dataclass(frozen=True)
class Privileges:
    """What a container is made with.

    Attributes:
        add: Capabilities that Podman does not give by default. It gives these to the processes of
            every user, and those in neither list to root alone.
        drop: Capabilities that it does not have.
        no_new_privileges: Whether its processes can gain none that their parents lack.

    """

    add: tuple[str, ...]
    drop: tuple[str, ...]
    no_new_privileges: bool


@dataclass(frozen=True)
class Bounds:
    """Holds containers to what the administrator and the node allow."""

    settings: ContainerSettings
    health: LastHealth

    def limits(self, container: Container) -> ResourceLimits:
        """Return the limits of a container, those of the administrator where it has none.

        Raises:
            NodeShortError: the node cannot hold one.

        """
        default = self.settings.default_limits
        own = {field: value for field, value in container.resources.limits if value is not None}
        wanted = default.model_copy(update=own)
        held = self.health.current.enforceable(wanted)
        lacking = [field for field, value in wanted if getattr(held, field) != value]
        if lacking and not self.settings.allow_unenforced_limits:
            msg = (
                f"containers[{container.name}] has limits for {', '.join(lacking)}, and the "
                "cgroups of this node have no controller for them: nothing would hold the limits. "
                "`tryitnow doctor` on the node says how to get the controllers; or run it on "
                "another node, or allow containers without their limits by "
                "agent.allowUnenforcedLimits of the chart"
            )
            raise NodeShortError(LIMITS_UNENFORCED, msg)
        return held

    def privileges(self, container: Container) -> Privileges:
        """Return the privileges of a container.

        Raises:
            NotAllowedError: it asks for more than the administrator allows.

        """
        asked, settings = container.security_context, self.settings
        where = f"containers[{container.name}].securityContext"
        every = {*settings.capabilities, *settings.allowed_capabilities}
        if beyond := [name for name in asked.capabilities.add if name not in every]:
            msg = (
                f"{where}.capabilities.add: {', '.join(beyond)} may not be added here: the "
                f"administrator allows {', '.join(sorted(every)) or 'none'}. Remove it, or have "
                "it added to agent.containers.allowedCapabilities of the chart"
            )
            raise NotAllowedError(msg)
        if asked.allow_privilege_escalation and not settings.allow_privilege_escalation:
            msg = (
                f"{where}.allowPrivilegeEscalation: the administrator does not allow it. Remove "
                "it, or have agent.containers.allowPrivilegeEscalation of the chart set"
            )
            raise NotAllowedError(msg)
        kept = () if _ALL in asked.capabilities.drop else settings.capabilities
        granted = {*kept, *asked.capabilities.add} - {*asked.capabilities.drop}
        return Privileges(
            add=tuple(f"CAP_{name}" for name in sorted(granted - _BY_PODMAN)),
            drop=tuple(f"CAP_{name}" for name in _of_the_kernel() if name not in granted),
            no_new_privileges=not asked.allow_privilege_escalation,
        )


@cache
def _of_the_kernel() -> tuple[str, ...]:
    # Podman refuses a name that the kernel does not know.
    return _BY_NUMBER[: int(_LAST.read_text()) + 1]
