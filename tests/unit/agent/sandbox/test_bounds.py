"""What each container has, and what it may ask for beyond that."""

from __future__ import annotations

import pytest

from tests.unit.builders import make_container
from tryitnow.agent.errors import NotAllowedError
from tryitnow.agent.health import Health, LastHealth
from tryitnow.agent.sandbox.bounds import Bounds
from tryitnow.api.security_context import Capabilities, SecurityContext
from tryitnow.api.template import Container, ResourceLimits, Resources
from tryitnow.settings import ContainerSettings

WITH_ALL = Health(controllers=frozenset({"cpu", "memory", "pids"}))
SETTINGS = ContainerSettings(
    default_limits=ResourceLimits(cpu="4", memory="4Gi", pids=2048),
    allowed_capabilities=("SETPCAP", "NET_RAW"),
)


def bounds(settings: ContainerSettings = SETTINGS) -> Bounds:
    return Bounds(settings, LastHealth(WITH_ALL))


def asking(
    *, add: tuple[str, ...] = (), drop: tuple[str, ...] = (), more: bool = False
) -> Container:
    context = SecurityContext(
        allow_privilege_escalation=more, capabilities=Capabilities(add=add, drop=drop)
    )
    return make_container(security_context=context)


def test_a_container_without_limits_has_those_of_the_administrator() -> None:
    assert bounds().limits(make_container()) == SETTINGS.default_limits


def test_a_limit_of_the_template_counts_before_the_administrators() -> None:
    own = make_container(resources=Resources(limits=ResourceLimits(memory="8Gi")))
    assert bounds().limits(own) == ResourceLimits(cpu="4", memory="8Gi", pids=2048)


def test_a_container_has_what_entrypoints_that_change_their_user_need_and_no_more() -> None:
    found = bounds().privileges(make_container())
    assert found.add == (), "what Podman adds is for the processes of every user"
    assert found.no_new_privileges
    kept = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "KILL", "NET_BIND_SERVICE"}
    assert not {f"CAP_{name}" for name in kept} & {*found.drop}
    gone = {"SETFCAP", "SETPCAP", "NET_RAW", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "MKNOD"}
    assert {f"CAP_{name}" for name in gone} <= {*found.drop}


def test_a_container_may_ask_for_what_the_administrator_allows() -> None:
    found = bounds().privileges(asking(add=("SETPCAP", "NET_RAW")))
    assert found.add == ("CAP_NET_RAW",), "Podman gives root the other by itself"
    assert not {"CAP_SETPCAP", "CAP_NET_RAW"} & {*found.drop}


def test_a_container_may_have_less() -> None:
    found = bounds().privileges(asking(drop=("CHOWN",)))
    assert "CAP_CHOWN" in found.drop
    found = bounds().privileges(asking(drop=("ALL",), add=("NET_BIND_SERVICE",)))
    assert "CAP_SETUID" in found.drop
    assert "CAP_NET_BIND_SERVICE" not in found.drop


@pytest.mark.parametrize("name", ["SYS_ADMIN", "NET_ADMIN", "ALL"])
def test_a_container_gets_no_capability_that_is_not_allowed(name: str) -> None:
    with pytest.raises(NotAllowedError, match=r"securityContext\.capabilities\.add: .* may not"):
        bounds().privileges(asking(add=(name,)))


def test_processes_gain_privileges_where_both_want_it_alone() -> None:
    with pytest.raises(NotAllowedError, match=r"allowPrivilegeEscalation of the chart"):
        bounds().privileges(asking(more=True))
    allowing = ContainerSettings(allow_privilege_escalation=True)
    assert not bounds(allowing).privileges(asking(more=True)).no_new_privileges
    assert bounds(allowing).privileges(asking()).no_new_privileges
