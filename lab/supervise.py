"""Keeps the lab's programs running: one process per lab, started by `up`, ended by `down`.

It does for the lab what systemd or the kubelet does elsewhere: a unit that ends is started again
after a second. Requests come as one line of JSON each over a Unix socket; every unit has a thread
of its own that waits for its process, so that nothing here polls.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab import LabError, nodes, processes
from lab.shell import CLEAN_ENVIRONMENT
from lab.state import Lab

_BACK_OFF_S = 1.0  # systemd's RestartSec for such units, and about what a kubelet needs
_GRACE_S = 10.0  # from SIGTERM to SIGKILL
_ANSWER_WITHIN_S = 3 * _GRACE_S  # a restart may need the grace twice


@dataclass(frozen=True)
class Unit:
    """One program to keep running."""

    name: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    node: str = ""  # runs inside this node
    forks: bool = False  # its program is the only child of the started process


class Keeper:
    """Starts one unit again and again, in a thread of its own."""

    def __init__(self, lab: Lab, unit: Unit) -> None:
        self._lab = lab
        self._unit = unit
        self._changed = threading.Condition()
        self._wanted = True
        self._removed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._main: processes.Process | None = None
        self.overrides: dict[str, str] = {}
        self.starts = 0
        threading.Thread(target=self._keep, name=unit.name, daemon=True).start()

    def become(self, unit: Unit) -> None:
        """Be another program under the same name, from now on."""
        if unit != self._unit:
            self.stop()
            self._unit = unit
            self.starts = 0

    def remove(self) -> None:
        """Stop it for good."""
        self._removed = True
        self.stop()

    def crash(self) -> None:
        """Kill it and keep it down, as a node that breaks down would."""
        with self._changed:
            self._wanted = False
            self._signal(signal.SIGKILL)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._process is None, timeout=_GRACE_S)

    def start(self) -> None:
        """Have it running, and wait until it was started."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._main is not None, timeout=_GRACE_S):
                raise LabError(f"{self._unit.name} does not start: see {self._log}")

    def stop(self, grace_s: float = _GRACE_S) -> None:
        """Have it stopped, and wait until it ended."""
        with self._changed:
            self._wanted = False
            self._changed.notify_all()
            self._signal(signal.SIGTERM)
            if not self._changed.wait_for(lambda: self._process is None, timeout=grace_s):
                self._signal(signal.SIGKILL)
                self._changed.wait_for(lambda: self._process is None, timeout=_GRACE_S)

    def expect_end(self) -> None:
        """Do not start it again when it ends, which somebody else asks of it."""
        with self._changed:
            self._wanted = False
            self._changed.notify_all()

    def kill9(self) -> None:
        """Kill it as the kernel would when memory is short; it is started again."""
        with self._changed:
            self._signal(signal.SIGKILL)

    def status(self) -> dict[str, Any]:
        """For `status`: the process's number, how often it was started."""
        with self._changed:
            return {
                "pid": self._main.pid if self._main else None,
                "starts": self.starts,
                "wanted": self._wanted,
                "env": self.overrides,
            }

    @property
    def environment(self) -> dict[str, str]:
        """What it is started with."""
        return {**self._unit.env, **self.overrides}

    @property
    def _log(self) -> str:
        return str(self._lab.log(self._unit.name))

    def _signal(self, number: signal.Signals) -> None:
        if self._main:
            self._main.kill(number)
        elif self._process:
            self._process.kill()  # not yet come to its program

    def _keep(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._removed)
                if self._removed:
                    return
                process = self._spawn()
                self._process = process
            if process:
                main = self._find_main(process)
                with self._changed:
                    self._main = main
                    if main:
                        main.save(self._lab.process_file(self._unit.name))
                    if not self._wanted:  # stopped before its program was known
                        self._signal(signal.SIGKILL)
                    self._changed.notify_all()
                self._note(f"ended: {process.wait()}")
            with self._changed:
                self._process = self._main = None
                self._lab.process_file(self._unit.name).unlink(missing_ok=True)
                self._changed.notify_all()
                # Interrupted by stop(); a start() right after skips what is left of the pause.
                self._changed.wait_for(lambda: not self._wanted, timeout=_BACK_OFF_S)

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        """Start it; None where its node is switched off."""
        argv = self._unit.argv
        if self._unit.node:
            init_pid = nodes.init_pid(self._lab, self._unit.node)
            if not init_pid:
                return None
            argv = nodes.enter_argv(self._lab, self._unit.node, init_pid, argv)
        self.starts += 1
        self._note(f"start {self.starts}")
        with self._lab.log(self._unit.name).open("ab") as log:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**CLEAN_ENVIRONMENT, **self._unit.env, **self.overrides},
                start_new_session=True,
            )

    def _find_main(self, process: subprocess.Popen[bytes]) -> processes.Process | None:
        """The process of the program itself, below the nsenter or unshare around it."""
        if not (self._unit.node or self._unit.forks):
            return processes.observe(process.pid)
        while process.poll() is None:
            child = processes.only_child(process.pid)
            if child and (found := processes.observe(child)):
                return found
            time.sleep(0.005)
        return None

    def _note(self, what: str) -> None:
        now = time.strftime("%H:%M:%S")
        with self._lab.log(self._unit.name).open("a") as log:
            log.write(f"--- {now} {self._unit.name} {what}\n")


