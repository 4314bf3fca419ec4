"""Limits of the node are told from faults of what was asked for, by real messages."""

from __future__ import annotations

import errno
import os
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.podman.libpod import FakeLibpod
from tryitnow.api.definition import CRIUOptions
from tryitnow.podman import limits
from tryitnow.podman.client import Podman
from tryitnow.podman.errors import (
    CRIUError,
    ImagePullError,
    NameTakenError,
    NodeLimitError,
    PodmanError,
)
from tryitnow.podman.limits import LIMITS, as_node_limit, limit_in, limit_of

NAME = "tryitnow_demo_default_anna_12345678"
ID = "8871268197e3d8325752aae4ae11c5578d46e32319fc0ba6bef6e3a47c0c6268"
USERDATA = f"overlay-containers/{'c0ffee11' * 8}/userdata"

MESSAGES = {
    "allocating lock for new container: allocation failed; exceeded num_locks (2048)": (
        "LocksExhausted"
    ),
    "error allocating lock for new volume: no space left on device": "LocksExhausted",
    'failed to add watch on "/etc/containers/networks": no space left on device': (
        "InotifyWatchesExhausted"
    ),
    "Error (criu/fsnotify.c:565): fsnotify: Can't add watch for 0x3 with 0x1: "
    "No space left on device": "InotifyWatchesExhausted",
    "inotify_add_watch: No space left on device": "InotifyWatchesExhausted",
    "failed to create new watcher too many open files": "InotifyInstancesExhausted",
    "failed to create fsnotify watcher: too many open files": "InotifyInstancesExhausted",
    "Error (criu/fsnotify.c:664): fsnotify: Can't create inotify for 0x00000c: "
    "Too many open files": "InotifyInstancesExhausted",
    "inotify_init1: Too many open files": "InotifyInstancesExhausted",
    "Error (criu/pie/restorer.c:943): Ring setup failed with -11": "AioExhausted",
    "[Warning] InnoDB: io_setup() failed with EAGAIN after 5 attempts.": "AioExhausted",
    "Error (criu/pie/restorer.c:739): wrong aio: tail=0x0 head=0x0 req=0xbe old_nr=0x17f "
    "new_nr=0x2ff expect=0x17f": "WrongMachine",
    "Error (criu/mount.c:3141): mnt: No mapping for 457:(null) mountpoint": "WrongMachine",
    "Error (criu/arch/x86/crtools.c:395): x86: FPU xsave area present, but host cpu doesn't "
    "support it": "WrongProcessor",
    "Error (criu/arch/x86/cpu.c:223): cpu: CPU instruction capabilities do not match run time": (
        "WrongProcessor"
    ),
    "Error (criu/cr-restore.c:1262): 4 killed by signal 4: Illegal instruction": "WrongProcessor",
    "Error (criu/arch/s390/cpu.c:122): CPU Feature vxrs not supported on host": "WrongProcessor",
    "Error (criu/cr-restore.c:2636): rseq: can't restore as kernel doesn't support it": (
        "WrongKernel"
    ),
    "mkdir /sys/fs/cgroup/libpod_parent/libpod-8871: no space left on device": "CgroupsExhausted",
    "crun: mount `proc` to `proc`: No space left on device: OCI runtime error": "MountsExhausted",
    f"crun: create keyring `{ID}`: Disk quota exceeded: OCI runtime error": "KeysExhausted",
    'writing blob: adding layer with blob "sha256:d80cf5": processing tar file(write '
    "/usr/lib/libjfxwebkit.so: no space left on device): exit status 1": "DiskFull",
    "mkdir /var/lib/containers/storage/overlay/7d613c5c/merged.1: no space left on device": (
        "DiskFull"
    ),
    "copying layers: storing blob: write /var/tmp/storage1/1: disk quota exceeded": "DiskFull",
    "Error (criu/image.c:1): Can't write pages: Input/output error": "DiskFailing",
    "open /var/lib/containers/storage/overlay-layers/layers.json: too many open files": (
        "FilesExhausted"
    ),
    "cannot listen on the TCP port: listen tcp4 :20001: bind: address already in use": "PortTaken",
    'starting container "x": netavark: aardvark-dns failed to start: Error starting server failed '
    "to bind udp listener on 10.88.0.1:53: IO error: Address already in use (os error 98)": (
        "PortTaken"
    ),
    "netavark: IPAM error: failed to find free IP in range: 10.88.0.1 - 10.88.255.254": (
        "AddressesExhausted"
    ),
    "netavark: code: 4, msg: Another app is currently holding the xtables lock; still 0s 0us time "
    "ahead to have a chance to grab the lock...": "FirewallBusy",
    "netavark: code: 1, msg: iptables: Chain already exists.": "FirewallBusy",
    "netavark: nftables error: nft did not return successfully while applying ruleset": (
        "FirewallBusy"
    ),
    f"saving container {ID} state: beginning container {ID} save transaction: database is locked": (
        "DatabaseBusy"
    ),
    "adding container id to database: database is locked": "DatabaseBusy",
    "crun: clone: Resource temporarily unavailable: OCI runtime error": "ProcessesExhausted",
    "fork/exec /usr/bin/conmon: resource temporarily unavailable": "ProcessesExhausted",
    "Error (criu/cr-restore.c:1230): Can't fork for 7: Resource temporarily unavailable": (
        "ProcessesExhausted"
    ),
    "fork/exec /usr/bin/crun: cannot allocate memory": "MemoryExhausted",
    "Error (criu/mem.c:1): Unable to map memory: Cannot allocate memory": "MemoryExhausted",
}


