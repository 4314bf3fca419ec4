"""Images: pulled, committed from containers, removed."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import requests
from podman.errors import APIError

from tryitnow.podman.calls import CALL_SECONDS, CHECKPOINT_SECONDS, ask, is_answer
from tryitnow.podman.containers import Containers
from tryitnow.podman.errors import ImagePullError, PodmanError
from tryitnow.podman.layers import create, mounted
from tryitnow.podman.limits import as_node_limit
from tryitnow.podman.references import full_reference, is_pinned, repository_of
from tryitnow.podman.registry_auth import NO_CREDENTIALS, Credentials
from tryitnow.podman.remedies import remedy_for_pull
from tryitnow.podman.translate import text_of

_PULL_SECONDS = 1800.0


class PullPolicy(StrEnum):
    """When a registry is asked for an image."""

    MISSING = "missing"
    """Only when the node does not have it."""

    ALWAYS = "always"
    """Always: that the node has it, for somebody else, proves nothing. Layers that are here are not
    pulled again."""


@dataclass(frozen=True)
class Image:
    """An image in the node's storage."""

    id: str
    pinned: str
    """Reference that means these very layers on any node: ``name@sha256:…``."""


class Images(Containers):
    """The images in the node's storage."""

    async def pull(
        self,
        name: str,
        *,
        policy: PullPolicy | None = None,
        auth: Sequence[Credentials] = (),
    ) -> Image:
        """Make an image of a registry present, and return it pinned.

        Args:
            name: As people write it: ``full_reference`` says what it means.
            policy: When the registry is asked; where it is not said, a pinned image is looked for
                on the node first, and any other is asked for.
            auth: What to show the registry, in the order in which to try; nothing by default,
                whatever the node's Podman is configured with.

        Raises:
            ImageNameError: no such name is possible.
            ImagePullError: it cannot be had, or is of no registry.
            NodeLimitError: the node has no room for it.
            PodmanUnreachableError: the service does not answer.

        """
        reference = full_reference(name)
        if policy is None:
            policy = PullPolicy.MISSING if is_pinned(reference) else PullPolicy.ALWAYS
        return await self._run_slow(lambda api: _pull_by_any(api, reference, policy, auth))

    async def ensure_image(self, pinned: str, *, auth: Sequence[Credentials] = ()) -> None:
        """Make a pinned image present; asks the registry only when it is missing.

        Args:
            pinned: As ``Image.pinned`` has it.
            auth: What to show the registry, as for ``pull``.

        Raises:
            ImagePullError: it cannot be had.

        """
        await self._run_slow(lambda api: _pull_by_any(api, pinned, PullPolicy.MISSING, auth))

    async def build_image(
        self, name: str, base: str, repository: str, tag: str, fill: Callable[[Path], None]
    ) -> str:
        """Make an image of a base image and what ``fill`` changes in its root file system.

        ``name`` is that of the container in which it happens. ``fill`` runs in a thread. An older
        image of that repository and tag is replaced. Returns the new image's ID.

        Raises:
            ImagePullError: the base image cannot be had.
            OSError: ``fill`` raised it; so with any other exception of its own.

        """

        def call(api: Any) -> str:  # noqa: ANN401
            # One that is replaced by its name alone would stay, nameless, for ever.
            _remove_image(api, f"{repository}:{tag}")
            create(api, name, base)
            with mounted(api, name) as root:
                fill(root)
            params = {"container": name, "repo": repository, "tag": tag}
            answer = api.post("/commit", params=params, timeout=CHECKPOINT_SECONDS)
            answer.raise_for_status()
            return str(answer.json()["Id"])

        await self.ensure_image(base)
        await self.remove(name)
        try:
            return await self._run_whole(call, on=name)
        finally:
            await self.remove(name)

    async def has_image(self, reference: str) -> bool:
        """Whether an image lies in the node's storage."""

        def call(api: Any) -> bool:  # noqa: ANN401
            quoted = urllib.parse.quote(reference, safe="")
            answer = api.get(f"/images/{quoted}/exists", timeout=CALL_SECONDS)
            if answer.status_code != requests.codes.not_found:
                answer.raise_for_status()
            return bool(answer.ok)

        return await self._run_slow(call)

    async def images_of(self, repository: str) -> dict[str, str]:
        """Return the IDs of a repository's images in the node's storage, by tag."""
        return await self._run_slow(lambda api: _images_of(api, repository))

    async def image_tags(self, repository: str) -> set[str]:
        """Return the tags that a repository has in the node's storage."""
        return set(await self._run_slow(lambda api: _images_of(api, repository)))

    async def remove_image(self, reference: str) -> bool:
        """Remove an image; returns False when a container still needs it."""
        return await self._run_whole(lambda api: _remove_image(api, reference))


