"""Volumes: made for one sandbox, filled with their content at the checkpoint, gone with it."""

from __future__ import annotations

import ctypes
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.agent.storage.conftest import MakeDeep
from tests.unit.builders import make_container
from tryitnow.agent.errors import VolumeError
from tryitnow.agent.storage.files import unmount_below
from tryitnow.agent.storage.volumes import VolumeStore
from tryitnow.api.template import (
    ConfigMapVolume,
    Container,
    EmptyDir,
    Medium,
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
def store(tmp_path: Path) -> Iterator[VolumeStore]:
    store = VolumeStore(tmp_path / "volumes")
    store.open()
    yield store
    unmount_below(store.directory)


def test_nobody_but_root_gets_to_a_volume_from_outside(store: VolumeStore) -> None:
    store.make(TAG, template()[0])
    assert store.directory.stat().st_mode & 0o777 == 0o700
    assert (store.directory / TAG).stat().st_mode & 0o777 == 0o700
    assert store.path(TAG, "data").stat().st_mode & 0o777 == 0o777, "any user of the container"


def test_a_restored_demo_has_its_content_for_itself(store: VolumeStore, tmp_path: Path) -> None:
    content = tmp_path / "checkpointed"
    (content / "inner").mkdir(parents=True)
    (content / "inner/file").write_text("checkpointed")
    store.make(TAG, template()[0])
    store.fill(TAG, "data", content)
    (store.path(TAG, "data") / "inner/file").write_text("changed")
    assert (content / "inner/file").read_text() == "checkpointed"


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
        VolumeMount(name="data", mount_path="/data", sub_path="a/./b", read_only=True)
    )
    store.make(TAG, whole)
    [mount] = store.mounts(TAG, whole, container)
    assert mount.source.samefile(store.path(TAG, "data") / "a/b")
    assert mount.source.is_dir()
    assert mount.read_only


def test_a_sub_path_may_be_one_file_of_a_config_map(store: VolumeStore) -> None:
    mount = VolumeMount(name="conf", mount_path="/etc/shop.ini", sub_path="shop.ini")
    whole, container = template(mount)
    store.make(TAG, whole)
    store.write(TAG, {"conf": {"shop.ini": b"[shop]"}})
    [found] = store.mounts(TAG, whole, container)
    assert found.source.read_bytes() == b"[shop]"


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("../other", "leads out"),
        ("a/../../other", "leads out"),
        ("link", "'link' is a link"),
        ("link/x", "'link' is a link"),
        ("a/inner", "'a/inner' is a link"),
        ("file/x", "'file/x' lies in what is no directory"),
    ],
)
def test_a_sub_path_that_leads_out_is_refused(store: VolumeStore, where: str, why: str) -> None:
    whole, container = template(VolumeMount(name="data", mount_path="/data", sub_path=where))
    store.make(TAG, whole)
    data = store.path(TAG, "data")
    (data / "link").symlink_to("/etc")
    (data / "a").mkdir()
    (data / "a/inner").symlink_to(".")
    (data / "file").touch()
    with pytest.raises(VolumeError, match=f"{why}.*without links on the way"):
        store.mounts(TAG, whole, container)


def swap(path: Path, target: Path) -> None:
    """Put a link in the place of a directory, as a container with the whole volume can."""
    path.rename(path.with_name("moved"))
    path.symlink_to(target)


def test_a_link_that_is_swapped_in_before_the_mount_leads_nowhere(
    store: VolumeStore, tmp_path: Path
) -> None:
    """Podman mounts by a path: it must be one that no container can change."""
    secret = tmp_path / "checkpoints"
    secret.mkdir()
    (secret / "archive").touch()
    whole, container = template(VolumeMount(name="data", mount_path="/data", sub_path="x"))
    store.make(TAG, whole)
    [mount] = store.mounts(TAG, whole, container)
    data = store.path(TAG, "data")
    (data / "x/own").touch()
    swap(data / "x", secret)
    assert [path.name for path in mount.source.resolve().iterdir()] == ["own"]
    assert not mount.source.is_relative_to(data), "out of the reach of containers"
    with pytest.raises(VolumeError, match="'x' is a link"):
        store.hold_sub_paths(TAG, container)


def test_a_link_that_is_swapped_in_while_a_sub_path_is_opened_leads_nowhere(
    store: VolumeStore, tmp_path: Path
) -> None:
    secret = tmp_path / "checkpoints"
    (secret / "deep").mkdir(parents=True)
    whole, container = template(VolumeMount(name="data", mount_path="/data", sub_path="x/deep"))
    store.make(TAG, whole)
    data, over = store.path(TAG, "data"), threading.Event()
    (data / "x/deep").mkdir(parents=True)
    (data / "link").symlink_to(secret)
    exchange, libc = 2, ctypes.CDLL(None)  # RENAME_EXCHANGE of renameat2(2)

    def keep_swapping() -> None:
        while not over.is_set():
            libc.renameat2(-100, bytes(data / "x"), -100, bytes(data / "link"), exchange)

    swapper = threading.Thread(target=keep_swapping)
    swapper.start()
    outside = set()
    try:
        for _ in range(200):
            try:
                [mount] = store.mounts(TAG, whole, container)
            except VolumeError:
                continue
            outside.add(mount.source.samefile(secret / "deep"))
    finally:
        over.set()
        swapper.join()
    assert outside <= {False}


