"""Plays the scheduler and the kubelets of the light nodes, for our own Pods.

No container runtime is on the way: lab/machines says what that is good for. Where a lab has
machines too, a real scheduler binds all Pods, and this leaves those on machines alone.

Deployments, DaemonSets and Jobs are looked after by the real kube-controller-manager, which makes
the Pods. This binds each to a node, has the supervisor run it there as lab/pods.py says, writes its
status, and ends it when it is deleted. `python -m lab.kubelet NAME` is a unit of each lab.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from lab import (
    LabError,
    certificates,
    control_plane,
    identity,
    kubelet_api,
    network,
    nodes,
    pods,
    supervise,
)
from lab.api import Api
from lab.pods import UNIT, Pod, PodProcess
from lab.shell import CLEAN_ENVIRONMENT
from lab.state import Lab, shape
from lab.supervise import Unit

_RESYNC_S = 1  # a kubelet's smallest period of a probe
_PROBE_WITHIN_S = 1.0
_RENEW_EVERY_S = 10.0  # as a kubelet does
_ENDS_WITHIN_S = 300.0


class Kubelet:
    """All nodes of one lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        found = shape(lab)
        assert found is not None
        self._network = found.network
        self._has_scheduler = found.machines > 0
        self._nodes = [*found.node_names, pods.CONTROL]
        self._renewed = -_RENEW_EVERY_S
        self._api = Api(lab, network.control_plane_address(found.network))
        self._once: dict[str, threading.Thread] = {}
        self._results: dict[str, bool] = {}
        self._started: dict[str, str] = {}
        self._refused: dict[str, str] = {}

    def run(self) -> None:
        """Look at all Pods after each change, and at least every second."""
        while True:
            try:
                self._renew_leases()
                listed = self._api.get("/api/v1/pods") or {"items": [], "metadata": {}}
                ours = [pod for pod in listed["items"] if self._is_ours(pod)]
                kubelet_api.withdraw_others(self._lab, ours)
                for pod in ours:
                    self._try_to_sync(pod, ours)
                self._api.wait_for_change(
                    "/api/v1/pods", listed["metadata"]["resourceVersion"], _RESYNC_S
                )
            except (LabError, OSError, http.client.HTTPException) as error:
                # The API server may be down for a test; the supervisor may be busy with a unit.
                _log(str(error))
                time.sleep(_RESYNC_S)

    def _is_ours(self, pod: Pod) -> bool:
        bound = pod["spec"].get("nodeName")
        return bound in self._nodes if bound else not self._has_scheduler

    def _renew_leases(self) -> None:
        """Tell that the light nodes live, where a controller marks those that do not tell it."""
        if not self._has_scheduler or time.monotonic() < self._renewed + _RENEW_EVERY_S:
            return
        self._renewed = time.monotonic()
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for node in self._nodes:
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": node, "namespace": "kube-node-lease"},
                "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now},
            }
            path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
            self._api.apply(f"{path}/{node}", lease)

    def _try_to_sync(self, pod: Pod, beside: list[Pod]) -> None:
        """Sync one Pod; an error of one does not delay the others."""
        uid = pod["metadata"]["uid"]
        try:
            self._sync(pod, beside)
        except LabError as error:
            # Such as somebody else's Pod, which stays Pending.
            if self._refused.get(uid) != str(error):
                _log(f"{pods.key(pod)}: {error}")
            self._refused[uid] = str(error)
        else:
            self._refused.pop(uid, None)

    def _sync(self, pod: Pod, beside: list[Pod]) -> None:
        metadata = pod["metadata"]
        if metadata.get("deletionTimestamp"):
            self._end(pod)
        elif not pod["spec"].get("nodeName"):
            self._bind(pod)
        elif UNIT not in metadata.get("annotations", {}):
            self._name(pod, beside)
        elif pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
            return
        elif pods.ends(pod):
            self._run_once(pod)
        else:
            self._keep_running(pod)

    def _bind(self, pod: Pod) -> None:
        pods.main_container(pod)  # or it stays where it is
        node = pods.node_of(pod)
        _log(f"{pods.key(pod)}: bound to {node}")
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        binding = {"apiVersion": "v1", "kind": "Binding", "target": target,
                   "metadata": {"name": pod["metadata"]["name"]}}  # fmt: skip
        self._api.create(f"{pods.path(pod)}/binding", binding)

    def _name(self, pod: Pod, beside: list[Pod]) -> None:
        """Write the name of its unit to the Pod: this program keeps no state."""
        taken = {other["metadata"].get("annotations", {}).get(UNIT, "") for other in beside}
        unit = pods.unit_name(pod, taken)
        # The one whose unit has the plain name stays when there shall be fewer.
        cost = "0" if unit == pods.main_container(pod)["name"] else "-1"
        annotations = {UNIT: unit, "controller.kubernetes.io/pod-deletion-cost": cost}
        self._api.merge(pods.path(pod), {"metadata": {"annotations": annotations}})

    def _keep_running(self, pod: Pod) -> None:
        process = pods.pod_process(pod, self._address(pod))
        self._identify(pod, process)
        unit = Unit(process.unit, process.argv, process.env, node=pod["spec"]["nodeName"])
        uid = pod["metadata"]["uid"]
        if uid not in self._started:
            _log(f"{pods.key(pod)}: {unit.name} starts")
            kubelet_api.publish(self._lab, pod, process, {})
            supervise.define(self._lab, unit)
            self._started[uid] = _now()
        known = supervise.ask(self._lab, do="status").get(unit.name, {})
        # Its node may have been switched off and on since, or the unit's environment changed.
        kubelet_api.publish(self._lab, pod, process, known.get("env", {}))
        ready = bool(known.get("pid")) and self._is_ready(pod, process)
        self._write_status(pod, "Running", ready=ready, restarts=max(known.get("starts", 1) - 1, 0))

    def _run_once(self, pod: Pod) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._once:
            process = pods.pod_process(pod, self._address(pod))
            self._identify(pod, process)
            kubelet_api.publish(self._lab, pod, process, {})
            self._started[uid] = _now()
            self._once[uid] = threading.Thread(
                target=self._execute, args=(pod, process), daemon=True
            )
            self._once[uid].start()
        if uid in self._results:
            process = pods.pod_process(pod, self._address(pod))
            kubelet_api.publish(self._lab, pod, process, {}, runs=False)
            self._write_status(pod, "Succeeded" if self._results[uid] else "Failed", ready=False)
        else:
            self._write_status(pod, "Running", ready=True)

    def _execute(self, pod: Pod, process: PodProcess) -> None:
        node = pod["spec"]["nodeName"]
        init_pid = nodes.init_pid(self._lab, node)
        uid = pod["metadata"]["uid"]
        if not init_pid:
            self._results[uid] = False
            return
        with self._lab.log(process.unit).open("ab") as log:
            try:
                done = subprocess.run(
                    nodes.enter_argv(self._lab, node, init_pid, process.argv),
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False,
                    env={**CLEAN_ENVIRONMENT, **process.env}, timeout=_ENDS_WITHIN_S,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                self._results[uid] = False
            else:
                self._results[uid] = done.returncode == 0

    def _end(self, pod: Pod) -> None:
        unit = pod["metadata"].get("annotations", {}).get(UNIT)
        if unit and not pods.ends(pod):
            _log(f"{pods.key(pod)}: {unit} ends")
            with contextlib.suppress(LabError):  # it may never have started
                supervise.ask(self._lab, do="remove", unit=unit)
        self._api.delete(pods.path(pod), {"gracePeriodSeconds": 0})

    def _address(self, pod: Pod) -> str:
        node = pod["spec"]["nodeName"]
        if node == pods.CONTROL:
            return network.control_plane_address(self._network)
        return network.node_address(self._network, node)

    def _identify(self, pod: Pod, process: PodProcess) -> None:
        """Write the Pod's tokens where its program finds them, once.

        They live as long as the lab: nothing here rotates them.
        """
        home = self._lab.node_directory(pod["spec"]["nodeName"]) / "secrets"
        own = home / process.unit
        mark = own / "pod"
        if mark.exists() and mark.read_text() == pod["metadata"]["uid"]:
            return
        own.mkdir(mode=0o700, exist_ok=True)
        home.chmod(0o711)  # other users have to reach their own directory below it
        account = pod["spec"].get("serviceAccountName", "default")
        bearer = identity.token(self._api, account, pod=pod)
        server = control_plane.server(self._network)
        content = certificates.token_kubeconfig(
            self._lab, server, bearer, pod["metadata"]["namespace"]
        )
        certificates.write_secret(own / "kubeconfig", content)
        for name, audience in pods.transfer_tokens(pod).items():
            token = identity.token(self._api, account, audiences=[audience], pod=pod)
            certificates.write_secret(home / name, token)
        authority = (self._lab.certificates / "ca.crt").read_text()
        certificates.write_secret(own / "ca.crt", authority)
        for path in (own, own / "kubeconfig", own / "ca.crt"):
            os.chown(path, process.uid, process.uid)
        mark.write_text(pod["metadata"]["uid"])

    def _is_ready(self, pod: Pod, process: PodProcess) -> bool:
        probe = pods.main_container(pod).get("readinessProbe", {}).get("httpGet")
        if not probe or not process.metrics_port:
            return True
        connection = http.client.HTTPConnection(
            self._address(pod), process.metrics_port, timeout=_PROBE_WITHIN_S
        )
        try:
            connection.request("GET", probe["path"])
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _write_status(self, pod: Pod, phase: str, *, ready: bool, restarts: int = 0) -> None:
        since = self._started[pod["metadata"]["uid"]]
        wanted = pods.status(
            pod, self._address(pod), phase=phase, ready=ready, since=since, restarts=restarts
        )
        if any(pod.get("status", {}).get(name) != value for name, value in wanted.items()):
            self._api.merge(f"{pods.path(pod)}/status", {"status": wanted})


def unit(lab: Lab) -> Unit:
    """The unit of a lab's kubelets; it runs on the machine itself."""
    checkout = Path(__file__).resolve().parent.parent
    argv = [sys.executable, "-m", "lab.kubelet", lab.name]
    return Unit("kubelet", argv, {"PYTHONPATH": str(checkout)})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _log(what: Any) -> None:  # noqa: ANN401
    print(time.strftime("%H:%M:%S"), what, flush=True)


if __name__ == "__main__":
    Kubelet(Lab(sys.argv[1])).run()
