"""The images that a sandbox is started from: pinned ones where the revision has them."""

from __future__ import annotations

from collections.abc import Mapping

from tryitnow.agent.errors import SourceError
from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.sandbox.secrets import Sources
from tryitnow.api.definition import Definition
from tryitnow.podman.errors import ImagePullError
from tryitnow.podman.images import PullPolicy
from tryitnow.podman.references import full_reference
from tryitnow.podman.registry_auth import Keyring, PullSecretError


async def pull_images(
    tools: StartTools,
    definition: Definition,
    sources: Sources,
    pinned: Mapping[str, str],
    *,
    newest: bool,
) -> dict[str, str]:
    """Make all images present, and return their pinned references by container.

    Args:
        tools: The node's tools.
        definition: What is to be started.
        sources: Has the credentials for registries.
        pinned: References that the revision was built from; empty before its first build.
        newest: Whether the registry is asked for a newer image of a name that is not pinned. A
            cold start takes the image that is here: it is the last resort when a registry is away.

    Raises:
        SourceError: a Secret holds no credentials that can be read.
        ImagePullError: an image cannot be had.

    """
    keyring = _keyring(sources)
    images: dict[str, str] = {}
    for field, container in definition.template.by_field():
        known = pinned.get(container.name)
        reference = known or container.image
        policy = PullPolicy.NEWER if newest and known is None else PullPolicy.MISSING
        try:
            # One after the other: Podman pulls the layers of each in parallel already.
            image = await tools.podman.pull(
                reference, policy=policy, auth=keyring.find(full_reference(reference))
            )
        except ImagePullError as error:
            raise ImagePullError(f"{field}.image: {error}") from error
        images[container.name] = image.pinned
    return images


def _keyring(sources: Sources) -> Keyring:
    try:
        return Keyring(sources.pull_secrets)
    except PullSecretError as error:
        msg = f"spec.template.imagePullSecrets: a Secret cannot be used: {error}"
        raise SourceError(msg) from error
