"""Servers that say that they are there, and attempts to reach them from anywhere in a lab."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from lab.cluster import Cluster
from lab.network import NAMESPACES
from tests.system.nodes import LabNodes

HERE = "here"

_LISTEN = r"""
import socket, sys, threading
addresses, ports = sys.argv[1].split(","), [int(port) for port in sys.argv[2].split(",")]

def answer_tcp(server):
    while True:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"here")

def answer_udp(server):
    while True:
        _, peer = server.recvfrom(100)
        server.sendto(b"here", peer)

for address in addresses:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in ports:
        for kind, answer in ((socket.SOCK_STREAM, answer_tcp), (socket.SOCK_DGRAM, answer_udp)):
            server = socket.socket(family, kind)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((address, port))
            if kind == socket.SOCK_STREAM:
                server.listen(64)
            threading.Thread(target=answer, args=(server,), daemon=True).start()
print("listening", flush=True)
threading.Event().wait()
"""

TRY = r"""
import json, socket, sys, threading, time
found = {}

def attempt(kind, host, port):
    began = time.monotonic()
    what = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    name = f"{kind} {host} {port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=what)[0]
        with socket.socket(family, what) as client:
            client.settimeout(3)
            client.connect(address)
            if kind == "udp":
                client.send(b"anybody?")
                client.recv(100)
        found[name] = "answered"
    except OSError as error:
        found[name] = f"{type(error).__name__} after {time.monotonic() - began:.0f} s"

threads = [threading.Thread(target=attempt, args=target) for target in json.loads(sys.argv[1])]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(found))
"""
"""What is tried from inside a container, with nothing but its Python: a TCP connection counts when
it is established, and UDP when something comes back."""


@dataclass(frozen=True, order=True)
class Target:
    """A port of a host."""

    kind: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.kind} {self.host} {self.port}"


def tcp(host: str, port: int) -> Target:
    return Target("tcp", host, port)


def udp(host: str, port: int) -> Target:
    return Target("udp", host, port)


def arguments(targets: Sequence[Target]) -> str:
    """Targets, as ``TRY`` takes them."""
    return json.dumps([[each.kind, each.host, each.port] for each in targets])


def answered(output: str) -> set[str]:
    """Which targets answered, by what ``TRY`` printed."""
    found: dict[str, str] = json.loads(output)
    return {target for target, result in found.items() if result == "answered"}


def from_container(
    nodes: LabNodes, node: str, container: str, targets: Sequence[Target]
) -> set[str]:
    """Try targets from inside a container; return those that answered."""
    words = ("exec", container, "python3", "-c", TRY, arguments(targets))
    return answered(nodes.podman(node, *words))


def from_namespace(path: Path | None, targets: Sequence[Target]) -> set[str]:
    """Try targets from a network namespace of this machine, by default its own."""
    words = [sys.executable, "-c", TRY, arguments(targets)]
    return answered(subprocess.run(_inside(path, words), check=True, capture_output=True,
                                   text=True).stdout)  # fmt: skip


def namespace_of(cluster: Cluster, node: str) -> Path:
    """The network namespace of a node."""
    return NAMESPACES / cluster.lab.node_namespace(node)


def _inside(path: Path | None, words: list[str]) -> list[str]:
    return words if path is None else ["nsenter", f"--net={path}", *words]


@contextmanager
def listening(path: Path | None, addresses: Sequence[str], ports: Sequence[int]) -> Iterator[None]:
    """Have servers for TCP and UDP at these ports while the block runs."""
    words = [sys.executable, "-c", _LISTEN, ",".join(addresses), ",".join(map(str, ports))]
    with subprocess.Popen(_inside(path, words), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "listening\n"
            yield
        finally:
            os.kill(process.pid, signal.SIGKILL)


@dataclass
class NameServer:
    """A DNS server of this machine, whose answers a test decides about."""

    address: str
    records: dict[str, str] = field(default_factory=dict)
    """Addresses by host."""

    asked: list[str] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer while the block runs."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind((self.address, 53))
            thread = threading.Thread(target=self._serve, args=(server,), daemon=True)
            thread.start()
            try:
                yield
            finally:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                    last.sendto(b"", (self.address, 53))
                thread.join()

    def _serve(self, server: socket.socket) -> None:
        while True:
            wire, peer = server.recvfrom(4096)
            if not wire:
                return
            question = dns.message.from_wire(wire)
            name, kind = question.question[0].name, question.question[0].rdtype
            host = name.to_text(omit_final_dot=True)
            self.asked.append(host)
            answer = dns.message.make_response(question)
            answer.flags |= dns.flags.RA
            if host not in self.records:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            elif kind == dns.rdatatype.A:
                answer.answer.append(dns.rrset.from_text(name, 1, "IN", "A", self.records[host]))
            server.sendto(answer.to_wire(), peer)
