"""What Git says and what the cluster holds never differ, whatever the operator does with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import schemas
from charts.render import template
from lab import release
from lab.cluster import CHECKOUT, Cluster
from tests.pages import blocks, walkthrough
from tests.system.conftest import Kubectl
from tests.system.gitops import Difference, Sync, foreign_fields
from tests.system.notes import notes_spec
from tests.system.objects import Objects, condition, is_true, wait_until
from tests.system.terminal import Terminal
from tests.unit.argocd.assess import HealthStatus, assess, script
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance

ARGOCD = Path("manifests/argocd")
WAVE = "argocd.argoproj.io/sync-wave"

WITHOUT_FINALIZERS = '[{"op": "remove", "path": "/metadata/finalizers"}]'

OURS = {"f:status", "f:metadata.f:finalizers"}
"""All that our programs ever write about an object of somebody else's."""


@pytest.fixture(params=[True, False], ids=["server-side", "client-side"])
def sync(request: pytest.FixtureRequest, cluster: Cluster, objects: Objects) -> Sync:
    return Sync(cluster, objects.namespace, server_side=request.param)


def assert_synced(sync: Sync) -> None:
    assert sync.differences() == {}
    for (kind, name), live in sync.live().items():
        for manager, fields in foreign_fields(live).items():
            assert fields <= OURS, f"{manager} writes {fields - OURS} of {kind} {name}"


def health(sync: Sync) -> dict[str, HealthStatus]:
    return {f"{kind} {name}": assess(live).status for (kind, name), live in sync.live().items()}


def demo_of(checkpoint: str, **spec: Any) -> dict[str, Any]:
    return {"checkpointRef": {"name": checkpoint}, **spec}


def test_no_state_of_an_object_differs_from_what_git_says(
    sync: Sync, objects: Objects, notes_image: str
) -> None:
    sync.want("Checkpoint", "notes", notes_spec(notes_image))
    sync.want("Checkpoint", "nowhere", notes_spec(
        notes_image, distribution={"nodeSelector": {"kubernetes.io/hostname": "no-such-node"}}
    ))  # fmt: skip
    sync.want("DemoInstance", "cold", demo_of("notes", start="ColdStart"))
    sync.want("DemoInstance", "patient", demo_of("nowhere", start="RestoreOnly"))
    sync.want("DemoInstance", "lost", demo_of("nobody"))
    sync.apply()
    assert_synced(sync)
    refused = objects.wait(DemoInstance, "lost", lambda d: bool(d.status.conditions))
    assert condition(refused, "Ready").reason == "CheckpointNotFound"
    objects.wait(DemoInstance, "patient", lambda d: bool(d.status.conditions))
    objects.wait(Checkpoint, "nowhere", lambda c: bool(c.status.conditions))
    assert_synced(sync)
    found = health(sync)
    assert found["DemoInstance lost"] is HealthStatus.DEGRADED
    assert found["DemoInstance patient"] is HealthStatus.SUSPENDED
    assert found["Checkpoint nowhere"] is HealthStatus.SUSPENDED

    objects.ready_checkpoint("notes")
    objects.ready_demo("cold")
    sync.want("DemoInstance", "restored", demo_of("notes", ttl="1h"))
    sync.apply()
    objects.ready_demo("restored")
    assert_synced(sync)
    found = health(sync)
    for name in ("Checkpoint notes", "DemoInstance cold", "DemoInstance restored"):
        assert found[name] is HealthStatus.HEALTHY

    sync.want("DemoInstance", "restored", demo_of("notes", ttl="2h"))
    sync.want("Checkpoint", "notes", notes_spec(notes_image, env={"UNDUMPABLE": "1"}))
    sync.apply()
    failed = objects.wait(Checkpoint, "notes", lambda c: c.status.build_attempts > 0)
    assert is_true(failed.status.conditions, "Ready"), "the old revision serves on"
    assert_synced(sync)
    assert health(sync)["Checkpoint notes"] is HealthStatus.PROGRESSING


def test_a_pool_that_is_scaled_differs_in_that_one_field(
    sync: Sync, objects: Objects, notes_image: str, kubectl: Kubectl
) -> None:
    sync.want("Checkpoint", "notes", notes_spec(notes_image, pool={"warm": 1}))
    sync.apply()
    objects.wait(Checkpoint, "notes", lambda c: c.status.warm_ready == 1)
    assert_synced(sync)
    words = ["scale", "checkpoint/notes", "--replicas=2", f"--namespace={objects.namespace}"]
    assert kubectl(*words).returncode == 0
    objects.wait(Checkpoint, "notes", lambda c: c.status.warm_ready == 2)
    (ignored,) = ignored_differences()["ignoreDifferences"]
    (found,) = sync.differences().values()
    assert [difference for difference in found if difference.path != "/metadata/generation"] == [
        Difference(pointer, 2, 1) for pointer in ignored["jsonPointers"]
    ]
    sync.apply(respecting=ignored["jsonPointers"])
    assert sync.differences() == {}
    after = objects.get(Checkpoint, "notes")
    assert after
    assert after.spec.pool
    assert after.spec.pool.warm == 2


