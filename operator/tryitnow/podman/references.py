"""Names of images, as people write them and as they are meant."""

from __future__ import annotations

import re

from tryitnow.podman.errors import ImageNameError

_HUB = "docker.io"
_OLD_HUB = "index.docker.io"
_NODES_OWN = "localhost"
_DEFAULT_TAG = "latest"

# As in the reference grammar of the distribution project, which containerd and Podman use.
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = (
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_REFERENCE = re.compile(
    rf"(?P<host>(?:{_HOST}|\[[0-9a-fA-F:]+\])(?::[0-9]+)?)"
    rf"/(?P<path>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
_LONGEST_PATH = 255


def full_reference(name: str) -> str:
    """Return what a name of an image means, as containerd resolves it for a Pod.

    ``nginx`` is ``docker.io/library/nginx:latest``. Where a name has a tag and a digest, the digest
    alone counts.

    Raises:
        ImageNameError: it names no image of a registry.

    """
    if _ID.fullmatch(name):
        raise _wrong(name, "an ID means an image of one node only")
    first, slash, rest = name.partition("/")
    if not slash or not _is_host(first):
        first, rest = _HUB, name
    if first == _OLD_HUB:
        first = _HUB
    if first == _HUB and "/" not in rest:
        rest = f"library/{rest}"
    if first == _NODES_OWN:
        raise _wrong(name, "such an image is on one node only, and in no registry")
    found = _REFERENCE.fullmatch(f"{first}/{rest}")
    if found is None or len(found["path"]) > _LONGEST_PATH:
        raise _wrong(name, "it is no name of an image")
    repository = f"{found['host']}/{found['path']}"
    if found["digest"]:
        return f"{repository}@{found['digest']}"
    return f"{repository}:{found['tag'] or _DEFAULT_TAG}"


def is_pinned(reference: str) -> bool:
    """Whether a reference means the same layers for ever."""
    return "@sha256:" in reference


def repository_of(reference: str) -> str:
    """Return a full reference without tag and digest."""
    repository = reference.partition("@")[0]
    head, slash, last = repository.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def is_image_of(pinned: str, name: str) -> bool:
    """Whether a pinned reference is an image of the repository that a name means.

    Where the name has a digest, it is that very image.
    """
    try:
        meant = full_reference(name)
    except ImageNameError:
        return False
    if is_pinned(meant):
        return pinned == meant
    found = _REFERENCE.fullmatch(pinned)
    return (
        found is not None
        and found["digest"] is not None
        and repository_of(pinned) == repository_of(meant)
    )


def is_of_registry(name: str, registry: str) -> bool:
    """Whether what a name means is of a registry.

    Args:
        name: As people write it.
        registry: A host, ``*.example.com`` for all hosts below one, or a host with the beginning
            of a path, such as ``quay.io/team``.

    """
    try:
        repository = repository_of(full_reference(name))
    except ImageNameError:
        return False
    host, _, path = repository.partition("/")
    wanted_host, _, wanted_path = registry.partition("/")
    is_host = (
        host.lower().endswith(wanted_host[1:])
        if wanted_host.startswith("*.")
        else host.lower() == wanted_host
    )
    # By whole names: `quay.io/team` has nothing to do with `quay.io/teammate`.
    return is_host and (not wanted_path or f"{path}/".startswith(f"{wanted_path}/"))


def _is_host(first: str) -> bool:
    return first == _NODES_OWN or "." in first or ":" in first or first != first.lower()


def _wrong(name: str, why: str) -> ImageNameError:
    return ImageNameError(
        f"image {name!r}: {why}; write it as registry.example.com/name:tag or, for Docker Hub, "
        "as name:tag"
    )
