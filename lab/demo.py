"""The main job, step by step: one node checkpoints a shop, and the other restores it."""

from __future__ import annotations

import html
import http.client
import json
import os
import re
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import LabError, images
from lab.cluster import CHECKOUT, Cluster
from lab.progress import Step, say, step

_SAMPLES = Path("manifests/samples")
_CHECKPOINT = _SAMPLES / "wordpress.yaml"
_INSTANCE = _SAMPLES / "demo-wordpress.yaml"

_CHECKPOINT_WITHIN_S = 300.0
_INSTANCE_WITHIN_S = 60.0

Found = dict[str, Any]


def show(cluster: Cluster) -> None:
    """Bring the lab up, apply the samples, wait for the demo, and print how to open it.

    Raises:
        LabError: a step failed, or the demo was not restored; the message says what to look at.

    """
    cluster.up()
    images.ensure(cluster, "wordpress")
    checkpoint = _apply(cluster, _CHECKPOINT)
    with step(
        "starting, checkpointing, verifying and distributing the shop", usually="15 s"
    ) as current:
        _wait(cluster, checkpoint, current, _CHECKPOINT_WITHIN_S)
    instance = _apply(cluster, _INSTANCE)
    with step("restoring a demo of it", usually="1 s") as current:
        status = _wait(cluster, instance, current, _INSTANCE_WITHIN_S)
    title = _title(status["url"])
    builder = _builder(cluster, checkpoint)
    _print_result(cluster, instance, status, title, builder)
    if status["startedBy"] != "Restore":
        why = status.get("fallbackReason", "no reason given")
        raise LabError(f"The demo was started cold ({why}): `python -m lab exec node-1 -- "
                       "tryitnow doctor` shows what the node lacks.")  # fmt: skip


def _apply(cluster: Cluster, file: Path) -> Found:
    say(f"$ kubectl apply -f {file}")
    reported = cluster.kubectl("apply", "--output=json", f"--filename={CHECKOUT / file}")
    applied: Found = json.loads(reported.stdout)
    return applied


def _path(of: Found) -> str:
    plural = f"{of['kind'].lower()}s"
    namespace = of["metadata"]["namespace"]
    group = f"/apis/{of['apiVersion']}/namespaces/{namespace}"
    return f"{group}/{plural}/{of['metadata']['name']}"


def _wait(cluster: Cluster, of: Found, current: Step, within_s: float) -> Found:
    """Wait until an object is Ready, showing its phase; returns its status."""
    deadline = time.monotonic() + within_s
    generation = of["metadata"]["generation"]
    while True:
        found = cluster.api.get(_path(of))
        if found is None:
            raise LabError(f"{of['kind']} {of['metadata']['name']} is gone.")
        status: Found = found.get("status") or {}
        seen = status.get("observedGeneration") == generation
        if seen and _condition(status, "Ready").get("status") == "True":
            return status
        ready = _condition(status, "Ready")
        current.at(f"{status.get('phase', 'Pending')}: {ready.get('message', '')}")
        stalled = _condition(status, "Stalled").get("status") == "True" or (
            status.get("phase") == "Failed"
        )
        if (seen and stalled) or time.monotonic() > deadline:
            raise LabError(
                f"{of['kind']} {of['metadata']['name']} is not Ready: "
                f"{ready.get('reason')}: {ready.get('message')}"
            )
        time.sleep(0.1)


def _condition(status: Found, type_: str) -> Found:
    return next((c for c in status.get("conditions", []) if c["type"] == type_), {})


def _builder(cluster: Cluster, checkpoint: Found) -> str:
    """The node that checkpointed the application; the others fetched the archive."""
    namespace = checkpoint["metadata"]["namespace"]
    path = f"/apis/{checkpoint['apiVersion']}/namespaces/{namespace}/nodecheckpoints"
    listed = cluster.api.get(path) or {"items": []}
    built: Callable[[Found], bool] = lambda spec: (  # noqa: E731
        spec["checkpoint"] == checkpoint["metadata"]["name"] and "fetch" not in spec
    )
    return next((i["spec"]["nodeName"] for i in listed["items"] if built(i["spec"])), "another")


def _title(url: str) -> str:
    """The title of the page at that URL."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("GET", parts.path or "/")
        answer = connection.getresponse()
        page = answer.read().decode(errors="replace")
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise LabError(f"{url} answered {answer.status}")
    found = re.search(r"<title>(.*?)</title>", page, re.DOTALL)
    return html.unescape(found[1].strip()) if found else f"{len(page)} bytes without a title"


def _print_result(
    cluster: Cluster, instance: Found, status: Found, title: str, builder: str
) -> None:
    name = "" if cluster.lab.name == "demo" else f" --name {cluster.lab.name}"
    demo = instance["metadata"]["name"]
    timings = ", ".join(f"{step_} {took}" for step_, took in status.get("timings", {}).items())
    down = "make down" if not name else f"make down LAB={cluster.lab.name}"
    python = os.environ.get("PYTHON", "python3")
    say(f"""
Look at it:
  eval "$({python} -m lab env{name})"     # sets KUBECONFIG={cluster.kubeconfig}
  kubectl get checkpoints,demoinstances -A
  kubectl describe demo {demo}
  curl {status["url"]}
  {down}     # removes all of it

checkpointed on: {builder}
restored on: {status["nodeName"]}
page: {title}
URL: {status["url"]}
startedBy: {status["startedBy"]}
timings: {timings}""")
