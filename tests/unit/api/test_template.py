"""Templates of several containers."""

from __future__ import annotations

from tests.unit.builders import make_container, make_definition
from tryitnow.api.definition import CRIUOptions, Definition, TCPPolicy
from tryitnow.api.template import InitContainer, Template


def sidecar(name: str = "database") -> InitContainer:
    return InitContainer.model_validate(
        make_container(name, ports=()).to_api() | {"restartPolicy": "Always"}
    )


def with_sidecar() -> Template:
    return Template(init_containers=(sidecar(),), containers=(make_container(),))


def definition(**changes: object) -> Definition:
    return make_definition().model_copy(update=changes)


def test_members_are_what_runs_on_in_the_order_of_the_start() -> None:
    init = InitContainer.model_validate(make_container("migrate", ports=()).to_api())
    template = Template(
        init_containers=(sidecar(), init), containers=(make_container(), make_container("mail"))
    )
    assert [member.name for member in template.members] == ["database", "shop", "mail"]


def test_the_ports_of_the_containers_come_before_those_of_sidecars() -> None:
    proxy = InitContainer.model_validate(
        make_container("proxy", ports=(9000,)).to_api() | {"restartPolicy": "Always"}
    )
    template = Template(init_containers=(proxy,), containers=(make_container(),))
    assert template.ports == (8080, 9000)
    assert definition(template=template).probe_port == 8080


def test_connections_within_a_pod_live_on_unless_told_otherwise() -> None:
    pod = with_sidecar()
    assert definition().criu_options.tcp is TCPPolicy.CLOSE
    assert definition(template=pod).criu_options.tcp is TCPPolicy.ESTABLISHED
    closing = CRIUOptions(tcp=TCPPolicy.CLOSE)
    assert definition(template=pod, criu=closing).criu_options.tcp is TCPPolicy.CLOSE


def test_tcp_waits_until_all_containers_are_restored() -> None:
    pod = with_sidecar()
    assert definition(template=pod).blocks_tcp
    assert not definition().blocks_tcp
    assert not definition(template=pod, criu=CRIUOptions(tcp=TCPPolicy.CLOSE)).blocks_tcp
    alone = CRIUOptions(tcp=TCPPolicy.ESTABLISHED)
    assert not definition(criu=alone).blocks_tcp, "nobody is at the other end"
