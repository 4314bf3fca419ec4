"""The shop as a pod of two containers: demos of it, and Podman's imports of the same by hand."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import yaml

from bench import by_hand, demos
from bench.client import Found
from bench.settings import SAMPLES
from bench.stage import CHECKPOINT_WITHIN_S, CHECKPOINTS, Stage, website_of
from lab import images

POD = "bench-pod"
_APPS = ("database", "shop")
_SAMPLE = SAMPLES / "shop-pod.yaml"
_SECRETS = "/api/v1/namespaces/default/secrets"
_ROLE_BINDINGS = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings"
_ARCHIVE = "/var/tmp/by-hand-{}.tar.zst"


@dataclasses.dataclass(frozen=True)
class Pod:
    """The two containers, both ways of restoring them ready to be measured."""

    stage: Stage
    images: dict[str, str]
    env: dict[str, dict[str, str]]

    def restore(self) -> float:
        """A DemoInstance is created, to the first answer."""
        return demos.measure(self.stage, POD, demos.RESTORE).http

    def by_hand(self) -> float:
        """`podman pod create` and both imports at once, to the first answer."""
        with by_hand.pod(self.stage, "bench-pod-import") as (name, port):

            def restore() -> None:
                by_hand.podman(
                    self.stage, by_hand.NODE, by_hand.create_pod(name, f"{port}:{self.stage.port}")
                )
                with ThreadPoolExecutor(len(_APPS)) as both:
                    list(both.map(lambda app: self._import(name, app), _APPS))

            return by_hand.until_answer(self.stage, by_hand.NODE, restore, port)

    def _import(self, pod: str, app: str) -> None:
        argv = [*by_hand.RESTORE, f"--import={_ARCHIVE.format(app)}", f"--name={pod}-{app}",
                f"--pod={pod}"]  # fmt: skip
        by_hand.podman(self.stage, by_hand.NODE, argv)

    def export(self) -> None:
        """Start both by hand as the operator does, and checkpoint both at once."""
        node = by_hand.NODE
        with by_hand.pod(self.stage, "bench-pod-checkpoint") as (name, port):

            def start() -> None:
                by_hand.podman(
                    self.stage, node, by_hand.create_pod(name, f"{port}:{self.stage.port}")
                )
                for app in _APPS:
                    env = [f"--env={key}={value}" for key, value in self.env[app].items()]
                    argv = ["run", "--detach", f"--name={name}-{app}", f"--pod={name}", *env]
                    by_hand.podman(self.stage, node, [*argv, self.images[app]])

            by_hand.until_answer(self.stage, node, start, port)
            with ThreadPoolExecutor(len(_APPS)) as both:
                list(both.map(lambda app: self._checkpoint(name, app), _APPS))

    def _checkpoint(self, pod: str, app: str) -> None:
        argv = [*by_hand.CHECKPOINT, f"--export={_ARCHIVE.format(app)}", f"{pod}-{app}"]
        by_hand.podman(self.stage, by_hand.NODE, argv)


def pod(stage: Stage) -> Pod:
    """Checkpoint the sample as a Checkpoint, and the same containers by hand.

    Without volumes, which plain imports do not carry, and without hooks, which they do not run.
    """
    references = {app: images.ensure(stage.cluster, app) for app in _APPS}
    secret, opt_in, template, _ = yaml.safe_load_all(_SAMPLE.read_text())
    spec = template["spec"]
    del spec["template"]["volumes"], spec["hooks"], spec["parameters"]
    env = {}
    for container in _containers(spec):
        container["image"] = references[container["name"]]
        container.pop("volumeMounts", None)
        env[container["name"]] = {v["name"]: _value(v, secret) for v in container["env"]}
    stage.client.apply(f"{_SECRETS}/{secret['metadata']['name']}", secret)
    stage.client.apply(f"{_ROLE_BINDINGS}/{opt_in['metadata']['name']}", opt_in)
    body = {**template, "metadata": {"name": POD, "namespace": "default"}}
    stage.client.apply(f"{CHECKPOINTS}/{POD}", body)
    stage.checkpoints.wait(POD, CHECKPOINT_WITHIN_S)
    ready = dataclasses.replace(stage, website=website_of(template), port=_port(spec))
    found = Pod(ready, references, env)
    found.export()
    return found


def _containers(spec: Found) -> list[Found]:
    return [*spec["template"]["initContainers"], *spec["template"]["containers"]]


def _value(variable: Found, secret: Found) -> str:
    if "value" in variable:
        return str(variable["value"])
    return str(secret["stringData"][variable["valueFrom"]["secretKeyRef"]["key"]])


def _port(spec: Found) -> int:
    port: int = spec["template"]["containers"][0]["ports"][0]["containerPort"]
    return port
