"""One machine: switched on and off, cut from power, paused, and looked into."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab import LabError, control_plane, supervise
from lab.machines import configuration, disk, qemu, qmp
from lab.machines.qemu import Hardware
from lab.machines.qmp import Ended, NoAnswerError
from lab.shell import CLEAN_ENVIRONMENT, CommandFailedError
from lab.state import Lab
from lab.supervise import Unit

BOOTED_WITHIN_S = 600.0
"""Emulated on two busy cores; alone it takes about 30."""

OFF_WITHIN_S = 180.0
"""systemd itself gives up on what does not end after 90."""

_POLL_S = 0.2

_AS_A_WHOLE_NODE = (
    "sh", "-c", 'echo -5 2> /dev/null > /proc/self/autogroup; exec "$@"', "sh",
)  # fmt: skip
"""Kernels share processors between sessions (where they have autogroups), and each unit is one. A
machine is as many processes as a light node with all its units."""


class Machine:
    """A virtual machine of a lab. It is a unit of the lab's supervisor, under its own name."""

    def __init__(self, lab: Lab, number: int, name: str) -> None:
        self.name = name
        self._lab = lab
        self._number = number
        self._home = lab.node_directory(name)

    @property
    def hardware(self) -> Hardware:
        """What it was last switched on with."""
        written = json.loads((self._home / "hardware.json").read_text())
        return Hardware(**{**written, "disks": tuple(written["disks"])})

    @property
    def console(self) -> Path:
        """Everything that it wrote to its serial console, over all boots."""
        return self._lab.log(self.name)

    # -- making it -------------------------------------------------------------------------------

    def prepare(self, base: Path, addresses: Mapping[str, str]) -> None:
        """Make its disks."""
        self._home.mkdir(mode=0o700, parents=True)
        tree = self._home / "configuration"
        configuration.write(self._lab, self._number, self.name, addresses, tree)
        disk.configuration(self._home / "configuration.img", tree)
        shutil.rmtree(tree)
        disk.overlay(self._home / "disk.qcow2", base)
        self._save(Hardware())

    def new_disk(self, name: str, size: str) -> Path:
        """Make an empty disk, such as `2G`, to be switched on with."""
        path = self._home / f"{name}.qcow2"
        disk.empty(path, size)
        return path

    # -- power -----------------------------------------------------------------------------------

    def power_on(self, **changes: Any) -> None:
        """Switch it on, with other hardware from now on where some is named (see Hardware)."""
        hardware = dataclasses.replace(self.hardware, **changes)
        self._save(hardware)
        words = qemu.argv(self.name, self._number, self._home, hardware)
        words = [*_AS_A_WHOLE_NODE, *control_plane.in_lab(self._lab, words)]
        supervise.define(self._lab, Unit(self.name, words))

    def power_off(self, within_s: float = OFF_WITHIN_S) -> float:
        """Press its power button and wait until it is off; returns how many seconds it took."""
        started = time.monotonic()
        supervise.ask(self._lab, do="expect_end", unit=self.name)
        self._qemu("system_powerdown")
        self._wait(lambda: not self.is_on, within_s, "to be off after its power button was pressed")
        return time.monotonic() - started

    def power_loss(self) -> None:
        """Cut it from power: what its kernel had not written yet is lost."""
        supervise.ask(self._lab, do="crash", unit=self.name)

    def reboot(self, within_s: float = OFF_WITHIN_S + BOOTED_WITHIN_S) -> None:
        """Have it shut down in good order and boot again, and wait until it has."""
        before = self.boot_id()
        qmp.ask_agent(self._agent, "guest-shutdown", answers=False, mode="reboot")
        self._wait(lambda: self._booted_since(before), within_s, "to have rebooted")

    def pause(self) -> None:
        """Stop its processors."""
        self._qemu("stop")

    def resume(self) -> None:
        """Let its processors go on."""
        self._qemu("cont")

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self._lab.process(self.name) is not None

    # -- looking into it -------------------------------------------------------------------------

    def run(
        self,
        *argv: str,
        stdin: str = "",
        check: bool = True,
        within_s: float = 120.0,
    ) -> Ended:
        """Run a command in it, as root, and wait for its end."""
        ended = qmp.run(self._agent, argv, stdin=stdin, env=CLEAN_ENVIRONMENT, within_s=within_s)
        if check and ended.code != 0:
            raise CommandFailedError(list(argv), ended.code, ended.stdout + ended.stderr)
        return ended

    def shell(self, script: str, *, within_s: float = 120.0) -> str:
        """What a script of sh writes in it."""
        return self.run("sh", "-euc", script, within_s=within_s).stdout

    def boot_id(self) -> str:
        """A name for its current boot, the one that its Node's status has too."""
        return self.run("cat", "/proc/sys/kernel/random/boot_id").stdout.strip()

    def wait_booted(self, within_s: float = BOOTED_WITHIN_S) -> None:
        """Wait until commands can be run in it."""
        self._wait(self._answers, within_s, "to answer after it was switched on")

    # -- how -------------------------------------------------------------------------------------

    @property
    def _agent(self) -> Path:
        return self._home / "agent.sock"

    def _qemu(self, command: str, **arguments: Any) -> Any:  # noqa: ANN401
        return qmp.ask_qemu(self._home / "qmp.sock", command, **arguments)

    def _answers(self) -> bool:
        try:
            qmp.ask_agent(self._agent, "guest-ping", within_s=2.0)
        except NoAnswerError:
            return False
        return True

    def _booted_since(self, before: str) -> bool:
        try:
            return self._answers() and self.boot_id() != before
        except NoAnswerError:  # it answered, and then went down
            return False

    def _save(self, hardware: Hardware) -> None:
        written = json.dumps(dataclasses.asdict(hardware), default=str)
        (self._home / "hardware.json").write_text(written)

    def _wait(self, holds: Callable[[], bool], within_s: float, what: str) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > deadline:
                end = "\n".join(self.console.read_text(errors="replace").splitlines()[-15:])
                raise LabError(
                    f"{self.name} was given {within_s:g} s {what}. {self.console} ends:\n{end}"
                )
            time.sleep(_POLL_S)
