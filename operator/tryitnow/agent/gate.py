"""The gate of a pod: closed, it lets no visitor in; sealed, it lets nothing move inside either.

It is a table of nftables in the pod's own network namespace, before all rules of others. What the
agent itself asks, it asks from inside (``inside``), where a closed gate is not in its way.
"""

from __future__ import annotations

import asyncio

from tryitnow.agent.sandbox import SandboxError

TABLE = "tryitnow"

_PRIORITY = -300
"""Before connection tracking and all filters (nft(8), "raw")."""

_CLOSED = "iifname != lo tcp flags & (syn | ack) == syn drop"
_SEALED = "meta l4proto tcp drop"
"""Connections between containers that are thawed one after the other must not speak before both
ends are there: an answer of the kernel that there is no such connection would end them. What is
dropped is sent again."""

_SECONDS = 10.0
"""For a call that takes 15 ms."""


class GateError(SandboxError):
    """The gate cannot be moved; the message is nft's own."""


async def close_gate(pid: int, *, sealed: bool) -> None:
    """Close the gate of the network namespace that a process is in.

    Raises:
        GateError: nft is missing or refused.

    """
    await _nft(
        pid,
        f"add table inet {TABLE}\n"
        f"flush table inet {TABLE}\n"
        f"add chain inet {TABLE} in"
        f" {{ type filter hook input priority {_PRIORITY}; policy accept; }}\n"
        f"add rule inet {TABLE} in {_SEALED if sealed else _CLOSED}\n",
    )


async def open_gate(pid: int) -> None:
    """Let visitors in; fine when the gate is open.

    Raises:
        GateError: nft is missing or refused.

    """
    # Deleting what is not there is an error: so it is added first (nft(8), "add").
    await _nft(pid, f"add table inet {TABLE}\ndelete table inet {TABLE}\n")


async def _nft(pid: int, script: str) -> None:
    argv = ("nsenter", f"--net=/proc/{pid}/ns/net", "nft", "-f", "-")
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        msg = f"{argv[0]} cannot be run on the node: {error}; install util-linux and nftables"
        raise GateError(msg) from error
    try:
        async with asyncio.timeout(_SECONDS):
            _, complaints = await process.communicate(script.encode())
    except BaseException as error:
        process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            msg = f"nft did not end within {_SECONDS:g} s"
            raise GateError(msg) from error
        raise
    if process.returncode != 0:
        text = complaints.decode(errors="replace").strip()
        msg = f"the gate of the pod cannot be moved: {text}; is nftables installed on the node?"
        raise GateError(msg)
