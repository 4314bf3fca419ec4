"""The ground of a run: the cluster, the application checkpointed in it, and who watches what."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench import BenchError
from bench.client import Client, Found
from bench.settings import Settings
from bench.watcher import Watcher
from bench.website import Website
from lab import images
from lab.cluster import CHECKOUT, Cluster
from lab.progress import log_line, step

GROUP = "/apis/tryitnow.dev/v1alpha1"
CHECKPOINTS = f"{GROUP}/namespaces/default/checkpoints"
INSTANCES = f"{GROUP}/namespaces/default/demoinstances"
COPIES = f"{GROUP}/namespaces/default/nodecheckpoints"
REVISIONS = f"{GROUP}/namespaces/default/checkpointrevisions"

COLD_POOL = "bench"
"""The Checkpoint without warm sandboxes: its demos are restored."""

WARM_POOL = "bench-warm"
"""The same application with warm sandboxes."""

WARM_SANDBOXES = 8
CHECKPOINT_WITHIN_S = 300.0
FILL_WITHIN_S = 60.0
FILLED_FOR_S = 0.25
"""How long a full pool is given to come to rest, so that no sample shares the cores with its
filling."""


@dataclass(frozen=True)
class Stage:
    """What every measurement stands on."""

    cluster: Cluster
    client: Client
    template: Found
    """The application's Checkpoint, with the image that the nodes can pull."""

    website: Website
    image: str
    port: int
    """Where the application listens in its container."""

    instances: Watcher
    checkpoints: Watcher

    def wait_full(self, name: str = WARM_POOL, copies: int = WARM_SANDBOXES) -> None:
        """Wait until all warm sandboxes of a Checkpoint wait again."""
        deadline = time.monotonic() + FILL_WITHIN_S
        while warm_ready(self.client.get(f"{CHECKPOINTS}/{name}")) < copies:
            if time.monotonic() > deadline:
                raise BenchError(
                    f"the warm pool of {name} is not full after {FILL_WITHIN_S:.0f} s; "
                    "run with BENCH_KEEP=1 and see `kubectl get nodecheckpoints -o yaml`"
                )
            time.sleep(0.05)
        time.sleep(FILLED_FOR_S)


def warm_ready(checkpoint: Found) -> int:
    """How many warm sandboxes wait, as the Checkpoint says."""
    waiting: int = checkpoint.get("status", {}).get("warmReady", 0)
    return waiting


@contextlib.contextmanager
def stage(settings: Settings) -> Iterator[Stage]:
    """Bring the lab up and checkpoint the application; the lab goes down in every case."""
    cluster = Cluster(settings.lab, nodes=2)
    try:
        cluster.up()
        image = images.ensure(cluster, settings.app) if is_folder(settings.app) else settings.app
        with furnished(cluster, settings.template, image) as ready:
            yield ready
    finally:
        if settings.keep:
            log_line(f"the lab stays: python -m lab down --name {settings.lab}")
        else:
            with step(f"lab {settings.lab} down"):
                cluster.down()


@contextlib.contextmanager
def furnished(cluster: Cluster, file: Path, image: str) -> Iterator[Stage]:
    """Checkpoint the application in a lab that is up, and watch what is measured there."""
    template: Found = yaml.safe_load(file.read_text())
    template["spec"]["template"]["containers"][0]["image"] = image
    client = Client(cluster)
    with (
        Watcher(client, INSTANCES, is_ready) as instances,
        Watcher(client, CHECKPOINTS, is_ready) as checkpoints,
    ):
        ready = Stage(
            cluster=cluster,
            client=client,
            template=template,
            website=website_of(template),
            image=image,
            port=_port(template),
            instances=instances,
            checkpoints=checkpoints,
        )
        with step(f"checkpointing the application in lab {cluster.lab.name}", usually="40 s"):
            # One after the other: a node builds faster alone, and so it is known who pulled the
            # image.
            checkpoint(ready, COLD_POOL, {})
            # Not compressed: the copy between the nodes is to last long enough to be measured.
            plain = {"compression": "None"}
            checkpoint(ready, WARM_POOL, {"criu": plain, "pool": {"warm": WARM_SANDBOXES}})
        yield ready


def checkpoint(stage: Stage, name: str, change: Found) -> None:
    """Make a Checkpoint of the application, with a change of its spec, and wait until it is Ready.

    One that is there already is changed.
    """
    spec = {**stage.template["spec"], **change}
    body = {**stage.template, "metadata": {"name": name, "namespace": "default"}, "spec": spec}
    stage.client.apply(f"{CHECKPOINTS}/{name}", body)
    stage.checkpoints.wait(name, CHECKPOINT_WITHIN_S)


def is_ready(found: Found) -> bool:
    """Whether an object's Ready condition is true."""
    conditions = found.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def is_folder(app: str) -> bool:
    """Whether it is an application's folder, of which the lab makes an image."""
    return (Path(app) / "app.json").exists() or (CHECKOUT / "lab/apps" / app).is_dir()


def website_of(template: Found) -> Website:
    """What a Checkpoint's readiness and warm-up ask for."""
    readiness: Found = template["spec"].get("readiness", {})
    http_get: Found = readiness.get("httpGet", {})
    warm_up: Found = template["spec"].get("warmUp", {})
    return Website(
        path=http_get.get("path", "/"),
        host=http_get.get("host"),
        status=readiness.get("expectedStatus", 200),
        warm_up=tuple(warm_up.get("paths", [])) * int(warm_up.get("rounds", 1)),
    )


def _port(template: Found) -> int:
    readiness: Found = template["spec"].get("readiness", {})
    first: int = template["spec"]["template"]["containers"][0]["ports"][0]["containerPort"]
    asked: int = readiness.get("httpGet", {}).get("port", first)
    return asked
