"""Commands that are run in a container."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import requests

from tryitnow.podman.calls import CALL_SECONDS, Calls, ask
from tryitnow.podman.errors import ExecTimeoutError, NodeLimitError, PodmanError
from tryitnow.podman.limits import OF_A_CONTAINER_TOO
from tryitnow.podman.oom import let_go_first
from tryitnow.podman.state import demultiplex

logger = logging.getLogger(__name__)

_OUTPUT_BYTES = 64 << 10
"""What is kept of a command's output: its end, which says what went wrong."""


@dataclass(frozen=True)
class Executed:
    """The result of a command."""

    exit_code: int
    output: str
    """The end of its output, both streams."""


class Commands(Calls):
    """Commands in our containers on this node."""

    async def execute(
        self, name: str, command: Sequence[str], env: Mapping[str, str], timeout: timedelta
    ) -> Executed:
        """Run a command in a running container, and wait for its end.

        Raises:
            ExecTimeoutError: it still runs; whoever removes the container ends it. It carries
                what the command wrote until then.
            PodmanError: it cannot be started: the container does not run. Of a program that is not
                there Podman 5 says so in the output, with exit code 127.

        """
        execution = _Execution(name, command, env)

        def call(api: Any) -> int:  # noqa: ANN401
            return execution.run(api)

        try:
            async with asyncio.timeout(timeout.total_seconds()):
                exit_code = await self._run_slow(call)
        except TimeoutError as error:
            raise ExecTimeoutError(timeout, execution.output) from error
        except NodeLimitError as error:
            if error.limit in OF_A_CONTAINER_TOO:
                # The text does not tell whose limit it was, and the container's is the nearer one.
                msg = f"{error}; or raise the limits that the template sets for this container"
                raise PodmanError(msg) from error
            raise
        return Executed(exit_code, execution.output)


class _Execution:
    """A command that is being run. Nothing but the container's end ends it before its own."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._name = name
        self._order = {
            "Cmd": list(command),
            "Env": [f"{key}={value}" for key, value in env.items()],
            "AttachStdout": True,
            "AttachStderr": True,
        }
        self._written = bytearray()

    @property
    def output(self) -> str:
        """What it wrote so far, from the end."""
        return demultiplex(bytes(self._written))

    def run(self, api: Any) -> int:  # noqa: ANN401
        """Run it, and return its exit status. Blocking; the caller hangs up when it takes long."""
        order = json.dumps(self._order)
        made = api.post(f"/containers/{self._name}/exec", data=order, timeout=CALL_SECONDS)
        made.raise_for_status()
        session = made.json()["Id"]
        start = json.dumps({"Detach": False, "Tty": False})
        with contextlib.closing(
            api.post(
                f"/exec/{session}/start", data=start, stream=True, timeout=(CALL_SECONDS, None)
            )
        ) as answer:
            answer.raise_for_status()
            self._let_go_first(api, session)
            # As it comes: a command that hangs may have said why.
            while chunk := answer.raw.read1(_OUTPUT_BYTES):
                self._written += chunk
                if len(self._written) > 2 * _OUTPUT_BYTES:
                    _keep_the_end(self._written)
        exit_code = int(ask(api, f"/exec/{session}/json")["ExitCode"])
        self._forget(api, session)
        return exit_code

    def _let_go_first(self, api: Any, session: str) -> None:  # noqa: ANN401
        found = api.get(f"/exec/{session}/json", timeout=CALL_SECONDS)
        if not found.ok:
            logger.warning("%s: the process ID of a command is unknown: %s", self._name, found.text)
        elif pid := int(found.json().get("Pid", 0)):
            let_go_first(pid)

    def _forget(self, api: Any, session: str) -> None:  # noqa: ANN401
        # Our conmon orders no clean-up of it (image/conmon): it would stay with its container.
        removed = api.post(f"/exec/{session}/remove", data="{}", timeout=CALL_SECONDS)
        if not removed.ok and removed.status_code != requests.codes.not_found:
            logger.warning("%s: Podman keeps a command that ended: %s", self._name, removed.text)


def _keep_the_end(written: bytearray) -> None:
    """Drop whole frames from the front: a part of one could not be read any more."""
    offset = 0
    while len(written) - offset > _OUTPUT_BYTES and offset + 8 <= len(written):
        offset += 8 + int.from_bytes(written[offset + 4 : offset + 8], "big")
    del written[:offset]
