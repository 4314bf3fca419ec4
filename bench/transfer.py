"""The copy of an archive between two nodes: an agent's own against curl's of the same file."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench import BenchError
from bench.stage import COPIES, GROUP, WARM_POOL, Stage
from lab import network
from lab.nodes import OPERATOR, PYTHON, SECRETS

_COPY = Path(__file__).parent / "transfer_copy.py"
_WITHIN_S = 120


@dataclass(frozen=True)
class Copied:
    """One copy by the agent's code."""

    took: float
    growth_bytes: int
    """How much more memory the receiving process held at most."""


@dataclass(frozen=True)
class Transfer:
    """What is copied, and from where to where."""

    stage: Stage
    archive: dict[str, object]
    source: dict[str, str]
    revision: str
    to: str

    def copy(self) -> Copied:
        """Fetch the archive with the agent's code and its digest checked, on the other node."""
        fetch = {"archive": self.archive, "sources": [self.source]}
        order = json.dumps({"fetch": fetch, "revision": self.revision})
        argv = ["env", f"PYTHONPATH={OPERATOR}",
                "CHECKPOINT_PATH=/var/lib/try-it-now/bench", PYTHON, "-c",
                _COPY.read_text()]  # fmt: skip
        done = self.stage.cluster.exec(self.to, argv, input=order, timeout=_WITHIN_S)
        said = json.loads(done.stdout)
        return Copied(took=said["seconds"], growth_bytes=said["growth_bytes"])

    def curl(self) -> float:
        """Fetch the same file with curl, which checks no digest."""
        cluster = self.stage.cluster
        home = cluster.lab.node_directory(self.to)
        token = home / "secrets" / Path(SECRETS).name / "transfer-token"
        if not token.exists():
            token = home / "secrets" / "transfer-token"
        target = home / "data" / "curl.tar"
        namespace = network.NAMESPACES / cluster.lab.node_namespace(self.to)
        argv = [
            "nsenter", f"--net={namespace}", "curl", "--silent", "--show-error", "--fail",
            "--insecure", "--noproxy", "*", "--header", "@-",
            "--header", f"Tryitnow-Revision: {self.revision}", "--output", str(target),
            f"{self.source['url']}/{self.archive['sha256']}",
        ]  # fmt: skip
        header = f"Authorization: Bearer {token.read_text().strip()}"
        began = time.perf_counter()
        done = subprocess.run(
            argv, input=header, capture_output=True, text=True, timeout=_WITHIN_S, check=False
        )
        took = time.perf_counter() - began
        size = target.stat().st_size if target.exists() else 0
        target.unlink(missing_ok=True)
        if done.returncode != 0 or size != self.archive["sizeBytes"]:
            raise BenchError(f"curl of {self.source['url']}: {done.stderr.strip()} ({size} bytes)")
        return took


def transfer(stage: Stage) -> Transfer:
    """Find the large archive and the agent that gives it."""
    copies = [c for c in stage.client.get(COPIES)["items"] if c["spec"]["checkpoint"] == WARM_POOL]
    # An agent gives an archive to the nodes that are to fetch it: not to the one that built it.
    built = next(copy for copy in copies if "fetch" not in copy["spec"])
    source = built["spec"]["nodeName"]
    agent = stage.client.get(f"{GROUP}/nodeagents/{source}")["status"]
    return Transfer(
        stage=stage,
        archive=built["status"]["archive"],
        source={
            "nodeName": source,
            "url": agent["transferUrl"],
            "certificate": agent["transferCertificate"],
        },
        revision=built["spec"]["revision"],
        to=next(node for node in stage.cluster.node_names if node != source),
    )
