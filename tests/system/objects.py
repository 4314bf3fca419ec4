"""The cluster's objects as a test sees them: through the real API, with its user's eyes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import kubernetes
from kubernetes.client.exceptions import ApiException

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import (
    API_VERSION,
    GROUP,
    VERSION,
    Condition,
    ConditionStatus,
    Resource,
    find_condition,
)
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase

R = TypeVar("R", bound=Resource)

_RBAC = "rbac.authorization.k8s.io"

READY_WITHIN = 120.0
"""Seconds for what takes a few when the machine is idle."""

BUILT_WITHIN = 180.0


def connect(kubeconfig: Path) -> kubernetes.client.ApiClient:
    client: kubernetes.client.ApiClient = kubernetes.config.new_client_from_config(  # type: ignore[no-untyped-call]
        str(kubeconfig)
    )
    return client


class Objects:
    """Creates, reads and waits for objects of one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.namespace = namespace
        self._client = connect(kubeconfig)
        self._client.configuration.retries = False
        self._custom = kubernetes.client.CustomObjectsApi(self._client)
        self._core = kubernetes.client.CoreV1Api(self._client)
        self._events = kubernetes.client.EventsV1Api(self._client)

    def close(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]

    # -- writing -------------------------------------------------------------------------------

    def create(self, model: type[R], name: str, spec: dict[str, Any]) -> R:
        body = {
            "apiVersion": API_VERSION,
            "kind": model.kind_name,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }
        where = (GROUP, VERSION, self.namespace, model.plural)
        created = self._custom.create_namespaced_custom_object(*where, body)
        return model.model_validate(created)

    def checkpoint(self, name: str, spec: dict[str, Any]) -> Checkpoint:
        return self.create(Checkpoint, name, spec)

    def demo(self, name: str, checkpoint: str, **spec: Any) -> DemoInstance:
        return self.create(DemoInstance, name, {"checkpointRef": {"name": checkpoint}, **spec})

    def opt_in(self) -> None:
        """Let the agents read the Secrets and ConfigMaps of the namespace (docs/security.md)."""
        role, account = "tryitnow-agent-sources", "tryitnow-agent"
        subject = {"kind": "ServiceAccount", "name": account, "namespace": "tryitnow-system"}
        reference = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role}
        body: Any = {"metadata": {"name": role}, "roleRef": reference, "subjects": [subject]}
        bindings = kubernetes.client.RbacAuthorizationV1Api(self._client)
        try:
            bindings.create_namespaced_role_binding(self.namespace, body)
        except ApiException as error:
            if error.status != 409:
                raise

    def secret(self, name: str, *, opt_in: bool = True, **values: str) -> None:
        if opt_in:
            self.opt_in()
        metadata = kubernetes.client.V1ObjectMeta(name=name)
        body = kubernetes.client.V1Secret(metadata=metadata, string_data=values)
        self._core.create_namespaced_secret(self.namespace, body)

    def config_map(self, name: str, **values: str) -> None:
        self.opt_in()
        metadata = kubernetes.client.V1ObjectMeta(name=name)
        body = kubernetes.client.V1ConfigMap(metadata=metadata, data=values)
        self._core.create_namespaced_config_map(self.namespace, body)

    def patch(self, model: type[R], name: str, change: dict[str, Any]) -> R:
        where = (GROUP, VERSION, self.namespace, model.plural, name)
        return model.model_validate(self._custom.patch_namespaced_custom_object(*where, change))

    def delete(self, model: type[Resource], name: str) -> None:
        where = (GROUP, VERSION, self.namespace, model.plural, name)
        try:
            self._custom.delete_namespaced_custom_object(*where)
        except ApiException as error:
            if error.status != 404:
                raise

    def delete_all(self, model: type[Resource]) -> None:
        where = (GROUP, VERSION, self.namespace, model.plural)
        self._custom.delete_collection_namespaced_custom_object(*where)

    def create_namespace(self) -> None:
        metadata = kubernetes.client.V1ObjectMeta(name=self.namespace)
        self._core.create_namespace(kubernetes.client.V1Namespace(metadata=metadata))

    def delete_namespace(self) -> None:
        self._core.delete_namespace(self.namespace)

    def namespace_exists(self) -> bool:
        try:
            self._core.read_namespace(self.namespace)
        except ApiException as error:
            if error.status == 404:
                return False
            raise
        return True

    # -- reading -------------------------------------------------------------------------------

    def get(self, model: type[R], name: str) -> R | None:
        try:
            if model.namespaced:
                where = (GROUP, VERSION, self.namespace, model.plural, name)
                return model.model_validate(self._custom.get_namespaced_custom_object(*where))
            found = self._custom.get_cluster_custom_object(GROUP, VERSION, model.plural, name)
            return model.model_validate(found)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def all(self, model: type[R]) -> list[R]:
        where = (GROUP, VERSION, self.namespace, model.plural)
        found: Any = self._custom.list_namespaced_custom_object(*where)
        return [model.model_validate(item) for item in found["items"]]

    def none_left(self) -> bool:
        """Whether the namespace holds nothing of ours any more."""
        kinds: list[type[Resource]] = [DemoInstance, Checkpoint, NodeCheckpoint]
        return not any(self.all(kind) for kind in kinds)

    def copy(self, checkpoint: str, node: str) -> NodeCheckpoint | None:
        """The NodeCheckpoint of a Checkpoint on a node, of any revision."""
        copies = [
            copy
            for copy in self.all(NodeCheckpoint)
            if copy.spec.checkpoint == checkpoint and copy.spec.node_name == node
        ]
        return copies[0] if copies else None

    def events(self, about: str) -> list[tuple[str, str]]:
        """Reason and note of all Events about an object."""
        found = self._events.list_namespaced_event(self.namespace)
        return [
            (e.reason or "", e.note or "")
            for e in found.items
            if e.regarding is not None and e.regarding.name == about
        ]

    def notes_of(self, about: str, reason: str) -> list[str]:
        """Wait for Events of that reason about an object: they come a moment after the deed."""

        def found() -> list[str]:
            return [note for told, note in self.events(about) if told == reason]

        wait_until(lambda: bool(found()), f"an Event {reason} about {about}")
        return found()

    # -- waiting -------------------------------------------------------------------------------

    def wait(
        self,
        model: type[R],
        name: str,
        until: Callable[[R], bool],
        within: float = READY_WITHIN,
    ) -> R:
        """Watch an object until something holds; fails with the whole object when it does not."""
        deadline = time.monotonic() + within
        last: R | None = None
        while (left := deadline - time.monotonic()) > 0:
            last = self.get(model, name)
            if last is not None and until(last):
                return last
            with self._watching(model, name, last, left) as events:
                for event in events:
                    if event["type"] == "ERROR":
                        break  # the version is too old: list again
                    last = model.model_validate(event["object"])
                    if event["type"] != "DELETED" and until(last):
                        return last
        seen = json.dumps(last.to_api(), indent=1) if last else "it does not exist"
        told = "\n".join(f"{reason}: {note}" for reason, note in self.events(name))
        msg = f"{model.kind_name} {name} after {within:g} s: {seen}\n{told}"
        raise AssertionError(msg)

    @contextmanager
    def _watching(
        self, model: type[R], name: str, since: R | None, seconds: float
    ) -> Iterator[Iterator[dict[str, Any]]]:
        watch: Any = kubernetes.watch.Watch()  # type: ignore[no-untyped-call]
        options: dict[str, Any] = {
            "field_selector": f"metadata.name={name}",
            "timeout_seconds": max(1, int(seconds)),
        }
        if since is not None:
            options["resource_version"] = since.metadata.resource_version
        where: tuple[str, ...] = (GROUP, VERSION, self.namespace, model.plural)
        method: Any = self._custom.list_namespaced_custom_object
        if not model.namespaced:
            where = (GROUP, VERSION, model.plural)
            method = self._custom.list_cluster_custom_object
        stream = watch.stream(method, *where, **options)
        try:
            yield stream
        finally:
            watch.stop()
            stream.close()

    def wait_gone(self, model: type[Resource], name: str, within: float = READY_WITHIN) -> None:
        wait_until(lambda: self.get(model, name) is None, f"{name} to be gone", within)

    def ready_checkpoint(self, name: str, within: float = BUILT_WITHIN) -> Checkpoint:
        """A Checkpoint that is ready as its spec says now."""

        def is_ready(checkpoint: Checkpoint) -> bool:
            ready = find_condition(checkpoint.status.conditions, "Ready")
            if ready is None or ready.status is not ConditionStatus.TRUE:
                return False
            return ready.observed_generation == checkpoint.metadata.generation

        return self.wait(Checkpoint, name, is_ready, within)

    def ready_demo(self, name: str, within: float = READY_WITHIN) -> DemoInstance:
        """A demo that is ready; fails at once when it has been given up."""

        def ended(demo: DemoInstance) -> bool:
            stalled = demo.status.phase is DemoInstancePhase.FAILED
            return stalled or is_true(demo.status.conditions, "Ready")

        demo = self.wait(DemoInstance, name, ended, within)
        assert is_true(demo.status.conditions, "Ready"), json.dumps(demo.to_api(), indent=1)
        return demo

    def settled_pool(self, checkpoint: str, count: int, within: float = READY_WITHIN) -> None:
        """Wait until the pool is full, each warm sandbox on the node where it is to stay."""

        def is_settled() -> bool:
            copies = [c for c in self.all(NodeCheckpoint) if c.spec.checkpoint == checkpoint]
            shares = [copy.spec.pool.warm for copy in copies]
            return sum(shares) == count and shares == [copy.status.warm_ready for copy in copies]

        wait_until(is_settled, f"{count} warm sandboxes of {checkpoint} to wait", within)

    def wait_node_checkpoints(
        self, checkpoint: str, nodes: list[str], within: float = READY_WITHIN
    ) -> None:
        """Wait until each of the nodes can restore the Checkpoint."""

        def all_there() -> bool:
            found = [self.copy(checkpoint, node) for node in nodes]
            return all(c and c.status.phase is NodeCheckpointPhase.READY for c in found)

        wait_until(all_there, f"NodeCheckpoints of {checkpoint} on {nodes}", within)

    def agent(self, node: str, until: Callable[[NodeAgent], bool]) -> NodeAgent:
        return self.wait(NodeAgent, node, until)


