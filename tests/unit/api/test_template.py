"""Templates of several containers."""

from __future__ import annotations

import pytest

from tests.unit.builders import make_blueprint, make_container, make_template
from tryitnow.api.checkpoint import Blueprint, CRIUOptions, TCPPolicy
from tryitnow.api.hooks import Hook, Hooks
from tryitnow.api.template import EmptyDir, Exec, InitContainer, Template, Volume


def sidecar(name: str = "database") -> InitContainer:
    return InitContainer.model_validate(
        make_container(name, ports=()).to_api() | {"restartPolicy": "Always"}
    )


def with_sidecar() -> Template:
    return Template(init_containers=(sidecar(),), containers=(make_container(),))


def blueprint(**changes: object) -> Blueprint:
    return make_blueprint().model_copy(update=changes)


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
    assert blueprint(template=template).probe_port == 8080


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"hooks": Hooks(before_delete=(Hook(exec=Exec(command=("x",))),))}, False),
        ({"hooks": Hooks(after_restore=(Hook(exec=Exec(command=("x",))),))}, True),
        (
            {
                "template": make_template().model_copy(
                    update={"volumes": (Volume(name="data", empty_dir=EmptyDir()),)}
                )
            },
            True,
        ),
        (
            {"template": Template(init_containers=(sidecar(),), containers=(make_container(),))},
            True,
        ),
    ],
    ids=["one container", "beforeDelete", "afterRestore", "volume", "sidecar"],
)
def test_a_pod_is_made_where_one_is_needed(changes: dict[str, object], *, expected: bool) -> None:
    assert blueprint(**changes).needs_pod is expected


def test_connections_within_a_pod_live_on_unless_told_otherwise() -> None:
    pod = with_sidecar()
    assert blueprint().freezing.tcp is TCPPolicy.CLOSE
    assert blueprint(template=pod).freezing.tcp is TCPPolicy.ESTABLISHED
    closing = CRIUOptions(tcp=TCPPolicy.CLOSE)
    assert blueprint(template=pod, criu=closing).freezing.tcp is TCPPolicy.CLOSE


def test_a_field_that_a_later_version_adds_makes_no_new_revision() -> None:
    """Defaults do not count: what an older version wrote has none of them."""
    whole = make_blueprint()
    older = {k: v for k, v in whole.to_api().items() if k not in {"hooks", "parameters"}}
    assert Blueprint.model_validate(older).revision() == whole.revision()