class Supervisor:
    """All units of a lab, and the socket that says what to do with them."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._keepers: dict[str, Keeper] = {}

    def serve(self) -> None:
        """Answer requests until `quit`."""
        self._lab.control_socket.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._lab.control_socket))
            listener.listen()
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rw") as stream:
            request = json.loads(stream.readline())
            try:
                reply: dict[str, Any] = {"result": self._do(**request)}
            except LabError as error:
                reply = {"error": str(error)}
            stream.write(json.dumps(reply) + "\n")
            stream.flush()
        if request["do"] == "quit":
            os._exit(0)

    def _do(self, do: str, unit: str = "", **more: Any) -> Any:  # noqa: ANN401
        if do == "status":
            return {name: keeper.status() for name, keeper in self._keepers.items()}
        if do == "quit":
            return self._kill_all()
        if do == "define":
            defined = Unit(**more["definition"])
            if defined.name in self._keepers:
                self._keepers[defined.name].become(defined)
            else:
                self._keepers[defined.name] = Keeper(self._lab, defined)
            return self._keepers[defined.name].start()
        keeper = self._keepers.get(unit)
        if not keeper:
            known = ", ".join(self._keepers)
            raise LabError(f"The lab {self._lab.name} has no unit {unit!r}, only: {known}")
        if do == "set_env":
            changes: dict[str, str | None] = more["env"]
            merged = {**keeper.overrides, **changes}
            keeper.overrides = {name: value for name, value in merged.items() if value is not None}
            return None
        if do == "start":
            return keeper.start()
        if do == "stop":
            return keeper.stop()
        if do == "restart":
            keeper.stop()
            return keeper.start()
        if do == "expect_end":
            return keeper.expect_end()
        if do == "kill9":
            return keeper.kill9()
        if do == "crash":
            return keeper.crash()
        if do == "environment":
            return keeper.environment
        if do == "remove":
            return self._keepers.pop(unit).remove()
        raise LabError(f"unknown request {do!r}")

    def _kill_all(self) -> None:
        """End everything at once; the lab's files are deleted next, so nothing needs its grace."""
        stops = [
            threading.Thread(target=keeper.stop, kwargs={"grace_s": 0.0})
            for keeper in self._keepers.values()
        ]
        for stop in stops:
            stop.start()
        for stop in stops:
            stop.join(timeout=_GRACE_S)


def launch(lab: Lab) -> None:
    """Start the supervisor of a lab and wait until it answers."""
    log = lab.log("supervisor")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        # setsid --fork: it outlives this process, and is nobody's child to wait for.
        subprocess.run(
            ["setsid", "--fork", sys.executable, "-m", "lab.supervise", lab.name],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**CLEAN_ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parent.parent)},
            cwd="/",
            check=True,
        )
    deadline = time.monotonic() + _GRACE_S
    while not running(lab):
        if time.monotonic() > deadline:
            raise LabError(f"The supervisor does not start: {log.read_text()[-2000:]}")
        time.sleep(0.01)


def running(lab: Lab) -> bool:
    """Whether a supervisor answers."""
    try:
        ask(lab, do="status")
    except LabError:
        return False
    return True


def define(lab: Lab, unit: Unit) -> None:
    """Add a unit, or change the one of that name, and start it."""
    ask(lab, do="define", definition=asdict(unit))


def ask(lab: Lab, **request: Any) -> Any:  # noqa: ANN401 - JSON
    """Send one request to the supervisor of a lab."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_WITHIN_S)
            connection.connect(str(lab.control_socket))
            with connection.makefile("rw") as stream:
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                line = stream.readline()
    except OSError as error:
        raise LabError(
            f"The lab {lab.name} is not up ({error}): `python -m lab up --name {lab.name}`"
        ) from error
    reply = json.loads(line) if line else {}
    if "error" in reply:
        raise LabError(reply["error"])
    return reply.get("result")


if __name__ == "__main__":
    _lab = Lab(sys.argv[1])
    _self = processes.observe(os.getpid())
    assert _self is not None
    _self.save(_lab.process_file("supervisor"))
    Supervisor(_lab).serve()
