"""Speaking with the agent in a machine."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import LabError
from lab.machines import qmp

Answer = Callable[[dict[str, Any]], dict[str, Any]]


@contextmanager
def agent(path: Path, answer: Answer, late: Sequence[dict[str, Any]] = ()) -> Iterator[None]:
    """An agent that answers one client, after what clients before it did not wait for."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as stream:
            for reply in late:
                stream.write(b"\xff" + json.dumps(reply).encode() + b"\n")
            stream.flush()
            for line in stream:
                request = json.loads(line.lstrip(b"\xff"))
                stream.write(b"\xff" if request["execute"] == "guest-sync-delimited" else b"")
                stream.write(json.dumps(answer(request)).encode() + b"\n")
                stream.flush()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        serving = threading.Thread(target=serve)
        serving.start()
        yield
        serving.join()


def test_a_command_is_run_to_its_end(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []
    out = base64.b64encode(b"out").decode()
    status = [{"exited": False}, {"exited": True, "exitcode": 3, "out-data": out}]

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        match request["execute"]:
            case "guest-sync-delimited":
                return {"return": request["arguments"]["id"]}
            case "guest-exec":
                return {"return": {"pid": 7}}
            case _:
                return {"return": status.pop(0)}

    with agent(tmp_path / "agent", answer):
        ended = qmp.run(tmp_path / "agent", ["cat", "/x"], stdin="in", env={"A": "b"}, within_s=5)
    assert ended == qmp.Ended(3, "out", "")
    (started,) = [one["arguments"] for one in asked if one["execute"] == "guest-exec"]
    assert (started["path"], started["arg"], started["env"]) == ("cat", ["/x"], ["A=b"])
    assert base64.b64decode(started["input-data"]) == b"in"


def test_a_command_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["execute"] == "guest-exec":
            return {"error": {"desc": "no such program"}}
        return {"return": request["arguments"]["id"]}

    with (
        agent(tmp_path / "agent", answer),
        pytest.raises(LabError, match="guest-exec: no such program"),
    ):
        qmp.run(tmp_path / "agent", ["nothing"], within_s=5)


def test_answers_to_clients_that_went_away_are_passed_over(tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        return {"return": request["arguments"].get("id", "mine")}

    numbers: list[int] = []

    def noted(request: dict[str, Any]) -> dict[str, Any]:
        numbers.extend(request["arguments"].values())
        return answer(request)

    with agent(tmp_path / "a", noted):
        qmp.ask_agent(tmp_path / "a", "guest-ping")
    late: list[dict[str, Any]] = [{"return": numbers[0]}, {"error": {"desc": "JSON parse error"}}]
    with agent(tmp_path / "b", answer, late):
        assert qmp.ask_agent(tmp_path / "b", "guest-ping") == "mine"


def test_a_machine_that_is_off_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(qmp.NoAnswerError):
        qmp.ask_qemu(tmp_path / "nobody", "stop")
