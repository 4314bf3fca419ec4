"""Names of containers, and what they say about their owner."""

from __future__ import annotations

import pytest

from tests.unit.builders import REVISION, make_copy, make_instance
from tryitnow.agent.names import PREFIX, ContainerName, Role, demo_container, parse, work_container
from tryitnow.api.meta import Key


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("owner", [Key("default", "shop"), Key("a-b", "shop.example")])
def test_a_name_reads_back_as_its_owner(role: Role, owner: Key) -> None:
    name = ContainerName(role, owner, "0123456789")
    assert parse(str(name)) == name
    assert str(name).startswith(PREFIX)


def test_a_demo_is_named_after_its_instance() -> None:
    name = demo_container(make_instance("annas-demo", uid="12345678-aaaa"))
    assert str(name) == "tryitnow_demo_default_annas-demo_12345678"


def test_a_namesake_of_a_deleted_instance_gets_a_container_of_its_own() -> None:
    first, second = make_instance(uid="11111111-a"), make_instance(uid="22222222-a")
    assert demo_container(first) != demo_container(second)


def test_work_is_named_after_the_checkpoint_and_its_revision() -> None:
    assert str(work_container(Role.BUILD, make_copy())) == f"tryitnow_build_default_shop_{REVISION}"
    assert work_container(Role.BUILD, make_copy()) != work_container(Role.VERIFY, make_copy())


@pytest.mark.parametrize(
    "name",
    ["", "nginx", "tryitnow", "tryitnow_", "tryitnow_demo_default_shop", "tryitnow_demo_a_b_c_d",
     "tryitnow_other_default_shop_1", "xtryitnow_demo_default_shop_1", "Tryitnow_demo_a_b_c"],
)  # fmt: skip
def test_the_containers_of_others_are_not_ours(name: str) -> None:
    assert parse(name) is None
