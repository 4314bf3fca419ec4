"""Speaks with QEMU, and with the agent that QEMU's project has for inside a machine.

Both take one JSON object a line over a Unix socket that QEMU makes, from one client at a time.
"""

from __future__ import annotations

import base64
import json
import random
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from lab import LabError

_ANSWER_WITHIN_S = 30.0
_POLL_S = 0.1  # the agent does not tell when a command has ended


class NoAnswerError(LabError):
    """The machine, or the agent in it, does not answer: it is off, boots, or hangs."""


@dataclass(frozen=True)
class Ended:
    """A command that ended in a machine."""

    code: int
    stdout: str
    stderr: str


def ask_qemu(path: Path, command: str, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
    """Have QEMU do something with the machine."""
    with _connected(path) as stream:
        _read(stream)  # its greeting
        _ask(stream, "qmp_capabilities")
        return _ask(stream, command, **arguments)


def ask_agent(
    path: Path,
    command: str,
    *,
    within_s: float = _ANSWER_WITHIN_S,
    answers: bool = True,
    **arguments: Any,
) -> Any:  # noqa: ANN401 - JSON
    """Have the agent in the machine do something; one that ends the machine does not answer."""
    with _connected(path, within_s) as stream:
        _sync(stream)
        if not answers:
            _write(stream, command, arguments)
            return None
        return _ask(stream, command, **arguments)


def run(
    path: Path,
    argv: Sequence[str],
    *,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    within_s: float,
) -> Ended:
    """Run a command in the machine and wait for its end."""
    deadline = time.monotonic() + within_s
    with _connected(path) as stream:
        _sync(stream)
        started = _ask(
            stream, "guest-exec",
            **{
                "path": argv[0],
                "arg": list(argv[1:]),
                "env": [f"{name}={value}" for name, value in (env or {}).items()],
                "input-data": base64.b64encode(stdin.encode()).decode(),
                "capture-output": True,
            },
        )  # fmt: skip
        while not (status := _ask(stream, "guest-exec-status", pid=started["pid"]))["exited"]:
            if time.monotonic() > deadline:
                raise LabError(f"`{' '.join(argv)}` still runs in the machine after {within_s:g} s")
            time.sleep(_POLL_S)
    code = status["exitcode"] if "exitcode" in status else 128 + status["signal"]
    return Ended(code, _text(status, "out-data"), _text(status, "err-data"))


@contextmanager
def _connected(path: Path, within_s: float = _ANSWER_WITHIN_S) -> Iterator[TextIO]:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(within_s)
            connection.connect(str(path))
            with connection.makefile("rw", errors="replace") as stream:
                yield stream
    except OSError as error:
        raise NoAnswerError(f"{path}: {error}") from error


def _sync(stream: TextIO) -> None:
    # 0xFF ends whatever a client before us may have sent half of. The number is of this client
    # alone: a machine that boots answers those that gave up before us first.
    number = random.getrandbits(31)
    stream.buffer.write(b"\xff")
    _write(stream, "guest-sync-delimited", {"id": number})
    while True:
        line = stream.readline().lstrip("\ufffd\xff\n")
        if not line:
            raise NoAnswerError("the machine closed the connection to its agent")
        if json.loads(line).get("return") == number:
            return


def _ask(stream: TextIO, command: str, **arguments: Any) -> Any:  # noqa: ANN401
    _write(stream, command, arguments)
    while True:
        reply = _read(stream)
        if "error" in reply:
            raise LabError(f"{command}: {reply['error']['desc']}")
        if "return" in reply:
            return reply["return"]
        # What is left are events, which nobody here waits for.


def _write(stream: TextIO, command: str, arguments: Mapping[str, Any]) -> None:
    stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    stream.flush()


def _read(stream: TextIO) -> dict[str, Any]:
    line = stream.readline()
    if not line:
        raise NoAnswerError("the machine closed the connection")
    reply: dict[str, Any] = json.loads(line)
    return reply


def _text(status: Mapping[str, Any], name: str) -> str:
    return base64.b64decode(status.get(name, "")).decode(errors="replace")
