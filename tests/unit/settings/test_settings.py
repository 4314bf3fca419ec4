"""Settings: each bad value is refused by its name, before anything is started."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tryitnow.api.node import Toleration
from tryitnow.api.template import ResourceLimits
from tryitnow.settings import (
    ContainerSettings,
    InvalidSettingError,
    agent_settings,
    controller_settings,
)

REQUIRED = {"NODE_NAME": "node-a", "NODE_ADDRESS": "192.0.2.1"}


def test_a_node_needs_to_know_its_name_and_address_only() -> None:
    settings = agent_settings(REQUIRED)
    assert settings.node_name == "node-a"
    assert settings.node_address == "192.0.2.1"
    assert settings.criu_enabled
    assert settings.checkpoint_path == Path("/var/lib/try-it-now/checkpoints")
    assert settings.podman.socket == "unix:///run/podman/podman.sock"
    assert settings.agent_user == "system:serviceaccount:tryitnow-system:tryitnow-agent"
    assert settings.scrub_interval == timedelta(minutes=10)
    assert settings.disk_reserve_bytes == 2 << 30
    assert settings.orphan_grace == timedelta(minutes=10)
    assert settings.trash_retention == timedelta(hours=24)
    assert settings.probe_interval == timedelta(seconds=10)
    assert settings.doctor_timeout is None
    assert settings.trash_path == Path("/var/lib/try-it-now/trash")


def test_names_that_users_know_are_kept() -> None:
    settings = agent_settings(
        {
            **REQUIRED,
            "CONTAINER_MODE": "podman",
            "CRIU_ENABLED": "false",
            "CHECKPOINT_PATH": "/srv/checkpoints",
            "PODMAN_SOCKET": "unix:///run/other.sock",
            "POD_NAMESPACE": "demos",
            "AGENT_SERVICE_ACCOUNT": "restorer",
            "SCRUB_INTERVAL": "1h",
            "MEMORY_RESERVE_MIB": "256",
            "DISK_RESERVE": "500M",
            "ORPHAN_GRACE": "1h30m",
            "TRASH_RETENTION": "7d",
            "PROBE_INTERVAL": "1s",
            "DOCTOR_TIMEOUT": "1m",
        }
    )
    assert not settings.criu_enabled
    assert settings.checkpoint_path == Path("/srv/checkpoints")
    assert settings.podman.socket == "unix:///run/other.sock"
    assert settings.agent_user == "system:serviceaccount:demos:restorer"
    assert settings.scrub_interval == timedelta(hours=1)
    assert settings.memory_reserve_bytes == 256 << 20
    assert settings.disk_reserve_bytes == 500_000_000
    assert settings.orphan_grace == timedelta(minutes=90)
    assert settings.trash_retention == timedelta(days=7)
    assert settings.probe_interval == timedelta(seconds=1)
    assert settings.doctor_timeout == timedelta(minutes=1)
    assert settings.trash_path == Path("/srv/trash")


@pytest.mark.parametrize(
    ("text", "enabled"),
    [("true", True), ("True", True), ("1", True), ("on", True), (" yes ", True),
     ("false", False), ("FALSE", False), ("0", False), ("off", False), ("no", False)],
)  # fmt: skip
def test_flags_are_read_as_people_write_them(text: str, enabled: bool) -> None:  # noqa: FBT001
    assert agent_settings({**REQUIRED, "CRIU_ENABLED": text}).criu_enabled is enabled


def test_the_ports_of_the_metrics_are_free_where_the_programs_run() -> None:
    agent = agent_settings(REQUIRED)
    assert agent.metrics_port not in {agent.transfer_port, 8080}
    assert not agent.first_port <= agent.metrics_port <= agent.last_port
    assert agent_settings({**REQUIRED, "METRICS_PORT": "9100"}).metrics_port == 9100
    assert controller_settings({"METRICS_PORT": "9100"}).metrics_port == 9100
    with pytest.raises(InvalidSettingError, match="METRICS_PORT"):
        controller_settings({"METRICS_PORT": "http"})


def test_what_the_agents_bear_is_read_as_a_pod_has_it() -> None:
    text = '[{"key": "for", "value": "demos", "effect": "NoSchedule", "tolerationSeconds": 3}]'
    borne = (Toleration(key="for", value="demos", effect="NoSchedule"),)
    assert controller_settings({"AGENT_TOLERATIONS": text}).agent_tolerations == borne
    assert controller_settings({"AGENT_TOLERATIONS": ""}).agent_tolerations == ()
    for wrong in ("for=demos", '{"key": "for"}', '[{"operator": "Likes"}]'):
        with pytest.raises(InvalidSettingError, match="AGENT_TOLERATIONS"):
            controller_settings({"AGENT_TOLERATIONS": wrong})


def test_what_demos_may_reach_is_nothing_or_what_is_written_as_in_the_chart() -> None:
    nothing = agent_settings(REQUIRED).network
    assert nothing.allowed_egress == ()
    assert nothing.dns_servers == ()
    text = (
        '[{"cidr": "192.0.2.0/24", "ports": [5432], "protocol": "TCP"}, {"host": "*.example.com"}]'
    )
    env = {**REQUIRED, "ALLOWED_EGRESS": text, "DNS_SERVERS": "192.0.2.53, 2001:db8::53"}
    network = agent_settings(env).network
    assert [entry.host or entry.cidr for entry in network.allowed_egress] == [
        "192.0.2.0/24",
        "*.example.com",
    ]
    assert [str(server) for server in network.dns_servers] == ["192.0.2.53", "2001:db8::53"]


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("ALLOWED_EGRESS", "0.0.0.0/0", "no list of hosts"),
        ("ALLOWED_EGRESS", '[{"cidr": "192.0.2.1/24"}]', "host bits set"),
        ("ALLOWED_EGRESS", '[{"host": "*"}]', "0.host"),
        ("ALLOWED_EGRESS", '[{"host": "a.example", "port": 80}]', "0.port"),
        ("ALLOWED_EGRESS", '[{"ports": [80]}]', "exactly one of host and cidr"),
        ("DNS_SERVERS", "dns.example.com", "dns.example.com"),
    ],
    ids=str,
)
def test_bounds_of_the_network_that_cannot_be_used_are_named(
    name: str, value: str, wrong: str
) -> None:
    """An entry that is misread could open more than it was meant to."""
    with pytest.raises(InvalidSettingError, match=name) as refused:
        agent_settings({**REQUIRED, name: value})
    assert wrong in str(refused.value)


def test_a_node_takes_no_more_instances_than_it_has_ports() -> None:
    few_ports = agent_settings({**REQUIRED, "PORT_RANGE": "20000-20004"})
    assert few_ports.capacity == 5
    few_demos = agent_settings({**REQUIRED, "MAX_INSTANCES": "3"})
    assert few_demos.capacity == 3


@pytest.mark.parametrize(("share", "places"), [("100", 110), ("50", 55), ("1", 1), ("2", 2)])
def test_a_namespace_has_its_share_of_the_instances(share: str, places: int) -> None:
    assert agent_settings({**REQUIRED, "NAMESPACE_SHARE": share}).namespace_capacity == places


@pytest.mark.parametrize("name", ["NODE_NAME", "NODE_ADDRESS"])
@pytest.mark.parametrize("value", ["", None])
def test_a_missing_setting_is_named(name: str, value: str | None) -> None:
    env = dict(REQUIRED)
    if value is None:
        del env[name]
    else:
        env[name] = value
    with pytest.raises(InvalidSettingError, match=name):
        agent_settings(env)


def test_the_bounds_of_containers_are_read() -> None:
    found = agent_settings(REQUIRED).containers
    assert found.default_limits == ResourceLimits(cpu="4", memory="4Gi", pids=2048)
    assert "SETUID" in found.capabilities
    assert not found.allow_unenforced_limits
    env = {
        "DEFAULT_LIMITS": '{"cpu": null, "memory": "1Gi"}',
        "CAPABILITIES": "",
        "ALLOWED_CAPABILITIES": "NET_RAW, SETPCAP",
        "ALLOW_PRIVILEGE_ESCALATION": "false",
        "ALLOW_UNENFORCED_LIMITS": "true",
    }
    assert agent_settings({**REQUIRED, **env}).containers == ContainerSettings(
        default_limits=ResourceLimits(memory="1Gi"),
        capabilities=(),
        allowed_capabilities=("NET_RAW", "SETPCAP"),
        allow_privilege_escalation=False,
        allow_unenforced_limits=True,
    )


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("DEFAULT_LIMITS", "4Gi", "are no limits"),
        ("DEFAULT_LIMITS", '{"memory": "4G!"}', "memory"),
        ("CAPABILITIES", "CAP_CHOWN", "without CAP_"),
        ("ALLOWED_CAPABILITIES", "chown", "without CAP_"),
    ],
)
def test_bounds_of_containers_that_cannot_be_used_are_named(
    name: str, value: str, wrong: str
) -> None:
    with pytest.raises(InvalidSettingError, match=name) as refused:
        agent_settings({**REQUIRED, name: value})
    assert wrong in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONTAINER_MODE", "docker"),
        ("CONTAINER_MODE", ""),
        ("CRIU_ENABLED", "maybe"),
        ("CRIU_ENABLED", ""),
        ("PORT_RANGE", "20000"),
        ("PORT_RANGE", "20000-"),
        ("PORT_RANGE", "-20000"),
        ("PORT_RANGE", "20010-20000"),
        ("PORT_RANGE", "80-20000"),
        ("PORT_RANGE", "20000-70000"),
        ("PORT_RANGE", "a-b"),
        ("PORT_RANGE", "20000-2099\N{SUPERSCRIPT TWO}"),
        ("MAX_INSTANCES", "0"),
        ("NAMESPACE_SHARE", "0"),
        ("NAMESPACE_SHARE", "101"),
        ("MAX_INSTANCES", "many"),
        ("MAX_INSTANCES", "10001"),
        ("MEMORY_RESERVE_MIB", "-1"),
        ("MEMORY_RESERVE_MIB", "1GiB"),
        ("DISK_RESERVE", ""),
        ("DISK_RESERVE", "2 GB"),
        ("DISK_RESERVE", "-1Gi"),
        ("DISK_RESERVE", "500m"),  # half a byte: somebody meant 500M
        ("DISK_RESERVE", "2Pi"),
        ("ORPHAN_GRACE", "0s"),  # or a demo whose object is late would be removed at once
        ("ORPHAN_GRACE", "31d"),
        ("TRASH_RETENTION", "0s"),
        ("TRASH_RETENTION", "forever"),
        ("TRASH_RETENTION", "366d"),
        ("PROBE_INTERVAL", "500ms"),  # or probes would load every application
        ("PROBE_INTERVAL", "21s"),  # or Ready could be wrong for more than a minute
        ("PROBE_INTERVAL", "10"),
        ("DOCTOR_TIMEOUT", "0s"),
        ("DOCTOR_TIMEOUT", "1h"),
        ("DOCTOR_TIMEOUT", "never"),
        ("TRANSFER_PORT", "0"),
        ("TRANSFER_PORT", "65536"),
        ("SCRUB_INTERVAL", "hourly"),
        ("SCRUB_INTERVAL", "10"),
        ("SCRUB_INTERVAL", "0s"),  # or archives were read without a pause
        ("CHECKPOINT_PATH", ""),  # or the working directory was made 0700
        ("CHECKPOINT_PATH", "checkpoints"),  # relative to wherever it was started
        ("PODMAN_SOCKET", ""),  # or podman-py's ValueError at the first call
        ("PODMAN_SOCKET", "/run/podman/podman.sock"),  # the likely mistake
        ("PODMAN_SOCKET", "tcp://192.0.2.1:8080"),  # archives are files of the same machine
    ],
)
def test_a_bad_value_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(InvalidSettingError, match=name):
        agent_settings({**REQUIRED, name: value})


def test_a_bad_value_is_shown() -> None:
    with pytest.raises(InvalidSettingError, match="'maybe'"):
        agent_settings({**REQUIRED, "CRIU_ENABLED": "maybe"})


@pytest.mark.parametrize(
    ("name", "value", "way_out"),
    [
        ("DISK_RESERVE", "2 GB", "the default is 2Gi"),
        ("DISK_RESERVE", "500m", "write it like 2Gi or 500M"),
        ("ORPHAN_GRACE", "0s", "give at least 1s, the default is 10m"),
        ("TRASH_RETENTION", "500d", "give at most 8760h, the default is 24h"),
        ("PROBE_INTERVAL", "1m", "give at most 20s, the default is 10s"),
        ("PROBE_INTERVAL", "often", "write it like 500ms, 30s, 10m, 1h30m or 7d"),
    ],
)
def test_a_bad_value_comes_with_the_way_out(name: str, value: str, way_out: str) -> None:
    with pytest.raises(InvalidSettingError, match=f"{name}.*{way_out}"):
        agent_settings({**REQUIRED, name: value})


def test_a_doctor_without_a_time_limit_of_its_own_scales_it() -> None:
    # A chart passes an empty value on.
    assert agent_settings({**REQUIRED, "DOCTOR_TIMEOUT": ""}).doctor_timeout is None


def test_the_controller_needs_nothing() -> None:
    assert controller_settings({}).namespace == "tryitnow-system"


def test_a_controller_is_known_by_its_pod_or_by_a_name_of_its_own() -> None:
    assert controller_settings({"POD_NAME": "controller-1"}).identity == "controller-1"
    assert controller_settings({}).identity != controller_settings({}).identity
    assert controller_settings({"POD_NAMESPACE": "demos"}).namespace == "demos"


def test_demos_are_reached_at_the_nodes_address_unless_it_has_a_public_host() -> None:
    assert agent_settings(REQUIRED).host_at(20000) == "192.0.2.1:20000"
    named = agent_settings({**REQUIRED, "PUBLIC_HOST": "node-a.demos.example.com"})
    assert named.host_at(20000) == "node-a.demos.example.com:20000"
    assert named.node_address == "192.0.2.1"
    v6 = agent_settings({**REQUIRED, "NODE_ADDRESS": "2001:db8::1"})
    assert v6.host_at(20000) == "[2001:db8::1]:20000"
    assert agent_settings({**REQUIRED, "PUBLIC_HOST": ""}).public_host == "192.0.2.1"


@pytest.mark.parametrize("host", ["http://a.example", "a b", "$(NODE_NAME).example", "a:b", "-a"])
def test_a_public_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(InvalidSettingError, match=r"PUBLIC_HOST.*is no host"):
        agent_settings({**REQUIRED, "PUBLIC_HOST": host})


def test_registries_are_all_or_those_that_are_named() -> None:
    assert agent_settings(REQUIRED).allowed_registries == ()
    text = "docker.io/library, *.example.com:5000,[fd00::1]"
    with pytest.raises(InvalidSettingError, match=r"'\[fd00::1\]' is no registry.*such as"):
        agent_settings({**REQUIRED, "ALLOWED_REGISTRIES": text})
    known = agent_settings({**REQUIRED, "ALLOWED_REGISTRIES": text.rpartition(",")[0]})
    assert known.allowed_registries == ("docker.io/library", "*.example.com:5000")


@pytest.mark.parametrize("wrong", ["https://quay.io", "Quay.io", "quay.io/", "*", "quay.io:tls"])
def test_what_is_no_registry_is_named(wrong: str) -> None:
    with pytest.raises(InvalidSettingError, match="is no registry"):
        agent_settings({**REQUIRED, "ALLOWED_REGISTRIES": wrong})
