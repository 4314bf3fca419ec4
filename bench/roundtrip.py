"""The least that any Kopf operator needs: an object's creation to a status that its user sees."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import BenchError
from bench.client import Client, Found
from bench.stage import Stage
from bench.watcher import Watcher
from lab import nodes, pods

_GROUP = "bench.tryitnow.dev"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_PINGS = f"/apis/{_GROUP}/v1/namespaces/default/pings"
_HANDLER = Path(__file__).parent / "roundtrip_handler.py"

_WITHIN_S = 30.0
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Roundtrip:
    """A running handler."""

    client: Client
    pings: Watcher

    def measure(self) -> float:
        """Create an object, and wait until the handler's status is seen."""
        name = f"ping-{next(_numbers)}"
        began = time.perf_counter()
        self.client.create(_PINGS, _ping(name))
        seen, _ = self.pings.wait(name, _WITHIN_S)
        self.client.delete(f"{_PINGS}/{name}")
        self.pings.wait_gone([name], _WITHIN_S)
        return seen - began


@contextlib.contextmanager
def roundtrip(stage: Stage) -> Iterator[Roundtrip]:
    """Run the handler where the controller runs, with its Python and its rights to the API."""
    client = stage.client
    client.apply(f"{_CRDS}/pings.{_GROUP}", _definition())
    role = f"{_RBAC}/clusterroles/bench"
    client.apply(role, _role())
    client.apply(f"{_RBAC}/clusterrolebindings/bench", _binding())
    _wait_served(client)
    argv = [nodes.PYTHON, "-c", _HANDLER.read_text()]
    log = stage.cluster.log("bench-roundtrip")
    with (
        log.open("w") as output,
        stage.cluster.popen(pods.CONTROL, argv, stdout=output, stderr=subprocess.STDOUT) as handler,
    ):
        try:
            with Watcher(client, _PINGS, lambda ping: "seen" in ping.get("status", {})) as pings:
                ready = Roundtrip(client, pings)
                ready.measure()  # the first waits until the handler is up
                yield ready
        finally:
            handler.kill()


def _wait_served(client: Client) -> None:
    """Wait until the new kind can be listed: Established alone is too early (429, 404)."""
    deadline = time.monotonic() + _WITHIN_S
    while True:
        try:
            client.get(_PINGS)
        except BenchError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _ping(name: str) -> Found:
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "Ping",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {},
    }


def _definition() -> Found:
    names = {"kind": "Ping", "plural": "pings", "singular": "ping"}
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": free, "status": free}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"pings.{_GROUP}"},
        "spec": {"group": _GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _role() -> Found:
    resources = ["pings", "pings/status"]
    rule = {"apiGroups": [_GROUP], "resources": resources, "verbs": ["list", "watch", "patch"]}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "bench"},
        "rules": [rule],
    }


def _binding() -> Found:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "bench"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "bench",
        },
        "subjects": [
            {
                "kind": "ServiceAccount",
                "name": "tryitnow-controller",
                "namespace": "tryitnow-system",
            }
        ],
    }
