"""What is written down about a lab: where everything of it lies, and its number in the network."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import LabError, processes
from lab.processes import Process

ROOT = Path("/var/lib/try-it-now-lab")

SHARED = "labs"
"""The lock of what labs share: their numbers, their directory, the mount of network namespaces. It
lies in the cache, since the last lab takes the directory away."""

# No dash: "tin-NAME-node-1" would not tell where the name ends. Short: it goes into paths of
# sockets, which may have 107 characters.
_NAME = re.compile(r"[a-z][a-z0-9]{0,15}")


@dataclass(frozen=True)
class Lab:
    """The names of everything that belongs to one lab."""

    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise LabError(f"A lab's name has at most 16 of a-z and 0-9, not {self.name!r}.")

    @property
    def directory(self) -> Path:
        """All files of the lab."""
        return ROOT / self.name

    @property
    def control_socket(self) -> Path:
        """Where the supervisor listens."""
        return self.directory / "control.sock"

    @property
    def certificates(self) -> Path:
        """Keys and certificates of the control plane."""
        return self.directory / "certificates"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "admin.kubeconfig"

    @property
    def namespace(self) -> str:
        """The network namespace of the bridge and the control plane."""
        return f"tin-{self.name}"

    def log(self, unit: str) -> Path:
        """The log of one supervised unit."""
        return self.directory / "logs" / f"{unit}.log"

    def process_file(self, unit: str) -> Path:
        """Where the supervisor writes down which process a unit is."""
        return self.directory / "processes" / f"{unit}.json"

    def process(self, unit: str) -> Process | None:
        """The running process of a unit."""
        found = processes.load(self.process_file(unit))
        return found if found and found.alive() else None

    def node_directory(self, node: str) -> Path:
        """The writable layer, disks and secrets of one node."""
        return self.directory / "nodes" / node

    def node_namespace(self, node: str) -> str:
        """The network namespace of one node."""
        return f"tin-{self.name}-{node}"


@dataclass(frozen=True)
class Shape:
    """What `up` decided, and every later command has to know."""

    network: int
    nodes: int
    made_from: list[str]  # the cache's entries below it
    machines: int = 0

    def save(self, lab: Lab) -> None:
        """Write it down."""
        (lab.directory / "lab.json").write_text(json.dumps(asdict(self)))

    @property
    def node_names(self) -> list[str]:
        """The light nodes in order."""
        return [f"node-{number + 1}" for number in range(self.nodes)]

    @property
    def machine_names(self) -> list[str]:
        """The machines in order, each a node too."""
        return [f"machine-{number + 1}" for number in range(self.machines)]


def shape(lab: Lab) -> Shape | None:
    """What is written down about a lab, or None where there is none (or only half of one)."""
    try:
        written = json.loads((lab.directory / "lab.json").read_text())
        # A lab that an older or newer checkout made has to be found too, to be taken down.
        return Shape(
            written["network"],
            written["nodes"],
            written.get("made_from", []),
            written.get("machines", 0),
        )
    except (OSError, ValueError, KeyError):
        return None


def known() -> list[Lab]:
    """All labs that left a directory on this machine."""
    if not ROOT.is_dir():
        return []
    names = sorted(path.name for path in ROOT.iterdir() if path.is_dir())
    return [Lab(name) for name in names if _NAME.fullmatch(name)]
