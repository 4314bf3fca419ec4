"""Containers: made, started, asked, paused, removed, and commands run in them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests
from podman.errors import APIError
from urllib3.exceptions import HTTPError

from tryitnow.podman.calls import CALL_SECONDS, Calls, act, is_answer, pid_of
from tryitnow.podman.errors import ExecTimeoutError
from tryitnow.podman.spec import NewContainer, container_spec
from tryitnow.podman.state import ContainerState, demultiplex, from_inspect, from_list

_OUTPUT_BYTES = 64 << 10
"""What is kept of a command's output: its end, which says what went wrong."""


@dataclass(frozen=True)
class Executed:
    """What became of a command."""

    exit_code: int
    output: str
    """What it wrote, both streams, from the end."""


class Containers(Calls):
    """Our containers on this node."""

    async def create_and_start(self, name: str, new: NewContainer) -> None:
        """Start a container cold."""

        def call(api: Any) -> None:  # noqa: ANN401
            _create(api, name, new)
            act(api, name, "start")

        await self._run(call)

    async def create_stopped(self, name: str, new: NewContainer) -> Path:
        """Make a container as it is after its process has ended, without ever running one.

        Returns the directory in which Podman looks for what is to be restored in it.
        """

        def call(api: Any) -> Path:  # noqa: ANN401
            _create(api, name, new)
            # Only what was initialized has the OCI configuration that a restore starts from.
            act(api, name, "init")
            act(api, name, "stop", timeout=0)
            answer = api.get(f"/containers/{name}/json", timeout=CALL_SECONDS)
            answer.raise_for_status()
            return Path(answer.json()["StaticDir"])

        return await self._run(call)

    async def start(self, name: str) -> None:
        """Start a stopped container again, with the files that it had."""

        await self._run(lambda api: act(api, name, "start"))

    async def rename(self, name: str, new_name: str) -> None:
        """Give a container another name, at one stroke.

        Raises:
            NoSuchContainerError: there is none.
            PodmanError: the new name is taken.

        """

        await self._run(lambda api: act(api, name, "rename", name=new_name))

    async def pid_of(self, name: str) -> int:
        """Return the process ID of a container on the node; 0 when it does not run."""

        def call(api: Any) -> int:  # noqa: ANN401
            return pid_of(api, name)

        return await self._run(call)

    async def pause(self, name: str) -> None:
        """Stop all processes of a container where they are (the cgroup freezer)."""

        await self._run(lambda api: act(api, name, "pause"))

    async def unpause(self, name: str) -> None:
        """Let a paused container go on."""

        await self._run(lambda api: act(api, name, "unpause"))

    async def remove(self, name: str) -> None:
        """Kill and remove a container, be it half made; fine when there is none."""

        def call(api: Any) -> None:  # noqa: ANN401
            params = {"force": True, "v": True, "timeout": 0, "ignore": True}
            answer = api.delete(f"/containers/{name}", params=params, timeout=CALL_SECONDS)
            if answer.status_code != requests.codes.not_found:
                answer.raise_for_status()

        await self._run(call)

    async def inspect(self, name: str) -> ContainerState | None:
        """Return a container's state; None when there is none of that name."""

        def call(api: Any) -> ContainerState | None:  # noqa: ANN401
            answer = api.get(f"/containers/{name}/json", timeout=CALL_SECONDS)
            if answer.status_code == requests.codes.not_found:
                return None
            answer.raise_for_status()
            return from_inspect(answer.json())

        return await self._run(call)

    async def environment_of(self, name: str) -> dict[str, str]:
        """Return the environment that a container was made with; empty when there is none."""

        def call(api: Any) -> dict[str, str]:  # noqa: ANN401
            answer = api.get(f"/containers/{name}/json", timeout=CALL_SECONDS)
            if answer.status_code == requests.codes.not_found:
                return {}
            answer.raise_for_status()
            pairs = (entry.partition("=") for entry in answer.json()["Config"].get("Env") or ())
            return {key: value for key, _, value in pairs}

        return await self._run(call)

    async def list_containers(self, prefix: str) -> list[ContainerState]:
        """Return all containers, running or not, whose name starts with the prefix."""

        def call(api: Any) -> list[ContainerState]:  # noqa: ANN401
            params = {"all": True, "filters": json.dumps({"name": [f"^{prefix}"]})}
            answer = api.get("/containers/json", params=params, timeout=CALL_SECONDS)
            answer.raise_for_status()
            return [from_list(item) for item in answer.json() or []]

        return await self._run(call)

    async def half_made(self, prefix: str) -> list[str]:
        """Return names, with that prefix, of what lies in the storage and Podman does not know.

        A Podman that was killed while it made a container leaves it so, and its name is in the way;
        ``remove`` removes it. One that is being made at this moment looks the same.
        """

        def call(api: Any) -> list[str]:  # noqa: ANN401
            params = {"all": True, "external": True}
            answer = api.get("/containers/json", params=params, timeout=CALL_SECONDS)
            answer.raise_for_status()
            found = (c["Names"][0] for c in answer.json() or [] if c["State"] == "storage")
            return [name for name in found if name.startswith(prefix)]

        return await self._run(call)

    async def log_tail(self, name: str, lines: int = 10) -> str:
        """Return the last lines that a container wrote; empty when there are none."""

        def call(api: Any) -> str:  # noqa: ANN401
            params = {"stdout": True, "stderr": True, "tail": lines}
            answer = api.get(f"/containers/{name}/logs", params=params, timeout=CALL_SECONDS)
            answer.raise_for_status()
            return demultiplex(answer.content)

        return await self._run(call)

    async def execute(
        self, name: str, command: Sequence[str], env: Mapping[str, str], timeout: timedelta
    ) -> Executed:
        """Run a command in a running container, and wait for its end.

        Raises:
            ExecTimeoutError: it still runs; whoever removes the container ends it. It carries
                what the command wrote until then.
            PodmanError: it cannot be started: no such program, or the container does not run.

        """
        execution = _Execution(name, command, env, timeout)

        def call(api: Any) -> int:  # noqa: ANN401
            return execution.run(api)

        future = asyncio.ensure_future(self._run(call))
        try:
            done, _ = await asyncio.wait({future}, timeout=timeout.total_seconds())
        except asyncio.CancelledError:
            execution.give_up(future)
            raise
        if not done:
            execution.give_up(future)
            raise ExecTimeoutError(timeout, execution.output)
        try:
            exit_code = future.result()
        except TimeoutError as error:
            raise ExecTimeoutError(timeout, execution.output) from error
        return Executed(exit_code, execution.output)


