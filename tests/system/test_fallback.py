"""The ladder, each rung tested by breaking the one above; and an archive that is damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab.cluster import Cluster
from tests.system.nodes import CHECKPOINTS, DATA, NODES, LabNodes
from tests.system.notes import notes_spec, on_node, visit
from tests.system.objects import Objects, condition, wait_until
from tryitnow.api.checkpoint import Checkpoint, CheckpointPhase
from tryitnow.api.demoinstance import (
    DemoInstance,
    DemoInstancePhase,
    FallbackReason,
    StartedBy,
)
from tryitnow.api.nodecheckpoint import NodeCheckpointPhase

NODE = NODES[0]


@pytest.fixture
def without_criu(cluster: Cluster, module_objects: Objects) -> Iterator[None]:
    """All nodes with CRIU switched off."""
    _switch_criu(cluster, module_objects, "false")
    yield
    _switch_criu(cluster, module_objects, None)


def _switch_criu(cluster: Cluster, objects: Objects, value: str | None) -> None:
    wanted = "False" if value else "True"
    for node in NODES:
        cluster.restart(f"agent-{node}", {"CRIU_ENABLED": value})
    for node in NODES:
        objects.agent(
            node,
            lambda a: any(
                c.type == "CRIUAvailable" and c.status == wanted for c in a.status.conditions
            ),
        )


@pytest.mark.usefixtures("without_criu")
def test_without_criu_a_demo_starts_cold_and_says_why(
    objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image))
    objects.demo("cold", "notes")
    demo = objects.ready_demo("cold")
    assert demo.status.started_by is StartedBy.COLD_START
    assert demo.status.fallback_reason is FallbackReason.CRIU_NOT_AVAILABLE
    assert visit(demo).get("/healthz").status_code == 200
    told = objects.notes_of("cold", "ColdStartFallback")
    assert any("CRIU_ENABLED" in note for note in told), "the way out must be named"
    assert demo.status.node_name
    log = nodes.agent_log(demo.status.node_name)
    assert "CRIU not available - will use cold start" in log
    waiting = objects.wait(
        Checkpoint, "notes", lambda c: condition(c, "Ready").reason == "CRIUNotAvailable"
    )
    assert "CRIU_ENABLED" in condition(waiting, "Ready").message


def test_criu_that_is_switched_off_after_the_checkpoint_is_the_reason_for_a_cold_start(
    cluster: Cluster, objects: Objects, notes_image: str
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image))
    objects.ready_checkpoint("notes")
    _switch_criu(cluster, objects, "false")
    try:
        objects.demo("cold", "notes")
        demo = objects.ready_demo("cold")
        assert demo.status.started_by is StartedBy.COLD_START
        assert demo.status.fallback_reason is FallbackReason.CRIU_NOT_AVAILABLE
    finally:
        _switch_criu(cluster, objects, None)
    objects.ready_checkpoint("notes")
    objects.demo("restored", "notes")
    assert objects.ready_demo("restored").status.started_by is StartedBy.RESTORE


def test_without_a_copy_a_demo_starts_cold_and_does_not_wait_for_the_build(
    objects: Objects, notes_image: str
) -> None:
    objects.checkpoint("slow", notes_spec(notes_image, env={"START_DELAY_SECONDS": "6"}))
    objects.demo("early", "slow")
    demo = objects.ready_demo("early")
    assert demo.status.started_by is StartedBy.COLD_START
    assert demo.status.fallback_reason is FallbackReason.NOT_READY_HERE


def test_unpacked_data_that_is_damaged_is_unpacked_anew(
    objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image, distribution=on_node(NODE)))
    checkpoint = objects.ready_checkpoint("notes")
    stem = f"{objects.namespace}_notes_{checkpoint.status.current_revision}"
    before = nodes.damage_generation(NODE, stem, "notes")
    wait_until(lambda: nodes.generation(NODE, stem) not in {None, before}, "another generation")
    objects.demo("quick", "notes", start="RestoreOnly")
    demo = objects.ready_demo("quick")
    assert visit(demo).get("/healthz").status_code == 200


def test_a_restore_that_does_not_answer_ends_in_a_cold_start(
    objects: Objects, notes_image: str
) -> None:
    spec = notes_spec(notes_image, env={"READY_ONLY_BEFORE_CHECKPOINT": "1"})
    spec["readiness"]["restoreTimeout"] = "2s"
    objects.checkpoint("fickle", spec)
    failed = objects.wait(Checkpoint, "fickle", lambda c: c.status.last_failure is not None, 90)
    assert failed.status.last_failure
    assert failed.status.last_failure.reason == "VerifyNotReady"
    assert "spec.readiness.restoreTimeout" in failed.status.last_failure.message
    assert failed.status.current_revision is None, "a revision that cannot be restored never serves"
    objects.demo("cold", "fickle")
    demo = objects.ready_demo("cold")
    assert demo.status.started_by is StartedBy.COLD_START
    assert demo.status.fallback_reason is FallbackReason.NOT_READY_HERE


def test_restore_only_waits_for_a_copy_rather_than_start_cold(
    objects: Objects, notes_image: str
) -> None:
    objects.checkpoint("slow", notes_spec(notes_image, env={"START_DELAY_SECONDS": "3"}))
    objects.demo("patient", "slow", start="RestoreOnly")
    waiting = objects.wait(
        DemoInstance,
        "patient",
        lambda d: any(c.reason == "NoNodeCheckpoint" for c in d.status.conditions),
    )
    assert waiting.status.phase is DemoInstancePhase.PENDING
    demo = objects.ready_demo("patient", within=90)
    assert demo.status.started_by is StartedBy.RESTORE


def test_a_copy_with_a_flipped_byte_is_never_used_and_is_replaced_by_a_good_one(
    cluster: Cluster, objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image))
    built = objects.ready_checkpoint("notes")
    objects.wait_node_checkpoints("notes", NODES)
    assert built.status.archive
    good_sha256 = built.status.archive.sha256
    stem = f"{objects.namespace}_notes_{built.status.current_revision}"
    archive = f"{CHECKPOINTS}/{stem}.tar.zst"
    good = objects.copy("notes", NODE)
    assert good
    # While its agent is away: what it finds when it comes back must be looked at first.
    cluster.stop(f"agent-{NODE}")
    _flip_a_byte(nodes, NODE, archive)
    nodes.shell(NODE, f"rm -r {DATA}/{stem}")
    cluster.start(f"agent-{NODE}")
    wait_until(
        lambda: _sha256(nodes, NODE, archive) == good_sha256,
        "the damaged archive to be replaced",
    )
    objects.wait_node_checkpoints("notes", NODES)
    assert objects.notes_of(good.metadata.name, "QuarantinedArchiveDamaged")
    log = nodes.agent_log(NODE)
    assert f"not {good_sha256}" in log
    # And while its agent watches: found without anybody asking for a demo.
    _flip_a_byte(nodes, NODE, archive)
    wait_until(
        lambda: _sha256(nodes, NODE, archive) == good_sha256,
        "the second damage to be repaired",
    )
    objects.demo("restored", "notes")
    assert objects.ready_demo("restored").status.started_by is StartedBy.RESTORE


def test_the_last_good_copy_lost_is_built_anew(
    objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image, distribution=on_node(NODE)))
    built = objects.ready_checkpoint("notes")
    first = objects.copy("notes", NODE)
    assert first
    archive = nodes.files(NODE, CHECKPOINTS, f"{objects.namespace}_notes_")
    nodes.shell(NODE, f"rm {CHECKPOINTS}/" + f" {CHECKPOINTS}/".join(archive))

    objects.wait(Checkpoint, "notes", newer_than(built), 180)
    again = objects.copy("notes", NODE)
    assert again
    assert again.metadata.uid != first.metadata.uid
    assert again.status.phase is NodeCheckpointPhase.READY


def test_an_archive_that_fails_to_restore_twice_is_quarantined_and_built_again(
    objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image, distribution=on_node(NODE)))
    built = objects.ready_checkpoint("notes")
    copy = objects.copy("notes", NODE)
    assert copy
    criu = nodes.shell(NODE, "command -v criu").strip()
    # What crun calls fails (`swrk`, libcriu); what the agent asks it about the node does not.
    broken = f"#!/bin/sh\\n[ $1 != swrk ] || exit 1\\nexec {criu}.away $*\\n"
    nodes.shell(NODE, f"mv {criu} {criu}.away && printf '{broken}' > {criu} && chmod 755 {criu}")
    try:
        for name in ("first", "second"):
            objects.demo(name, "notes")
            demo = objects.ready_demo(name)
            assert demo.status.started_by is StartedBy.COLD_START
            assert demo.status.fallback_reason is FallbackReason.RESTORE_FAILED
    finally:
        nodes.shell(NODE, f"mv {criu}.away {criu}")
    assert objects.notes_of(copy.metadata.name, "QuarantinedRestoreFailed")
    objects.wait(Checkpoint, "notes", newer_than(built), 180)
    objects.demo("third", "notes")
    assert objects.ready_demo("third").status.started_by is StartedBy.RESTORE


def newer_than(built: Checkpoint) -> Callable[[Checkpoint], bool]:
    """Whether a Checkpoint serves another archive than then."""

    def is_newer(checkpoint: Checkpoint) -> bool:
        old, new = built.status.archive, checkpoint.status.archive
        ready = checkpoint.status.phase is CheckpointPhase.READY
        return ready and old is not None and new is not None and new.sha256 != old.sha256

    return is_newer


def _flip_a_byte(nodes: LabNodes, node: str, file: str) -> None:
    script = (
        "import sys; f = open(sys.argv[1], 'r+b'); f.seek(0, 2); f.seek(f.tell() // 2);"
        " b = f.read(1); f.seek(-1, 1); f.write(bytes([b[0] ^ 1])); f.close()"
    )
    nodes.cluster.exec(node, ["python3", "-c", script, file])


def _sha256(nodes: LabNodes, node: str, file: str) -> str:
    found = nodes.cluster.exec(node, ["sha256sum", file], check=False)
    return found.stdout.split()[0] if found.returncode == 0 else ""
