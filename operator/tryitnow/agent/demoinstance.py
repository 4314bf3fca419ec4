"""The life of an instance on this node: started, kept running, removed."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from tryitnow.agent.before_delete import run_before_delete
from tryitnow.agent.demo_status import (
    report_found,
    report_given_up,
    report_not_ready,
    report_ready,
)
from tryitnow.agent.hooks import HookError
from tryitnow.agent.inside import published
from tryitnow.agent.measure import (
    count_instance,
    instance_seen,
    instance_started,
    start_failed,
)
from tryitnow.agent.names import demo_container
from tryitnow.agent.node import Node
from tryitnow.agent.ports import NoPortError
from tryitnow.agent.probe import NotReadyError, wait_ready
from tryitnow.agent.quarantine import (
    note_restore_failure,
    note_restore_success,
    quarantine_if_damaged,
)
from tryitnow.agent.restore import Unserved
from tryitnow.agent.sandbox import SandboxError
from tryitnow.agent.sandboxes import discard, find, is_running, members
from tryitnow.agent.sources import SourceError
from tryitnow.agent.start import Outcome, ThawImpossibleError, blueprint_of, find_copy, start
from tryitnow.agent.upkeep import discard_prepared
from tryitnow.api.demoinstance import (
    DemoInstance,
    DemoInstancePhase,
    StartedBy,
    Timings,
)
from tryitnow.api.meta import Key
from tryitnow.background import together
from tryitnow.kubernetes.errors import ConflictError, NotFoundError
from tryitnow.metrics.starts import RESTARTS
from tryitnow.podman.client import ContainerState
from tryitnow.podman.errors import ImagePullError, PodmanError, PodmanUnreachableError

logger = logging.getLogger(__name__)

Phase = DemoInstancePhase

HOLD_TRIES = 5
"""Two writers at most touch an instance that is being started; one of them once."""

MAX_STARTS = 3
"""Failed starts after which an instance is given up: an application that never answered three
times will not the fourth time, and each try takes a slot of the node."""


async def reconcile_instance(node: Node, key: Key) -> timedelta | None:
    """Bring one instance to where it shall be; returns when to look again."""
    instance = node.instances.get(key)
    if instance is None:
        return None
    if instance.is_deleting:
        return await _remove(node, instance)
    if instance.status.node_name != node.name or instance.status.phase is Phase.FAILED:
        return None
    if wait := node.backoff.remaining(instance.metadata.uid):
        return wait
    if instance.status.phase is Phase.READY:
        container = await node.podman.inspect(str(demo_container(instance)))
        if container is not None and await _is_alive(node, container):
            await report_found(node, instance)
            return None
        return await _recover(node, instance, container)
    return await _start(node, instance)


async def _is_alive(node: Node, container: ContainerState) -> bool:
    """Whether all containers of a demo run, or were paused by somebody."""
    if not container.alive or not container.pod:
        return container.alive
    return set(await members(node, container.pod)) <= {"running", "paused"}


class _GoneError(Exception):
    """The instance was deleted while it was being started."""


async def _hold(node: Node, instance: DemoInstance) -> None:
    """Keep the object until its container is removed.

    A container that exists before this was written has a name that tells whose it is: without its
    object it is nobody's, and collected.
    """
    for _ in range(HOLD_TRIES):
        try:
            node.instances.update(await node.kubernetes.add_finalizer(instance))
        except ConflictError:
            # The controller wrote in between; what we hold must not be lost for that.
            instance = node.instances.update(await node.kubernetes.get(DemoInstance, instance.key))
        except NotFoundError as error:
            raise _GoneError from error
        else:
            return
    msg = f"{instance.key} changes faster than it can be written"
    raise ConflictError(msg)


async def _start(node: Node, instance: DemoInstance) -> timedelta | None:
    began = time.monotonic()
    instance_seen(node, instance)
    try:
        outcome, _ = await together(start(node, instance), _hold(node, instance))
        # What it looks like by now, the finalizer included.
        instance = node.instances.get(instance.key) or instance
    except _GoneError:
        return None
    except PodmanUnreachableError as error:
        start_failed(node, instance, "PodmanUnreachable")
        await report_not_ready(node, instance, "PodmanUnreachable", str(error))
        raise
    except NoPortError as error:
        return await _retry(node, instance, "NoPort", str(error))
    except ImagePullError as error:
        return await _retry(node, instance, "ImagePullFailed", str(error))
    except NotFoundError:
        message = f"spec.checkpointRef.name: Checkpoint {instance.spec.checkpoint_ref.name} is gone"
        start_failed(node, instance, "CheckpointNotFound")
        await report_given_up(node, instance, "CheckpointNotFound", message)
        return None
    except ThawImpossibleError as error:
        await _note_copy(node, instance, error)
        return await _retry(node, instance, str(error.reason), str(error), most=MAX_STARTS)
    except NotReadyError as error:
        return await _retry(node, instance, "ApplicationNotReady", str(error), most=MAX_STARTS)
    except HookError as error:
        return await _retry(node, instance, "HookFailed", str(error), most=MAX_STARTS)
    except SourceError as error:
        # Whoever makes what is missing need not make the demo anew.
        return await _retry(node, instance, "SourceMissing", str(error))
    except (PodmanError, SandboxError) as error:
        return await _retry(node, instance, "StartFailed", str(error), most=MAX_STARTS)
    if not instance.status.restarts:
        node.backoff.forget(instance.metadata.uid)
    timings = await report_ready(
        node, instance, outcome, timedelta(seconds=time.monotonic() - began)
    )
    fallback = outcome.fallback.reason if outcome.fallback else None
    instance_started(node, instance, outcome.started_by, outcome.restored_from, fallback, timings)
    await _note_copy(node, instance, outcome.fallback, thawed=outcome.started_by)
    if outcome.unserved is not None:
        await _note_unserved(node, instance, outcome.unserved)
    return None


async def _note_copy(
    node: Node,
    instance: DemoInstance,
    failure: ThawImpossibleError | None,
    *,
    thawed: StartedBy | None = None,
) -> None:
    """Tell the copy's story what this start learned about it."""
    copy = find_copy(node, instance)
    if copy is None:
        return
    if failure is not None and failure.copy_is_bad:
        await quarantine_if_damaged(node, copy, str(failure))
    elif failure is not None and failure.copy_failed:
        await note_restore_failure(node, copy, str(failure))
    elif thawed is StartedBy.RESTORE:
        await note_restore_success(node, copy)