def is_true(conditions: tuple[Condition, ...], type_: str) -> bool:
    found = find_condition(conditions, type_)
    return found is not None and found.status == "True"


def condition(resource: Checkpoint | DemoInstance | NodeCheckpoint, type_: str) -> Condition:
    found = find_condition(resource.status.conditions, type_)
    assert found is not None, f"no condition {type_} in {resource.to_api()}"
    return found


@contextmanager
def own_namespace(kubeconfig: Path, name: str, gone_within: float) -> Iterator[Objects]:
    """A namespace for the block; afterwards it is gone, and before it all that is ours in it."""
    objects = Objects(kubeconfig, name)
    objects.create_namespace()
    try:
        yield objects
        # Before their namespace: its controller looks again only after many seconds.
        objects.delete_all(DemoInstance)
        objects.delete_all(Checkpoint)
        wait_until(objects.none_left, f"all objects of {name} to be gone", gone_within)
    finally:
        objects.delete_namespace()
        objects.close()


def wait_until(
    holds: Callable[[], bool], what: str | Callable[[], str], within: float = READY_WITHIN
) -> None:
    """For what cannot be watched through the API: files, containers, ports."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() >= deadline:
            told = what if isinstance(what, str) else what()
            msg = f"waited {within:g} s for {told}"
            raise AssertionError(msg)
        time.sleep(0.1)
