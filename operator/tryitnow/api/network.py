"""What a sandbox may reach: what a Checkpoint asks for, and what an administrator allows."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from tryitnow.api.meta import Model

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_EGRESS = 32
MAX_PORTS = 32

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
HOST_PATTERN = rf"^{_LABEL}(\.{_LABEL})+$"
"""A whole name in small letters. One of a single label would depend on a search list."""

MAIL_PORTS = frozenset({25, 465, 587})
"""SMTP, SMTP over TLS, and submission (RFC 5321, RFC 8314, RFC 6409)."""

TLS_MAIL_PORT = 465
"""SMTP that is TLS from its first byte."""

SINK_PORTS = frozenset({*MAIL_PORTS, 2525})
"""The ports of which mail is taken: these, and the one that mail services offer where networks
close the others. No standard gives it to mail, so a Checkpoint may open it for something else."""

_PORT = Annotated[int, Field(ge=1, le=65535)]


class Protocol(StrEnum):
    """The transport protocol of a port."""

    TCP = "TCP"
    UDP = "UDP"


class Mail(StrEnum):
    """What becomes of the mail that a demo sends."""

    REFUSE = "Refuse"
    DROP = "Drop"
    SINK = "Sink"


def _network(text: str) -> IPNetwork:
    return ipaddress.ip_network(text, strict=True)


class _Target(Model):
    """A host or a range of addresses."""

    host: str | None = None
    cidr: str | None = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.host is None) is (self.cidr is None):
            msg = "exactly one of host and cidr must be set"
            raise ValueError(msg)
        return self

    @field_validator("cidr")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None:
            _network(value)
        return value


class EgressRule(_Target):
    """Ports of one host or of one range of addresses outside of the demo."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "has(self.host) != has(self.cidr)",
                    "message": "exactly one of host and cidr must be set",
                },
                {
                    "rule": "!has(self.cidr) || isCIDR(self.cidr)"
                    " && cidr(self.cidr) == cidr(self.cidr).masked()",
                    "message": "must be a range of addresses such as 192.0.2.0/24 or 2001:db8::/32,"
                    " without bits behind its prefix",
                    "fieldPath": ".cidr",
                },
                {
                    "rule": "!self.ports.exists(p, p in [25, 465, 587])",
                    "message": "no demo sends mail: the ports 25, 465 and 587 cannot be opened",
                    "fieldPath": ".ports",
                },
            ]
        }
    )

    host: Annotated[str, Field(min_length=1, max_length=253, pattern=HOST_PATTERN)] | None = None
    """Name of a host, in small letters, such as api.example.com. The agent looks its addresses up,
    again and again, and writes them into the /etc/hosts of the demo."""

    cidr: Annotated[str, Field(min_length=1, max_length=43)] | None = None
    """Range of addresses, such as 192.0.2.0/24, or 192.0.2.7/32 for a single one."""

    ports: Annotated[tuple[_PORT, ...], Field(min_length=1, max_length=MAX_PORTS)]
    """Ports that the demo may connect to. No demo sends mail: 25, 465 and 587 are refused here."""

    protocol: Protocol = Protocol.TCP
    """TCP or UDP. Defaults to TCP."""

    @field_validator("ports")
    @classmethod
    def _no_mail(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if MAIL_PORTS & set(value):
            msg = "no demo sends mail: the ports 25, 465 and 587 cannot be opened"
            raise ValueError(msg)
        return value

    @property
    def network(self) -> IPNetwork | None:
        """The range of addresses; None where a host is named."""
        return None if self.cidr is None else _network(self.cidr)

    @property
    def target(self) -> str:
        """The host, or the range of addresses, for people."""
        return self.host or self.cidr or ""


_SINK_IS_TAKEN = "port 2525 is one of mail while spec.network.mail is Drop or Sink: name another"


class Network(Model):
    """The connections that the containers may open to the outside. The firewall of the sandbox
    refuses all others, during builds and test restores as well."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "!has(self.mail) || self.mail == 'Refuse' || !has(self.egress)"
                    " || !self.egress.exists(e, 2525 in e.ports"
                    " && (!has(e.protocol) || e.protocol == 'TCP'))",
                    "message": _SINK_IS_TAKEN,
                    "fieldPath": ".egress",
                },
            ]
        }
    )

    egress: Annotated[tuple[EgressRule, ...], Field(max_length=MAX_EGRESS)] = ()
    """Hosts and ranges of addresses that the containers may connect to. Each must be within what
    the administrator allows (the chart's agent.network.allowedEgress). Defaults to none."""

    mail: Mail = Mail.REFUSE
    """The treatment of mail to addresses outside of the demo (ports 25, 465, 587 and 2525). None is
    ever delivered. Refuse refuses the connections, Drop accepts each mail and forgets it, Sink
    accepts each mail and keeps the last 100 of a demo for `kubectl tryitnow mail`. Defaults to
    Refuse."""

    @model_validator(mode="after")
    def _mail_has_its_ports(self) -> Self:
        taken = any(2525 in e.ports and e.protocol is Protocol.TCP for e in self.egress)
        if self.takes_mail and taken:
            raise ValueError(_SINK_IS_TAKEN)
        return self

    @property
    def takes_mail(self) -> bool:
        """Whether mail is accepted, be it to be forgotten."""
        return self.mail is not Mail.REFUSE


class AllowedEgress(_Target):
    """An administrator's permission: an upper bound for ``spec.network.egress``."""

    model_config = ConfigDict(extra="forbid")

    host: (
        Annotated[str, Field(min_length=1, max_length=253, pattern=rf"^(\*\.)?{HOST_PATTERN[1:]}")]
        | None
    ) = None
    """A host, or ``*.example.com`` for all below one."""

    cidr: Annotated[str, Field(min_length=1, max_length=43)] | None = None
    """A range of addresses."""

    ports: Annotated[tuple[_PORT, ...], Field(max_length=1024)] = ()
    """Ports; without any, all."""

    protocol: Protocol | None = None
    """TCP or UDP; both where it is not said."""

    @property
    def network(self) -> IPNetwork | None:
        """The range of addresses; None where a host is named."""
        return None if self.cidr is None else _network(self.cidr)

    def covers_ports(self, rule: EgressRule) -> bool:
        """Whether the ports and the protocol of a rule are within this permission."""
        is_protocol = self.protocol in (None, rule.protocol)
        return is_protocol and (not self.ports or set(rule.ports) <= set(self.ports))

    def covers(self, rule: EgressRule) -> bool:
        """Whether all that a rule asks for is within this permission."""
        if not self.covers_ports(rule):
            return False
        if rule.host is not None:
            return self.host is not None and _matches(rule.host, self.host)
        wanted, allowed = rule.network, self.network
        if wanted is None or allowed is None:
            return False
        return is_within(wanted, allowed)


def _matches(host: str, allowed: str) -> bool:
    if allowed.startswith("*."):
        return host.endswith(allowed[1:])
    return host == allowed


def is_within(inner: IPNetwork, outer: IPNetwork) -> bool:
    """Whether a range of addresses lies in another; never where their versions differ."""
    if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False
