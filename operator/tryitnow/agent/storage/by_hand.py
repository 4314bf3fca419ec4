"""How a person restores an archive without the operator: the text beside each archive.

``tests/system/test_archives_by_hand.py`` runs these commands.
"""

from __future__ import annotations

import re
import shlex

from tryitnow.agent.storage.bundle import CONTAINERS, SUB_PATHS, VOLUMES
from tryitnow.api.definition import Compression, Definition, TCPPolicy

_INTRODUCTION = (
    "To restore it by hand, as root in a directory with this archive, with Podman, crun and CRIU of"
    " about the versions above (and Python 3.14 where `python3` unpacks zstd):"
)

_UNPACK_TO = (
    "python3 -c 'import shutil, sys; from compression import zstd; "
    'shutil.copyfileobj(zstd.open(sys.argv[1]), open(sys.argv[2], "wb"))\''
)

# A path of a volume has the tag of the sandbox between both (VolumeStore). Podman refuses a new
# name where connections are to be restored. Of two files of one name in a tar it takes the second.
_REWRITE = (
    "    tar --extract --file {containers}/$name.tar config.dump spec.dump",
    "    sed --in-place{sub_paths}"
    """ -e 's#"source": *"[^"]*/{volumes}/[0-9a-f]*/#"source": "'$PWD'/{volumes}/#'"""
    """ -e 's#"name": *"tryitnow_[^"]*"#"name": "demo-'$name'"#' config.dump spec.dump""",
    "    tar --append --file {containers}/$name.tar config.dump spec.dump",
    "done",
)

_CREATE_POD = "podman pod create --name demo --publish 8080:{port}"

_BLOCK_TCP = (
    "podman pod start demo",
    "infra=$(podman pod inspect --format '{{.InfraContainerID}}' demo)",
    "network=/proc/$(podman inspect --format '{{.State.Pid}}' $infra)/ns/net",
    "nsenter --net=$network nft 'add table inet restore; add chain inet restore output"
    " { type filter hook output priority 0; policy drop; }'",
)
_LET_TCP_GO = "nsenter --net=$network nft delete table inet restore"


def by_hand(archive: str, definition: Definition, *, in_parts: bool) -> str:
    """Return Markdown that says how to restore an archive with Podman.

    Args:
        archive: Its file name.
        definition: What it holds.
        in_parts: Whether it is a tar of several tars; otherwise it is Podman's export itself.

    """
    create = _CREATE_POD.format(port=definition.probe_port)
    main = definition.main.name
    if not in_parts and definition.criu_options.tcp is TCPPolicy.CLOSE:
        export = archive
        lines = [create, f"{_restore(definition, archive)} --name demo-{main}"]
    else:
        export = f"parts/{CONTAINERS}/{main}.tar"
        unpack = _unpack_parts if in_parts else _unpack_export
        lines = [
            *unpack(archive, definition),
            *_rewrite(definition),
            create,
            *_restores(definition),
        ]
    text = f"{_INTRODUCTION}\n\n" + "".join(f"    {line}\n" for line in lines)
    given = [v.name for v in definition.template.volumes if v.empty_dir is None]
    if given:
        text += (
            "\nThe archive has no files of ConfigMaps and Secrets. Before `podman pod create`, make"
            f" a directory with them for each of these volumes, as parts/{VOLUMES}/NAME:"
            f" {', '.join(given)}.\n"
        )
    return f"{text}\n`checkpointctl inspect --all {export}` shows what is in it.\n"


def _unpack_parts(archive: str, definition: Definition) -> list[str]:
    is_packed = definition.criu_options.compression is Compression.ZSTD
    # The image has no zstd for tar, but a Python that needs none.
    tar = "python3 -m tarfile --extract {}" if is_packed else "tar --extract --file {} --directory"
    lines = ["mkdir --mode=0700 parts", f"{tar.format(archive)} parts", "cd parts"]
    for volume in definition.template.volumes:
        if volume.empty_dir is not None:
            path = f"{VOLUMES}/{volume.name}"
            lines.append(f"mkdir {path}")
            lines.append(f"tar --extract --file {path}.tar --directory {path}")
    return lines


def _unpack_export(archive: str, definition: Definition) -> list[str]:
    is_packed = definition.criu_options.compression is Compression.ZSTD
    copy = _UNPACK_TO if is_packed else "cp"
    export = f"parts/{CONTAINERS}/{definition.main.name}.tar"
    return [f"mkdir --mode=0700 parts parts/{CONTAINERS}", f"{copy} {archive} {export}", "cd parts"]


def _rewrite(definition: Definition) -> list[str]:
    """Return what tells each export where its volumes are, and its container's new name."""
    names = " ".join(member.name for member in definition.template.members)
    words = {"containers": CONTAINERS, "volumes": VOLUMES, "sub_paths": _sub_paths(definition)}
    return [f"for name in {names}; do", *(line.format(**words) for line in _REWRITE)]


def _sub_paths(definition: Definition) -> str:
    """Return the rules of sed that put what a subPath leads to in the place of what held it."""
    rules = []
    for member in definition.template.members:
        for number, mount in enumerate(member.volume_mounts):
            if mount.sub_path is not None:
                held = re.escape(f"/{SUB_PATHS}/{member.name}/{number}")
                real = re.sub(r"([&#\\\\])", r"\\\1", f"{mount.name}/{mount.sub_path}")
                rule = shlex.quote(f's#/{VOLUMES}/[0-9a-f]*{held}"#/{VOLUMES}/0/{real}"#')
                rules.append(f" -e {rule}")
    return "".join(rules)


def _restores(definition: Definition) -> list[str]:
    members = definition.template.members
    restores = [_restore(definition, f"{CONTAINERS}/{member.name}.tar") for member in members]
    if not definition.blocks_tcp:
        return restores
    # Else the kernel would end the connections of the first: the second's end is not there yet.
    return [*_BLOCK_TCP, *restores, _LET_TCP_GO]


def _restore(definition: Definition, export: str) -> str:
    options = definition.criu_options
    tcp = "--tcp-established" if options.tcp is TCPPolicy.ESTABLISHED else "--tcp-close"
    locks = " --file-locks" if options.file_locks else ""
    return f"podman container restore{locks} {tcp} --pod demo --import {export}"
