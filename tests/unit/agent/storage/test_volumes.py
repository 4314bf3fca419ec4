"""Volumes: made for one pod, filled with what was frozen, and gone with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.builders import make_container
from tryitnow.agent.volumes import VolumeError, VolumeStore
from tryitnow.api.template import (
    ConfigMapVolume,
    Container,
    EmptyDir,
    Template,
    Volume,
    VolumeMount,
)

TAG = "0123456789abcdef"


def template(*mounts: VolumeMount) -> tuple[Template, Container]:
    container = make_container(volume_mounts=mounts)
    volumes = (
        Volume(name="data", empty_dir=EmptyDir()),
        Volume(name="conf", config_map=ConfigMapVolume(name="shop")),
    )
    return Template(containers=(container,), volumes=volumes), container


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    store = VolumeStore(tmp_path / "volumes")
    store.open()
    return store


def test_nobody_but_root_gets_to_a_volume_from_outside(store: VolumeStore) -> None:
    store.make(TAG, template()[0])
    assert store.directory.stat().st_mode & 0o777 == 0o700
    assert (store.directory / TAG).stat().st_mode & 0o777 == 0o700
    assert store.path(TAG, "data").stat().st_mode & 0o777 == 0o777, "any user of the container"


def test_a_copy_gets_what_was_frozen_for_itself(store: VolumeStore, tmp_path: Path) -> None:
    frozen = tmp_path / "frozen"
    (frozen / "inner").mkdir(parents=True)
    (frozen / "inner/file").write_text("frozen")
    store.make(TAG, template()[0])
    store.copy_in(TAG, "data", frozen)
    (store.path(TAG, "data") / "inner/file").write_text("changed")
    assert (frozen / "inner/file").read_text() == "frozen"


def test_files_of_the_cluster_can_only_be_read(store: VolumeStore) -> None:
    whole, container = template(
        VolumeMount(name="data", mount_path="/data"),
        VolumeMount(name="conf", mount_path="/etc/shop"),
    )
    store.make(TAG, whole)
    store.write(TAG, {"conf": {"shop.ini": b"[shop]"}})
    assert (store.path(TAG, "conf") / "shop.ini").read_bytes() == b"[shop]"
    data, conf = store.mounts(TAG, whole, container)
    assert (data.target, data.read_only) == ("/data", False)
    assert (conf.target, conf.read_only) == ("/etc/shop", True)


def test_a_sub_path_is_made_and_stays_inside(store: VolumeStore) -> None:
    whole, container = template(
        VolumeMount(name="data", mount_path="/data", sub_path="a/b", read_only=True)
    )
    store.make(TAG, whole)
    [mount] = store.mounts(TAG, whole, container)
    assert mount.source == store.path(TAG, "data") / "a/b"
    assert mount.source.is_dir()
    assert mount.read_only


def test_a_sub_path_may_be_one_file_of_a_config_map(store: VolumeStore) -> None:
    mount = VolumeMount(name="conf", mount_path="/etc/shop.ini", sub_path="shop.ini")
    whole, container = template(mount)
    store.make(TAG, whole)
    store.write(TAG, {"conf": {"shop.ini": b"[shop]"}})
    [found] = store.mounts(TAG, whole, container)
    assert found.source.read_bytes() == b"[shop]"


@pytest.mark.parametrize("where", ["../other", "link/x"])
def test_a_sub_path_that_leads_out_is_refused(store: VolumeStore, where: str) -> None:
    whole, container = template(VolumeMount(name="data", mount_path="/data", sub_path=where))
    store.make(TAG, whole)
    (store.path(TAG, "data") / "link").symlink_to("/etc")
    with pytest.raises(VolumeError, match="leads out"):
        store.mounts(TAG, whole, container)


def test_removing_takes_all_of_a_pod_and_nothing_else(store: VolumeStore) -> None:
    store.make(TAG, template()[0])
    store.make("f" * 16, template()[0])
    store.remove(TAG)
    store.remove(TAG)
    assert store.tags() == {"f" * 16}
