"""Calls to Podman and requests to the API server, counted and timed by what they were."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from kubernetes.aio import client as aio

from tests.unit.builders import make_demo
from tests.unit.conftest import ADDRESS
from tests.unit.metrics.scrape import scrape
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key
from tryitnow.api.node import ClusterNode
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import KubernetesError, NotFoundError
from tryitnow.kubernetes.instrumented import InstrumentedApiClient, resource_of
from tryitnow.metrics.instruments import Metrics
from tryitnow.podman.client import Podman
from tryitnow.podman.errors import PodmanUnreachableError
from tryitnow.settings import PodmanSettings
from tryitnow.workqueue import WorkQueue

PORT = 23091


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/apis/tryitnow.dev/v1alpha1/demoinstances", "demoinstances"),
        ("/apis/tryitnow.dev/v1alpha1/namespaces/a/demoinstances/anna", "demoinstances"),
        ("/apis/tryitnow.dev/v1alpha1/namespaces/a/demoinstances/b/status", "demoinstances/status"),
        ("/apis/tryitnow.dev/v1alpha1/nodeagents/node-a/status", "nodeagents/status"),
        ("/apis/events.k8s.io/v1/namespaces/default/events", "events"),
        ("/api/v1/nodes?limit=5", "nodes"),
        ("/api/v1/nodes/node-a", "nodes"),
        ("/api/v1/namespaces/a", "namespaces"),
        ("/apis/authentication.k8s.io/v1/tokenreviews", "tokenreviews"),
    ],
)
def test_a_request_is_known_by_its_resource_not_by_names(path: str, resource: str) -> None:
    assert resource_of(path) == resource


@pytest.fixture
async def api(metrics: Metrics) -> AsyncIterator[KubernetesApi]:
    """An API server that knows one instance, over real HTTP."""
    known = make_demo("annas-demo").to_api()

    async def answer(request: web.Request) -> web.Response:
        if request.match_info["name"] == "slow":
            await asyncio.sleep(0.3)
        if request.match_info["name"] != "annas-demo":
            return web.json_response({"kind": "Status", "code": 404}, status=404)
        return web.json_response(known)

    app = web.Application()
    path = "/apis/tryitnow.dev/v1alpha1/namespaces/default/demoinstances/{name}"
    app.router.add_get(path, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, ADDRESS, PORT).start()
    configuration = aio.Configuration(host=f"http://{ADDRESS}:{PORT}")
    async with InstrumentedApiClient(configuration, metrics) as client:
        yield KubernetesApi(client, "test")
    await runner.cleanup()


async def test_requests_are_timed_and_failures_counted(
    api: KubernetesApi, metrics: Metrics
) -> None:
    await api.get(DemoInstance, Key("default", "annas-demo"))
    with pytest.raises(NotFoundError):
        await api.get(DemoInstance, Key("default", "bens-demo"))
    labels = {"verb": "GET", "resource": "demoinstances"}
    found = scrape(metrics)
    name = "tryitnow_kubernetes_request"
    assert found.value(f"{name}_duration_seconds_count", **labels) == 2
    assert found.value(f"{name}_errors_total", **labels, code="404") == 1
    assert len(found.all(f"{name}_errors_total")) == 1


async def test_an_api_server_that_does_not_answer_is_code_0(metrics: Metrics) -> None:
    configuration = aio.Configuration(host=f"http://{ADDRESS}:1")
    async with InstrumentedApiClient(configuration, metrics) as client:
        with pytest.raises(KubernetesError):
            await KubernetesApi(client, "test").list_all(ClusterNode)
    labels = {"verb": "GET", "resource": "nodes", "code": "0"}
    assert scrape(metrics).value("tryitnow_kubernetes_request_errors_total", **labels) == 1


async def test_a_request_that_is_given_up_is_no_failure(
    api: KubernetesApi, metrics: Metrics
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await api.get(DemoInstance, Key("default", "slow"))
    found = scrape(metrics)
    assert found.value("tryitnow_kubernetes_request_duration_seconds_count", verb="GET") == 1
    assert not found.all("tryitnow_kubernetes_request_errors_total")


async def test_a_call_to_podman_is_known_by_its_method(metrics: Metrics, tmp_path: Path) -> None:
    podman = Podman(PodmanSettings(socket=f"unix://{tmp_path}/nobody"), metrics)
    calls = {
        "pull": podman.pull("shop"),
        "inspect": podman.inspect("tryitnow_demo"),
        "remove": podman.remove("tryitnow_demo"),
        "list_containers": podman.list_containers("tryitnow_"),
    }
    for call in calls.values():
        with pytest.raises(PodmanUnreachableError):
            await call
    await asyncio.to_thread(podman.close)
    found = scrape(metrics)
    for operation in calls:
        name = "tryitnow_podman_call"
        assert found.value(f"{name}_duration_seconds_count", operation=operation) == 1
        error = {"operation": operation, "error": "PodmanUnreachableError"}
        assert found.value(f"{name}_errors_total", **error) == 1


async def test_a_queue_tells_what_waits_works_and_fails(metrics: Metrics) -> None:
    go_on = asyncio.Event()

    async def reconcile(key: Key) -> None:
        if key.name == "fails":
            raise ConnectionError
        await go_on.wait()

    queue = WorkQueue(
        "Demo", reconcile, expected=(ConnectionError,), concurrency=1, metrics=metrics
    )
    queue.add(Key("a", "fails"))
    await asyncio.sleep(0.01)
    queue.add(Key("a", "works"))
    queue.add(Key("a", "waits"))
    await asyncio.sleep(0.01)
    found = scrape(metrics)
    for state in ("waiting", "working", "failing"):
        assert found.value("tryitnow_workqueue_keys", queue="Demo", state=state) == 1
    assert found.value("tryitnow_workqueue_retries_total", queue="Demo", cause="expected") == 1
    go_on.set()
    await asyncio.sleep(0.01)
    found = scrape(metrics)
    assert found.value("tryitnow_workqueue_work_duration_seconds_count", queue="Demo") == 3
    assert found.value("tryitnow_workqueue_wait_duration_seconds_count", queue="Demo") == 3
    assert found.value("tryitnow_workqueue_keys", queue="Demo", state="working") == 0
    await queue.close()
