"""What nobody owns, by names and objects alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.agent.demos.shop import Clock
from tests.unit.builders import REVISION, make_demo, make_node_checkpoint
from tryitnow.agent.sandbox.names import Role, demo_name, stock_name, work_name
from tryitnow.agent.suspects import Suspects
from tryitnow.agent.upkeep.orphans import (
    Owners,
    members_of_no_pod,
    orphaned_files,
    orphans,
    without_main_container,
)
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.kubernetes.objects import Listing, UnreadableObject, read_any
from tryitnow.podman.client import PodState

DEMO = make_demo(node="node-a", phase=DemoInstancePhase.READY)
HELD = make_node_checkpoint("node-a")
STEM = f"default_shop_{REVISION}"
OTHER_REVISION = "0123456789abcdef" * 2


def listing(*objects: Any) -> Listing[Any]:
    strange = tuple(each for each in objects if isinstance(each, UnreadableObject))
    return Listing([each for each in objects if each not in strange], 1, strange)


def owners(demos: Iterable[Any] = (), node_checkpoints: Iterable[Any] = ()) -> Owners:
    return Owners.of(listing(*demos), listing(*node_checkpoints))


def unreadable(resource: DemoInstance | NodeCheckpoint, **spec: Any) -> Any:
    body = resource.to_api()
    body["spec"] = spec
    found = read_any(type(resource), body)
    assert isinstance(found, UnreadableObject)
    return found


def found(names: Iterable[object], owning: Owners) -> list[str]:
    return [str(name) for name in orphans(map(str, names), owning)]


def test_a_demo_without_an_object_is_an_orphan() -> None:
    name = str(demo_name(DEMO))
    assert found([name], owners()) == [name]
    assert found([name], owners([DEMO])) == []


def test_a_demo_of_an_earlier_namesake_is_an_orphan() -> None:
    name = str(demo_name(make_demo(uid="0123456789abcdef")))
    assert found([name], owners([DEMO])) == [name]


def test_a_demo_that_is_being_deleted_still_has_its_owner() -> None:
    deleting = make_demo(deleting=True, finalizer=True)
    assert found([demo_name(deleting)], owners([deleting])) == []


@pytest.mark.parametrize("role", [Role.BUILD, Role.VERIFY, Role.PREPARE])
def test_work_belongs_to_its_revision(role: Role) -> None:
    name = str(work_name(role, HELD))
    assert found([name], owners([], [HELD])) == []
    other = make_node_checkpoint(revision=OTHER_REVISION)
    assert found([name], owners([], [other])) == [name]


@pytest.mark.parametrize("role", [Role.WARM, Role.PRECREATED])
def test_what_waits_belongs_to_its_revision(role: Role) -> None:
    name = str(stock_name(role, HELD))
    assert found([name], owners([], [HELD])) == []
    assert found([name], owners()) == [name]


def test_what_is_in_the_trash_waits_for_its_time() -> None:
    assert found([demo_name(DEMO).in_trash(1)], owners()) == []


@pytest.mark.parametrize(
    "name",
    [
        "postgres",
        "tryitnow",
        "tryitnow_",
        "tryitnow_demo_default_anna",
        "my_demo_a_b_c",
        "tryitnow_other_default_anna_12345678",
    ],
)
def test_what_does_not_have_one_of_our_names_is_never_touched(name: str) -> None:
    assert found([name], owners()) == []


# -- objects that cannot be read ------------------------------------------------------------------


def test_a_demo_that_cannot_be_read_keeps_its_sandbox_and_no_others() -> None:
    nobody = make_demo("nobody")
    owning = owners([unreadable(DEMO, start="ByMagic")])
    assert found([demo_name(DEMO), demo_name(nobody)], owning) == [str(demo_name(nobody))]
    assert owning.all_revisions_known
    assert owning.all_digests_known


def test_a_node_checkpoint_that_cannot_be_read_keeps_what_its_readable_part_names() -> None:
    strange = unreadable(HELD, checkpoint="shop", revision=REVISION, pool="many")
    owning = owners([], [strange])
    kept = work_name(Role.BUILD, HELD)
    other = work_name(Role.BUILD, make_node_checkpoint(revision=OTHER_REVISION))
    assert found([kept, other], owning) == [str(other)]
    assert owning.stems == {STEM}
    assert not owning.all_digests_known, "any image may be of one of its archives"


def test_one_that_tells_nothing_may_own_all_archives_but_no_demo() -> None:
    owning = owners([], [unreadable(HELD)])
    assert not owning.all_revisions_known
    names = [work_name(Role.BUILD, HELD), stock_name(Role.WARM, HELD), demo_name(DEMO)]
    assert found(names, owning) == [str(demo_name(DEMO))]


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".md", ".tar", ".tar.zst"])
def test_archive_files_belong_to_their_revision(ending: str) -> None:
    assert orphaned_files({f"{STEM}{ending}"}, {STEM}) == []
    assert orphaned_files({f"{STEM}{ending}"}, set()) == [f"{STEM}{ending}"]


def test_a_partial_download_belongs_to_its_revision() -> None:
    partial = f".{STEM}.tar.zst.0123456789abcdef.partial"
    assert orphaned_files({partial}, {STEM}) == []
    assert orphaned_files({partial}, set()) == [partial]


def test_files_of_another_revision_namespace_or_checkpoint_are_orphans() -> None:
    others = [
        make_node_checkpoint(revision=OTHER_REVISION),
        make_node_checkpoint(namespace="elsewhere"),
        make_node_checkpoint(checkpoint="blog"),
    ]
    files = {f"{stem}.tar.zst" for stem in owners([], others).stems}
    assert len(files) == 3
    assert orphaned_files(files | {f"{STEM}.tar.zst"}, {STEM}) == sorted(files)


def test_files_from_before_identities_were_long_are_ours_as_well() -> None:
    assert orphaned_files({"default_shop_0123456789.tar.zst"}, set())


@pytest.mark.parametrize(
    "file",
    [
        "notes.md",
        "README",
        "backup_of_shop.tar",
        "default_shop_rev.tar.zst",
        f"{STEM}.tar.zst.bak",
        f"{STEM}.tar.gz",
        f"copy of {STEM}.tar",
    ],
)
def test_a_persons_own_files_are_never_touched(file: str) -> None:
    assert orphaned_files({file}, set()) == []


# -- pods -----------------------------------------------------------------------------------------

POD = PodState(f"tryitnow_pod_{'0' * 16}", "id-of-pod", "infra", members={"x_db": "running"})


def test_a_pod_without_its_main_container() -> None:
    assert [str(pod) for pod in without_main_container([POD])] == [POD.name]
    whole = replace(POD, members={str(demo_name(DEMO)): "running"})
    assert without_main_container([whole]) == []
    assert without_main_container([replace(POD, name="tryitnow_pod_of_mine")]) == []


def test_members_of_pods_that_are_gone() -> None:
    there, gone = f"{POD.name}_db", f"tryitnow_pod_{'1' * 16}_db"
    names = [there, gone, "postgres", "tryitnow_pod_of_mine_db"]
    assert [name for name, _ in members_of_no_pod(names, {"0" * 16})] == [gone]


# -- suspects -------------------------------------------------------------------------------------


def test_two_looks_and_a_grace_period_prove_that_something_is_nobodys() -> None:
    clock = Clock()
    suspects = Suspects(600, clock)
    assert suspects.proven(["a"]) == set()
    clock.wait(599)
    assert suspects.proven(["a", "b"]) == set()
    clock.wait(1)
    assert suspects.proven(["a", "b"]) == {"a"}
    clock.wait(599)
    assert suspects.proven(["a", "b"]) == {"a", "b"}


def test_one_look_proves_nothing_even_without_a_grace_period() -> None:
    clock = Clock()
    suspects = Suspects(0, clock)
    assert suspects.proven(["a"]) == set()
    assert suspects.proven(["a"]) == set(), "the same moment is no second look"
    clock.wait(1)
    assert suspects.proven(["a"]) == {"a"}


def test_what_had_an_owner_in_between_is_suspected_anew() -> None:
    clock = Clock()
    suspects = Suspects(600, clock)
    suspects.proven(["a"])
    clock.wait(600)
    assert suspects.proven([]) == set()
    assert suspects.proven(["a"]) == set()
    clock.wait(600)
    assert suspects.proven(["a"]) == {"a"}


def test_what_was_seen_before_the_storage_changed_proves_nothing() -> None:
    clock = Clock()
    suspects = Suspects(600, clock)
    suspects.proven(["a"])
    suspects.forget()
    clock.wait(3600)
    assert suspects.proven(["a"]) == set()
