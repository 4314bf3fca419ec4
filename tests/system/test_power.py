"""What somebody can do with one stolen token: nothing beyond what that part of us is for.

The attempts are made from the API server's own list of kinds and from the RBAC that is in force: a
new kind is tried by itself. A new right fails here until it is known what limits it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.cluster import Cluster
from tests.system.attempts import Attempt, Intruder, Target, beyond, events, new_node_agents, within
from tests.system.conftest import Kubectl
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import notes_spec
from tests.system.objects import Objects, condition, wait_until
from tests.system.rights import WRITES, Account, Resource, Right, Rights, resources
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import CheckpointRevision, checkpoint_revision_name
from tryitnow.api.definition import Definition
from tryitnow.api.demoinstance import REVISION_UNCONFIRMED, DemoInstance
from tryitnow.api.meta import API_VERSION, GROUP, VERSION, find_condition
from tryitnow.api.meta import Resource as Ours
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint, node_checkpoint_name

SYSTEM = "tryitnow-system"
CONTROLLER = Account(SYSTEM, "tryitnow-controller")
AGENT = Account(SYSTEM, "tryitnow-agent")
NODE, OTHER = NODES

REQUESTER = Path(__file__).parents[2] / "docs/examples/requester.yaml"


def ours(*rights: str) -> set[Right]:
    """Rights on our own kinds, as ``verb resource``."""
    words = (right.split() for right in rights)
    return {Right(GROUP, resource, verb) for verb, resource in words}


READS = {
    "agent": {
        *ours("get checkpoints", "get checkpointrevisions", "get nodeagents"),
        *ours(*(f"{v} {r}" for v in ("get", "list", "watch")
                for r in ("demoinstances", "nodecheckpoints"))),
        Right("", "nodes", "get"),
        Right("", "namespaces", "get"),  # kube-system alone
    },
    "controller": {
        *ours(*(f"{v} {r}" for v in ("get", "list", "watch")
                for r in ("checkpoints", "checkpointrevisions", "demoinstances", "nodeagents",
                          "nodecheckpoints"))),
        *(Right("", "nodes", verb) for verb in ("get", "list", "watch")),
        Right("coordination.k8s.io", "leases", "get"),
    },
    "requester": {
        *ours(*(f"{v} {r}" for v in ("get", "list", "watch")
                for r in ("checkpoints", "demoinstances"))),
        *(Right("events.k8s.io", "events", verb) for verb in ("get", "list")),
    },
}  # fmt: skip
"""All that each may read."""

ACCEPTED = {
    "agent": {
        Right("authentication.k8s.io", "tokenreviews", "create"): "says whose a token is",
    },
    "controller": {
        # It decides where what an author wrote runs. Agents run nothing else: the forgeries below.
        **dict.fromkeys(
            ours(
                *(f"{v} {r}" for v in ("create", "patch", "delete")
                  for r in ("checkpointrevisions", "nodecheckpoints")),
                "patch checkpoints/status",
                "patch checkpointrevisions/status",
                "patch demoinstances/status",
            ),
            "agents run only what an author wrote",
        ),
        **dict.fromkeys(ours("delete demoinstances"), "ends demos whose ttl is over"),
        **dict.fromkeys(ours("update checkpoints/finalizers"), "owns NodeCheckpoints"),
        Right("coordination.k8s.io", "leases", "update"): "its own Lease",
        Right("coordination.k8s.io", "leases", "create"): "its own Lease, in its own namespace",
    },
    "requester": dict.fromkeys(
        ours("create demoinstances", "delete demoinstances"), "that is what it is for"
    ),
}  # fmt: skip
"""Writes without a limit that an attempt could show, and why each may be."""


@dataclass(frozen=True)
class Stage:
    """A Checkpoint on both nodes, and a demo on each."""

    cluster: Cluster
    objects: Objects
    kinds: dict[str, Resource]

    def body(self, model: type[Ours], name: str) -> dict[str, Any]:
        """An object as the API server has it."""
        namespace = self.objects.namespace if model.namespaced else ""
        found = self.cluster.api.get(self.kinds[model.plural].path(namespace, name))
        assert found is not None
        return found

    def demo_on(self, node: str) -> DemoInstance:
        (demo,) = [d for d in self.objects.all(DemoInstance) if d.status.node_name == node]
        return demo

    def node_checkpoint_on(self, node: str) -> NodeCheckpoint:
        found = self.objects.copy("notes", node)
        assert found is not None
        return found

    def target(self, model: type[Ours], name: str, **owned: Any) -> Target:
        return Target(self.kinds[model.plural], self.body(model, name), **owned)

    def of_node(self, node: str, *, is_own: bool) -> list[Target]:
        """All objects of a node."""
        return [
            self.target(DemoInstance, self.demo_on(node).metadata.name, is_own=is_own),
            self.target(NodeCheckpoint, self.node_checkpoint_on(node).metadata.name, is_own=is_own),
            self.target(NodeAgent, node, is_own=is_own),
        ]


@pytest.fixture(scope="module")
def stage(cluster: Cluster, module_objects: Objects, notes_image: str) -> Stage:
    module_objects.checkpoint("notes", notes_spec(notes_image))
    module_objects.ready_checkpoint("notes")
    module_objects.wait_node_checkpoints("notes", NODES)
    for name in ("one", "two"):
        module_objects.demo(name, "notes", ttl="1h")
        module_objects.ready_demo(name)
    cluster.kubectl("apply", f"--namespace={module_objects.namespace}", f"--filename={REQUESTER}")
    kinds = {r.name: r for r in resources(cluster.api) if r.group == GROUP}
    return Stage(cluster, module_objects, kinds)


def token_of(cluster: Cluster, account: Account) -> str:
    """A token for the API server, of an account of any namespace."""
    path = f"/api/v1/namespaces/{account.namespace}/serviceaccounts/{account.name}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    issued: str = cluster.api.create(path, request)["status"]["token"]
    return issued


@dataclass(frozen=True)
class Part:
    """A part of us that was taken over: its token, its rights, what it must not write."""

    name: str
    intruder: Intruder
    rights: Rights
    attempts: tuple[Attempt, ...]
    """Within its rights, at what is not its own."""


def _agent(stage: Stage) -> Part:
    rights = Rights(stage.cluster.api, AGENT, stage.objects.namespace)
    targets = [*stage.of_node(NODE, is_own=True), *stage.of_node(OTHER, is_own=False)]
    mine = stage.body(DemoInstance, stage.demo_on(NODE).metadata.name)
    path = stage.kinds["demoinstances"].path(stage.objects.namespace, mine["metadata"]["name"])
    right = Right(GROUP, "demoinstances/status", "patch")
    moved = [
        Attempt(right, f"{path}/status", what, {"status": change})
        for what, change in (
            ("another node", {"nodeName": OTHER}),
            ("no node", {"nodeName": None}),
            ("another revision", {"revision": "0" * 32}),
            ("no revision", {"revision": None}),
        )
    ]
    attempts = (
        *within(rights.own_rights(), targets),
        *new_node_agents(stage.kinds["nodeagents"], NODE, OTHER),
        *events(_events(stage), stage.objects.namespace, "agent"),
        *moved,
    )
    token = stage.cluster.token("tryitnow-agent", node=NODE)
    return Part("agent", Intruder(stage.cluster, token), rights, attempts)


def _controller(stage: Stage) -> Part:
    rights = Rights(stage.cluster.api, CONTROLLER, SYSTEM)
    demo = stage.demo_on(NODE).metadata.name
    attempts = (
        *within(rights.own_rights(), [stage.target(DemoInstance, demo, is_own=True)]),
        *events(_events(stage), stage.objects.namespace, "controller"),
    )
    token = stage.cluster.token("tryitnow-controller")
    return Part("controller", Intruder(stage.cluster, token), rights, attempts)


def _requester(stage: Stage) -> Part:
    account = Account(stage.objects.namespace, "storefront")
    rights = Rights(stage.cluster.api, account, stage.objects.namespace)
    mutable = frozenset({"ttl", "onCrash"})
    demo = stage.target(
        DemoInstance, "one", is_own=True, owns_metadata=True, own_spec=mutable
    )  # fmt: skip
    attempts = tuple(within(rights.own_rights(), [demo]))
    intruder = Intruder(stage.cluster, token_of(stage.cluster, account))
    return Part("requester", intruder, rights, attempts)


def _events(stage: Stage) -> Resource:
    every = resources(stage.cluster.api)
    return next(r for r in every if (r.group, r.name) == ("events.k8s.io", "events"))


@pytest.fixture(params=["agent", "controller", "requester"])
def part(request: pytest.FixtureRequest, stage: Stage) -> Part:
    return {"agent": _agent, "controller": _controller, "requester": _requester}[request.param](
        stage
    )


# -- the API server -------------------------------------------------------------------------------


def test_it_has_no_right_of_which_the_limit_is_not_known(part: Part) -> None:
    tried = {attempt.right for attempt in part.attempts}
    known = READS[part.name] | set(ACCEPTED[part.name]) | tried
    assert {str(right) for right in part.rights.own_rights() - known} == set()
    reads = {right for right in READS[part.name] if right.verb in WRITES}
    assert reads == set(), "a write is limited by attempts, or said why it needs none"


def test_everything_that_rbac_does_not_give_is_refused(part: Part, stage: Stage) -> None:
    every = resources(stage.cluster.api)
    assert len({resource.group for resource in every}) > 10
    for namespace in (stage.objects.namespace, "kube-system"):
        account = {"agent": AGENT, "controller": CONTROLLER}.get(
            part.name, Account(stage.objects.namespace, "storefront")
        )
        attempts = list(beyond(every, Rights(stage.cluster.api, account, namespace), namespace))
        assert len(attempts) > 300
        assert part.intruder.succeeded(attempts) == []


def test_what_rbac_gives_ends_at_its_own_objects_and_fields(part: Part) -> None:
    least = {"agent": 50, "controller": 8, "requester": 2}
    assert len(part.attempts) >= least[part.name], "they are made from what is there"
    assert part.intruder.succeeded(part.attempts) == []


def test_it_cannot_become_somebody_else(part: Part) -> None:
    for who in ("system:admin", "system:serviceaccount:kube-system:default"):
        answer = part.intruder.request("get", "/api/v1/nodes", headers={"Impersonate-User": who})
        assert answer.status_code == 403


def test_a_policy_looks_at_each_write_of_an_agent_about_our_kinds(stage: Stage) -> None:
    """RBAC cannot say "of your own node": what it gives and no policy looks at is everybody's."""
    path = (
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/tryitnow-agent-own-node"
    )
    policy = stage.cluster.api.get(path)
    assert policy is not None
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    rights = Rights(stage.cluster.api, AGENT, stage.objects.namespace).own_rights()
    written = {r.resource for r in rights if r.group == GROUP and r.verb in WRITES}
    assert written <= set(rule["resources"])
    assert not policy.get("status", {}).get("typeChecking", {}).get("expressionWarnings")


