"""``kubectl tryitnow`` on a real cluster, and every command of docs/command-line.md."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import blocks
from tests.system.conftest import Kubectl
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import notes_spec
from tests.system.objects import Objects
from tests.system.terminal import Terminal
from tryitnow.api.demoinstance import DemoInstance

SECRET = "planted-pa55w0rd"


@pytest.fixture(scope="module")
def terminal(terminal: Terminal, module_objects: Objects, notes_image: str) -> Iterator[Terminal]:
    """A namespace with the Checkpoint ``shop``, frozen on both nodes."""
    env = {"PASSWORD": SECRET}
    module_objects.checkpoint("shop", notes_spec(notes_image, env=env))
    module_objects.ready_checkpoint("shop")
    yield terminal
    module_objects.delete_all(DemoInstance)


def test_every_command_of_the_page_works(
    terminal: Terminal, module_objects: Objects, nodes: LabNodes
) -> None:
    done = terminal.run("\n".join(blocks("command-line.md")))
    assert "shop" in done.stdout
    assert "STEP" in done.stdout
    assert "report.tar.gz" in done.stdout
    demo = module_objects.ready_demo("annas-demo")
    assert demo.status.node_name
    for block in blocks("command-line.md", "sh node"):
        script = block.replace("shops", terminal.namespace)
        said = nodes.cluster.exec(demo.status.node_name, ["sh", "-euc", script]).stdout
        assert len(said.split()) >= 5, "what /proc/loadavg has"
    other = next(node for node in NODES if node != demo.status.node_name)
    words = ["tryitnow", "logs", "annas-demo", "-n", terminal.namespace, "--on-node"]
    elsewhere = nodes.cluster.exec(other, words, check=False)
    assert elsewhere.returncode == 4
    assert "kubectl get demoinstance annas-demo" in elsewhere.stderr


def test_the_exit_status_of_a_command_in_a_demo_is_handed_on(
    terminal: Terminal, module_objects: Objects, nodes: LabNodes
) -> None:
    module_objects.demo("looked-into", "shop")
    node = module_objects.ready_demo("looked-into").status.node_name
    assert node
    words = ["tryitnow", "shell", "looked-into", "-n", terminal.namespace, "--on-node"]
    done = nodes.cluster.exec(node, [*words, "--", "sh", "-c", "echo inside; exit 7"], check=False)
    assert (done.returncode, done.stdout) == (7, "inside\n")


def test_a_bundle_holds_no_secret_and_the_metrics_of_every_node(terminal: Terminal) -> None:
    terminal.run("tryitnow report -o bundle.tar.gz")
    with tarfile.open(terminal.directory / "bundle.tar.gz") as archive:
        texts = {}
        for member in archive.getmembers():
            content = archive.extractfile(member)
            assert content
            texts[Path(member.name).name] = content.read().decode()
    assert not [name for name, text in texts.items() if SECRET in text]
    assert "PASSWORD" in texts["checkpoints.yaml"]
    assert texts["not-in-here.txt"] == "nothing is missing\n"
    for node in NODES:
        assert "tryitnow_build_info" in texts[f"metrics-{node}.txt"]


def test_ctrl_c_deletes_a_demo_that_was_asked_for_with_rm(
    terminal: Terminal, module_objects: Objects
) -> None:
    with terminal.start("tryitnow", "demo", "shop", "--name", "short", "--rm") as running:
        assert running.stdout
        url = running.stdout.readline().strip()
        assert module_objects.ready_demo("short").status.url == url
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=20)
    assert running.returncode == 0
    assert f"{terminal.namespace}/short is deleted" in told
    module_objects.wait_gone(DemoInstance, "short")


def test_a_cold_start_says_why_and_is_explained(
    terminal: Terminal, module_objects: Objects, notes_image: str
) -> None:
    # No copy is there yet: it is only being built.
    module_objects.checkpoint("fresh", notes_spec(notes_image, env={"FRESH": "yes"}))
    told = terminal.run("tryitnow demo fresh --name eager").stderr
    assert "started cold because NoCopy" in told
    assert "explain-slow eager" in told
    found = json.loads(terminal.run("tryitnow explain-slow eager -o json").stdout)
    assert found["fallbackReason"] == "NoCopy"
    assert found["causes"][0]["name"] == "archive"


def test_kubectl_and_bash_complete_names_of_the_cluster(terminal: Terminal) -> None:
    offered = terminal.run("kubectl __complete tryitnow demo s").stdout
    assert offered.splitlines()[0].split("\t") == ["shop", "Ready"]
    script = (
        "source <(tryitnow completion bash)\n"
        "COMP_WORDS=(tryitnow demo s) COMP_CWORD=2\n"
        "_tryitnow_completion tryitnow\n"
        'echo "${COMPREPLY[@]}"'
    )
    assert terminal.run(script).stdout == "shop\n"


def test_logs_go_through_the_api_server_to_the_nodes_kubelet(
    terminal: Terminal, module_objects: Objects, kubectl: Kubectl
) -> None:
    """As far as it goes in a lab: no kubelet listens there, and the API server says so."""
    module_objects.demo("far", "shop")
    node = module_objects.ready_demo("far").status.node_name
    assert node
    stand_in_for_agents_pod(kubectl, terminal.namespace, node)
    asked = f"tryitnow logs far --agent-namespace {terminal.namespace}"
    kubelet = f"https://{node}:10250/exec/{terminal.namespace}/stand-in/agent?"
    assert f'error sending request: Post "{kubelet}' in failed(terminal, asked)
    may_look = "kubectl create serviceaccount onlooker; kubectl create rolebinding onlooker "
    terminal.run(f"{may_look} --clusterrole=view --serviceaccount={terminal.namespace}:onlooker")
    with terminal.acting_as("onlooker"):
        assert 'cannot create resource "pods/exec"' in failed(terminal, asked)
    # No kubelet says that it has ended, and its namespace would wait for that.
    terminal.run("kubectl delete pod stand-in --grace-period=0 --force")


def failed(terminal: Terminal, script: str) -> str:
    done = subprocess.run(
        shlex.split(script),
        check=False,
        capture_output=True,
        text=True,
        env=terminal.environment,
        timeout=60,
    )
    assert done.returncode != 0
    return done.stderr


def stand_in_for_agents_pod(kubectl: Kubectl, namespace: str, node: str) -> None:
    """A Pod object with an agent's labels, bound to a node and said to run; nothing runs it."""
    labels = {"app.kubernetes.io/name": "try-it-now", "app.kubernetes.io/component": "agent"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stand-in", "namespace": namespace, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "agent", "image": "none"}]},
    }
    made = kubectl("create", "-f", "-", stdin=json.dumps(pod))
    assert made.returncode == 0, made.stderr
    running = json.dumps({"status": {"phase": "Running"}})
    where = ("pod/stand-in", "-n", namespace, "--subresource=status", "--type=merge")
    patched = kubectl("patch", *where, "-p", running)
    assert patched.returncode == 0, patched.stderr