def _create(api: Any, name: str, new: NewContainer) -> None:  # noqa: ANN401
    spec = json.dumps(container_spec(name, new))
    api.post("/containers/create", data=spec, timeout=CALL_SECONDS).raise_for_status()


class _Execution:
    """A command that is being run. Nothing but the container's end ends it before its own."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], timeout: timedelta
    ) -> None:
        self._name = name
        self._order = {
            "Cmd": list(command),
            "Env": [f"{key}={value}" for key, value in env.items()],
            "AttachStdout": True,
            "AttachStderr": True,
        }
        self._deadline = time.monotonic() + timeout.total_seconds()
        self._written = bytearray()
        self._answer: Any = None

    @property
    def output(self) -> str:
        """What it wrote so far, from the end."""
        return demultiplex(bytes(self._written))

    def run(self, api: Any) -> int:  # noqa: ANN401
        """Run it, and return its exit status. Blocking.

        Raises:
            TimeoutError: it did not end in its time.

        """
        order = json.dumps(self._order)
        made = api.post(f"/containers/{self._name}/exec", data=order, timeout=CALL_SECONDS)
        made.raise_for_status()
        session = made.json()["Id"]
        start = json.dumps({"Detach": False, "Tty": False})
        left = max(self._deadline - time.monotonic(), 0.001)
        try:
            with contextlib.closing(
                api.post(f"/exec/{session}/start", data=start, stream=True, timeout=left)
            ) as answer:
                answer.raise_for_status()
                self._answer = answer
                # As it comes: a command that hangs may have said why.
                while chunk := answer.raw.read1(_OUTPUT_BYTES):
                    self._written += chunk
                    if len(self._written) > 2 * _OUTPUT_BYTES:
                        _keep_the_end(self._written)
        except (APIError, requests.RequestException, HTTPError) as error:
            if isinstance(error, APIError) and is_answer(error):
                raise
            if time.monotonic() >= self._deadline:
                raise TimeoutError from error
            raise
        found = api.get(f"/exec/{session}/json", timeout=CALL_SECONDS)
        found.raise_for_status()
        return int(found.json()["ExitCode"])

    def give_up(self, future: asyncio.Future[int]) -> None:
        """Let go of it: the thread that reads its output is free, and what it says is ignored."""
        future.add_done_callback(_ignore)
        if self._answer is not None:
            with contextlib.suppress(ValueError):  # it has ended meanwhile
                self._answer.raw.shutdown()


def _keep_the_end(written: bytearray) -> None:
    """Drop whole frames from the front: a part of one could not be read any more."""
    offset = 0
    while len(written) - offset > _OUTPUT_BYTES and offset + 8 <= len(written):
        offset += 8 + int.from_bytes(written[offset + 4 : offset + 8], "big")
    del written[:offset]


def _ignore(future: asyncio.Future[int]) -> None:
    if not future.cancelled():
        future.exception()
