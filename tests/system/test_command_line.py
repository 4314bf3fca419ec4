"""``kubectl tryitnow`` on a real cluster, and every command of docs/command-line.md."""

from __future__ import annotations

import json
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import blocks, walkthrough
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import notes_spec, visit
from tests.system.objects import Objects, wait_until
from tests.system.terminal import Terminal
from tryitnow.api.demoinstance import DemoInstance

SECRET = "planted-pa55w0rd"


@pytest.fixture(scope="module")
def terminal(terminal: Terminal, module_objects: Objects, notes_image: str) -> Iterator[Terminal]:
    """A namespace with the Checkpoint ``shop``, ready on both nodes."""
    env = {"PASSWORD": SECRET}
    module_objects.checkpoint("shop", notes_spec(notes_image, env=env))
    module_objects.ready_checkpoint("shop")
    yield terminal
    module_objects.delete_all(DemoInstance)


def test_every_command_of_the_page_works(
    terminal: Terminal, module_objects: Objects, nodes: LabNodes
) -> None:
    done = terminal.run(walkthrough("command-line.md"))
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
    # No node can restore it, nor will one.
    module_objects.checkpoint("fresh", notes_spec(notes_image, env={"UNDUMPABLE": "1"}))
    told = terminal.run("tryitnow demo fresh --name eager").stderr
    assert "started cold because NotReadyHere" in told
    assert "explain-slow eager" in told
    found = json.loads(terminal.run("tryitnow explain-slow eager -o json").stdout)
    assert found["fallbackReason"] == "NotReadyHere"
    assert found["causes"][0]["name"] == "archive"


def test_kubectl_and_bash_complete_names_of_the_cluster(terminal: Terminal) -> None:
    asked = "kubectl __complete tryitnow demo s"
    # It offers nothing where the cluster does not answer at once: nobody waits for a completion.
    wait_until(lambda: terminal.run(asked).stdout.startswith("shop"), "an offer")
    assert terminal.run(asked).stdout.splitlines()[0].split("\t") == ["shop", "Ready"]
    script = (
        "source <(tryitnow completion bash)\n"
        "COMP_WORDS=(tryitnow demo s) COMP_CWORD=2\n"
        "_tryitnow_completion tryitnow\n"
        'echo "${COMPREPLY[@]}"'
    )
    assert terminal.run(script).stdout == "shop\n"


@pytest.fixture(scope="module")
def far(terminal: Terminal) -> str:
    """A demo that is looked into from elsewhere than its node, and has logged a visit."""
    visited = 'curl --fail --silent --data seen "$url/notes"'
    terminal.run(f"url=$(tryitnow demo shop --name far)\n{visited}")
    return "far"


def test_logs_and_a_shell_go_through_the_api_server_to_the_demos_node(
    terminal: Terminal, far: str
) -> None:
    assert "POST /notes" in terminal.run(f"tryitnow logs {far} --tail 1").stdout
    assert terminal.run(f"echo typed | tryitnow shell {far} -- cat").stdout == "typed\n"
    words = f"tryitnow shell {far} -- sh -c 'echo inside; echo aside >&2; exit 7'"
    done = terminal.run(words, code=7)
    assert done.stdout == "inside\n"
    assert done.stderr.splitlines()[0] == "aside"


def test_a_terminal_reaches_into_a_demo(terminal: Terminal, far: str) -> None:
    # `script` gives it a terminal to be started in.
    typed = f"printf 'tty\\nexit 3\\n' | script -qec 'tryitnow shell {far}' /dev/null"
    assert "/dev/pts/" in terminal.run(typed, code=3).stdout


def test_the_log_of_a_demo_can_be_followed_to_its_end(
    terminal: Terminal, module_objects: Objects
) -> None:
    module_objects.demo("brief", "shop")
    client = visit(module_objects.ready_demo("brief"))
    with terminal.start("tryitnow", "logs", "brief", "--follow") as following:
        assert client.post("/notes", "seen").status_code == 201
        assert following.stdout
        assert "POST /notes" in next(line for line in following.stdout if "POST" in line)
        module_objects.delete(DemoInstance, "brief")
        following.communicate(timeout=30)


def test_containers_beside_the_main_one_have_a_name(
    terminal: Terminal, module_objects: Objects, notes_image: str
) -> None:
    spec = notes_spec(notes_image)
    env = [{"name": "PORT", "value": "81"}]
    spec["template"]["containers"].append({"name": "second", "image": notes_image, "env": env})
    module_objects.checkpoint("pair", spec)
    module_objects.demo("paired", "pair")
    module_objects.ready_demo("paired")
    assert terminal.run("tryitnow shell paired -c second -- printenv PORT").stdout == "81\n"
    told = terminal.run("tryitnow logs paired -c third", code=4).stderr
    assert "no container third beside its main one (others: second)" in told


def test_who_may_not_exec_into_the_agents_pods_is_refused(terminal: Terminal, far: str) -> None:
    home = terminal.namespace
    agents = "kubectl -n tryitnow-system"
    account = f"--serviceaccount={home}:onlooker"
    terminal.run(
        "kubectl create serviceaccount onlooker\n"
        f"kubectl create rolebinding onlooker --clusterrole=view {account}\n"
        f"{agents} create rolebinding onlooker --clusterrole=view {account}\n"
        "kubectl apply -f docs/examples/node-shell.yaml"
    )
    try:
        with terminal.acting_as("onlooker"):
            refused = terminal.run(f"tryitnow logs {far}", code=1).stderr
            assert 'cannot create resource "pods/exec"' in refused
        shell = f"--role=tryitnow-node-shell {account}"
        terminal.run(f"{agents} create rolebinding onlooker-shell {shell}")
        with terminal.acting_as("onlooker"):
            assert terminal.run(f"tryitnow logs {far}").stdout
    finally:
        terminal.run(f"{agents} delete rolebinding --ignore-not-found onlooker onlooker-shell")
