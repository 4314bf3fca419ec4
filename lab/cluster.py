"""A cluster on this machine, from nothing to ready and back: the lab's Python API."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import (
    LabError,
    binaries,
    cache,
    cleanup,
    control_plane,
    host_packages,
    identity,
    kubelet,
    kubelet_api,
    network,
    node_image,
    nodes,
    pods,
    processes,
    prometheus,
    registry,
    release,
    state,
    supervise,
)
from lab.api import Api
from lab.machines import fleet
from lab.machines.machine import Machine
from lab.nodes import NodeImage
from lab.progress import log_line, step
from lab.shell import CLEAN_ENVIRONMENT, CommandFailedError
from lab.state import Lab, Shape
from lab.supervise import Unit

CHECKOUT = Path(__file__).resolve().parent.parent

CONTROLLER = "controller"

_NODE_UP_WITHIN_S = 20.0


class Cluster:
    """One lab. Making the object does nothing; `up` makes the cluster, `down` removes it."""

    def __init__(
        self, name: str = "demo", *, nodes: int = 2, machines: int = 0, operator: bool = True
    ) -> None:
        self.lab = Lab(name)
        self._nodes = nodes
        self._machines = machines
        self._operator = operator

    # -- what it is ------------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """The decisions of `up`."""
        found = state.shape(self.lab)
        if not found:
            name = self.lab.name
            raise LabError(f"There is no lab {name}: `python -m lab up --name {name}`")
        return found

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; it works on this machine and inside the lab."""
        return self.lab.kubeconfig

    @property
    def node_names(self) -> list[str]:
        """The light nodes: node-1, node-2, …"""
        return self.shape.node_names

    @property
    def machines(self) -> dict[str, Machine]:
        """The machines by name: machine-1, machine-2, …"""
        shape = self.shape
        return {name: Machine(self.lab, shape.network, name) for name in shape.machine_names}

    @property
    def builder(self) -> str:
        """The node whose Podman builds images: the control plane's where no light one is."""
        return next(iter(self.node_names), pods.CONTROL)

    @property
    def registry(self) -> str:
        """host:port of the registry; nodes also know it as `registry.lab:5000`."""
        return registry.location(self.shape.network)

    @property
    def prometheus(self) -> str:
        """The URL of the Prometheus that `start_prometheus` started."""
        return prometheus.url(self.shape.network)

    @property
    def api(self) -> Api:
        """The Kubernetes API as the administrator."""
        return Api(self.lab, self.control_plane_address)

    def node_address(self, name: str) -> str:
        """The address of a node or machine, reachable from here and from the other nodes."""
        return network.node_address(self.shape.network, name)

    def log(self, unit: str) -> Path:
        """Everything that a unit wrote, over all its starts."""
        return self.lab.log(unit)

    def token(
        self,
        service_account: str,
        *,
        audiences: Sequence[str] | None = None,
        node: str | None = None,
    ) -> str:
        """A service account's token (namespace tryitnow-system), bound to a Node where named."""
        wanted = list(audiences) if audiences else None
        return identity.token(self.api, service_account, audiences=wanted, node=node)

    # -- running things in it --------------------------------------------------------------------

    def exec(
        self,
        node: str,
        argv: Sequence[str],
        *,
        check: bool = True,
        input: str | None = None,  # noqa: A002 - the name subprocess.run gives it
        timeout: float | None = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a node with the agent's environment, and wait for its end."""
        done = subprocess.run(
            self.enter(node, argv),
            check=False,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment(node),
        )
        if check and done.returncode != 0:
            raise CommandFailedError(list(argv), done.returncode, done.stdout + done.stderr)
        return done

    def popen(self, node: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a command in a node; killing the process kills what runs in the node."""
        return subprocess.Popen(
            self.enter(node, argv), text=True, env=self.environment(node), **options
        )

    def kubectl(
        self, *words: str | Path, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator, on this machine."""
        program = binaries.kubectl_directory() / "kubectl"
        argv = [str(program), f"--kubeconfig={self.kubeconfig}", *map(str, words)]
        done = subprocess.run(
            argv, check=False, input=stdin, capture_output=True, text=True, env=CLEAN_ENVIRONMENT
        )
        if check and done.returncode != 0:
            raise CommandFailedError(argv, done.returncode, done.stdout + done.stderr)
        return done

    def enter(self, node: str, argv: Sequence[str]) -> list[str]:
        """The command on this machine that runs `argv` in a node."""
        init_pid = nodes.init_pid(self.lab, node)
        if not init_pid:
            raise LabError(f"{node} of the lab {self.lab.name} is not running.")
        return nodes.enter_argv(self.lab, node, init_pid, list(argv))

    def environment(self, node: str) -> dict[str, str]:
        """What a program in that node finds in its environment."""
        unit = CONTROLLER if node == pods.CONTROL else f"agent-{node}"
        if unit not in self.status():
            return CLEAN_ENVIRONMENT  # a lab without the operator
        own: dict[str, str] = supervise.ask(self.lab, do="environment", unit=unit)
        return {**CLEAN_ENVIRONMENT, **own}

    def kubeconfig_of(self, unit: str) -> Path:
        """What a program of ours identifies with: the token of its Pod."""
        node = pods.CONTROL if unit.startswith(CONTROLLER) else unit.partition("-")[2]
        return self.lab.node_directory(node) / "secrets" / unit / "kubeconfig"

    @property
    def control_plane_address(self) -> str:
        """Where the API server and the controllers are."""
        return network.control_plane_address(self.shape.network)

    def install(self, *words: str) -> None:
        """Install the operator's chart, or change its values; without any, back to the lab's."""
        release.install(self.lab, self.api, *words)

    def uninstall(self) -> None:
        """Uninstall the operator."""
        release.uninstall(self.lab)

    def helm(self, *words: str | Path) -> str:
        """Run Helm as the administrator, in the operator's namespace."""
        return release.helm(self.lab, *words)

    # -- units -----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Unit -> pid, how often it was started, whether it is wanted, changed environment."""
        found: dict[str, Any] = supervise.ask(self.lab, do="status")
        return found

    def unit_pid(self, unit: str) -> int:
        """The process of a unit, in this machine's numbers."""
        process = self.lab.process(unit)
        if not process:
            raise LabError(f"{unit} of the lab {self.lab.name} is not running.")
        return process.pid

    def start(self, unit: str) -> None:
        """Start a stopped unit; a node's name switches that node on."""
        supervise.ask(self.lab, do="start", unit=unit)
        self._wait_if_node(unit)

    def stop(self, unit: str) -> None:
        """Stop a unit and keep it stopped; a node's name switches that node off at once."""
        supervise.ask(self.lab, do="stop", unit=unit)

    def restart(self, unit: str, env: Mapping[str, str | None] | None = None) -> None:
        """Stop and start a unit, with `env` changed from now on."""
        if env is not None:
            self.set_env(unit, env)
        supervise.ask(self.lab, do="restart", unit=unit)
        self._wait_if_node(unit)

    def kill9(self, unit: str) -> None:
        """Kill a unit; it is started again after a second."""
        supervise.ask(self.lab, do="kill9", unit=unit)

    def crash(self, unit: str) -> None:
        """Kill a unit and keep it down until it is started."""
        supervise.ask(self.lab, do="crash", unit=unit)

    def set_env(self, unit: str, env: Mapping[str, str | None]) -> None:
        """Change a unit's environment from its next start on; None takes a change back."""
        supervise.ask(self.lab, do="set_env", unit=unit, env=dict(env))

    # -- up and down -----------------------------------------------------------------------------

    def up(self) -> None:
        """Make the cluster; where it is up already, bring manifests and code up to date."""
        started = time.monotonic()
        host_packages.ensure()
        built = binaries.control_plane()
        image = self._node_image()
        binaries.registry()
        binaries.kubelet_api()
        binaries.kubectl_directory()
        base = fleet.make_ready() if self._machines else None
        made_from = [*image.made_from, *([str(base)] if base else [])]
        # Against a second `up` or `down` of the same name; the slow downloads above need no lock.
        with cache.lock(f"lab-{self.lab.name}"):
            if self._is_up(made_from):
                log_line(f"lab {self.lab.name} is up already")
            else:
                self._remove()
                self._build(image, built, made_from, base)
            if self._operator:
                self._start_operator()
        log_line(f"lab {self.lab.name} is up after {time.monotonic() - started:.1f} s")

    def start_prometheus(self) -> None:
        """Have a Prometheus scrape the operator; where one does, bring its rules up to date."""
        number = self.shape.network
        with step("Prometheus"):
            targets = prometheus.targets(self._operator_pods())
            self._define(prometheus.unit(self.lab, number, CHECKOUT, targets))
            prometheus.wait_ready(self.lab, number)

    def down(self) -> None:
        """Remove the cluster and every trace of it; does nothing where there is none."""
        with cache.lock(f"lab-{self.lab.name}"):
            self._remove()

    # -- how -------------------------------------------------------------------------------------

    def _remove(self) -> None:
        supervisor = processes.load(self.lab.process_file("supervisor"))
        if supervisor and supervisor.alive():
            # One that does not answer is killed like everything else.
            with contextlib.suppress(LabError):
                supervise.ask(self.lab, do="quit")
        cleanup.remove(self.lab)

    def _build(
        self,
        image: NodeImage,
        built: binaries.ControlPlane,
        made_from: list[str],
        base: Path | None,
    ) -> None:
        real = base is not None
        with step(f"network, {self._nodes} nodes and {self._machines} machines"):
            with cache.lock(state.SHARED):
                number = network.reserve(self.lab)
                self.lab.directory.mkdir(mode=0o700, parents=True)
                shape = Shape(number, self._nodes, made_from, self._machines)
                shape.save(self.lab)
                network.build(self.lab, number, self.node_names, shape.machine_names)
            control_plane.prepare(self.lab, number)
            supervise.launch(self.lab)
            for unit in control_plane.units(self.lab, number, built, machines=real):
                supervise.define(self.lab, unit)
            supervise.define(self.lab, registry.unit(self.lab, number))
            self._start_nodes(image)
            if base:
                names = [*self.node_names, *shape.machine_names]
                addresses = {name: self.node_address(name) for name in names}
                fleet.power_on([*self.machines.values()], base, addresses)
        with step("control plane"):
            control_plane.wait_ready(self.lab, self.api)
            manager = control_plane.controller_manager(self.lab, built, machines=real)
            supervise.define(self.lab, manager)
        if base:
            fleet.start_scheduler(self.lab)
            with step("machines: boot, kubelet", usually="90 s"):
                for machine in self.machines.values():
                    fleet.wait_ready(machine, self.api)
        if self._nodes:
            self._play_kubelets(number)

    def _play_kubelets(self, number: int) -> None:
        with step("light nodes"):
            asked_at = self.control_plane_address
            for node in self.node_names:
                control_plane.create_node(self.api, node, self.node_address(node), asked_at)
            # Of no use to anybody but the API server, which asks the kubelet of a Node only.
            control_plane.create_node(
                self.api, pods.CONTROL, asked_at, asked_at, control_plane=True
            )
            supervise.define(self.lab, kubelet_api.unit(self.lab, number))
            supervise.define(self.lab, kubelet.unit(self.lab))

    def _is_up(self, made_from: list[str]) -> bool:
        """Whether it runs, and from what would be used now: else it is made anew."""
        shape = state.shape(self.lab)
        if not shape or shape.made_from != made_from or not supervise.running(self.lab):
            return False
        if (shape.nodes, shape.machines) != (self._nodes, self._machines):
            return False
        if not all(machine.is_on for machine in self.machines.values()):
            return False
        return all(nodes.init_pid(self.lab, node) for node in self.node_names) and self.api.ready()

    def _node_image(self) -> NodeImage:
        tree = node_image.root_file_system()
        version = node_image.python_version(tree)
        return NodeImage(
            tree=tree,
            operator=CHECKOUT / "operator",
            bytecode=cache.directory(f"bytecode-{version}"),
        )

    def _start_nodes(self, image: NodeImage) -> None:
        addresses = {node: self.node_address(node) for node in self.node_names}
        namespaces = {node: self.lab.node_namespace(node) for node in self.node_names}
        namespaces[pods.CONTROL] = self.lab.namespace
        for node, namespace in namespaces.items():
            nodes.prepare(self.lab, node, image, self.registry, addresses)
            argv = nodes.init_argv(self.lab, node, image.tree, namespace)
            supervise.define(self.lab, Unit(node, argv, forks=True))
        for node in namespaces:
            self._wait_if_node(node)
        for node in self.node_names:
            service = Unit(f"podman-{node}", nodes.podman_service(), node=node, forks=True)
            supervise.define(self.lab, service)

    def _start_operator(self) -> None:
        if self._machines:
            shape = self.shape
            # On a light node it would have the address that the node's agent listens at.
            where = shape.machine_names[0] if shape.nodes else None
            fleet.install_operator(self.lab, shape.network, self.api, controller_on=where)
            return
        units = [CONTROLLER, *(f"agent-{node}" for node in self.node_names)]
        there_before = set(units) & self.status().keys()
        with step("operator: helm install"):
            release.install(self.lab, self.api)
        if there_before:
            with step("operator: controller and agents once more, with the code as it is now"):
                for unit in sorted(there_before):
                    self.restart(unit)

    def _operator_pods(self) -> list[pods.Pod]:
        """The Pods that the operator runs in."""
        path = f"/api/v1/namespaces/{identity.NAMESPACE}/pods"
        found = self.api.get(f"{path}?labelSelector=app.kubernetes.io/name%3Dtry-it-now")
        return [pod for pod in (found or {})["items"] if not pods.ends(pod)]

    def _define(self, unit: Unit) -> None:
        """Start a unit, or start it again where it runs from older code."""
        fresh = unit.name not in self.status()
        supervise.define(self.lab, unit)
        if not fresh:
            self.restart(unit.name)

    def _wait_if_node(self, unit: str) -> None:
        """Wait until a node that was switched on is complete."""
        if unit not in [*self.node_names, pods.CONTROL]:
            return
        deadline = time.monotonic() + _NODE_UP_WITHIN_S
        while not nodes.init_pid(self.lab, unit):
            if time.monotonic() > deadline:
                log = self.log(unit)
                raise LabError(f"{unit} does not come up, see {log}:\n{log.read_text()[-1500:]}")
            time.sleep(0.01)


def run_in_foreground(argv: list[str], env: dict[str, str]) -> int:
    """Run a command with this terminal; returns the exit code a shell would show."""
    with subprocess.Popen(argv, env=env) as process:
        # Ctrl-C reaches the command too, and it decides what to make of it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = process.wait()
    sys.stdout.flush()
    return 128 - code if code < 0 else code