@pytest.mark.parametrize(("message", "name"), MESSAGES.items(), ids=MESSAGES.values())
def test_a_limit_is_known_by_what_is_reported(message: str, name: str) -> None:
    limit = limit_in(message)
    assert limit is not None
    assert limit.name == name


def test_each_limit_has_a_message() -> None:
    assert {limit.name for limit in LIMITS} == set(MESSAGES.values())


@pytest.mark.parametrize(
    "message",
    [
        "no such container",
        "reading manifest 9 in reg.example/shop: manifest unknown",
        "crun: executable file `/bin/serve` not found: No such file or directory: OCI runtime "
        "attempted to invoke a command that was not found",
        "Error (criu/sk-inet.c:204): inet: Connected TCP socket, consider using option.",
        # In the sandbox itself, not on the node.
        "Error (criu/sk-inet.c:944): inet: Can't bind inet socket (id 42): Address already in use",
        "can only start exec sessions when their container is running: container state improper",
    ],
)
def test_what_is_no_limit_is_taken_for_none(message: str) -> None:
    assert limit_in(message) is None


@pytest.mark.parametrize("name", sorted({limits.INODES_EXHAUSTED, *(x.name for x in LIMITS)}))
def test_the_page_has_each_limit(name: str) -> None:
    assert f"`{name}`" in (Path(__file__).parents[3] / "docs/nodes.md").read_text()


async def test_the_caller_is_reported_the_limit_and_the_person_the_remedy(
    libpod: FakeLibpod, podman: Podman
) -> None:
    text = "cannot listen on the TCP port: listen tcp4 :20001: bind: address already in use"
    libpod.on_error("POST", f"/containers/{NAME}/start", text)
    with pytest.raises(NodeLimitError, match="What to do: another program") as caught:
        await podman.start(NAME)
    assert caught.value.limit == "PortTaken"
    assert not caught.value.permanent
    assert str(caught.value).startswith(text)


async def test_an_image_is_not_to_blame_for_a_full_disk(libpod: FakeLibpod, podman: Podman) -> None:
    line = b'{"error":"writing blob: write /var/tmp/storage1/1: no space left on device"}\n'
    libpod.on_stream("POST", "/images/pull", line)
    with pytest.raises(NodeLimitError) as caught:
        await podman.pull("reg.example/shop:1")
    assert caught.value.limit == "DiskFull"
    assert not isinstance(caught.value, ImagePullError)
    assert "reg.example/shop:1" in str(caught.value)


