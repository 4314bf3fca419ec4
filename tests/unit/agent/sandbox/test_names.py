"""Names of containers and pods, and what they say about their owner."""

from __future__ import annotations

import pytest

from tests.unit.builders import REVISION, make_demo, make_node_checkpoint
from tryitnow.agent.sandbox.names import (
    PREFIX,
    ContainerName,
    PodName,
    Role,
    demo_name,
    new_pod,
    parse,
    parse_pod,
    stock_name,
    waits_for,
    work_name,
)
from tryitnow.api.meta import Key


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("owner", [Key("default", "shop"), Key("a-b", "shop.example")])
def test_a_name_reads_back_as_its_owner(role: Role, owner: Key) -> None:
    name = ContainerName(role, owner, "0123456789")
    assert parse(str(name)) == name
    assert str(name).startswith(PREFIX)


def test_a_demo_is_named_after_its_instance() -> None:
    name = demo_name(make_demo("annas-demo", uid="12345678-aaaa"))
    assert str(name) == "tryitnow_demo_default_annas-demo_12345678"


def test_a_namesake_of_a_deleted_instance_gets_a_container_of_its_own() -> None:
    first, second = make_demo(uid="11111111-a"), make_demo(uid="22222222-a")
    assert demo_name(first) != demo_name(second)


def test_work_is_named_after_the_checkpoint_and_its_revision() -> None:
    checkpoint = make_node_checkpoint()
    assert str(work_name(Role.BUILD, checkpoint)) == f"tryitnow_build_default_shop_{REVISION}"
    assert work_name(Role.BUILD, checkpoint) != work_name(Role.VERIFY, checkpoint)


def test_what_waits_is_reported_by_its_name() -> None:
    checkpoint, other = make_node_checkpoint(), make_node_checkpoint(revision="f" * 32)
    first, second = (stock_name(Role.WARM, checkpoint) for _ in range(2))
    assert first != second
    assert parse(str(first)) == first
    assert waits_for(first, Role.WARM, checkpoint)
    assert not waits_for(first, Role.PRECREATED, checkpoint)
    assert not waits_for(first, Role.WARM, other)
    assert not waits_for(first, Role.WARM, make_node_checkpoint(checkpoint="other"))


def test_a_demo_in_the_trash_is_nobodys_and_still_told() -> None:
    name = demo_name(make_demo(uid="12345678-aaaa"))
    in_trash = name.in_trash(1_700_000_000)
    assert str(in_trash) == "tryitnow_trash_default_annas-demo_12345678-1700000000"
    found = parse(str(in_trash))
    assert found == in_trash
    assert found.role is Role.TRASH
    assert found.owner == name.owner


def test_a_pods_name_reads_back() -> None:
    pod = new_pod()
    assert parse_pod(str(pod)) == pod
    assert new_pod() != pod
    assert parse(pod.member("database")) is None, "a member says nothing about the owner"
    assert parse(str(pod)) is None


@pytest.mark.parametrize(
    "name", ["", "pod", "tryitnow_pod_", "tryitnow_pod_xyz", f"tryitnow_pod_{'0' * 16}_database",
             f"x{PodName('0' * 16)}"],
)  # fmt: skip
def test_the_pods_of_others_are_not_ours(name: str) -> None:
    assert parse_pod(name) is None


def test_the_longest_names_are_names_for_podman() -> None:
    """Podman takes [a-zA-Z0-9][a-zA-Z0-9_.-]* of any length (libpod/define/config.go)."""
    name = ContainerName(Role.PRECREATED, Key("n" * 63, "c" * 253), f"{'0' * 32}-01234567")
    assert parse(str(name.in_trash(10**10))) == name.in_trash(10**10)


@pytest.mark.parametrize(
    "name",
    ["", "nginx", "tryitnow", "tryitnow_", "tryitnow_demo_default_shop", "tryitnow_demo_a_b_c_d",
     "tryitnow_other_default_shop_1", "xtryitnow_demo_default_shop_1", "Tryitnow_demo_a_b_c"],
)  # fmt: skip
def test_the_containers_of_others_are_not_ours(name: str) -> None:
    assert parse(name) is None
