"""A person's terminal: kubectl, tryitnow and Python of this checkout, in a namespace of theirs."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from lab import terminal
from lab.cluster import CHECKOUT, Cluster

_CHECKED_OUT = ("charts", "docs", "manifests")


class Terminal:
    """Runs lines of a shell in a directory of its own, with what people use of a checkout."""

    def __init__(self, cluster: Cluster, namespace: str, home: Path) -> None:
        self.namespace = namespace
        self.directory = home / "work"
        self.kubeconfig = home / "kubeconfig"
        self._cluster = cluster
        self._programs = home / "bin"
        self.directory.mkdir(parents=True)
        for name in _CHECKED_OUT:
            (self.directory / name).symlink_to(CHECKOUT / name)
        terminal.install(self._programs)
        self._write_kubeconfig(cluster.kubeconfig.read_text())

    def _write_kubeconfig(self, text: str, token: str | None = None) -> None:
        config = yaml.safe_load(text)
        config["contexts"][0]["context"]["namespace"] = self.namespace
        if token is not None:
            config["users"][0]["user"] = {"token": token}
        self.kubeconfig.write_text(yaml.safe_dump(config))
        self.kubeconfig.chmod(0o600)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **terminal.environment(self.kubeconfig, self._programs),
            "HOME": str(self.directory),
            # What the package's entry point does where it is installed.
            "PYTEST_PLUGINS": "tryitnow.client.pytest_plugin",
        }

    @contextmanager
    def acting_as(self, service_account: str) -> Iterator[None]:
        """Be a ServiceAccount of the namespace for a while."""
        before = self.kubeconfig.read_text()
        token = self.run(f"kubectl create token {shlex.quote(service_account)}").stdout.strip()
        self._write_kubeconfig(before, token)
        try:
            yield
        finally:
            self.kubeconfig.write_text(before)

    def run(self, script: str, *, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run lines of bash; the first that fails ends them."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=self.environment,
            timeout=600,
        )
        assert done.returncode == code, f"{script}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program; standard output is a pipe."""
        return subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env=self.environment,
        )