async def test_an_archive_is_not_to_blame_for_another_kind_of_machine(
    libpod: FakeLibpod, podman: Podman, tmp_path: Path
) -> None:
    log = tmp_path / USERDATA / "restore.log"
    log.parent.mkdir(parents=True)
    log.write_text(
        "(00.489244) pie: 6: Error (criu/pie/restorer.c:666): wrong aio: tail=0x0 head=0x0\n"
        "(00.490000) Error (criu/cr-restore.c:2331): Restoring FAILED.\n"
    )
    text = "crun: CRIU restoring failed: -1: OCI runtime error"
    libpod.on_error("POST", f"/containers/{NAME}/restore", text)
    libpod.on_json("GET", f"/containers/{NAME}/json", {"StaticDir": f"{tmp_path}/{USERDATA}"})
    with pytest.raises(NodeLimitError, match="nodeSelector") as caught:
        await podman.restore(NAME, CRIUOptions())
    assert caught.value.limit == "WrongMachine"
    assert caught.value.permanent
    assert str(caught.value).startswith("Error (criu/pie/restorer.c:666): wrong aio")
    assert f"(Podman: {text})" in str(caught.value)
    assert not isinstance(caught.value, CRIUError)


async def test_a_command_may_have_reached_its_containers_own_limit(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_json("POST", f"/containers/{NAME}/exec", {"Id": "7"}, 201)
    text = "crun: clone: Resource temporarily unavailable: OCI runtime error"
    libpod.on_error("POST", "/exec/7/start", text)
    with pytest.raises(PodmanError, match="the limits that the template sets") as caught:
        await podman.execute(NAME, ["true"], {}, timedelta(seconds=5))
    assert not isinstance(caught.value, NodeLimitError)


@pytest.mark.parametrize(
    ("path", "message", "status"),
    [
        (
            f"/containers/{NAME}/rename",
            f"renaming container {ID}: updating container config table with new configuration for "
            f"container {ID}: UNIQUE constraint failed: ContainerConfig.Name",
            500,
        ),
        (
            f"/containers/{NAME}/rename",
            f'renaming container {ID}: name "anna" is in use: container already exists',
            409,
        ),
        (
            f"/containers/{NAME}/rename",
            f'the container name "anna" is already in use by {ID}. You have to remove that '
            "container to be able to reuse that name: that name is already in use",
            500,
        ),
    ],
    ids=["Podman 5", "Podman 4", "only the storage's"],
)
async def test_a_name_that_is_taken_is_an_error_of_its_own(
    libpod: FakeLibpod, podman: Podman, path: str, message: str, status: int
) -> None:
    libpod.on_error("POST", path, message, status)
    with pytest.raises(NameTakenError):
        await podman.rename(NAME, "anna")


def full_of_inodes(_: str | Path) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, 1000, 500, 500, 100, 0, 0, 0, 255))


def test_no_inodes_are_reported_from_no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are "no space left on device"."""
    monkeypatch.setattr("os.statvfs", full_of_inodes)
    error = as_node_limit("mkdir /var/lib/containers/storage/x: no space left on device")
    assert error is not None
    assert error.limit == "InodesExhausted"
    assert "df -i" in str(error)
    found = limit_of(OSError(errno.ENOSPC, "No space left on device", "/var/lib/try-it-now/x"))
    assert found is not None
    assert found.limit == "InodesExhausted"


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (errno.ENOSPC, "DiskFull"),
        (errno.EDQUOT, "DiskFull"),
        (errno.EIO, "DiskFailing"),
        (errno.EMFILE, "FilesExhausted"),
        (errno.ENOMEM, "MemoryExhausted"),
        (errno.EAGAIN, "ProcessesExhausted"),
        (errno.ENOENT, None),
        (errno.EACCES, None),
    ],
)
def test_an_error_of_the_system_may_be_a_limit_too(number: int, name: str | None) -> None:
    found = limit_of(OSError(number, os.strerror(number)))
    assert (found.limit if found else None) == name