async def _note_unserved(node: Node, instance: DemoInstance, unserved: Unserved) -> None:
    """Have what was prepared made anew: it did not serve, although the archive did."""
    copy = find_copy(node, instance)
    if copy is not None:
        await discard_prepared(node, copy, unserved)


async def _recover(
    node: Node, instance: DemoInstance, container: ContainerState | None
) -> timedelta | None:
    """Bring a ready instance back whose container ended, with its files where they still exist."""
    message = f"{await _what_ended(node, container)}; starting it again"
    # One that ends again soon has to wait longer each time before it comes here.
    node.backoff.failed(instance.metadata.uid)
    count_instance(node, RESTARTS, instance)
    instance = await report_not_ready(node, instance, "ContainerGone", message, restarted=True)
    if container is not None and await _start_again(node, instance, container):
        return None
    return await _start(node, instance)


async def _what_ended(node: Node, container: ContainerState | None) -> str:
    if container is None:
        return "the container is gone"
    pod = await node.podman.inspect_pod(container.pod) if container.alive else None
    for name in pod.members if pod else ():
        member = await node.podman.inspect(name)
        if pod and member is not None and not member.alive:
            inside = name.removeprefix(f"{pod.name}_")
            return f"container {inside} ended with exit code {member.exit_code}"
    return f"the container ended with exit code {container.exit_code}"


async def _start_again(node: Node, instance: DemoInstance, container: ContainerState) -> bool:
    """Start what ended again, with the files that its user left in it."""
    name = demo_container(instance)
    blueprint = await blueprint_of(node, instance, find_copy(node, instance))
    try:
        sandbox = await find(node, container)
        if sandbox is None:
            await discard(node, name)
            return False
        for own in sandbox.containers(name, blueprint).values():
            state = await node.podman.inspect(own)
            if state is None or not state.alive:
                await node.podman.start(own)
        probe = await wait_ready(
            node.http,
            published(node, blueprint, sandbox),
            blueprint.readiness.timeout,
            lambda: is_running(node, name),
        )
    except (PodmanError, NotReadyError) as error:
        logger.warning("%s does not start again: %s; starting anew", instance.key, error)
        await discard(node, name)
        return False
    timings = Timings(probe=probe)
    outcome = Outcome(StartedBy.COLD_START, sandbox, blueprint.probe_port, timings)
    await report_ready(node, instance, outcome, probe)
    return True


async def _retry(
    node: Node, instance: DemoInstance, reason: str, message: str, *, most: int | None = None
) -> timedelta | None:
    """Say what failed, and when it is tried again; after ``most`` failures it is given up."""
    uid = instance.metadata.uid
    start_failed(node, instance, reason)
    failures = node.backoff.failed(uid)
    if most is not None and failures >= most:
        node.backoff.forget(uid)
        await report_given_up(
            node, instance, reason, f"{message}\nGiven up after {failures} tries."
        )
        return None
    wait = node.backoff.remaining(uid)
    seconds = wait.total_seconds() if wait else 0
    await report_not_ready(node, instance, reason, f"{message}\nNext try in {seconds:.0f} s.")
    return wait


async def _remove(node: Node, instance: DemoInstance) -> timedelta | None:
    if wait := await run_before_delete(node, instance):
        return wait
    await discard(node, demo_container(instance))
    node.backoff.forget(instance.metadata.uid)
    await node.kubernetes.remove_finalizer(instance)
    node.instances.forget(instance.key, instance.metadata.uid)
    logger.info("%s: removed", instance.key)
    return None
