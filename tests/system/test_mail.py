"""Mail that demos send: taken in their own network, kept where asked for, never delivered."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab.cluster import Cluster
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import notes_spec, on_node
from tests.system.objects import Objects, wait_until
from tests.system.reach import from_namespace, listening, namespace_of, tcp
from tests.system.terminal import Terminal
from tests.system.test_network import address_of, namespace_of_demo
from tryitnow.agent.mail.server import ADDRESSES, HOST, PLAIN_PORT, TLS_PORT
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance

NODE, OTHER = NODES

SEND = r"""
import smtplib, ssl, sys
host, port, subject = sys.argv[1], int(sys.argv[2]), sys.argv[3]
trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
kind = (lambda: smtplib.SMTP_SSL(host, port, timeout=10, context=trusting)) if port == 465 else (
    lambda: smtplib.SMTP(host, port, timeout=10))
try:
    with kind() as client:
        text = f"Subject: {subject}\r\n\r\nhello"
        client.sendmail("shop@example.com", ["anna@example.com"], text)
except OSError as error:
    print(type(error).__name__)
else:
    print("sent")
"""


@pytest.fixture(scope="module")
def sending(module_objects: Objects, notes_image: str) -> Iterator[Checkpoint]:
    """A Checkpoint whose mail is kept; its build sent some."""
    send = ["sh", "-c", 'python3 -c "$0" "$@" >/data/files/build', SEND, HOST, "25", "of-the-build"]
    spec = notes_spec(
        notes_image,
        network={"mail": "Sink"},
        hooks={"beforeCheckpoint": [{"exec": {"command": send}}]},
        pool={"warm": 1},
        distribution=on_node(NODE),
    )
    module_objects.checkpoint("sending", spec)
    yield module_objects.ready_checkpoint("sending")
    for demo in module_objects.all(DemoInstance):
        module_objects.delete(DemoInstance, demo.metadata.name)


def send(nodes: LabNodes, container: str, host: str, port: int, subject: str) -> str:
    argv = ["python3", "-c", SEND, host, str(port), subject]
    return nodes.podman(NODE, "exec", container, *argv).strip()


def kept(cluster: Cluster, demo: DemoInstance) -> list[str]:
    """The subjects of the mails that are kept of a demo."""
    argv = ["tryitnow", "mail", demo.metadata.name, "-n", demo.metadata.namespace, "-o", "json"]
    output = cluster.exec(NODE, [*argv, "--on-node"]).stdout
    return [mail["subject"] for mail in json.loads(output)]


@pytest.mark.usefixtures("sending")
def test_mail_is_taken_and_never_leaves(
    module_objects: Objects, nodes: LabNodes, cluster: Cluster
) -> None:
    module_objects.settled_pool("sending", 1)
    (warm,) = nodes.containers(NODE, f"tryitnow_warm_{module_objects.namespace}_")
    assert send(nodes, warm, HOST, 25, "of-the-warm-sandbox") == "sent"
    module_objects.demo("sends", "sending")
    demo = module_objects.ready_demo("sends")
    main = nodes.main_container(demo)
    machine = cluster.node_address(OTHER)
    with listening(namespace_of(cluster, OTHER), ["0.0.0.0"], [25]):
        # What listens there speaks no SMTP: a mail that is sent has not got there.
        for number, (host, port) in enumerate(
            [(HOST, 25), (HOST, 587), (HOST, 465), ("203.0.113.9", 2525), (machine, 25)]
        ):
            assert send(nodes, main, host, port, f"mail-{number}") == "sent"
    assert kept(cluster, demo) == [f"mail-{number}" for number in range(5)]
    assert send(nodes, main, "127.0.0.1", 25, "to-itself") == "ConnectionRefusedError"

    # They are read again by the next agent, which takes more.
    cluster.restart(f"agent-{NODE}")
    wait_until(lambda: send(nodes, main, HOST, 25, "later") == "sent", "mail to be taken again", 60)
    assert kept(cluster, demo) == [*(f"mail-{number}" for number in range(5)), "later"]
    module_objects.delete(DemoInstance, "sends")


@pytest.mark.usefixtures("sending")
def test_nobody_else_reaches_the_server(
    module_objects: Objects, nodes: LabNodes, cluster: Cluster
) -> None:
    for name in ("mine", "yours"):
        module_objects.demo(name, "sending")
    mine, yours = (module_objects.ready_demo(name) for name in ("mine", "yours"))
    addresses = [*ADDRESSES, address_of(nodes, mine), "10.88.0.1", cluster.node_address(NODE)]
    ports = (PLAIN_PORT, TLS_PORT)
    targets = [tcp(address, port) for address in addresses for port in ports]
    for place in (namespace_of(cluster, NODE), namespace_of(cluster, OTHER)):
        assert from_namespace(place, targets) == set()
    assert (
        send(nodes, nodes.main_container(yours), address_of(nodes, mine), 25, "to-mine") == "sent"
    )
    assert (kept(cluster, mine), kept(cluster, yours)) == ([], ["to-mine"])

    # The sockets hold the network of nobody who is gone.
    space = namespace_of_demo(nodes, mine)
    inode = space.stat().st_ino
    module_objects.delete(DemoInstance, "mine")
    spaces = "lsns --type net --noheadings --output NS"
    wait_until(lambda: str(inode) not in nodes.shell(NODE, spaces), "its network to go", 60)


def test_mail_is_forgotten_where_that_is_asked_for(
    objects: Objects, nodes: LabNodes, cluster: Cluster, notes_image: str
) -> None:
    spec = notes_spec(notes_image, network={"mail": "Drop"}, distribution=on_node(NODE))
    objects.checkpoint("dropping", spec)
    objects.ready_checkpoint("dropping")
    objects.demo("drops", "dropping")
    demo = objects.ready_demo("drops")
    assert send(nodes, nodes.main_container(demo), HOST, 25, "nothing") == "sent"
    assert kept(cluster, demo) == []


@pytest.mark.usefixtures("sending")
def test_the_command_goes_the_way_of_a_shell(
    module_objects: Objects, terminal: Terminal, nodes: LabNodes
) -> None:
    module_objects.demo("asked", "sending")
    demo = module_objects.ready_demo("asked")
    assert send(nodes, nodes.main_container(demo), HOST, 25, "hello-anna") == "sent"
    assert "hello-anna" in terminal.run("tryitnow mail asked").stdout
