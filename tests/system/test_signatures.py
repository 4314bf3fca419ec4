"""Where signatures are wanted, what is signed is built; of the rest it is said what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.system.cosign import Signer
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import notes_spec, on_node, visit
from tests.system.objects import Objects
from tryitnow.api.checkpoint import Checkpoint

NODE = NODES[0]

POLICY = "/root/.config/containers/policy.json"
SIGNATURES = "/etc/containers/registries.d/50-try-it-now.yaml"
"""Where the chart mounts both (charts/try-it-now/templates/agent.yaml)."""

TAG = "1"


@pytest.fixture(scope="module")
def signer(nodes: LabNodes, notes_image: str) -> Iterator[Signer]:
    """The only one whose signatures the node accepts."""
    made = Signer()
    registry = notes_image.partition("/")[0]
    requirement = {
        "type": "sigstoreSigned",
        "keyData": made.key_data,
        "signedIdentity": {"type": "matchRepository"},
    }
    anything = [{"type": "insecureAcceptAnything"}]
    policy = {
        "default": [{"type": "reject"}],
        "transports": {
            "docker": {f"{registry}/signatures": [requirement]},
            "containers-storage": {"": anything},
        },
    }
    nodes.podman(NODE, "pull", notes_image)
    # Under names that the node has not pulled: what it has already is not checked again.
    for name in ("signatures/signed", "signatures/unsigned", "signatures/foreign", "other/notes"):
        nodes.podman(NODE, "push", notes_image, f"{registry}/{name}:{TAG}")
    nodes.shell(
        NODE,
        f"mkdir -p {POLICY.rpartition('/')[0]} {SIGNATURES.rpartition('/')[0]}\n"
        f"cat > {SIGNATURES} <<'END'\ndefault-docker: {{use-sigstore-attachments: true}}\nEND\n"
        f"cat > {POLICY} <<'END'\n{json.dumps(policy)}\nEND\n",
    )
    yield made
    nodes.shell(NODE, f"rm {POLICY} {SIGNATURES}")


def refused(objects: Objects, name: str, image: str) -> str:
    """Have a Checkpoint of an image refused, and return the message."""
    objects.checkpoint(name, notes_spec(image, distribution=on_node(NODE)))

    def has_failed(checkpoint: Checkpoint) -> bool:
        failure = checkpoint.status.last_failure
        return failure is not None and failure.reason == "ImagePullFailed"

    failed = objects.wait(Checkpoint, name, has_failed)
    assert failed.status.last_failure is not None
    return failed.status.last_failure.message


def test_a_signed_image_is_built_and_restored(
    signer: Signer, objects: Objects, notes_image: str
) -> None:
    registry = notes_image.partition("/")[0]
    signer.sign(registry, "signatures/signed", TAG)
    image = f"{registry}/signatures/signed:{TAG}"
    objects.checkpoint("signed", notes_spec(image, distribution=on_node(NODE)))
    objects.ready_checkpoint("signed")
    objects.demo("mine", "signed")
    assert visit(objects.ready_demo("mine")).get("/healthz").text == "ok\n"


@pytest.mark.usefixtures("signer")
def test_an_unsigned_image_is_refused_with_the_remedy(objects: Objects, notes_image: str) -> None:
    registry = notes_image.partition("/")[0]
    message = refused(objects, "unsigned", f"{registry}/signatures/unsigned:{TAG}")
    assert "A signature was required, but no signature exists" in message
    assert "What to do: the image has no signature that the agents' policy accepts" in message


@pytest.mark.usefixtures("signer")
def test_an_image_that_somebody_else_signed_is_refused(objects: Objects, notes_image: str) -> None:
    registry = notes_image.partition("/")[0]
    Signer().sign(registry, "signatures/foreign", TAG)
    message = refused(objects, "foreign", f"{registry}/signatures/foreign:{TAG}")
    assert "What to do: no signature of the image is one that the agents' policy" in message


@pytest.mark.usefixtures("signer")
def test_an_image_of_a_repository_that_the_policy_does_not_name_is_refused(
    objects: Objects, notes_image: str
) -> None:
    registry = notes_image.partition("/")[0]
    message = refused(objects, "other", f"{registry}/other/notes:{TAG}")
    assert "What to do: the agents' policy accepts no image of this repository" in message
