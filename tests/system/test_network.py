"""What builds, warm sandboxes and demos reach: nothing, and with egress exactly what it names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from lab.cluster import Cluster
from lab.network import subnet
from lab.nodes import init_pid
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import PORT, notes_spec, on_node, visit
from tests.system.objects import Objects, condition, is_true, wait_until
from tests.system.reach import (
    TRY,
    NameServer,
    Target,
    answered,
    arguments,
    from_container,
    from_namespace,
    listening,
    namespace_of,
    tcp,
    udp,
)
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, StartedBy
from tryitnow.api.meta import ConditionStatus, find_condition

NODE, OTHER = NODES

METADATA = "169.254.169.254"
OPEN, CLOSED = 7777, 7778
NAME, OTHER_NAME = "api.egress.example", "more.egress.example"
GATEWAY = "10.88.0.1"


@dataclass(frozen=True)
class Surroundings:
    """All that is around the sandboxes of a node, and answers."""

    machine: str
    """Address of this machine, which is outside of the cluster."""

    names: NameServer
    near: tuple[Target, ...]
    """What belongs to the cluster, or tells credentials."""

    far: tuple[Target, ...]
    """What is outside."""

    @property
    def all(self) -> tuple[Target, ...]:
        return (*self.near, *self.far)


@pytest.fixture(scope="module")
def around(cluster: Cluster, nodes: LabNodes) -> Iterator[Surroundings]:
    own, other = (cluster.node_address(node) for node in NODES)
    machine = subnet(cluster.shape.network).replace(".0/24", ".254")
    kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
    api = urlsplit(kubeconfig["clusters"][0]["cluster"]["server"])
    assert api.hostname is not None
    names = NameServer(machine, {NAME: machine})
    ports = [OPEN, CLOSED]
    with ExitStack() as held:
        node = namespace_of(cluster, NODE)
        nodes.shell(NODE, f"ip address add {METADATA}/32 dev lo")
        held.callback(nodes.shell, NODE, f"ip address delete {METADATA}/32 dev lo")
        nodes.shell(NODE, f"echo nameserver {machine} >>/etc/resolv.conf")
        held.callback(nodes.shell, NODE, "sed -i /nameserver/d /etc/resolv.conf")
        held.enter_context(names.serving())
        held.enter_context(listening(node, ["0.0.0.0"], [*ports, 10250]))
        held.enter_context(listening(node, [METADATA], [80]))
        held.enter_context(listening(namespace_of(cluster, OTHER), ["0.0.0.0"], ports))
        held.enter_context(listening(None, [machine], ports))
        near = [tcp(METADATA, 80), udp(METADATA, 80), tcp(api.hostname, api.port or 443)]
        for address in (own, GATEWAY):
            near += [tcp(address, port) for port in (*ports, 10250)]
            near += [udp(address, port) for port in ports]
        near += [tcp(own, 9443), tcp(own, 9444)]
        far = [kind(a, port) for a in (other, machine) for port in ports for kind in (tcp, udp)]
        yield Surroundings(machine, names, tuple(near), tuple(far))


@pytest.fixture(scope="module")
def quiet(module_objects: Objects, notes_image: str, around: Surroundings) -> Iterator[Checkpoint]:
    """A Checkpoint without egress; its build tried everything."""
    tries = ["sh", "-c", 'python3 -c "$0" "$1" >/data/files/build', TRY, arguments(around.all)]
    spec = notes_spec(
        notes_image,
        hooks={"beforeCheckpoint": [{"exec": {"command": tries}}]},
        pool={"warm": 1},
        distribution=on_node(NODE),
    )
    module_objects.checkpoint("quiet", spec)
    yield module_objects.ready_checkpoint("quiet")
    for demo in module_objects.all(DemoInstance):
        module_objects.delete(DemoInstance, demo.metadata.name)


def asked_for(around: Surroundings, cluster: Cluster) -> list[dict[str, Any]]:
    """One port of this machine by TCP, by its address and by a name; one of the node by UDP."""
    return [
        {"cidr": f"{around.machine}/32", "ports": [OPEN]},
        {"host": OTHER_NAME, "ports": [CLOSED]},
        {"cidr": f"{cluster.node_address(OTHER)}/32", "ports": [CLOSED], "protocol": "UDP"},
        {"host": NAME, "ports": [CLOSED]},
    ]


@pytest.fixture(scope="module")
def talking(
    module_objects: Objects, notes_image: str, around: Surroundings, cluster: Cluster
) -> Iterator[Checkpoint]:
    spec = notes_spec(
        notes_image,
        network={"egress": asked_for(around, cluster)},
        distribution=on_node(NODE),
    )
    module_objects.checkpoint("talking", spec)
    yield module_objects.ready_checkpoint("talking")
    for demo in module_objects.all(DemoInstance):
        module_objects.delete(DemoInstance, demo.metadata.name)


@pytest.mark.usefixtures("quiet")
def test_all_of_it_answers_to_whom_it_should(around: Surroundings, cluster: Cluster) -> None:
    """Or the tests below would prove nothing."""
    heard = from_namespace(namespace_of(cluster, NODE), around.all)
    assert heard == {str(target) for target in around.all}


@pytest.mark.usefixtures("quiet")
def test_a_build_reaches_nothing(module_objects: Objects) -> None:
    module_objects.demo("built", "quiet")
    demo = module_objects.ready_demo("built")
    assert answered(visit(demo).get("/files/build").text) == set()
    module_objects.delete(DemoInstance, "built")


@pytest.mark.usefixtures("quiet")
def test_a_warm_sandbox_reaches_nothing(
    module_objects: Objects, nodes: LabNodes, around: Surroundings
) -> None:
    module_objects.settled_pool("quiet", 1)
    (warm,) = nodes.containers(NODE, f"tryitnow_warm_{module_objects.namespace}_")
    assert from_container(nodes, NODE, warm, around.all) == set()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("start", ["PreferRestore", "ColdStart"])
def test_a_demo_reaches_nothing_and_no_other_demo(
    start: str, module_objects: Objects, nodes: LabNodes, around: Surroundings, cluster: Cluster
) -> None:
    first, second = f"one-{start.lower()}", f"two-{start.lower()}"
    module_objects.demo(first, "quiet", start=start)
    module_objects.demo(second, "quiet", start=start)
    one, two = (module_objects.ready_demo(name) for name in (first, second))
    inside, port = address_of(nodes, two), two.status.host_port
    assert port is not None
    neighbour = [tcp(inside, PORT), udp(inside, PORT), tcp(inside, 22)]
    neighbour += [tcp(address, port) for address in (cluster.node_address(NODE), GATEWAY)]
    main = nodes.main_container(one)
    assert from_container(nodes, NODE, main, [*around.all, *neighbour]) == set()
    assert find_condition(one.status.conditions, "EgressOpen") is None
    for name in (first, second):
        module_objects.delete(DemoInstance, name)


@pytest.mark.usefixtures("quiet")
def test_a_demo_that_is_started_again_reaches_nothing(
    module_objects: Objects, nodes: LabNodes, around: Surroundings
) -> None:
    module_objects.demo("again", "quiet")
    demo = module_objects.ready_demo("again")
    nodes.podman(NODE, "pod", "kill", nodes.pod_of(NODE, nodes.main_container(demo)))
    demo = module_objects.wait(DemoInstance, "again", lambda d: d.status.restarts == 1)
    demo = module_objects.ready_demo("again")
    assert demo.status.started_by is StartedBy.RESTART
    assert from_container(nodes, NODE, nodes.main_container(demo), around.all) == set()


@pytest.mark.usefixtures("quiet")
def test_a_demo_asks_no_dns_server_and_knows_no_name_of_the_cluster(
    module_objects: Objects, nodes: LabNodes, around: Surroundings
) -> None:
    module_objects.demo("nameless", "quiet")
    main = nodes.main_container(module_objects.ready_demo("nameless"))
    before = len(around.names.asked)
    names = [tcp(host, 443) for host in ("kubernetes.default.svc", "registry.lab", NAME)]
    assert from_container(nodes, NODE, main, names) == set()
    assert from_container(nodes, NODE, main, [udp(around.machine, 53)]) == set()
    written = nodes.podman(NODE, "exec", main, "cat", "/etc/resolv.conf").split()
    assert "search" not in written
    assert [word for word in written if word[0].isdigit()] == ["127.0.0.1"]
    assert len(around.names.asked) == before


@pytest.mark.usefixtures("quiet")
def test_from_outside_nothing_is_open_but_the_published_ports(
    module_objects: Objects, nodes: LabNodes, cluster: Cluster
) -> None:
    module_objects.demo("closed", "quiet")
    demo = module_objects.ready_demo("closed")
    inside, port = address_of(nodes, demo), demo.status.host_port
    assert port is not None
    sandbox, more = namespace_of_demo(nodes, demo), [OPEN, CLOSED]
    # As an application that listens at more ports than it publishes.
    with listening(sandbox, ["0.0.0.0"], more):
        at_home = [tcp("127.0.0.1", OPEN), udp("127.0.0.1", OPEN)]
        assert from_namespace(sandbox, at_home) == {str(each) for each in at_home}
        tried = [kind(inside, each) for each in more for kind in (tcp, udp)]
        tried += [udp(inside, PORT), udp(cluster.node_address(NODE), port)]
        for attacker in (namespace_of(cluster, NODE), namespace_of(cluster, OTHER)):
            assert from_namespace(attacker, tried) == set()
    assert visit(demo).get("/healthz").status_code == 200


@pytest.mark.usefixtures("talking")
def test_egress_opens_exactly_what_it_names(
    module_objects: Objects, nodes: LabNodes, around: Surroundings, cluster: Cluster
) -> None:
    around.names.records.pop(OTHER_NAME, None)
    module_objects.demo("talks", "talking")
    demo = module_objects.ready_demo("talks")
    main = nodes.main_container(demo)
    tried = [*around.all, tcp(NAME, CLOSED), tcp(NAME, OPEN), udp(NAME, CLOSED),
             tcp(OTHER_NAME, CLOSED)]  # fmt: skip
    machine, other = around.machine, cluster.node_address(OTHER)
    by_name = {str(tcp(machine, CLOSED)), str(tcp(NAME, CLOSED)), str(tcp(NAME, OPEN))}
    opened = {str(tcp(machine, OPEN)), str(udp(other, CLOSED)), *by_name}
    assert from_container(nodes, NODE, main, tried) == opened

    # What stays closed is told, with its field and the way out.
    closed = condition(demo, "EgressOpen")
    assert closed.status is ConditionStatus.FALSE
    assert f"spec.network.egress[1].host: {OTHER_NAME} has no known address" in closed.message

    # A name that has an address by now is opened in the running demo.
    around.names.records[OTHER_NAME] = other
    wait_until(
        lambda: from_container(nodes, NODE, main, [tcp(OTHER_NAME, CLOSED)]) != set(),
        f"{OTHER_NAME} to be open",
        60,
    )
    module_objects.wait(
        DemoInstance,
        "talks",
        lambda d: OTHER_NAME not in condition(d, "EgressOpen").message,
    )


@pytest.mark.usefixtures("talking")
def test_what_another_agent_started_is_closed_by_the_next(
    module_objects: Objects, nodes: LabNodes, around: Surroundings, cluster: Cluster
) -> None:
    """As after an upgrade from a version that let everything out."""
    module_objects.demo("found", "talking")
    demo = module_objects.ready_demo("found")
    main = nodes.main_container(demo)
    pid = nodes.inspect(NODE, main)["State"]["Pid"]
    nodes.shell(NODE, f"nsenter --net=/proc/{pid}/ns/net nft delete table inet tryitnow_out")
    closed = [udp(around.machine, OPEN)]
    assert from_container(nodes, NODE, main, closed) != set()
    cluster.restart(f"agent-{NODE}")
    wait_until(
        lambda: from_container(nodes, NODE, main, closed) == set(),
        "the demo's firewall to be set",
        60,
    )
    assert from_container(nodes, NODE, main, [tcp(around.machine, OPEN)]) != set()


def test_more_than_the_administrator_allows_is_refused_with_the_way_out(
    objects: Objects, notes_image: str
) -> None:
    egress = [{"cidr": "198.18.0.0/16", "ports": [1]}, {"cidr": "8.8.8.8/32", "ports": [53]}]
    spec = notes_spec(notes_image, network={"egress": egress}, distribution=on_node(NODE))
    objects.checkpoint("greedy", spec)
    refused = objects.wait(
        Checkpoint, "greedy", lambda c: condition_reason(c) == "EgressNotAllowed"
    )
    message = condition(refused, "Ready").message
    assert "spec.network.egress[1].cidr: 8.8.8.8/32 (TCP 53) is more than" in message
    assert "agent.network.allowedEgress" in message
    assert not is_true(refused.status.conditions, "Stalled"), "an administrator may allow it"


def condition_reason(checkpoint: Checkpoint) -> str:
    found = find_condition(checkpoint.status.conditions, "Ready")
    return found.reason if found is not None else ""


def test_the_nodes_own_address_is_not_opened_by_a_wide_range(
    objects: Objects, notes_image: str, cluster: Cluster
) -> None:
    """The lab allows all of 198.18.0.0/15, in which its nodes are."""
    own = f"{cluster.node_address(NODE)}/32"
    egress = [{"cidr": own, "ports": [OPEN]}]
    spec = notes_spec(notes_image, network={"egress": egress}, distribution=on_node(NODE))
    objects.checkpoint("near", spec)
    refused = objects.wait(Checkpoint, "near", lambda c: condition_reason(c) == "EgressNotAllowed")
    told = condition(refused, "Ready").message
    assert f"spec.network.egress[0].cidr: {own} is in {own}, which no wide range opens" in told


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"cidr": "198.18.0.1/24", "ports": [80]}, "must be a range of addresses"),
        ({"cidr": "198.18.0.0", "ports": [80]}, "must be a range of addresses"),
        ({"host": "a.example", "cidr": "198.18.0.0/24", "ports": [80]}, "exactly one of"),
        ({"ports": [80]}, "exactly one of"),
        ({"cidr": "198.18.0.0/24", "ports": [25]}, "no demo sends mail"),
        ({"cidr": "198.18.0.0/24"}, "ports"),
        ({"host": "*.example.com", "ports": [80]}, "should match"),
    ],
    ids=json.dumps,
)
def test_the_api_server_refuses_what_is_no_egress(
    objects: Objects, notes_image: str, rule: dict[str, Any], message: str
) -> None:
    with pytest.raises(ApiException) as refused:
        objects.checkpoint("wrong", notes_spec(notes_image, network={"egress": [rule]}))
    assert message in str(refused.value.body)


def address_of(nodes: LabNodes, demo: DemoInstance) -> str:
    """The address of a demo in Podman's network."""
    pod = nodes.pod_of(NODE, nodes.main_container(demo))
    infra = nodes.inspect(NODE, f"{pod}-infra")
    found: str = infra["NetworkSettings"]["Networks"]["podman"]["IPAddress"]
    return found


def namespace_of_demo(nodes: LabNodes, demo: DemoInstance) -> Path:
    """The network namespace of a demo, as this machine finds it."""
    pid = nodes.inspect(NODE, nodes.main_container(demo))["State"]["Pid"]
    first = init_pid(nodes.cluster.lab, NODE)
    return Path(f"/proc/{first}/root/proc/{pid}/ns/net")