def test_an_agent_whose_token_names_no_node_writes_nothing(stage: Stage) -> None:
    intruder = Intruder(stage.cluster, stage.cluster.token("tryitnow-agent"))
    answer = intruder.request(
        "patch",
        f"{stage.kinds['nodeagents'].path('', NODE)}/status",
        {"status": {"capacity": 1}},
    )
    assert (answer.status_code, "names no node" in answer.text) == (403, True)


def test_a_node_agent_has_the_name_of_its_node_whoever_makes_it(kubectl: Kubectl) -> None:
    body = {
        "apiVersion": API_VERSION,
        "kind": "NodeAgent",
        "metadata": {"name": "node-new"},
        "spec": {"nodeName": NODE},
    }
    done = kubectl("create", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump(body))
    assert "metadata.name must be spec.nodeName" in done.stderr


# -- Secrets --------------------------------------------------------------------------------------


def test_a_namespace_opts_in_by_the_command_in_the_message(
    cluster: Cluster, objects: Objects, notes_image: str, kubectl: Kubectl
) -> None:
    objects.secret("password", opt_in=False, password="wordpass")
    agent = Intruder(cluster, cluster.token("tryitnow-agent", node=NODE))
    path = f"/api/v1/namespaces/{objects.namespace}/secrets"
    assert agent.request("get", f"{path}/password").status_code == 403
    spec = notes_spec(notes_image)
    secret = {"secretKeyRef": {"name": "password", "key": "password"}}
    spec["template"]["containers"][0]["env"] = [{"name": "PASSWORD", "valueFrom": secret}]
    objects.checkpoint("notes", spec)

    def command(checkpoint: Checkpoint) -> str | None:
        ready = find_condition(checkpoint.status.conditions, "Ready")
        found = re.search(r"kubectl (create rolebinding .*)", ready.message if ready else "")
        return found[1] if found else None

    waiting = objects.wait(Checkpoint, "notes", lambda checkpoint: bool(command(checkpoint)))
    done = kubectl(*shlex.split(command(waiting) or ""))
    assert done.returncode == 0, done.stderr
    objects.ready_checkpoint("notes")
    assert agent.request("get", f"{path}/password").status_code == 200
    assert agent.request("list", path).status_code == 403
    assert agent.request("get", "/api/v1/namespaces/kube-system/secrets/x").status_code == 403


