"""What a sandbox may reach: what is asked for, and what an administrator allows."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.unit.builders import UID_OF_SHOP, make_definition
from tryitnow.api.network import AllowedEgress, EgressRule, Mail, Network


def rule(**fields: Any) -> EgressRule:
    return EgressRule.model_validate({"ports": [443], **fields})


def allowed(**fields: Any) -> AllowedEgress:
    return AllowedEgress.model_validate(fields)


@pytest.mark.parametrize(
    ("asked", "permission"),
    [
        (rule(cidr="192.0.2.7/32"), allowed(cidr="192.0.2.0/24")),
        (rule(cidr="192.0.2.0/24"), allowed(cidr="192.0.2.0/24", ports=[80, 443])),
        (rule(cidr="192.0.2.0/24", protocol="UDP"), allowed(cidr="0.0.0.0/0", protocol="UDP")),
        (rule(cidr="2001:db8::/64"), allowed(cidr="2001:db8::/32")),
        (rule(host="api.example.com"), allowed(host="api.example.com")),
        (rule(host="api.example.com"), allowed(host="*.example.com")),
        (rule(host="a.b.example.com"), allowed(host="*.example.com")),
    ],
    ids=str,
)
def test_a_permission_covers_what_lies_within_it(
    asked: EgressRule, permission: AllowedEgress
) -> None:
    assert permission.covers(asked)


@pytest.mark.parametrize(
    ("asked", "permission"),
    [
        (rule(cidr="192.0.2.0/23"), allowed(cidr="192.0.2.0/24")),
        (rule(cidr="0.0.0.0/0"), allowed(cidr="::/0")),
        (rule(cidr="192.0.2.0/24"), allowed(cidr="192.0.2.0/24", ports=[80])),
        (rule(cidr="192.0.2.0/24"), allowed(cidr="192.0.2.0/24", protocol="UDP")),
        (rule(host="example.com"), allowed(host="*.example.com")),
        (rule(host="badexample.com"), allowed(host="*.example.com")),
        # A name is allowed by its name alone: who owns it decides about its addresses.
        (rule(host="api.example.com"), allowed(cidr="0.0.0.0/0")),
    ],
    ids=str,
)
def test_a_permission_covers_nothing_else(asked: EgressRule, permission: AllowedEgress) -> None:
    assert not permission.covers(asked)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"host": "api.example.com", "cidr": "192.0.2.0/24"}, "exactly one of host and cidr"),
        ({}, "exactly one of host and cidr"),
        ({"cidr": "192.0.2.1/24"}, "host bits set"),
        ({"cidr": "anything"}, "does not appear to be"),
        ({"host": "localhost"}, "pattern"),
        ({"host": "API.example.com"}, "pattern"),
        ({"host": "*.example.com"}, "pattern"),
        ({"cidr": "192.0.2.0/24", "ports": []}, "at least 1"),
        ({"cidr": "192.0.2.0/24", "ports": [0]}, "greater than or equal to 1"),
        ({"cidr": "192.0.2.0/24", "ports": [443, 587]}, "no demo sends mail"),
    ],
    ids=str,
)
def test_what_is_no_rule_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        rule(**fields)


def test_a_misspelt_permission_is_refused() -> None:
    with pytest.raises(ValidationError, match="port"):
        allowed(cidr="192.0.2.0/24", port=443)


def test_a_change_of_the_network_is_a_new_revision_and_its_default_is_none() -> None:
    before = make_definition()
    egress = (rule(host="api.example.com"),)
    after = before.model_copy(update={"network": Network(egress=egress)})
    spelt = before.model_copy(update={"network": Network.model_validate({"egress": []})})
    assert before.network == Network()
    assert spelt.identity(UID_OF_SHOP) == before.identity(UID_OF_SHOP)
    assert after.identity(UID_OF_SHOP) != before.identity(UID_OF_SHOP)


def test_a_network_that_takes_mail_has_its_ports_to_itself() -> None:
    taken = {"cidr": "192.0.2.7/32", "ports": [443, 2525]}
    for policy in (Mail.DROP, Mail.SINK):
        with pytest.raises(ValidationError, match="2525 is one of mail"):
            Network.model_validate({"mail": policy, "egress": [taken]})
        Network.model_validate({"mail": policy, "egress": [{**taken, "protocol": "UDP"}]})
    assert Network.model_validate({"mail": "Refuse", "egress": [taken]}).mail is Mail.REFUSE


def test_mail_is_refused_where_nothing_is_said_and_then_the_revision_is_as_ever() -> None:
    before = make_definition()
    refusing = before.model_copy(update={"network": Network(mail=Mail.REFUSE)})
    keeping = before.model_copy(update={"network": Network(mail=Mail.SINK)})
    assert before.network.mail is Mail.REFUSE
    assert refusing.identity(UID_OF_SHOP) == before.identity(UID_OF_SHOP)
    assert keeping.identity(UID_OF_SHOP) != before.identity(UID_OF_SHOP)
