"""The images that a sandbox is started from: pinned ones where the revision has them.

An image that lies on the node was pulled for somebody, and proves nothing to another namespace: a
registry is asked with the credentials of the namespace that wants it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tryitnow.agent.errors import SourceError
from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.sandbox.secrets import Sources, read_pull_secrets
from tryitnow.api.definition import Definition
from tryitnow.podman.errors import ImagePullError
from tryitnow.podman.images import PullPolicy
from tryitnow.podman.references import full_reference
from tryitnow.podman.registry_auth import Keyring, PullSecretError


async def pull_images(
    tools: StartTools,
    namespace: str,
    definition: Definition,
    sources: Sources,
    pinned: Mapping[str, str],
    *,
    newest: bool,
) -> dict[str, str]:
    """Make all images present, and return their pinned references by container.

    Args:
        tools: The node's tools.
        namespace: That of the Checkpoint.
        definition: What is to be started.
        sources: Has the credentials for registries.
        pinned: References that the revision was built from, with credentials of its namespace;
            empty before its first build.
        newest: Whether the registry is asked for a newer image of a name that is not pinned. A
            cold start takes the one that the registry gave its namespace before: it is the last
            resort when a registry is away.

    Raises:
        SourceError: a Secret holds no credentials that can be read.
        ImagePullError: an image cannot be had.

    """
    keyring = _keyring(sources.pull_secrets)
    images: dict[str, str] = {}
    for field, container in definition.template.by_field():
        known = pinned.get(container.name)
        if known is None and not newest:
            known = tools.given.find(namespace, container.image)
        reference = known or container.image
        policy = PullPolicy.MISSING if known is not None else PullPolicy.ALWAYS
        try:
            # One after the other: Podman pulls the layers of each in parallel already.
            image = await tools.podman.pull(
                reference, policy=policy, auth=keyring.find(full_reference(reference))
            )
        except ImagePullError as error:
            raise ImagePullError(f"{field}.image: {error}") from error
        if known is None:
            tools.given.note(namespace, container.image, image.pinned)
        images[container.name] = image.pinned
    return images


async def ensure_images(
    tools: StartTools, namespace: str, definition: Definition, images: Iterable[str]
) -> None:
    """Make the pinned images of an archive present, with the credentials of its namespace.

    Raises:
        SourceError: a Secret for pulls is missing, or holds no credentials that can be read.
        ImagePullError: one cannot be had.

    """
    missing = [image for image in sorted(set(images)) if not await tools.podman.has_image(image)]
    if not missing:
        return
    keyring = _keyring(
        await read_pull_secrets(tools.kubernetes, tools.account, namespace, definition.template)
    )
    for image in missing:
        await tools.podman.ensure_image(image, auth=keyring.find(image))


def _keyring(secrets: Iterable[Mapping[str, bytes]]) -> Keyring:
    try:
        return Keyring(secrets)
    except PullSecretError as error:
        msg = f"spec.template.imagePullSecrets: a Secret cannot be used: {error}"
        raise SourceError(msg) from error
