"""Which cluster is meant: the same that kubectl would ask."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tryitnow.kubernetes import access
from tryitnow.kubernetes.access import find_access
from tryitnow.kubernetes.client import connect
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


async def test_of_several_kubeconfigs_the_first_says_which_context_is_current(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kubectl has it: a demo in another cluster would be the wrong one to delete."""
    first, second = write(home / "a", "first"), write(home / "b", "second")
    for path, name in ((first, "first"), (second, "second")):
        path.write_text(path.read_text().replace("one", name).replace("name: c", f"name: {name}")
                        .replace("cluster: c", f"cluster: {name}"))  # fmt: skip
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}")
    assert (await find_access()).configuration.host == "http://first"
    assert (await find_access("second")).configuration.host == "http://second"
    nameless = first.read_text().replace("current-context: first\n", "")
    first.write_text(nameless)
    assert (await find_access()).configuration.host == "http://second"


@pytest.mark.parametrize("text", ["", "[]", "clusters: 7"])
async def test_a_kubeconfig_without_sense_is_named(home: Path, text: str) -> None:
    (home / ".kube").mkdir()
    (home / ".kube/config").write_text(text)
    with pytest.raises(NoClusterError, match=r"\.kube/config"):
        await find_access()


async def test_credentials_of_a_program_are_renewed_when_they_have_expired(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = "client.authentication.k8s.io/v1"
    status = {"token": "run $n", "expirationTimestamp": "2026-01-01T00:00:00Z"}
    credential = {"apiVersion": api, "kind": "ExecCredential", "status": status}
    program = home / "token"
    counts = "printf x >> $0.runs\nn=$(wc -c < $0.runs)"
    program.write_text(f"#!/bin/sh\n{counts}\ncat <<END\n{json.dumps(credential)}\nEND\n")
    program.chmod(0o755)
    config = KUBECONFIG % "at-home"
    user = {"apiVersion": api, "command": str(program), "args": []}
    users = json.dumps([{"name": "me", "user": {"exec": user}}])
    config = config.replace("users: []", f"users: {users}").replace('user: ""', "user: me")
    (home / ".kube").mkdir()
    (home / ".kube/config").write_text(config)
    configuration = (await find_access()).configuration

    async def token() -> str | None:
        found: str | None = await configuration.get_api_key_with_prefix("BearerToken")
        return found

    first = await token()
    assert first
    assert await token() == first, "not run for each request"
    monkeypatch.setattr(access, "RENEW_SECONDS", 0.0)
    assert await token() not in {None, first}


async def test_certificates_without_sense_are_called_none(home: Path) -> None:
    config = (KUBECONFIG % "at-home").replace("http:", "https:")
    data = base64.b64encode(b"no certificate").decode()
    config = config.replace("cluster: {", f"cluster: {{certificate-authority-data: {data}, ")
    (home / ".kube").mkdir()
    (home / ".kube/config").write_text(config)
    with pytest.raises(NoClusterError):
        async with connect("test", access=await find_access()):
            pass
