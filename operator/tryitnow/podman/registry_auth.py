"""Credentials for registries, as Secrets for image pulls hold them and as Podman takes them.

Which of them are for an image is decided as the kubelet decides it.
"""

from __future__ import annotations

import base64
import fnmatch
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_JSON_KEY = ".dockerconfigjson"
_OLD_KEY = ".dockercfg"
PULL_SECRET_KEYS = (_JSON_KEY, _OLD_KEY)
"""Keys of a Secret of the types kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg."""

_HUB = "docker.io"
_HUB_KEY = "index.docker.io"
"""What `docker login` writes for Docker Hub: ``https://index.docker.io/v1/``."""


NO_CREDENTIALS = {"X-Registry-Auth": base64.urlsafe_b64encode(b"{}").decode()}
"""The header of a pull with nothing to show. Without it, Podman would show what it is configured
with (``podman login``, REGISTRY_AUTH_FILE) for everybody."""


class PullSecretError(Exception):
    """A Secret holds no credentials that can be read; the message shows nothing of them."""


@dataclass(frozen=True)
class Credentials:
    """Credentials for a registry."""

    username: str
    password: str = field(repr=False)

    def header(self) -> dict[str, str]:
        """Return the header by which Podman takes them for one pull."""
        whole = json.dumps({"username": self.username, "password": self.password})
        return {"X-Registry-Auth": base64.urlsafe_b64encode(whole.encode()).decode()}


class Keyring:
    """Credentials by the images that they are for."""

    def __init__(self, secrets: Iterable[Mapping[str, bytes]]) -> None:
        """Read Secrets, in the order in which their credentials are tried.

        Raises:
            PullSecretError: one cannot be read.

        """
        self._by_place: dict[str, list[Credentials]] = {}
        for secret in secrets:
            for key, credentials in _read(secret):
                self._by_place.setdefault(_place(key), []).append(credentials)

    def find(self, reference: str) -> tuple[Credentials, ...]:
        """Return all that are for a full reference, the most special ones first."""
        # Backwards, so that a longer path comes before a shorter, and a name before a wildcard.
        places = sorted(self._by_place, reverse=True)
        found = [c for place in places if _fits(place, reference) for c in self._by_place[place]]
        if not found and reference.startswith(f"{_HUB}/"):
            found = self._by_place.get(_HUB_KEY, [])
        return tuple(found)


def _read(secret: Mapping[str, bytes]) -> Iterable[tuple[str, Credentials]]:
    for key in PULL_SECRET_KEYS:
        if key in secret:
            break
    else:
        keys = " nor ".join(PULL_SECRET_KEYS)
        msg = f"it has neither the key {keys}"
        raise PullSecretError(msg)
    try:
        content = json.loads(secret[key])
        entries = content["auths"] if key == _JSON_KEY else content
        return [(place, c) for place, entry in entries.items() if (c := _credentials(entry))]
    except (ValueError, TypeError, KeyError, AttributeError):
        msg = (
            f"its {key} does not have the form that `kubectl create secret docker-registry` creates"
        )
        # Without the cause: a decoder shows a part of what it cannot read.
        raise PullSecretError(msg) from None


def _credentials(entry: Mapping[str, Any]) -> Credentials | None:
    username, password = entry.get("username", ""), entry.get("password", "")
    if auth := entry.get("auth"):
        padded = auth.strip().rstrip("=")
        padded += "=" * (-len(padded) % 4)
        username, colon, password = base64.b64decode(padded, validate=True).decode().partition(":")
        if not colon:
            msg = "auth is not username:password"
            raise ValueError(msg)
    # An entry whose credentials are elsewhere, in a store of the machine that logged in.
    return Credentials(username, password.strip("\0")) if username else None


def _place(key: str) -> str:
    """Return the host and path that a key of the Secret means."""
    place = key.removeprefix("https://").removeprefix("http://")
    host, _, path = place.partition("/")
    for version in ("v1/", "v2/"):
        path = path.removeprefix(version)
    return f"{host}/{path}" if path else host


def _fits(place: str, reference: str) -> bool:
    host, _, path = place.partition("/")
    its_host, _, its_path = reference.partition("/")
    name, _, port = host.partition(":")
    its_name, _, its_port = its_host.partition(":")
    parts, its_parts = name.split("."), its_name.split(".")
    return (
        port == its_port
        and len(parts) == len(its_parts)
        and its_path.startswith(path)
        # A wildcard means one part of the name.
        and all(fnmatch.fnmatchcase(its, part) for part, its in zip(parts, its_parts, strict=True))
    )
