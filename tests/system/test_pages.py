"""Pages followed by their reader: every command and every object on them, on a real cluster.

Pages with a life of their own are followed elsewhere: tests/unit/docs/test_pages.py looks that none
is left out.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from lab.cluster import Cluster
from tests.pages import Block, all_blocks, blocks, filled, mentions, walkthrough
from tests.system.conftest import Kubectl
from tests.system.nodes import NODES
from tests.system.objects import Objects
from tests.system.terminal import Terminal
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance

SHOP = "registry.example.com/shop:1.4"
"""The image of the reader's application, on all pages."""


@pytest.fixture(scope="module")
def terminal(
    terminal: Terminal, cluster: Cluster, module_objects: Objects, notes_image: str
) -> Iterator[Terminal]:
    """Of somebody who has read docs/checkpoint.md, done what it says, and got a demo."""
    shop = blocks("checkpoint.md", "yaml")[0]
    assert SHOP in shop
    (terminal.directory / "shop.yaml").write_text(shop.replace(SHOP, notes_image))
    label = next(iter(yaml.safe_load(shop)["spec"]["distribution"]["nodeSelector"].items()))
    for node in NODES:
        cluster.kubectl("label", "node", node, "=".join(label))
    try:
        told = terminal.run(walkthrough("checkpoint.md")).stdout
        assert "checkpoint.tryitnow.dev/shop condition met" in told
        assert "a test restore of it answered" in told
        module_objects.demo("shop", "shop")
        module_objects.ready_demo("shop")
        yield terminal
        module_objects.delete_all(DemoInstance)
        module_objects.delete_all(Checkpoint)
    finally:
        for node in NODES:
            cluster.kubectl("label", "node", node, f"{label[0]}-")


def test_sizing_a_pool(terminal: Terminal, module_objects: Objects) -> None:
    assert "scaled" in terminal.run(walkthrough("pools.md")).stdout
    wanted = module_objects.get(Checkpoint, "shop")
    assert wanted
    assert wanted.spec.pool
    assert wanted.spec.pool.warm == 3
    module_objects.wait(Checkpoint, "shop", lambda c: c.status.warm == "3/3")


def test_finding_out_why_it_is_slow(terminal: Terminal) -> None:
    page = filled(walkthrough("troubleshooting.md"), {"NAME": "shop"})
    told = terminal.run(page).stdout
    for expected in ("demoinstance.tryitnow.dev/shop", "Timings:", "Ready", *NODES):
        assert expected in told


def test_looking_into_a_node_and_taking_it_out(terminal: Terminal) -> None:
    told = terminal.run(filled(walkthrough("nodes.md"), {"NODE": NODES[0]})).stdout
    for expected in (
        "ok    CRIU  ", "IMAGE", f"node/{NODES[0]} cordoned", f"node/{NODES[0]} uncordoned",
    ):  # fmt: skip
        assert expected in told


FOR_OTHERS = re.compile("ignoreDifferences|kind: Kustomization|^agent:")
"""YAML for Argo CD, for kustomize and for Helm, which test_gitops.py, test_release.py and
tests/unit/docs/test_pages.py use."""


def objects_of_pages() -> list[Block]:
    return [block for block in all_blocks() if block.mark == "yaml"]


def completed(part: dict[str, Any]) -> dict[str, Any]:
    """Return a Checkpoint around a piece of its spec."""
    base: dict[str, Any] = yaml.safe_load(blocks("checkpoint.md", "yaml")[0])
    base["spec"] |= part["spec"]
    return base


@pytest.mark.parametrize(
    "block",
    [block for block in objects_of_pages() if not FOR_OTHERS.search(block.text)],
    ids=lambda block: block.page,
)
def test_the_api_server_takes_what_is_shown(
    block: Block, terminal: Terminal, kubectl: Kubectl
) -> None:
    for shown in yaml.safe_load_all(block.text):
        whole = shown if "apiVersion" in shown else completed(shown)
        words = ("create", "--dry-run=server", "--validate=strict", "--filename=-")
        namespace = f"--namespace={terminal.namespace}"
        whole["metadata"]["name"] += "-shown"
        done = kubectl(*words, namespace, stdin=json.dumps(whole))
        assert done.returncode == 0, done.stderr


AGENTS_POD = (
    "kubectl get pods -n tryitnow-system -l app.kubernetes.io/component=agent "
    "-o jsonpath='{.items[0].metadata.name}'"
)

MUTATING = {"apply", "delete", "label", "scale"}


def shown_in_blocks() -> set[str]:
    return {line.strip() for block in all_blocks() for line in block.text.splitlines()}


def of_cluster() -> list[str]:
    """Commands of kubectl's own in sentences that no block has."""
    in_sentences = {*mentions()} - shown_in_blocks()
    return sorted(c for c in in_sentences if re.match("kubectl (?!tryitnow)", c))


@pytest.mark.parametrize("command", of_cluster())
def test_kubectl_takes_what_a_sentence_says(command: str, terminal: Terminal) -> None:
    there = {
        "NAMESPACE": terminal.namespace,
        "NAME": "shop",
        "NODE": NODES[0],
        "N": "2",
        "POD": terminal.run(AGENTS_POD).stdout.strip(),
    }
    words = filled(command, there).split()[1:]
    if words[0] == "-n":
        words = [*words[2:], *words[:2]]
    if len(words) == 1:
        words.insert(0, "help")
    elif words[0] in MUTATING:
        words.append("--dry-run=server")
    terminal.run(f"kubectl {' '.join(words)}")


def of_other_programs() -> list[str]:
    programs = ("helm", "podman", "tryitnow", "kubectl tryitnow ")
    return sorted({command for command in mentions() if command.startswith(programs)})


@pytest.mark.parametrize("command", of_other_programs())
def test_other_programs_know_what_a_sentence_says(
    command: str, terminal: Terminal, cluster: Cluster
) -> None:
    words = shlex.split(command)
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    path = list(itertools.takewhile(re.compile("[a-z][a-z0-9-]*").fullmatch, words))
    asked = [*path, "--help"]
    if path[0] == "podman":
        told = cluster.exec(NODES[0], asked).stdout
    else:
        told = terminal.run(shlex.join(asked)).stdout
    assert path[1] in told
    assert not {option for option in options if option not in told}
