"""Proving a fresh archive by thawing it once, for real, before it may serve anybody."""

from __future__ import annotations

from tryitnow.agent.archive import ArchiveError
from tryitnow.agent.build import BuildError
from tryitnow.agent.names import Role, work_container
from tryitnow.agent.node import Node
from tryitnow.agent.ports import NoPortError
from tryitnow.agent.probe import NotReadyError
from tryitnow.agent.restore import Thawed, archive_name, thaw_archive
from tryitnow.agent.sandbox import SandboxError
from tryitnow.agent.sandboxes import discard
from tryitnow.agent.unpack import UnpackError
from tryitnow.api.checkpoint import Archive
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.podman.errors import ImagePullError, PodmanError, PodmanUnreachableError


async def verify(node: Node, copy: NodeCheckpoint, archive: Archive) -> Thawed:
    """Thaw the archive, ask the copy whether it is ready, and remove it.

    Raises:
        BuildError: a copy of it would not serve; the message says why.
        PodmanUnreachableError: Podman is away; try again when it is back.

    """
    name = work_container(Role.VERIFY, copy)
    await discard(node, name)
    try:
        return await thaw_archive(
            node, name, archive_name(copy), archive, copy.spec.blueprint, urgent=False
        )
    except NotReadyError as error:
        msg = (
            f"the test restore was thawed, but did not answer: {error}; "
            "if it only needs longer, raise spec.readiness.restoreTimeout"
        )
        raise BuildError("VerifyNotReady", msg) from error
    except PodmanUnreachableError:
        raise
    except (ArchiveError, UnpackError, ImagePullError, NoPortError, SandboxError) as error:
        raise BuildError("VerifyFailed", f"the test restore failed: {error}") from error
    except PodmanError as error:
        raise BuildError("RestoreFailed", f"the test restore failed: {error}") from error
    finally:
        await discard(node, name)
