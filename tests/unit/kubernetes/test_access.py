"""Which cluster is meant: the same that kubectl would ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from tryitnow.kubernetes.access import find_access
from tryitnow.kubernetes.errors import NoClusterError

KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: one
clusters:
  - name: c
    cluster: {server: "http://%s"}
users: []
contexts:
  - name: one
    context: {cluster: c, user: ""}
  - name: other
    context: {cluster: c, user: "", namespace: shops}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path


def write(path: Path, host: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(KUBECONFIG % host)
    return path


async def test_the_environment_comes_before_the_home(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / ".kube/config", "at-home")
    assert (await find_access()).configuration.host == "http://at-home"
    given = write(home / "given", "given")
    monkeypatch.setenv("KUBECONFIG", f"{home / 'missing'}:{given}")
    assert (await find_access()).configuration.host == "http://given"


async def test_a_context_brings_its_namespace(home: Path) -> None:
    write(home / ".kube/config", "at-home")
    assert (await find_access()).namespace == "default"
    assert (await find_access("other")).namespace == "shops"
    with pytest.raises(NoClusterError, match="nonsense"):
        await find_access("nonsense")


@pytest.mark.usefixtures("home")
async def test_without_any_it_says_where_it_looked() -> None:
    with pytest.raises(NoClusterError, match=r"no KUBECONFIG, no ~/\.kube/config"):
        await find_access()


async def test_a_kubeconfig_that_is_missing_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / ".kube/config", "at-home")
    monkeypatch.setenv("KUBECONFIG", str(home / "missing"))
    with pytest.raises(NoClusterError, match="missing names no file"):
        await find_access()


async def test_a_kubeconfig_that_is_broken_is_named(home: Path) -> None:
    write(home / ".kube/config", "x").write_text("{")
    with pytest.raises(NoClusterError, match="config"):
        await find_access()
