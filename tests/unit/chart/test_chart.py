"""What the chart makes of its values: rights, strategies, settings that the programs understand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import CHART, ROOT
from charts.check import VALUES
from charts.render import FILES, helm, template
from charts.values_page import UndocumentedValueError, documented, page
from lab.shell import CommandFailedError
from tryitnow.api.node import Toleration
from tryitnow.settings import agent_settings, controller_settings

EVERYTHING = (VALUES / "everything.yaml",)
LITTLE = (VALUES / "little.yaml",)

Found = dict[str, Any]


@cache
def objects(*files: Path) -> tuple[Found, ...]:
    return tuple(found for found in yaml.safe_load_all(template(files=files)) if found)


def of_kind(kind: str, *files: Path) -> dict[str, Found]:
    return {o["metadata"]["name"]: o for o in objects(*files) if o["kind"] == kind}


def pod_specs(*files: Path) -> Iterator[tuple[str, Found]]:
    for found in objects(*files):
        if found["kind"] == "Pod":
            yield found["metadata"]["name"], found["spec"]
        elif "template" in found.get("spec", {}):
            yield found["metadata"]["name"], found["spec"]["template"]["spec"]


def containers(spec: Found) -> list[Found]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def environment(spec: Found) -> dict[str, str]:
    (container,) = spec["containers"]
    node = {"NODE_NAME": "node-a"}
    # As the kubelet does.
    return {
        e["name"]: re.sub(r"\$\((\w+)\)", lambda found: node[found[1]], e["value"])
        for e in container["env"] if "value" in e
    }  # fmt: skip


def rules_of(account: str, *files: Path) -> list[Found]:
    """All rules that are bound to a ServiceAccount, anywhere."""
    found = []
    for kind, roles in (("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")):
        for binding in of_kind(kind, *files).values():
            if account in [subject["name"] for subject in binding["subjects"]]:
                role = of_kind(binding["roleRef"]["kind"], *files)[binding["roleRef"]["name"]]
                found += role["rules"]
                assert binding["roleRef"]["kind"] in {roles, "ClusterRole"}
    return found


@pytest.mark.parametrize("files", [(), EVERYTHING, LITTLE], ids=["default", "everything", "little"])
def test_only_the_agent_has_rights_on_its_node(files: tuple[Path, ...]) -> None:
    for name, spec in pod_specs(*files):
        if name == "tryitnow-agent":
            assert all(c["securityContext"]["privileged"] for c in containers(spec))
            continue
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID"} & spec.keys()
        assert {v["name"] for v in spec.get("volumes", [])} <= {"metrics-token"}
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("files", [EVERYTHING, LITTLE], ids=["everything", "little"])
def test_the_agents_alone_read_secrets_and_only_by_name(files: tuple[Path, ...]) -> None:
    for account in ("tryitnow-controller", "tryitnow-uninstall"):
        rules = rules_of(account, *files)
        assert rules or (files == LITTLE and account == "tryitnow-uninstall")
        assert not any({"secrets", "configmaps", "*"} & {*rule["resources"]} for rule in rules)
    verbs = {
        verb
        for rule in rules_of("tryitnow-agent", *files)
        if "secrets" in rule["resources"]
        for verb in rule["verbs"]
    }
    assert verbs == {"get"}


def test_agents_read_revisions_and_only_the_controller_writes_them() -> None:
    def verbs(account: str, resource: str) -> set[str]:
        rules = [rule for rule in rules_of(account) if resource in rule["resources"]]
        return {verb for rule in rules for verb in rule["verbs"]}

    assert verbs("tryitnow-agent", "checkpointrevisions") == {"get"}
    assert verbs("tryitnow-agent", "checkpointrevisions/status") == set()
    assert verbs("tryitnow-agent", "checkpoints") == {"get"}, "whether an author wrote a revision"
    assert verbs("tryitnow-agent", "checkpoints/status") == set()
    made = {"get", "list", "watch", "create", "patch", "delete"}
    assert verbs("tryitnow-controller", "checkpointrevisions") == made
    assert verbs("tryitnow-controller", "checkpointrevisions/status") == {"patch"}
    assert {"list", "patch", "delete"} <= verbs("tryitnow-uninstall", "checkpointrevisions")


def test_the_agents_read_no_secret_but_in_namespaces_that_opted_in() -> None:
    name = "tryitnow-agent-sources"
    assert name in of_kind("ClusterRole"), "or a namespace had nothing to bind"
    assert not any(of_kind(kind).get(name) for kind in ("ClusterRoleBinding", "RoleBinding"))
    assert name not in of_kind("ClusterRoleBinding", *EVERYTHING)
    bound = {
        o["metadata"]["namespace"]
        for o in objects(*EVERYTHING)
        if o["kind"] == "RoleBinding" and o["metadata"]["name"] == name
    }
    assert bound == {"default", "kube-public"}
    assert name in of_kind("ClusterRoleBinding", *LITTLE), "all of them have to be asked for"
    assert name not in of_kind("RoleBinding", *LITTLE)


def test_a_token_is_mounted_where_it_is_used() -> None:
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    spec = of_kind("DaemonSet")["tryitnow-agent"]["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert of_kind("ServiceAccount")["tryitnow-agent"]["automountServiceAccountToken"] is False
    (podman,), (agent,) = spec["initContainers"], spec["containers"]
    (mount,) = [mount for mount in agent["volumeMounts"] if mount["mountPath"] == path]
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == mount["name"]]
    sources = volume["projected"]["sources"]
    assert {key for source in sources for key in source} == {
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    }
    tokens = {
        volume["name"]
        for volume in spec["volumes"]
        if any("serviceAccountToken" in s for s in volume.get("projected", {}).get("sources", []))
    }
    assert not tokens & {mount["name"] for mount in podman["volumeMounts"]}


def test_builders_are_the_agents_nodes_unless_an_administrator_says_which() -> None:
    for files, expected in (
        ((), {"kubernetes.io/os": "linux"}),
        (EVERYTHING, {"tryitnow.dev/builds": "true"}),
    ):
        spec = of_kind("Deployment", *files)["tryitnow-controller"]["spec"]["template"]["spec"]
        assert dict(controller_settings(environment(spec)).builder_selector) == expected


def test_the_controller_knows_the_port_that_agents_serve_archives_on() -> None:
    controller = of_kind("Deployment")["tryitnow-controller"]["spec"]["template"]["spec"]
    agent = of_kind("DaemonSet")["tryitnow-agent"]["spec"]["template"]["spec"]
    port = environment(agent)["TRANSFER_PORT"]
    assert controller_settings(environment(controller)).transfer_port == int(port)


def test_the_programs_understand_the_settings_and_have_the_same_defaults() -> None:
    node = {"NODE_NAME": "node-a", "NODE_ADDRESS": "192.0.2.1"}
    agent = of_kind("DaemonSet")["tryitnow-agent"]["spec"]["template"]["spec"]
    assert agent_settings({**environment(agent), **node}) == agent_settings(node)
    controller = of_kind("Deployment")["tryitnow-controller"]["spec"]["template"]["spec"]
    pod = {"POD_NAME": "pod"}
    builders = {"BUILDER_SELECTOR": environment(controller)["BUILDER_SELECTOR"]}
    known = controller_settings({**environment(controller), **pod})
    assert known == controller_settings({**pod, **builders})


def test_the_controller_knows_which_taints_the_agents_bear() -> None:
    agent = of_kind("DaemonSet", *EVERYTHING)["tryitnow-agent"]["spec"]["template"]["spec"]
    controller = of_kind("Deployment", *EVERYTHING)["tryitnow-controller"]["spec"]["template"]
    known = controller_settings(environment(controller["spec"])).agent_tolerations
    assert known == tuple(Toleration.model_validate(each) for each in agent["tolerations"])
    assert known


def test_other_values_reach_the_agent() -> None:
    spec = of_kind("DaemonSet", *LITTLE)["tryitnow-agent"]["spec"]["template"]["spec"]
    node = {"NODE_NAME": "node-a", "NODE_ADDRESS": "192.0.2.1"}
    assert not agent_settings({**environment(spec), **node}).criu_enabled
    assert "initContainers" not in spec
    spec = of_kind("DaemonSet", *EVERYTHING)["tryitnow-agent"]["spec"]["template"]["spec"]
    settings = agent_settings({**environment(spec), **node})
    assert settings.first_port == 25000
    assert settings.public_host == "node-a.demos.example.com"
    assert settings.disk_reserve_bytes == 20 << 30
    assert settings.orphan_grace == timedelta(hours=1)
    assert settings.trash_retention == timedelta(days=7)
    assert settings.wipe
    assert settings.probe_interval == timedelta(seconds=5)
    assert settings.doctor_timeout == timedelta(minutes=1)
    entries = settings.network.allowed_egress
    assert [entry.host or entry.cidr for entry in entries] == ["192.0.2.0/24", "*.example.com"]
    assert [str(server) for server in settings.network.dns_servers] == [
        "192.0.2.53",
        "2001:db8::53",
    ]
    assert settings.allowed_registries == ("docker.io/library", "*.example.com:5000")


def test_the_sidecars_podman_is_configured_by_files_variables_and_volumes_of_ones_own() -> None:
    agent = of_kind("DaemonSet", *EVERYTHING)["tryitnow-agent"]["spec"]["template"]
    (podman,) = agent["spec"]["initContainers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in podman["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in agent["spec"]["volumes"]}
    files = of_kind("ConfigMap", *EVERYTHING)["tryitnow-podman"]["data"]
    for file, text in (("containers.conf", "10.200.0.0/16"), ("registries.conf", "insecure")):
        source = volumes[mounts[f"/etc/containers/{file}.d"]]["configMap"]
        assert (source["name"], source["items"][0]["key"]) == ("tryitnow-podman", file)
        assert text in files[file]
    assert "tryitnow.dev/podman" in agent["metadata"]["annotations"], "or it would not be read"
    assert {"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"} in podman["env"]
    assert "registry-ca" in volumes
    assert mounts["/etc/containers/certs.d/registry.example.com"] == "registry-ca"
    assert "tryitnow-podman" not in of_kind("ConfigMap")


def test_the_sidecars_podman_accepts_what_the_policy_says_and_what_the_agent_makes() -> None:
    agent = of_kind("DaemonSet", *EVERYTHING)["tryitnow-agent"]["spec"]["template"]
    (podman,) = agent["spec"]["initContainers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in podman["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in agent["spec"]["volumes"]}
    (item,) = volumes[mounts["/root/.config/containers"]]["configMap"]["items"]
    assert item == {"key": "policy.json", "path": "policy.json"}
    files = of_kind("ConfigMap", *EVERYTHING)["tryitnow-podman"]["data"]
    policy = json.loads(files["policy.json"])
    assert policy["default"] == [{"type": "reject"}]
    assert policy["transports"]["docker"]["registry.example.com"][0]["type"] == "sigstoreSigned"
    # Podman commits by this transport, and a pull never does.
    assert policy["transports"]["containers-storage"] == {"": [{"type": "insecureAcceptAnything"}]}
    (item,) = volumes[mounts["/etc/containers/registries.d"]]["configMap"]["items"]
    assert yaml.safe_load(files[item["key"]])["default-docker"]["use-sigstore-attachments"] is True
    plain = of_kind("DaemonSet")["tryitnow-agent"]["spec"]["template"]["spec"]
    assert "/root/.config" not in str(plain["initContainers"]), "all images are accepted"


def test_what_the_agent_names_to_a_nodes_own_podman_is_there() -> None:
    spec = of_kind("DaemonSet", *LITTLE)["tryitnow-agent"]["spec"]["template"]["spec"]
    (agent,) = spec["containers"]
    host = {v["name"]: v["hostPath"]["path"] for v in spec["volumes"] if "hostPath" in v}
    mounts = {mount["name"]: mount["mountPath"] for mount in agent["volumeMounts"]}
    assert host["data"] == mounts["data"] == "/srv/demos"
    assert environment(spec)["CHECKPOINT_PATH"] == "/srv/demos/checkpoints"


def test_authors_of_checkpoints_are_trusted_one_by_one_unless_told_otherwise() -> None:
    aggregated = "rbac.authorization.k8s.io/aggregate-to-edit"
    for files, expected in (((), False), (EVERYTHING, True)):
        roles = of_kind("ClusterRole", *files)
        assert (aggregated in roles["tryitnow-author"]["metadata"]["labels"]) is expected
        edit = roles["tryitnow-edit"]
        assert aggregated in edit["metadata"]["labels"]
        writing = [rule["resources"] for rule in edit["rules"] if "create" in rule["verbs"]]
        assert writing == [["demoinstances"]]


def test_a_quota_for_critical_pods_is_made_where_it_is_asked_for() -> None:
    assert of_kind("ResourceQuota") == {}
    (quota,) = of_kind("ResourceQuota", *EVERYTHING).values()
    (scope,) = quota["spec"]["scopeSelector"]["matchExpressions"]
    assert scope["values"] == ["system-node-critical"]


def test_demos_outlive_their_agents_pod() -> None:
    agent = of_kind("DaemonSet")["tryitnow-agent"]["spec"]
    # The next Pod needs the ports of the node.
    assert agent["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
    spec = agent["template"]["spec"]
    assert spec["hostPID"] is True
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for container in containers(spec):
        for mount in container["volumeMounts"]:
            # The kubelet unmounts these itself, and with them what demos have mounted below.
            assert "subPath" not in mount
            if mount["mountPath"] in {"/var/lib/containers", "/run/netns"}:
                assert "hostPath" in volumes[mount["name"]]
                assert mount["mountPropagation"] in {"Bidirectional", "HostToContainer"}


def test_nothing_in_run_outlives_a_boot() -> None:
    """CRIU's cache, Podman's state, sockets and locks: of another boot they are wrong."""
    spec = of_kind("DaemonSet")["tryitnow-agent"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    (podman,) = spec["initContainers"]
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in podman["volumeMounts"]}
    # As doctor's check "CRIU cache" wants it.
    assert mounts["/run"]["emptyDir"]["medium"] == "Memory"
    for path, volume in mounts.items():
        if path.startswith("/run/"):
            host_path = volume.get("hostPath", {}).get("path", "")
            in_memory = volume.get("emptyDir", {}).get("medium") == "Memory"
            assert in_memory or host_path.startswith("/run/"), path


def test_a_rolling_update_has_the_next_controller_stand_by_first() -> None:
    spec = of_kind("Deployment")["tryitnow-controller"]["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "tryitnow-controller" in of_kind("PodDisruptionBudget")
    assert of_kind("PodDisruptionBudget", *LITTLE) == {}


def test_crds_are_kept_or_left_out() -> None:
    crds = of_kind("CustomResourceDefinition")
    assert len(crds) == 5
    for crd in crds.values():
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        original = ROOT / f"crds/tryitnow.dev_{crd['spec']['names']['plural']}.yaml"
        assert crd["spec"] == yaml.safe_load(original.read_text())["spec"]
    assert of_kind("CustomResourceDefinition", *LITTLE) == {}


def test_prometheus_is_reported_what_our_alerts_need() -> None:
    monitors = of_kind("PodMonitor", *EVERYTHING)
    assert set(monitors) == {"tryitnow-controller", "tryitnow-agent"}
    for monitor in monitors.values():
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["honorLabels"] is True
        assert "node" in [relabel["targetLabel"] for relabel in endpoint["relabelings"]]
    rules = of_kind("PrometheusRule", *EVERYTHING)["tryitnow"]["spec"]
    assert rules == yaml.safe_load((CHART / "files/rules.yaml").read_text())


@pytest.mark.parametrize("program", ["agent", "controller"])
def test_the_admission_policies_name_the_programs_of_this_release(program: str) -> None:
    account = of_kind("ServiceAccount")[f"tryitnow-{program}"]["metadata"]
    user = f'"system:serviceaccount:{account["namespace"]}:{account["name"]}"'
    policies = of_kind("ValidatingAdmissionPolicy")
    named = [
        name
        for name, policy in policies.items()
        if any(user in c["expression"] for c in policy["spec"]["matchConditions"])
    ]
    own = {"agent": "tryitnow-agent-own-node", "controller": "tryitnow-controller-own-fields"}
    assert sorted(named) == sorted([own[program], "tryitnow-own-events"])
    for policy in policies.values():
        assert policy["spec"]["failurePolicy"] == "Fail"
        reasons = [each["reason"] for each in policy["spec"]["validations"]]
        assert set(reasons) == {"Forbidden"}
    bound = {b["spec"]["policyName"] for b in of_kind("ValidatingAdmissionPolicyBinding").values()}
    assert bound == set(policies), "a policy without a binding does nothing"


def test_a_program_may_take_minutes_to_start_before_its_liveness_counts() -> None:
    alive = [c for _, spec in pod_specs() for c in containers(spec) if "livenessProbe" in c]
    assert len(alive) == 3
    for container in alive:
        probe = container["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 300
        # The kubelet's own is one second, in which an overloaded node answers nothing.
        assert probe["timeoutSeconds"] >= 5


def test_kustomize_takes_all_that_is_rendered() -> None:
    kustomization = yaml.safe_load((ROOT / "manifests/kustomization.yaml").read_text())
    assert set(FILES) | {"namespace.yaml", "../crds"} == set(kustomization["resources"])


@pytest.mark.parametrize(
    "setting",
    ["agent.typo=1", "controller.replicas=0", "agent.podman.source=Docker", "agent.portRange=all",
     "image.digest=latest", "agent.diskReserve=2GB", "agent.probeInterval=30s",
     "agent.images.allowedRegistries={https://quay.io}", "agent.podman.policy.transports.docker=1"],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused(setting: str) -> None:
    with pytest.raises(CommandFailedError, match="values don't meet the specifications"):
        helm("lint", CHART, f"--set={setting}")


def test_each_value_has_its_line_in_the_page() -> None:
    text = page()
    assert "| `agent.secretNamespaces` | array | `[]` |" in text
    assert '| `agent.podman.source` | `Sidecar` or `Node` | `"Sidecar"` |' in text
    with pytest.raises(UndocumentedValueError, match=r"agent\.colour"):
        list(documented("agent:\n  colour: red\n"))


def test_the_token_of_the_metrics_is_mounted_and_shown_by_the_monitors() -> None:
    for name, spec in pod_specs(*EVERYTHING):
        if name not in ("tryitnow-agent", "tryitnow-controller"):
            continue
        (container,) = spec["containers"]
        mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
        file = environment(spec)["METRICS_TOKEN_FILE"]
        assert file == f"{mounts['metrics-token']}/token"
        (volume,) = (v for v in spec["volumes"] if v["name"] == "metrics-token")
        assert volume["secret"]["secretName"] == "tryitnow-metrics"
    for monitor in of_kind("PodMonitor", *EVERYTHING).values():
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        shown = endpoint["authorization"]["credentials"]
        assert shown == {"name": "tryitnow-metrics", "key": "token"}
    for _, spec in pod_specs(*LITTLE):
        assert "metrics-token" not in yaml.safe_dump(spec)
