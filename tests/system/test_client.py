"""What other services ask for demos with, and every command of docs/request-demos.md."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab import cache
from tests.pages import DOCS, blocks, walkthrough
from tests.system.notes import notes_spec, visit
from tests.system.objects import Objects, wait_until
from tests.system.terminal import Terminal
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.client import (
    AsyncClient,
    CheckpointNotFoundError,
    Client,
    DemoExpiredError,
    DemoTimeoutError,
    InvalidRequestError,
    NotAllowedError,
    QuotaExceededError,
    demo,
)


@pytest.fixture(scope="module")
def terminal(terminal: Terminal, module_objects: Objects, notes_image: str) -> Iterator[Terminal]:
    """A namespace with the Checkpoints ``shop``, ready, and ``nowhere``, which no node takes."""
    module_objects.checkpoint("shop", notes_spec(notes_image, parameters=[{"name": "title"}]))
    nowhere = {"nodeSelector": {"nowhere": "yes"}}
    module_objects.checkpoint("nowhere", notes_spec(notes_image, distribution=nowhere))
    module_objects.ready_checkpoint("shop")
    yield terminal
    module_objects.delete_all(DemoInstance)


@pytest.fixture
def here(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """This process uses the terminal's kubeconfig, whose context names the namespace."""
    monkeypatch.setenv("KUBECONFIG", str(terminal.kubeconfig))
    return terminal


def test_every_command_of_the_page_works(terminal: Terminal) -> None:
    done = terminal.run(walkthrough("request-demos.md"))
    assert "1 passed" in done.stdout, "docs/examples/test_shop.py"
    assert "the shop answers at http://" in done.stdout, "docs/examples/job.yaml"


def test_the_jobs_service_account_may_do_nothing_else(terminal: Terminal) -> None:
    terminal.run("kubectl apply -f docs/examples/job.yaml")
    *_, job = yaml.safe_load_all((DOCS / "examples/job.yaml").read_text())
    with terminal.acting_as(job["spec"]["template"]["spec"]["serviceAccountName"]):
        refused = terminal.run("kubectl delete checkpoint shop", code=1)
        assert "forbidden" in refused.stderr
        # In a cluster its ttl ends it.
        terminal.run(
            "kubectl get demoinstances -o name | xargs --no-run-if-empty "
            "kubectl delete --ignore-not-found"
        )


def test_the_program_in_go_gets_a_demo(terminal: Terminal, module_objects: Objects) -> None:
    [block] = blocks("request-demos.md", "sh go")
    words = shlex.split(block.replace("shops", terminal.namespace))
    assert words[:3] == ["go", "run", "."]
    arguments = shlex.join(words[3:])
    assert terminal.run(f"{built_in_go()} {arguments}").stdout.startswith("http://")
    terminal.run(f"{built_in_go()} {terminal.namespace} missing", code=1)
    assert all(d.is_deleting for d in module_objects.all(DemoInstance) if d.spec.ttl)


def built_in_go() -> Path:
    """The example, vetted and built; kept in the cache, as its dependencies are many."""
    source = DOCS / "examples/go"

    def make(target: Path) -> None:
        tools = [["go", "vet", "."], ["go", "build", "-trimpath", "-o", f"{target}/", "."]]
        for argv in tools:
            subprocess.run(argv, check=True, cwd=source)

    assert shutil.which("go")
    return cache.entry("example-go", cache.tree_key(source), make) / "request-demo"


@pytest.mark.usefixtures("here")
def test_a_demo_lives_as_long_as_its_block(module_objects: Objects) -> None:
    parameters = {"title": "Anna"}
    with demo("shop", ttl="10m", host="annas.example", parameters=parameters) as running:
        found = module_objects.ready_demo(running.name)
        assert (found.spec.host, found.spec.parameters) == ("annas.example", parameters)
        assert found.status.url == running.url
        assert visit(found).get("/healthz").status_code == 200
        assert running.timings.total is not None
    module_objects.wait_gone(DemoInstance, running.name)


@pytest.mark.usefixtures("here")
async def test_many_are_started_at_once_with_one_client() -> None:
    async with AsyncClient() as client:
        running = await asyncio.gather(*(client.start("shop", ttl="10m") for _ in range(3)))
        assert len({one.url for one in running}) == 3
        assert {c.metadata.name for c in await client.checkpoints()} == {"shop", "nowhere"}
        for one in running:
            await client.delete(one.instance)


@pytest.mark.usefixtures("here")
def test_what_cannot_be_is_one_exception_for_each_thing_to_do() -> None:
    with pytest.raises(CheckpointNotFoundError, match="there is no Checkpoint 'missing'"):
        Client().start("missing")
    with pytest.raises(InvalidRequestError, match="colour is not declared by the Checkpoint"):
        Client().start("shop", parameters={"colour": "blue"})
    with pytest.raises(InvalidRequestError, match="must be a duration"):
        Client().start("shop", ttl="soon")
    with pytest.raises(InvalidRequestError, match=r"spec\.host"):
        Client().start("shop", host="Not A Host")
    with pytest.raises(DemoTimeoutError, match="no node runs an agent") as late:
        Client().start("nowhere", timeout="5s")
    assert late.value.reason == "NoNode"
    with pytest.raises(DemoExpiredError):
        Client().start("nowhere", ttl="1s", timeout="20s")
    assert [d for d in Client().demos() if not d.is_deleting] == []


def test_a_quota_is_respected_and_told(here: Terminal, module_objects: Objects) -> None:
    wait_until(lambda: module_objects.all(DemoInstance) == [], "earlier demos to be gone")
    here.run("kubectl create quota few --hard=count/demoinstances.tryitnow.dev=1")
    counted = "--for=jsonpath='{.status.hard}' resourcequota/few"
    here.run(f"kubectl wait {counted} --timeout=90s")
    try:
        with demo("shop"):
            with pytest.raises(QuotaExceededError, match="exceeded quota: few"):
                Client().start("shop")
            assert "exceeded quota: few" in here.run("tryitnow demo shop", code=3).stderr
    finally:
        here.run("kubectl delete quota few")


def test_a_requester_may_ask_for_demos_in_its_namespace_only(here: Terminal) -> None:
    here.run("kubectl apply -f docs/examples/requester.yaml")
    with here.acting_as("storefront"):
        with demo("shop", ttl="10m") as running:
            assert running.url
        with pytest.raises(NotAllowedError, match="storefront"):
            Client(namespace="default").start("shop")
        for verb, what in (("create", "checkpoints"), ("list", "secrets"), ("create", "pods")):
            answer = here.run(f"kubectl auth can-i {verb} {what} || true").stdout.strip()
            assert answer == "no", f"{verb} {what}"