def ignored_differences() -> dict[str, Any]:
    """What docs/gitops.md adds to the Application's spec for an autoscaler."""
    [block] = blocks("gitops.md", "yaml")
    found: dict[str, Any] = yaml.safe_load(block)
    return found


def rendered(directory: Path, kubectl: Kubectl) -> list[dict[str, Any]]:
    built = kubectl("kustomize", CHECKOUT / directory)
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


def helms_own(found: dict[str, Any]) -> dict[str, Any]:
    """Add what `helm install` writes on each object to find it again."""
    metadata = found["metadata"]
    metadata.setdefault("labels", {})["app.kubernetes.io/managed-by"] = "Helm"
    metadata.setdefault("annotations", {}).update(
        {
            "meta.helm.sh/release-name": release.NAME,
            "meta.helm.sh/release-namespace": "tryitnow-system",
        }
    )
    return found


def test_the_operator_itself_does_not_differ_from_its_chart(kubectl: Kubectl) -> None:
    # Argo CD renders charts, too, and applies what comes out.
    chart = yaml.safe_dump_all(
        [helms_own(o) for o in yaml.safe_load_all(template("--no-hooks", files=(release.VALUES,)))]
    )
    told = kubectl(
        "diff", "--server-side", "--force-conflicts", "--field-manager=helm", "--filename=-",
        stdin=chart,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.fixture
def argo_cd(kubectl: Kubectl) -> Iterator[str]:
    """The namespace and the kinds of an Argo CD, without its programs."""
    crds = [f"--filename={crd}" for crd in schemas.argo_cd_crds()]
    namespace = "argocd"
    try:
        assert kubectl("create", "namespace", namespace).returncode == 0
        assert kubectl("create", *crds).returncode == 0
        kinds = ("get", "applications.argoproj.io,appprojects.argoproj.io")
        wait_until(lambda: kubectl(*kinds).returncode == 0, "Argo CD's kinds to be served")
        yield f"--namespace={namespace}"
    finally:
        kubectl("delete", "--wait=false", *crds)
        kubectl("delete", "namespace", namespace, "--wait=false")


def test_installed_as_the_page_says(argo_cd: str, kubectl: Kubectl, terminal: Terminal) -> None:
    """The health checks join what else Argo CD is told; the API server takes the Application."""
    theirs = ["create", "configmap", "argocd-cm", "--from-literal=url=https://argocd.example"]
    assert kubectl(*theirs, argo_cd).returncode == 0
    terminal.run(walkthrough("gitops.md"))
    live = yaml.safe_load(kubectl("get", "configmap/argocd-cm", argo_cd, "-o=yaml").stdout)
    assert live["data"].pop("url") == "https://argocd.example"
    assert live["data"] == {
        f"resource.customizations.health.tryitnow.dev_{kind}": script(kind).read_text()
        for kind in ("Checkpoint", "DemoInstance", "NodeCheckpoint")
    }
    for change in ({}, ignored_differences()):
        patch = ("patch", "application/try-it-now", argo_cd, "--type=merge", "-p")
        done = kubectl(*patch, json.dumps({"spec": change}), "--dry-run=server")
        assert done.returncode == 0, done.stderr
        assert "unknown field" not in done.stderr
    # Nobody is there to take its finalizer off.
    kubectl("patch", "appproject/try-it-now", argo_cd, "--type=json", "-p", WITHOUT_FINALIZERS)


def test_waves_come_in_the_order_in_which_they_are_needed(kubectl: Kubectl) -> None:
    waves = {
        manifest["kind"]: int(manifest["metadata"]["annotations"][WAVE])
        for manifest in rendered(ARGOCD / "demos", kubectl)
    }
    operator = {
        int((manifest["metadata"].get("annotations") or {}).get(WAVE, "0"))
        for manifest in rendered(Path("manifests"), kubectl)
    }
    assert max(operator) < waves["Checkpoint"] < waves["DemoInstance"]


def test_a_demo_that_git_keeps_has_no_ttl(kubectl: Kubectl) -> None:
    demos = [m for m in rendered(ARGOCD / "demos", kubectl) if m["kind"] == "DemoInstance"]
    assert demos
    assert not any("ttl" in demo["spec"] for demo in demos)


def test_the_project_allows_all_that_is_applied(kubectl: Kubectl) -> None:
    text = (CHECKOUT / ARGOCD / "application.yaml").read_text()
    project, application = yaml.safe_load_all(text)
    whitelist = project["spec"]["clusterResourceWhitelist"]
    allowed = {(entry["group"], entry["kind"]) for entry in whitelist}
    namespaces = {entry["namespace"] for entry in project["spec"]["destinations"]}
    everything = [*rendered(Path("manifests"), kubectl), *rendered(ARGOCD / "demos", kubectl)]
    for manifest in everything:
        group = manifest["apiVersion"].rpartition("/")[0]
        namespace = manifest["metadata"].get("namespace")
        assert namespace in namespaces if namespace else (group, manifest["kind"]) in allowed
    assert application["spec"]["project"] == project["metadata"]["name"]
    sources = application["spec"]["sources"]
    assert {source["repoURL"] for source in sources} <= set(project["spec"]["sourceRepos"])
    assert [source["path"] for source in sources] == ["charts/try-it-now", str(ARGOCD / "demos")]
