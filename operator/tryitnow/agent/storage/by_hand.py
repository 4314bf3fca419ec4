"""How a person restores an archive without the operator: the text beside each archive.

``tests/system/test_archives_by_hand.py`` runs these commands.
"""

from __future__ import annotations

from tryitnow.agent.storage.bundle import CONTAINERS, VOLUMES
from tryitnow.api.definition import Definition, TCPPolicy

_CREATE_POD = "podman pod create --name demo --publish 8080:{port}"

# The tag of the sandbox is between both directories (VolumeStore). Of two files of one name in an
# export, Podman takes the second.
_POINT_AT_VOLUMES = (
    f"for part in {CONTAINERS}/*.tar; do",
    "    tar --extract --file $part spec.dump",
    "    sed --in-place "
    f"""'s#"source": *"[^"]*/{VOLUMES}/[0-9a-f]*/#"source":"'$PWD'/{VOLUMES}/#g' spec.dump""",
    "    tar --append --file $part spec.dump",
    "done",
)

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
    if not in_parts:
        lines = [create, _restore(definition, definition.main.name, archive)]
        return f"{_INTRODUCTION}\n\n{_block(lines)}\n{_LOOK.format(export=archive)}\n"
    lines = [
        "mkdir --mode=0700 parts",
        f"tar --extract --file {archive} --directory parts",
        "cd parts",
        *_volumes(definition),
        create,
        *_restores(definition),
    ]
    text = f"{_INTRODUCTION}\n\n{_block(lines)}\n"
    given = [v.name for v in definition.template.volumes if v.empty_dir is None]
    if given:
        text += (
            "The archive has no files of ConfigMaps and Secrets. Before `podman pod create`, make a"
            f" directory with them for each of these volumes, as parts/{VOLUMES}/NAME:"
            f" {', '.join(given)}.\n\n"
        )
    export = f"parts/{CONTAINERS}/{definition.main.name}.tar"
    return f"{text}{_LOOK.format(export=export)}\n"


_INTRODUCTION = (
    "To restore it by hand, as root in a directory with this archive (it needs Podman, crun and "
    "CRIU of about the versions above):"
)
_LOOK = "`checkpointctl inspect --all {export}` shows what is in it."


def _volumes(definition: Definition) -> list[str]:
    """Return what brings the volumes to where the containers will look for them."""
    lines: list[str] = []
    for volume in definition.template.volumes:
        if volume.empty_dir is not None:
            path = f"{VOLUMES}/{volume.name}"
            lines.append(f"mkdir {path}")
            lines.append(f"tar --extract --file {path}.tar --directory {path}")
    return [*lines, *_POINT_AT_VOLUMES] if definition.template.volumes else lines


def _restores(definition: Definition) -> list[str]:
    parts = {m.name: f"{CONTAINERS}/{m.name}.tar" for m in definition.template.members}
    restores = [_restore(definition, container, part) for container, part in parts.items()]
    if not definition.blocks_tcp:
        return restores
    # Else the kernel would end the connections of the first: the second's end is not there yet.
    return [*_BLOCK_TCP, *restores, _LET_TCP_GO]


def _restore(definition: Definition, container: str, export: str) -> str:
    options = definition.criu_options
    tcp = "--tcp-established" if options.tcp is TCPPolicy.ESTABLISHED else "--tcp-close"
    locks = " --file-locks" if options.file_locks else ""
    return (
        f"podman container restore{locks} {tcp} --pod demo --import {export}"
        f" --name demo-{container}"
    )


def _block(lines: list[str]) -> str:
    return "".join(f"    {line}\n" for line in lines)