# -- code on nodes --------------------------------------------------------------------------------


@pytest.fixture
def without_controller(cluster: Cluster) -> Iterator[None]:
    """Nobody tidies up what is forged."""
    cluster.stop("controller")
    try:
        yield
    finally:
        cluster.start("controller")


def _forged(stage: Stage, image: str) -> CheckpointRevision:
    """A revision with the right identity, of a definition that reads a Secret."""
    spec = notes_spec(image, env={"FORGED": "yes"})
    definition = Definition.model_validate({name: spec[name] for name in ("template", "readiness")})
    checkpoint = stage.objects.get(Checkpoint, "notes")
    assert checkpoint is not None
    uid = checkpoint.metadata.uid
    identity = definition.identity(uid)
    body = {
        "metadata": {
            "name": checkpoint_revision_name("notes", identity),
            "namespace": stage.objects.namespace,
        },
        "spec": {
            "checkpoint": "notes",
            "checkpointUid": uid,
            "identity": identity,
            "number": 99,
            "definition": definition.to_api(),
        },
    }
    return CheckpointRevision.model_validate(body)


def _create(intruder: Intruder, stage: Stage, model: type[Ours], body: dict[str, Any]) -> None:
    whole = {"apiVersion": f"{GROUP}/{VERSION}", "kind": model.kind_name, **body}
    path = stage.kinds[model.plural].path(body["metadata"]["namespace"])
    answer = intruder.request("create", path, whole, dry_run=False)
    assert answer.status_code == 201, answer.text


