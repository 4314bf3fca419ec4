"""The life of a demo on this node: which step is next. Each step is in a file of its own."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from tryitnow.agent.counters import count_demo, demo_seen, demo_started, start_failed
from tryitnow.agent.demos.before_delete import run_before_delete
from tryitnow.agent.demos.ends import RESTARTING, End
from tryitnow.agent.demos.keep import (
    SandboxGoneError,
    keep_running,
    keep_without_definition,
    nobody_answers,
    note_end,
    wait_for_storage,
)
from tryitnow.agent.demos.start import RestoreImpossibleError, start
from tryitnow.agent.demos.status import (
    report_down,
    report_fresh,
    report_given_up,
    report_ready,
    report_removing,
)
from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.errors import (
    HookError,
    NodeShortError,
    NotReadyError,
    SandboxError,
    SourceError,
)
from tryitnow.agent.revisions import RevisionError
from tryitnow.agent.sandbox.names import POD_PREFIX, demo_name
from tryitnow.agent.sandbox.pressure import read_stalls
from tryitnow.agent.storage.files import short_of_disk
from tryitnow.api.checkpoint import OnCrash
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, FallbackReason
from tryitnow.api.limits import CAPACITY_FULL
from tryitnow.api.meta import Key
from tryitnow.background import gather_or_cancel
from tryitnow.kubernetes.errors import NotFoundError
from tryitnow.kubernetes.objects import UnreadableObject
from tryitnow.metrics.starts import DATA_LOST
from tryitnow.podman.client import PortMapping
from tryitnow.podman.errors import (
    ImagePullError,
    NodeLimitError,
    PodmanError,
    PodmanUnreachableError,
)

logger = logging.getLogger(__name__)

Phase = DemoInstancePhase

MAX_STARTS = 3
"""Failed starts after which a demo that never was ready is given up: an application that never
answered three times will not the fourth time, and each try takes a place on the node."""

_PASSING = frozenset(
    {
        FallbackReason.ARCHIVE_DAMAGED,
        FallbackReason.CRIU_NOT_AVAILABLE,
        FallbackReason.NOT_READY_HERE,
    }
)
"""Why no restore is possible yet: the node comes to be able to, or a person makes it so. Who asks
for a restore only waits for that."""


async def reconcile_demo(tools: DemoTools, key: Key) -> timedelta | None:
    """Bring one demo to where it shall be; return when to look again."""
    demo = tools.demos.get(key)
    if demo is None:
        unreadable = tools.demos.unreadable(key)
        if unreadable is not None and unreadable.is_deleting:
            await _let_go(tools, unreadable)
        return None
    if demo.is_deleting:
        return await _remove(tools, demo)
    if demo.status.node_name != tools.settings.node_name:
        return None
    if demo.wants_reset and not _must_wait(tools, demo):
        return await _reset_by_person(tools, demo)
    if demo.status.phase is Phase.FAILED:
        return None
    if demo.was_ready:
        return await _keep(tools, demo)
    if problem := tools.storage_problem():
        return await wait_for_storage(tools, demo, problem)
    if wait := tools.crashes.remaining(demo.metadata.uid):
        return wait
    if message := _beyond_share(tools, demo):
        return await _limited(tools, demo, CAPACITY_FULL, message)
    return await _start(tools, demo)


def _beyond_share(tools: DemoTools, demo: DemoInstance) -> str | None:
    """Say that the demos of one namespace have its share of the node; None where they have not.

    The controller counts as well. It does not know of a share that was lowered a moment ago.
    """
    share, metadata = tools.settings.namespace_capacity, demo.metadata
    if share >= tools.settings.capacity:
        return None
    before = sum(
        other.metadata.namespace == metadata.namespace
        and other.metadata.uid != metadata.uid
        and other.status.node_name == tools.settings.node_name
        and other.status.phase is not Phase.FAILED
        and (other.was_ready or _order(other) < _order(demo))
        for other in tools.demos
    )
    if before < share:
        return None
    return (
        f"{tools.settings.node_name} runs {before} demos of namespace {metadata.namespace}, and "
        f"one namespace may have {share} there; it waits for one of them to end, or raise "
        "agent.namespaceShare"
    )


def _order(demo: DemoInstance) -> tuple[str, str]:
    created = demo.metadata.creation_timestamp
    return created.isoformat() if created is not None else "", demo.metadata.uid


def _must_wait(tools: DemoTools, demo: DemoInstance) -> bool:
    """Whether a reset must wait: its fresh demo could not be started now."""
    problem = tools.storage_problem()
    if problem is not None:
        note = f"the reset waits: {problem}"
        tools.kubernetes.event(demo, "StorageChanged", note, warning=True)
    return problem is not None


async def _keep(tools: DemoTools, demo: DemoInstance) -> timedelta | None:
    try:
        revision = await _revision_of(tools, demo)
    except NotFoundError:
        why = "the CheckpointRevision that it was started from is gone"
        return await keep_without_definition(tools, demo, "RevisionGone", why)
    except RevisionError as error:
        return await keep_without_definition(tools, demo, error.reason, str(error))
    try:
        wants_reset = demo.status.on_crash is OnCrash.RESET and tools.storage_problem() is None
        if wants_reset and await _has_crashed(tools, demo):
            return await _reset_after_crash(tools, demo)
        return await keep_running(tools, demo, revision.definition)
    except SandboxGoneError:
        # Only a fresh look tells one demo that is lost from a storage that is away.
        if problem := await tools.examine_storage():
            return await wait_for_storage(tools, demo, problem)
        if await tools.start.podman.inspect(str(demo_name(demo))) is not None:
            return timedelta()  # the storage was away, and came back before it was examined
        return await _data_lost(tools, demo)
    except (PodmanError, PodmanUnreachableError) as error:
        await nobody_answers(tools, demo, str(error))
        raise


async def _has_crashed(tools: DemoTools, demo: DemoInstance) -> bool:
    main = await tools.start.podman.inspect(str(demo_name(demo)))
    seen = await tools.start.sandboxes.inspect(main) if main is not None else None
    if seen is None:
        return False
    _, pod = seen
    return not pod.infra_running or not set(pod.members.values()) <= {"running", "paused"}


async def _data_lost(tools: DemoTools, demo: DemoInstance) -> timedelta | None:
    """Handle that a demo has no sandbox, though Podman and the storage are what they were."""
    message = (
        f"the sandbox of the demo is not on node {tools.settings.node_name} any more: somebody "
        "removed its containers by hand. Its data is lost; it is started afresh at the same URL"
    )
    count_demo(tools.start.metrics, DATA_LOST, demo)
    await report_fresh(tools, demo, "DataLost", message, lost=True)
    await _free_ports(tools, demo)
    tools.crashes.forget(demo.metadata.uid)
    tools.verdicts.forget(demo.metadata.uid)
    return timedelta()


async def _free_ports(tools: DemoTools, demo: DemoInstance) -> None:
    """Stop the pod that is left of a demo's sandbox: the fresh one has the same ports.

    Its volumes are found as files that nobody owns, and go to the trash.
    """
    ports = {port.host_port for port in demo.status.ports}
    containers = await tools.start.podman.list_containers(POD_PREFIX)
    for pod in {c.pod for c in containers if c.pod and ports & {p.host_port for p in c.ports}}:
        await tools.start.podman.stop_pod(pod)


async def _reset_by_person(tools: DemoTools, demo: DemoInstance) -> timedelta | None:
    wait = await _reset(tools, demo, "a person asked for a fresh demo")
    if not wait:
        tools.crashes.forget(demo.metadata.uid)
    return wait


async def _reset_after_crash(tools: DemoTools, demo: DemoInstance) -> timedelta | None:
    """Replace a demo of which a container ended, after the pauses of a crash loop."""
    follows, data = "It is replaced by a fresh demo", "Its data goes: onCrash is Reset."
    demo = await note_end(tools, demo, End(RESTARTING, "a container ended"), follows, data)
    if wait := tools.crashes.remaining(demo.metadata.uid):
        return wait
    return await _reset(tools, demo, "a container ended, and onCrash is Reset")


async def _reset(tools: DemoTools, demo: DemoInstance, message: str) -> timedelta | None:
    """Replace a demo by a fresh one of the same name and URL."""
    if wait := await run_before_delete(tools, demo):
        return wait
    # First the status: from then on the demo has no data that anybody wants.
    demo = await report_fresh(tools, demo, "Reset", message, lost=False)
    await tools.start.sandboxes.remove(demo_name(demo))
    tools.verdicts.forget(demo.metadata.uid)
    return timedelta()


async def _revision_of(tools: DemoTools, demo: DemoInstance) -> CheckpointRevision:
    key = demo.revision_key
    if key is None:
        msg = f"{demo.key} is bound to no revision"
        raise RevisionError(msg)
    return await tools.revisions.get(key)


class _GoneError(Exception):
    """The demo was deleted while it was being started."""


async def _hold(tools: DemoTools, demo: DemoInstance) -> None:
    """Keep the object until its sandbox is removed.

    A sandbox that exists before this was written has a name that tells whose it is: without its
    object it is nobody's, and removed.
    """
    try:
        tools.demos.update(await tools.kubernetes.add_finalizer(demo))
    except NotFoundError as error:
        raise _GoneError from error


def _former_ports(demo: DemoInstance) -> tuple[PortMapping, ...]:
    return tuple(
        PortMapping(host_port=port.host_port, container_port=port.container_port)
        for port in demo.status.ports
    )


async def _start(tools: DemoTools, demo: DemoInstance) -> timedelta | None:
    began, stalls = time.monotonic(), read_stalls()
    metrics = tools.start.metrics
    demo_seen(metrics, demo)
    try:
        revision = await _revision_of(tools, demo)
        tools.revisions.expect_allowed(revision)
        started, _ = await gather_or_cancel(
            start(tools, demo, revision, _former_ports(demo)), _hold(tools, demo)
        )
        demo = _present(tools, demo)
    except _GoneError:
        # Not left to the garbage: its ports and its memory are for others.
        await tools.start.sandboxes.remove(demo_name(demo))
        return None
    except PodmanUnreachableError as error:
        start_failed(metrics, demo, "PodmanUnreachable")
        await report_down(tools, demo, "PodmanUnreachable", str(error), Phase.STARTING)
        raise
    except (NodeShortError, NodeLimitError) as error:
        return await _limited(tools, demo, error.limit, str(error))
    except OSError as error:
        short = short_of_disk(error, "cannot start it", tools.settings.checkpoint_path)
        return await _limited(tools, demo, short.limit, str(short))
    except ImagePullError as error:
        return await _retry(tools, demo, "ImagePullFailed", str(error))
    except NotFoundError:
        message = "its CheckpointRevision is gone: its Checkpoint was deleted before it started"
        start_failed(metrics, demo, "CheckpointNotFound")
        await report_given_up(tools, demo, "CheckpointNotFound", message)
        return None
    except RevisionError as error:
        return await _retry(tools, demo, error.reason, str(error))
    except RestoreImpossibleError as error:
        if error.reason is FallbackReason.NODE_LIMIT:
            return await _limited(tools, demo, error.limit or str(error.reason), str(error))
        most = None if error.reason in _PASSING else MAX_STARTS
        return await _retry(tools, demo, str(error.reason), str(error), most=most)
    except NotReadyError as error:
        return await _retry(tools, demo, "ApplicationNotReady", str(error), most=MAX_STARTS)
    except HookError as error:
        return await _retry(tools, demo, "HookFailed", str(error), most=MAX_STARTS)
    except SourceError as error:
        # A person who makes what is missing need not make the demo anew.
        return await _retry(tools, demo, "SourceMissing", str(error))
    except (PodmanError, SandboxError) as error:
        return await _retry(tools, demo, "StartFailed", str(error), most=MAX_STARTS)
    tools.crashes.started(demo.metadata.uid)
    tools.verdicts.forget(demo.metadata.uid)
    took = timedelta(seconds=time.monotonic() - began)
    timings = await report_ready(tools, demo, revision.definition, started, took, stalls)
    fallback = started.fallback.reason if started.fallback else None
    demo_started(metrics, demo, started.running.started_by, fallback, timings)
    return None


def _present(tools: DemoTools, demo: DemoInstance) -> DemoInstance:
    """Return what a demo looks like by now, its finalizer included.

    Raises:
        _GoneError: it was deleted meanwhile; another one may have its name.

    """
    present = tools.demos.get(demo.key)
    if present is None or present.metadata.uid != demo.metadata.uid:
        raise _GoneError
    return present


async def _limited(
    tools: DemoTools, demo: DemoInstance, limit: str, message: str
) -> timedelta | None:
    """Say which limit of the node prevents the start. It is tried again for as long as it takes."""
    start_failed(tools.start.metrics, demo, limit)
    tools.crashes.limited(demo.metadata.uid)
    wait = tools.crashes.remaining(demo.metadata.uid) or timedelta()
    text = f"{message}\nNext try in {wait.total_seconds():.0f} s."
    await report_down(tools, demo, limit, text, Phase.STARTING)
    return wait


async def _retry(
    tools: DemoTools, demo: DemoInstance, reason: str, message: str, *, most: int | None = None
) -> timedelta | None:
    """Say what failed, and when it is tried again; after ``most`` failures it is given up."""
    uid = demo.metadata.uid
    start_failed(tools.start.metrics, demo, reason)
    failures = tools.crashes.waited(uid) if most is None else tools.crashes.failed(uid)
    if most is not None and failures >= most:
        tools.crashes.forget(uid)
        await report_given_up(tools, demo, reason, f"{message}\nGiven up after {failures} tries.")
        return None
    wait = tools.crashes.remaining(uid)
    seconds = wait.total_seconds() if wait else 0
    await report_down(
        tools, demo, reason, f"{message}\nNext try in {seconds:.0f} s.", Phase.STARTING
    )
    return wait


async def _remove(tools: DemoTools, demo: DemoInstance) -> timedelta | None:
    if demo.status.phase is not Phase.TERMINATING:
        if wait := await run_before_delete(tools, demo):
            return wait
        if demo.was_ready:
            # Written before anything is removed: an agent that ends meanwhile, or an API server
            # that is away, must not have it look as if the hooks had not run.
            demo = await report_removing(tools, demo)
    async with tools.deletions.turn(demo.metadata.namespace):
        await tools.start.sandboxes.remove(demo_name(demo))
    tools.crashes.forget(demo.metadata.uid)
    tools.verdicts.forget(demo.metadata.uid)
    await tools.kubernetes.remove_finalizer(demo)
    tools.demos.forget(demo.key, demo.metadata.uid)
    logger.info("%s: removed", demo.key)
    return None


async def _let_go(tools: DemoTools, demo: UnreadableObject[DemoInstance]) -> None:
    """Remove what is here of a demo that is being deleted and does not fit our model."""
    name = demo_name(demo)
    if demo.text_at("status", "readyAt") and await tools.start.sandboxes.find(name) is not None:
        note = (
            f"its beforeDelete hooks did not run: the object cannot be read: {demo.problem}; "
            "what it has outside is left"
        )
        tools.kubernetes.event(demo, "BeforeDeleteSkipped", note, warning=True)
        logger.warning("%s: %s", demo.key, note)
    async with tools.deletions.turn(demo.metadata.namespace):
        await tools.start.sandboxes.remove(name)
    tools.crashes.forget(demo.metadata.uid)
    tools.verdicts.forget(demo.metadata.uid)
    await tools.kubernetes.remove_finalizer(demo)
    tools.demos.forget(demo.key, demo.metadata.uid)
    logger.info("%s: removed, although it cannot be read", demo.key)
