"""Which cluster is meant, who asks, and in which namespace: as kubectl finds it out."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.aio import client as aio
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import load_incluster_config

from tryitnow.kubernetes.errors import NoClusterError

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_USUAL_KUBECONFIG = Path("~/.kube/config")
_DEFAULT_NAMESPACE = "default"

RENEW_SECONDS = 60.0
"""Between two looks at whether credentials have expired: a program that does not say until when its
are good is run so often."""


@dataclass(frozen=True)
class Access:
    """How to reach a cluster."""

    configuration: aio.Configuration
    namespace: str
    """The namespace of the kubeconfig's context or, in a Pod, the Pod's own."""


async def find_access(context: str | None = None) -> Access:
    """Find the cluster: ``KUBECONFIG``, else ``~/.kube/config``, else the Pod's ServiceAccount.

    Args:
        context: Context of the kubeconfig; its current one where None.

    Raises:
        NoClusterError: there is none of these, or it cannot be used.

    """
    paths = _kubeconfig()
    if paths:
        return await _by_kubeconfig(paths, context)
    configuration = aio.Configuration()
    try:
        if context is not None:
            msg = f"context {context!r} is asked for, but there is no kubeconfig: set KUBECONFIG"
            raise NoClusterError(msg)
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        return Access(configuration, _namespace_of_pod())
    except (ConfigException, OSError, ValueError) as error:
        msg = f"which cluster? no KUBECONFIG, no ~/.kube/config, and not in a Pod: {error}"
        raise NoClusterError(msg) from error


async def _by_kubeconfig(paths: str, context: str | None) -> Access:
    # Not in a Pod: what reads kubeconfigs (YAML, dates, programs that have tokens) takes its time.
    import yaml
    from kubernetes.aio.config.kube_config import load_kube_config

    configuration = aio.Configuration()
    try:
        loader = await load_kube_config(  # type: ignore[no-untyped-call]
            paths, context=context or _current(paths), client_configuration=configuration
        )
        configuration.refresh_api_key_hook = _Renewal(loader)  # type: ignore[assignment]
        chosen = loader.current_context["context"]
        return Access(configuration, chosen.get("namespace") or _DEFAULT_NAMESPACE)
    except (ConfigException, OSError, TypeError, ValueError, yaml.YAMLError) as error:
        # The loader does not look at what it reads: an empty file is a TypeError.
        msg = f"which cluster? {paths}: {error}"
        raise NoClusterError(msg) from error


class _Renewal:
    """Has credentials renewed that expire: those of a program (EKS, GKE, AKS), or of OIDC.

    Called before each request. The loader itself knows until when what it has is good.
    """

    def __init__(self, loader: Any) -> None:  # noqa: ANN401 - the client ships no types
        self._loader = loader
        self._at = time.monotonic()

    async def __call__(self, configuration: aio.Configuration) -> None:
        if time.monotonic() - self._at >= RENEW_SECONDS:
            self._at = time.monotonic()
            await self._loader.load_and_set(configuration)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Renewal:
        """Stay one: the client copies its configuration."""
        return self


def _current(paths: str) -> str | None:
    """Return the current context of several kubeconfigs: the first that names one, as kubectl."""
    import yaml

    for path in paths.split(os.pathsep):
        found = yaml.safe_load(Path(path).read_text())
        current = found.get("current-context") if isinstance(found, dict) else None
        if current:
            return str(current)
    return None


def _kubeconfig() -> str:
    """Return the paths of the kubeconfig that exist, joined as in KUBECONFIG; empty if none."""
    named = os.environ.get("KUBECONFIG")
    candidates = named.split(os.pathsep) if named else [str(_USUAL_KUBECONFIG)]
    paths = [Path(path).expanduser() for path in candidates if path]
    found = [str(path) for path in paths if path.exists()]
    if named and not found:
        msg = f"KUBECONFIG={named} names no file that exists; set it to the cluster's kubeconfig"
        raise NoClusterError(msg)
    return os.pathsep.join(found)


def _namespace_of_pod() -> str:
    return _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.exists() else _DEFAULT_NAMESPACE
