"""Root file systems of containers and of their images, seen from the node."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tryitnow.podman.calls import CALL_SECONDS, ask
from tryitnow.podman.containers import Containers
from tryitnow.podman.errors import PodmanError

T = TypeVar("T")


class Layers(Containers):
    """The files of a container's image, and their changes."""

    async def with_roots(self, name: str, helper: str, use: Callable[[Path, Path], T]) -> T:
        """Hand the root of a stopped container, and that of its image, to ``use``.

        It runs in a thread, and changes neither. ``helper`` is the name of the container in which
        the image is seen.

        Raises:
            OSError: ``use`` raised it; so with any other exception of its own.

        """

        def call(api: Any) -> T:  # noqa: ANN401
            image_id = ask(api, f"/containers/{name}/json")["Image"]
            # Podman 4 makes no container without a command, even to be looked into.
            create(api, helper, image_id, command=["-"])
            with mounted(api, name) as root, mounted(api, helper) as image:
                return use(root, image)

        await self.remove(helper)
        try:
            return await self._run_whole(call, on=name)
        finally:
            await self.remove(helper)


def create(api: Any, name: str, image: str, **more: object) -> None:  # noqa: ANN401
    """Create a container that only serves to read its image."""
    spec = json.dumps({"name": name, "image": image, "image_volume_mode": "ignore", **more})
    api.post("/containers/create", data=spec, timeout=CALL_SECONDS).raise_for_status()


@contextlib.contextmanager
def mounted(api: Any, name: str) -> Iterator[Path]:  # noqa: ANN401
    """Have a container's root file system mounted on the node.

    Raises:
        PodmanError: it is, but is not seen from here.

    """
    answer = api.post(f"/containers/{name}/mount", timeout=CALL_SECONDS)
    answer.raise_for_status()
    try:
        # Plain text by the service, a JSON string by its description.
        root = Path(answer.text.strip().strip('"'))
        # Where the overlay driver mounts it; others have plain directories.
        if root.name == "merged" and not root.is_mount():
            msg = (
                f"{root}, which Podman mounts, is not visible to the agent: set "
                '`skip_mount_home = "true"` in the [storage.options.overlay] of the node\'s '
                "storage.conf, and restart Podman"
            )
            raise PodmanError(msg)
        yield root
    finally:
        api.post(f"/containers/{name}/unmount", timeout=CALL_SECONDS).raise_for_status()