def _pull_by_any(
    api: Any,  # noqa: ANN401
    reference: str,
    policy: PullPolicy,
    auth: Sequence[Credentials],
) -> Image:
    *others, last = [credentials.header() for credentials in auth] or [NO_CREDENTIALS]
    for header in others:
        # Which of several credentials are the right ones, only the registry knows.
        with contextlib.suppress(ImagePullError):
            return _pull(api, reference, policy, header)
    return _pull(api, reference, policy, last)


def _pull(api: Any, reference: str, policy: PullPolicy, headers: Mapping[str, str]) -> Image:  # noqa: ANN401
    params = {"reference": reference, "policy": str(policy), "quiet": True}
    try:
        with contextlib.closing(
            api.post(
                "/images/pull", params=params, headers=headers, stream=True, timeout=_PULL_SECONDS
            )
        ) as answer:
            answer.raise_for_status()
            last: dict[str, Any] = {}
            for line in answer.iter_lines():
                last = json.loads(line)
                if last.get("error"):
                    raise _not_pulled(reference, last["error"])
    except APIError as error:
        if not is_answer(error):
            raise
        raise _not_pulled(reference, text_of(error)) from error
    quoted = urllib.parse.quote(last.get("id") or reference, safe="")
    found = ask(api, f"/images/{quoted}/json")
    return Image(id=found["Id"], pinned=_pinned(reference, found))


def _not_pulled(reference: str, text: str) -> PodmanError:
    message = f"image {reference!r} cannot be pulled: {text}"
    if remedy := remedy_for_pull(text):
        return ImagePullError(f"{message}\nWhat to do: {remedy}")
    return as_node_limit(message) or ImagePullError(message)


def _images_of(api: Any, repository: str) -> dict[str, str]:  # noqa: ANN401
    params = {"filters": json.dumps({"reference": [repository]})}
    for last in (False, False, True):
        answer = api.get("/images/json", params=params, timeout=CALL_SECONDS)
        # An image that somebody removes meanwhile (`podman system prune`) may fail the whole list.
        if last or answer.ok or "not known" not in answer.text:
            break
    answer.raise_for_status()
    return {
        tag: image["Id"]
        for image in answer.json() or ()
        for found, _, tag in (name.rpartition(":") for name in image.get("RepoTags") or ())
        if found == repository
    }


def _remove_image(api: Any, reference: str) -> bool:  # noqa: ANN401
    quoted = urllib.parse.quote(reference, safe="")
    answer = api.delete(f"/images/{quoted}", timeout=CALL_SECONDS)
    if answer.status_code == requests.codes.conflict:
        return False
    if answer.status_code != requests.codes.not_found:
        answer.raise_for_status()
    return True


def _pinned(reference: str, image: dict[str, Any]) -> str:
    if is_pinned(reference):
        return reference
    # An image may be known by several repositories, of other people's.
    own = f"{repository_of(reference)}@"
    for digest in image.get("RepoDigests") or ():
        if digest.startswith(own):
            return str(digest)
    msg = (
        f"image {reference!r} has no digest of its repository: it was made on this node, and is in "
        "no registry; push it to one"
    )
    raise ImagePullError(msg)
