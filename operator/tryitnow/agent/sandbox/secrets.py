"""Secrets and ConfigMaps that containers get when they are made.

Values go into the environment and into files, and nowhere else. ``Redacted`` keeps them out of
everything that people read, and takes control characters out of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as initially
from pathlib import Path

from tryitnow.agent.errors import SourceError
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import ContainerName
from tryitnow.agent.storage.volumes import VolumeStore
from tryitnow.api.definition import Definition
from tryitnow.api.meta import Key
from tryitnow.api.template import KeyToPath, Template
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import NotFoundError, RefusedError
from tryitnow.podman.client import Podman
from tryitnow.printable import printable

HIDDEN = "***"

_SHORTEST = 3
"""Characters: anything shorter hides nothing and would garble every message."""


@dataclass(frozen=True)
class Redacted:
    """Knows the secrets that must not be shown."""

    values: frozenset[str] = frozenset()

    def text(self, text: str) -> str:
        """Return a text without any of the values, and without control characters."""
        # Again afterwards: control characters may have been between the letters of one.
        return self._without(printable(self._without(text)))

    def _without(self, text: str) -> str:
        # The longest first: one may be a part of another.
        for value in sorted(self.values, key=len, reverse=True):
            text = text.replace(value, HIDDEN)
        return text

    def also(self, values: Iterable[str]) -> Redacted:
        """Return one that knows more. A value of several lines is hidden line by line as well."""
        pieces = {piece.strip() for value in values for piece in (value, *value.splitlines())}
        return Redacted(self.values | {piece for piece in pieces if len(piece) >= _SHORTEST})


@dataclass(frozen=True)
class Sources:
    """Content of Secrets and ConfigMaps for the containers of a template.

    Attributes:
        env: Environment by container.
        files: Content by volume and file name.
        redacted: Keeps the secret ones among them out of messages.
        pull_secrets: Credentials for registries: content of each kubernetes.io/dockerconfigjson.

    """

    env: Mapping[str, Mapping[str, str]] = initially(default_factory=dict)
    files: Mapping[str, Mapping[str, bytes]] = initially(default_factory=dict)
    redacted: Redacted = Redacted()
    pull_secrets: tuple[Mapping[str, bytes], ...] = ()


async def secrets_of(
    podman: Podman,
    volumes: VolumeStore,
    name: ContainerName,
    definition: Definition,
    sandbox: Sandbox,
) -> Redacted:
    """Return what keeps everything secret that a sandbox was made with out of messages.

    Raises:
        PodmanError: a container is gone.
        OSError: a volume is gone.

    """
    own_names = sandbox.containers(name, definition)
    values: list[str] = []
    for container in definition.template.members:
        wanted = {v.name for v in container.env if v.value_from is not None}
        if wanted:
            found = await podman.environment_of(own_names[container.name])
            values += [value for key, value in found.items() if key in wanted]
    for volume in definition.template.volumes:
        if volume.secret is not None:
            directory = volumes.path(sandbox.pod.tag, volume.name)
            values += await asyncio.to_thread(_texts_in, directory)
    return Redacted().also(values)


def _texts_in(directory: Path) -> list[str]:
    return [path.read_text(errors="replace") for path in directory.iterdir()]


SOURCES_ROLE = "tryitnow-agent-sources"
"""ClusterRole that a namespace binds to let the agents read its Secrets and ConfigMaps."""


async def read_sources(
    kubernetes: KubernetesApi, account: str, namespace: str, template: Template
) -> Sources:
    """Read all that a template names, each object once.

    Args:
        kubernetes: The API server.
        account: The agents' ServiceAccount (``namespace:name``).
        namespace: That of the Secrets and ConfigMaps.
        template: What names them.

    Raises:
        SourceError: one is missing, lacks a key, or may not be read.
        KubernetesError: the API server does not answer.

    """
    reader = _Reader(kubernetes, account, namespace)
    env: dict[str, dict[str, str]] = {}
    files: dict[str, dict[str, bytes]] = {}
    for field, container in template.by_field():
        own = env.setdefault(container.name, {})
        for variable in container.env:
            if variable.value_from is None:
                own[variable.name] = variable.value
                continue
            ref = variable.value_from.secret_key_ref
            where = f"{field}.env[{variable.name}].valueFrom.secretKeyRef"
            data = await reader.secret(ref.name, where, optional=ref.optional)
            value = reader.key(data, ref.key, ref.name, where, optional=ref.optional)
            if value is not None:
                own[variable.name] = value.decode(errors="surrogateescape")
    for volume in template.volumes:
        where = f"spec.template.volumes[{volume.name}]"
        if volume.secret is not None:
            secret = volume.secret
            data = await reader.secret(secret.secret_name, where, optional=secret.optional)
            files[volume.name] = reader.files(
                data, secret.items, secret.secret_name, where, optional=secret.optional
            )
        elif volume.config_map is not None:
            wanted = volume.config_map
            data = await reader.config_map(wanted.name, where, optional=wanted.optional)
            files[volume.name] = reader.files(
                data, wanted.items, wanted.name, where, optional=wanted.optional
            )
    pull_secrets = await reader.pull_secrets(template)
    redacted = Redacted().also(v.decode(errors="replace") for v in reader.secret_values)
    return Sources(env, files, redacted, pull_secrets)


async def read_pull_secrets(
    kubernetes: KubernetesApi, account: str, namespace: str, template: Template
) -> tuple[Mapping[str, bytes], ...]:
    """Read only the credentials for registries, with the arguments and errors of
    ``read_sources``."""
    return await _Reader(kubernetes, account, namespace).pull_secrets(template)


class _Reader:
    def __init__(self, kubernetes: KubernetesApi, account: str, namespace: str) -> None:
        self._kubernetes = kubernetes
        self._account = account
        self._namespace = namespace
        self._known: dict[tuple[str, str], Mapping[str, bytes]] = {}
        self.secret_values: set[bytes] = set()

    async def secret(self, name: str, where: str, *, optional: bool) -> Mapping[str, bytes]:
        data = await self._read("secrets", name, where, optional=optional)
        self.secret_values |= set(data.values())
        return data

    async def pull_secrets(self, template: Template) -> tuple[Mapping[str, bytes], ...]:
        found = []
        for ref in template.image_pull_secrets:
            where = f"spec.template.imagePullSecrets[{ref.name}]"
            found.append(await self.secret(ref.name, where, optional=False))
        return tuple(found)

    async def config_map(self, name: str, where: str, *, optional: bool) -> Mapping[str, bytes]:
        return await self._read("configmaps", name, where, optional=optional)

    async def _read(
        self, resource: str, name: str, where: str, *, optional: bool
    ) -> Mapping[str, bytes]:
        kind = "Secret" if resource == "secrets" else "ConfigMap"
        if (resource, name) not in self._known:
            key = Key(self._namespace, name)
            try:
                self._known[resource, name] = await self._kubernetes.data_of(resource, key)
            except NotFoundError as error:
                if optional:
                    return {}
                msg = f"{where}: there is no {kind} {name!r} in namespace {self._namespace}"
                raise SourceError(f"{msg}; create it") from error
            except RefusedError as error:
                namespace, account = self._namespace, self._account
                msg = (
                    f"{where}: the agents may not read {kind} {name!r}: namespace {namespace} has "
                    "not opted in. Who may bind roles there runs: kubectl create rolebinding "
                    f"{SOURCES_ROLE} --namespace={namespace} --clusterrole={SOURCES_ROLE} "
                    f"--serviceaccount={account}"
                )
                raise SourceError(msg) from error
        return self._known[resource, name]

    @staticmethod
    def key(
        data: Mapping[str, bytes], key: str, name: str, where: str, *, optional: bool
    ) -> bytes | None:
        if key not in data and not optional:
            keys = ", ".join(sorted(data)) or "none"
            msg = f"{where}: {name!r} has no key {key!r}; its keys are: {keys}"
            raise SourceError(msg)
        return data.get(key)

    def files(
        self,
        data: Mapping[str, bytes],
        items: tuple[KeyToPath, ...],
        name: str,
        where: str,
        *,
        optional: bool,
    ) -> dict[str, bytes]:
        if not items:
            return dict(data)
        found = {item.path: self.key(data, item.key, name, where, optional=optional)
                 for item in items}  # fmt: skip
        return {path: content for path, content in found.items() if content is not None}