@pytest.mark.usefixtures("without_controller")
def test_the_controllers_token_starts_nothing_that_no_author_wrote(
    stage: Stage, nodes: LabNodes, notes_image: str
) -> None:
    objects = stage.objects
    intruder = Intruder(stage.cluster, stage.cluster.token("tryitnow-controller"))
    forged = _forged(stage, notes_image)
    identity = forged.spec.identity
    body = {"metadata": {"name": forged.metadata.name, "namespace": objects.namespace},
            "spec": forged.spec.to_api()}  # fmt: skip
    _create(intruder, stage, CheckpointRevision, body)
    order = node_checkpoint_name("notes", identity, NODE)
    spec = {"checkpoint": "notes", "revision": identity, "nodeName": NODE}
    metadata = {"name": order, "namespace": objects.namespace}
    _create(intruder, stage, NodeCheckpoint, {"metadata": metadata, "spec": spec})
    objects.demo("bound", "notes")
    bound = {"status": {"nodeName": NODE, "revision": identity, "phase": "Starting"}}
    path = stage.kinds["demoinstances"].path(objects.namespace, "bound")
    answer = intruder.request("patch", f"{path}/status", bound, dry_run=False)
    assert answer.status_code == 200, answer.text

    def is_refused(found: NodeCheckpoint | DemoInstance) -> bool:
        ready = find_condition(found.status.conditions, "Ready")
        return ready is not None and ready.reason == REVISION_UNCONFIRMED

    try:
        objects.wait(NodeCheckpoint, order, is_refused)
        demo = objects.wait(DemoInstance, "bound", is_refused)
        assert "nobody confirms that an author wrote it" in condition(demo, "Ready").message
        started = nodes.shell(NODE, "podman ps --all --quiet | xargs -r podman inspect")
        assert "FORGED=yes" not in started
    finally:
        objects.delete(DemoInstance, "bound")
        objects.delete(NodeCheckpoint, order)
        objects.delete(CheckpointRevision, forged.metadata.name)
        wait_until(lambda: objects.get(DemoInstance, "bound") is None, "the demo to be gone")


@pytest.mark.usefixtures("stage", "without_controller")
def test_nor_in_a_namespace_without_a_checkpoint(stage: Stage, notes_image: str) -> None:
    """Where only the controller's words exist, as in kube-system with its Secrets."""
    intruder = Intruder(stage.cluster, stage.cluster.token("tryitnow-controller"))
    forged = _forged(stage, notes_image)
    where = "kube-system"
    body = {"metadata": {"name": forged.metadata.name, "namespace": where},
            "spec": forged.spec.to_api()}  # fmt: skip
    _create(intruder, stage, CheckpointRevision, body)
    name = node_checkpoint_name("notes", forged.spec.identity, NODE)
    spec = {"checkpoint": "notes", "revision": forged.spec.identity, "nodeName": NODE}
    _create(
        intruder,
        stage,
        NodeCheckpoint,
        {"metadata": {"name": name, "namespace": where}, "spec": spec},
    )
    path = stage.kinds["nodecheckpoints"].path(where, name)
    try:

        def is_refused() -> bool:
            found = NodeCheckpoint.model_validate(stage.cluster.api.get(path))
            ready = find_condition(found.status.conditions, "Ready")
            return ready is not None and ready.reason == "RevisionMissing"

        wait_until(is_refused, "the agent to refuse it")
    finally:
        stage.cluster.api.delete(path, {})
        stage.cluster.api.delete(
            stage.kinds["checkpointrevisions"].path(where, forged.metadata.name), {}
        )
        wait_until(lambda: stage.cluster.api.get(path) is None, "the NodeCheckpoint to be gone")