def test_a_sub_path_is_found_anew_before_each_start(store: VolumeStore) -> None:
    whole, container = template(VolumeMount(name="data", mount_path="/data", sub_path="x"))
    store.make(TAG, whole)
    [mount] = store.mounts(TAG, whole, container)
    path = store.path(TAG, "data") / "x"
    path.rmdir()
    path.write_text("a file by now")
    store.hold_sub_paths(TAG, container)
    assert mount.source.read_text() == "a file by now"
    subprocess.run(["umount", mount.source], check=True)  # as by a reboot
    store.hold_sub_paths(TAG, container)
    assert mount.source.read_text() == "a file by now"


def test_what_sub_paths_lead_to_outlives_their_sandbox_nowhere(store: VolumeStore) -> None:
    whole, container = template(VolumeMount(name="data", mount_path="/data", sub_path="x"))
    store.make(TAG, whole)
    store.mounts(TAG, whole, container)
    store.remove(TAG)
    assert store.tags() == set()
    assert str(store.directory) not in Path("/proc/self/mounts").read_text()


def test_removing_takes_all_of_a_sandbox_and_nothing_else(store: VolumeStore) -> None:
    store.make(TAG, template()[0])
    store.make("f" * 16, template()[0])
    store.remove(TAG)
    store.remove(TAG)
    assert store.tags() == {"f" * 16}


def test_containers_that_begin_at_the_same_time_may_share_a_new_sub_path(
    store: VolumeStore,
) -> None:
    mount = VolumeMount(name="data", mount_path="/data", sub_path="a/b/c")
    whole, _ = template(mount)
    at_once = 8
    for round_ in range(20):
        tag = f"{round_:016x}"
        store.make(tag, whole)
        barrier = threading.Barrier(at_once)

        def make_one(number: int, tag: str = tag, barrier: threading.Barrier = barrier) -> Path:
            container = make_container(f"shop-{number}", volume_mounts=(mount,))
            barrier.wait()
            [found] = store.mounts(tag, whole, container)
            return found.source

        with ThreadPoolExecutor(at_once) as pool:
            runs = [pool.submit(make_one, number) for number in range(at_once)]
        shared = store.path(tag, "data") / "a/b/c"
        assert all(each.result().samefile(shared) for each in runs)


def test_a_tree_of_many_levels_can_be_removed(store: VolumeStore, make_deep: MakeDeep) -> None:
    store.make(TAG, template()[0])
    make_deep(store.path(TAG, "data") / "tree")
    store.remove(TAG)
    assert store.tags() == set()


def test_a_name_that_is_no_utf_8_is_copied(store: VolumeStore, tmp_path: Path) -> None:
    odd = b"caf\xe9".decode(errors="surrogateescape")
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / odd).write_text("x")
    store.make(TAG, template()[0])
    store.fill(TAG, "data", tmp_path / "content")
    assert (store.path(TAG, "data") / odd).read_text() == "x"


def test_content_that_is_not_there_is_named(store: VolumeStore, tmp_path: Path) -> None:
    store.make(TAG, template()[0])
    with pytest.raises(VolumeError, match="volume data cannot be copied"):
        store.fill(TAG, "data", tmp_path / "gone")


# -- volumes of memory ----------------------------------------------------------------------------


@pytest.fixture
def in_memory(store: VolumeStore) -> Iterator[Template]:
    volume = Volume(name="cache", empty_dir=EmptyDir(medium=Medium.MEMORY, size_limit="1Mi"))
    whole = Template(containers=(make_container(),), volumes=(volume,))
    store.make(TAG, whole)
    yield whole
    store.remove(TAG)


def test_a_volume_of_memory_is_a_tmpfs_of_its_size(store: VolumeStore, in_memory: Template) -> None:
    path = store.path(TAG, in_memory.volumes[0].name)
    assert path.is_mount()
    assert path.stat().st_mode & 0o777 == 0o777
    with pytest.raises(OSError, match="No space left"):
        (path / "too-large").write_bytes(bytes(2 << 20))


def test_a_volume_of_memory_is_mounted_once(store: VolumeStore, in_memory: Template) -> None:
    (store.path(TAG, "cache") / "file").write_text("kept")
    store.mount_memory(TAG, in_memory)
    assert (store.path(TAG, "cache") / "file").read_text() == "kept"


def test_a_volume_of_memory_goes_with_its_sandbox(store: VolumeStore, in_memory: Template) -> None:
    assert in_memory.volumes
    store.remove(TAG)
    assert store.tags() == set()
    assert str(store.directory) not in Path("/proc/self/mounts").read_text()


def test_a_volume_of_memory_is_there_again_after_a_reboot(
    store: VolumeStore, in_memory: Template
) -> None:
    path = store.path(TAG, "cache")
    (path / "file").write_text("gone with the power")
    subprocess.run(["umount", path], check=True)
    store.mount_memory(TAG, in_memory)
    assert path.is_mount()
    assert path.stat().st_mode & 0o777 == 0o777
    assert list(path.iterdir()) == []
