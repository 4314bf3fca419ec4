"""Keeping a demo running that was ready once: it may hold a person's data.

Nothing is removed here. A container that ended is started again with its files, for as long as that
takes; the status says that the demo is down, why, and that its data is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import timedelta

from tryitnow.agent.counters import count_demo, demo_started, start_failed
from tryitnow.agent.demos.ends import NODE_RESTARTED, RESTARTING, End, find_end
from tryitnow.agent.demos.personalize import personalize
from tryitnow.agent.demos.start import Started
from tryitnow.agent.demos.status import (
    report_answering,
    report_down,
    report_egress,
    report_ready,
    report_unknown,
)
from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.demos.verdicts import Verdict
from tryitnow.agent.errors import (
    ContainerDiedError,
    FirewallError,
    HookError,
    NodeShortError,
    NotReadyError,
    SandboxError,
)
from tryitnow.agent.restore.restart import restart
from tryitnow.agent.restore.result import Running
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import demo_name
from tryitnow.agent.sandbox.pressure import read_stalls
from tryitnow.agent.storage.files import short_of_disk
from tryitnow.api.definition import Definition
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.metrics.starts import RESTARTS
from tryitnow.podman.errors import NodeLimitError, PodmanBusyError, PodmanError

logger = logging.getLogger(__name__)

Phase = DemoInstancePhase

STILL_STARTING = timedelta(seconds=1)
"""Before the next look at a start that takes longer than ``readiness.timeout``."""

STORAGE_LOOK = timedelta(seconds=10)
"""Before the next look whether a person has confirmed the storage."""

INSPECT_SECONDS = 15.0
"""For all that Podman is asked about a demo in one look. With the probes before it, less than the
minute after which nothing dead may be called ready."""

_KEPT = "Its data is kept."


class SandboxGoneError(Exception):
    """There is no sandbox of the demo any more: its data is gone."""


async def keep_running(
    tools: DemoTools, demo: DemoInstance, definition: Definition
) -> timedelta | None:
    """Look how a demo is, and bring it back if it is down; return when to look again.

    Raises:
        SandboxGoneError: its sandbox is gone.
        PodmanUnreachableError: Podman does not answer, or too slowly: nobody knows.

    """
    try:
        async with asyncio.timeout(INSPECT_SECONDS):
            state = await _inspect(tools, demo, definition)
    except TimeoutError as error:
        msg = f"Podman has not said for {INSPECT_SECONDS:g} s how its containers are"
        raise PodmanBusyError(msg) from error
    sandbox = state.sandbox
    if sandbox is None:
        return await _of_older_version(tools, demo, alive=state.alive)
    if state.end is not None:
        return await _ended(tools, demo, definition, sandbox, state.end)
    uid = demo.metadata.uid
    if _is_coming_back(tools, demo):
        # Also a demo of which all containers run waits: its hook failed, say. What we write about
        # that comes back as an event, and has the demo looked at at once.
        if wait := tools.crashes.remaining(uid):
            return wait
        return await _bring_back(tools, demo, definition, sandbox)
    match tools.verdicts.of(uid):
        case Verdict.ANSWERS:
            demo = await report_egress(tools, demo, definition)
            await report_answering(tools, demo)
        case Verdict.SILENT:
            answer = tools.verdicts.answer_of(uid)
            return await _not_answering(tools, demo, definition, sandbox, answer)
        case Verdict.UNKNOWN:
            pass  # what was said of it stays until it is known better
    return None


@dataclass(frozen=True)
class _State:
    """How Podman says that a demo is."""

    sandbox: Sandbox | None
    """With its process, where something is to be done; None for the lone container of an older
    version."""

    alive: bool
    """Whether its main container runs or is paused."""

    end: End | None
    """What has ended, and why; None when all run."""


async def _inspect(tools: DemoTools, demo: DemoInstance, definition: Definition) -> _State:
    main = await tools.start.podman.inspect(str(demo_name(demo)))
    if main is None:
        raise SandboxGoneError
    seen = await tools.start.sandboxes.inspect(main)
    if seen is None:
        return _State(None, main.alive, None)
    sandbox, pod = seen
    end = await find_end(tools, demo, definition, sandbox, pod)
    is_silent = tools.verdicts.of(demo.metadata.uid) is Verdict.SILENT
    if end is not None or is_silent or _is_coming_back(tools, demo):
        sandbox = await tools.start.sandboxes.with_process(sandbox, pod)
    return _State(sandbox, main.alive, end)


async def keep_without_definition(
    tools: DemoTools, demo: DemoInstance, reason: str, why: str
) -> timedelta:
    """Say how a demo is of which nobody knows how to start or to ask it; return when to look again.

    Raises:
        PodmanUnreachableError: Podman does not answer: nobody knows.

    """
    name = demo_name(demo)
    if await tools.start.sandboxes.find(name) is None:
        message = f"{why}. So is its sandbox, and with it its data: delete this DemoInstance"
        await report_down(tools, demo, reason, message, Phase.NOT_ANSWERING)
    elif await tools.start.sandboxes.is_running(name):
        message = f"{why}. Its containers run; whether it answers is not known. {_KEPT}"
        await report_unknown(tools, demo, reason, message)
    else:
        message = f"{why}. Its containers do not all run, and are not started again. {_KEPT}"
        await report_down(tools, demo, reason, message, Phase.NOT_ANSWERING)
    return STORAGE_LOOK


async def nobody_answers(tools: DemoTools, demo: DemoInstance, why: str) -> None:
    """Say that a demo does not answer, when Podman cannot be asked about it either."""
    uid = demo.metadata.uid
    is_silent = tools.verdicts.of(uid) is Verdict.SILENT
    if is_silent and demo.status.phase in {Phase.READY, Phase.NOT_ANSWERING}:
        answer = tools.verdicts.answer_of(uid)
        message = f"{answer}\nNor does Podman say how its containers are: {why}. {_KEPT}"
        await report_down(tools, demo, "NotAnswering", message, Phase.NOT_ANSWERING)


async def _of_older_version(
    tools: DemoTools, demo: DemoInstance, *, alive: bool
) -> timedelta | None:
    if alive:
        return None
    message = (
        "its container, made by an older version of the operator, has ended and is not started "
        f"again. {_KEPT} `kubectl tryitnow reset {demo.metadata.name}` replaces it by a fresh demo"
    )
    await report_down(tools, demo, "MadeByOlderVersion", message, Phase.NOT_ANSWERING)
    return None


async def _ended(
    tools: DemoTools, demo: DemoInstance, definition: Definition, sandbox: Sandbox, end: End
) -> timedelta | None:
    """Handle that a container ended: say so, wait its pause, and start it again."""
    demo = await note_end(tools, demo, end, "It is started again", _KEPT)
    if wait := tools.crashes.remaining(demo.metadata.uid):
        return wait
    return await _bring_back(tools, demo, definition, sandbox)


async def note_end(
    tools: DemoTools, demo: DemoInstance, end: End, follows: str, data: str
) -> DemoInstance:
    """Count an end of a container once, and say so; ``crashes`` has the pause that follows."""
    if _is_coming_back(tools, demo):
        return demo
    uid = demo.metadata.uid
    is_of_node = end.reason == NODE_RESTARTED
    count = tools.crashes.interrupted(uid) if is_of_node else tools.crashes.ended(uid)
    count_demo(tools.start.metrics, RESTARTS, demo)
    wait = tools.crashes.remaining(uid)
    ahead = f" in {wait.total_seconds():.0f} s" if wait else ""
    often = f", the {count}. time in a row" if count > 1 else ""
    message = f"{end.what}{often}. {follows}{ahead}. {data}"
    reason = "CrashLoop" if count > 1 else end.reason
    return await report_down(tools, demo, reason, message, Phase.RESTARTING)


def _is_coming_back(tools: DemoTools, demo: DemoInstance) -> bool:
    """Whether the end of a container is being handled, by this agent or by one before it."""
    pending = tools.crashes.is_pending(demo.metadata.uid)
    return pending or demo.status.phase is Phase.RESTARTING


async def _bring_back(
    tools: DemoTools, demo: DemoInstance, definition: Definition, sandbox: Sandbox
) -> timedelta | None:
    uid = demo.metadata.uid
    began, stalls = time.monotonic(), read_stalls()
    try:
        running = await restart(
            tools.start, demo_name(demo), definition, sandbox, demo.metadata.name
        )
        hooks = await personalize(tools, demo, definition, running, definition.readiness.timeout)
    except ContainerDiedError as error:
        return await _again(tools, demo, "CrashLoop", str(error), tools.crashes.ended(uid))
    except NotReadyError as error:
        message = f"it is still starting: {error}\n{_KEPT}"
        await report_down(tools, demo, RESTARTING, message, Phase.RESTARTING)
        return STILL_STARTING
    except (NodeShortError, NodeLimitError) as error:
        return await _again(tools, demo, error.limit, str(error), tools.crashes.limited(uid))
    except HookError as error:
        return await _again(tools, demo, "HookFailed", str(error), tools.crashes.failed(uid))
    except OSError as error:
        short = short_of_disk(error, "cannot start it again", tools.settings.checkpoint_path)
        return await _again(tools, demo, short.limit, str(short), tools.crashes.limited(uid))
    except (PodmanError, SandboxError) as error:
        return await _again(tools, demo, "RestartFailed", str(error), tools.crashes.failed(uid))
    timings = running.timings.model_copy(update={"hooks": hooks})
    started = Started(Running(running.sandbox, running.started_by, timings))
    took = timedelta(seconds=time.monotonic() - began)
    tools.crashes.started(uid)
    tools.verdicts.forget(uid)
    timings = await report_ready(tools, demo, definition, started, took, stalls)
    demo_started(tools.start.metrics, demo, running.started_by, None, timings)
    return None


async def _again(
    tools: DemoTools, demo: DemoInstance, reason: str, message: str, count: int
) -> timedelta:
    """Say why it could not be started again, and when that is tried next."""
    start_failed(tools.start.metrics, demo, reason)
    wait = tools.crashes.remaining(demo.metadata.uid) or timedelta()
    text = f"{message}\nTry {count} failed; the next is in {wait.total_seconds():.0f} s. {_KEPT}"
    await report_down(tools, demo, reason, text, Phase.RESTARTING)
    return wait


async def _not_answering(
    tools: DemoTools,
    demo: DemoInstance,
    definition: Definition,
    sandbox: Sandbox,
    answer: str,
) -> timedelta | None:
    """Handle that clients get no answer although all containers run."""
    message = f"{answer}\nAll of its containers run. {_KEPT}"
    if await tools.start.prober.ask_inside(definition, sandbox) is None:
        if await _is_closed(tools, demo, sandbox):
            # An agent ended between the start of its containers and the opening of the firewall.
            return await _bring_back(tools, demo, definition, sandbox)
        await tools.network.repair()
        message = (
            f"{answer}\nIt answers inside of its sandbox: the node's rules for its port are lost, "
            f"and are set again. {_KEPT}"
        )
    await report_down(tools, demo, "NotAnswering", message, Phase.NOT_ANSWERING)
    return None


async def _is_closed(tools: DemoTools, demo: DemoInstance, sandbox: Sandbox) -> bool:
    try:
        return not await tools.start.sandboxes.firewall.is_open(sandbox.pid)
    except FirewallError as error:
        # That it does not answer must be told all the same.
        logger.warning("%s: its firewall cannot be looked at: %s", demo.key, error)
        return False


async def wait_for_storage(tools: DemoTools, demo: DemoInstance, problem: str) -> timedelta:
    """Say that nothing is started anew while the storage is not what it was."""
    data = f"\n{_KEPT}" if demo.was_ready else ""
    await report_unknown(tools, demo, "StorageChanged", f"{problem}{data}")
    return STORAGE_LOOK
