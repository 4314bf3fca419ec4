"""Startup probes: when a container counts as started."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp
import pytest

from tests.unit.builders import make_blueprint, make_copy, make_template
from tests.unit.conftest import ADDRESS
from tests.unit.fakes import NO_PROCESS, FakePodman
from tryitnow.agent.coldstart import cold_start
from tryitnow.agent.names import Role, work_container
from tryitnow.agent.node import Node
from tryitnow.agent.probe import NotReadyError
from tryitnow.api.meta import Key
from tryitnow.api.template import (
    EnvVar,
    EnvVarSource,
    Exec,
    KeySelector,
    ProbeHTTPGet,
    StartupProbe,
)
from tryitnow.podman.client import Executed


async def test_a_lone_container_is_asked_in_its_own_network(
    node: Node, podman: FakePodman, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_in: list[int] = []

    @asynccontextmanager
    async def inside(pid: int) -> AsyncIterator[aiohttp.ClientSession]:
        asked_in.append(pid)
        yield node.http

    monkeypatch.setattr("tryitnow.agent.startup.inside_session", inside)
    # The stand-in for a container listens on its published port.
    monkeypatch.setattr("tryitnow.agent.startup.LOOPBACK", ADDRESS)
    probe = StartupProbe(http_get=ProbeHTTPGet(port=node.settings.first_port))
    blueprint = make_blueprint(template=make_template(startup_probe=probe))
    name = work_container(Role.BUILD, make_copy(blueprint=blueprint))
    started = await cold_start(node, name, blueprint)
    assert started.sandbox.pod is None
    assert asked_in == [NO_PROCESS]
    assert f"pid {name}" in podman.log


async def test_no_secret_is_shown_even_where_a_commands_output_is_cut(
    node: Node, podman: FakePodman
) -> None:
    secret = "s3cret" * 100
    podman.outcomes = [Executed(1, f"wrong password: {secret}") for _ in range(100)]
    probe = StartupProbe(exec=Exec(command=("check",)), timeout=timedelta(milliseconds=50))
    key = KeySelector(name="database", key="password")
    variable = EnvVar(name="PASSWORD", value_from=EnvVarSource(secret_key_ref=key))
    node.kubernetes.data["secrets", Key("default", "database")] = {  # type: ignore[attr-defined]
        "password": secret.encode()
    }
    blueprint = make_blueprint(template=make_template(startup_probe=probe, env=(variable,)))
    name = work_container(Role.BUILD, make_copy(blueprint=blueprint))
    with pytest.raises(NotReadyError) as caught:
        await cold_start(node, name, blueprint)
    assert "exit status 1: wrong password: ***" in str(caught.value)
    assert "cret" not in str(caught.value)
