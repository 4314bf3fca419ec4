"""Containers: made, started, asked, paused, removed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tryitnow.podman.calls import (
    CALL_SECONDS,
    LISTING,
    Calls,
    act,
    ask,
    ask_if_there,
    ask_list,
    delete_if_there,
    pid_of,
)
from tryitnow.podman.spec import NewContainer, container_spec
from tryitnow.podman.state import ContainerState, demultiplex, from_inspect, from_list


class Containers(Calls):
    """Our containers on this node."""

    async def create_and_start(self, name: str, new: NewContainer) -> None:
        """Start a container cold."""

        def call(api: Any) -> None:  # noqa: ANN401
            _create(api, name, new)
            act(api, name, "start")

        await self._run_whole(call, on=name)

    async def create_container(self, name: str, new: NewContainer) -> None:
        """Make a container, and start nothing.

        Raises:
            NameTakenError: another one has the name.
            NoSuchImageError: the image is not on the node.

        """

        def call(api: Any) -> None:  # noqa: ANN401
            _create(api, name, new)

        await self._run_whole(call, on=name)

    async def init(self, name: str) -> None:
        """Make everything that a container's process needs, mounts included, and let it wait.

        ``start`` lets it go. Fine when it waits or runs already.
        """

        def call(api: Any) -> None:  # noqa: ANN401
            act(api, name, "init")

        await self._run_whole(call, on=name)

    async def create_stopped(self, name: str, new: NewContainer) -> Path:
        """Make a container as it is after its process has ended, without ever running one.

        Returns the directory in which Podman looks for what is to be restored in it.
        """

        def call(api: Any) -> Path:  # noqa: ANN401
            _create(api, name, new)
            # Only what was initialized has the OCI configuration that a restore starts from.
            act(api, name, "init")
            act(api, name, "stop", timeout=0)
            return Path(ask(api, f"/containers/{name}/json")["StaticDir"])

        return await self._run_whole(call, on=name)

    async def start(self, name: str) -> None:
        """Start a stopped container again, with the files that it had."""

        await self._run(lambda api: act(api, name, "start"), on=name)

    async def rename(self, name: str, new_name: str) -> None:
        """Give a container another name, at one stroke.

        Raises:
            NoSuchContainerError: there is none.
            NameTakenError: another one has the new name.

        """

        await self._run(lambda api: act(api, name, "rename", name=new_name), on=name)

    async def pid_of(self, name: str) -> int:
        """Return the process ID of a container on the node; 0 when it does not run."""

        def call(api: Any) -> int:  # noqa: ANN401
            return pid_of(api, name)

        return await self._run(call, on=name)

    async def pause(self, name: str) -> None:
        """Pause all processes of a container (with the cgroup freezer)."""

        await self._run(lambda api: act(api, name, "pause"), on=name)

    async def unpause(self, name: str) -> None:
        """Let a paused container go on."""

        await self._run(lambda api: act(api, name, "unpause"), on=name)

    async def remove(self, name: str) -> None:
        """Kill and remove a container, also an incomplete one; fine when there is none.

        It waits for what Podman does with the container, as a restore that was cancelled.
        """

        def call(api: Any) -> None:  # noqa: ANN401
            delete_if_there(api, f"/containers/{name}", force=True, v=True, timeout=0, ignore=True)

        await self._run_removal(call, on=name)

    async def inspect(self, name: str) -> ContainerState | None:
        """Return a container's state; None when there is none of that name."""

        def call(api: Any) -> ContainerState | None:  # noqa: ANN401
            found = ask_if_there(api, f"/containers/{name}/json")
            return None if found is None else from_inspect(found)

        return await self._run(call, on=name)

    async def environment_of(self, name: str) -> dict[str, str]:
        """Return the environment that a container was made with; empty when there is none."""

        def call(api: Any) -> dict[str, str]:  # noqa: ANN401
            found = ask_if_there(api, f"/containers/{name}/json")
            if found is None:
                return {}
            pairs = (entry.partition("=") for entry in found["Config"].get("Env") or ())
            return {key: value for key, _, value in pairs}

        return await self._run(call, on=name)

    async def list_containers(self, prefix: str) -> list[ContainerState]:
        """Return all containers, running or not, whose name starts with the prefix."""

        def call(api: Any) -> list[ContainerState]:  # noqa: ANN401
            filters = json.dumps({"name": [f"^{prefix}"]})
            found = ask_list(api, "/containers/json", all=True, filters=filters)
            return [from_list(item) for item in found]

        return await self._run(call, on=LISTING)

    async def storage_only_containers(self, prefix: str) -> list[str]:
        """Return names, with that prefix, of what lies in the storage and Podman does not know.

        A Podman that was killed while it made a container leaves it so, and its name is in the way;
        ``remove`` removes it. One that is being made at this moment looks the same.
        """

        def call(api: Any) -> list[str]:  # noqa: ANN401
            listed = ask_list(api, "/containers/json", all=True, external=True)
            found = (c["Names"][0] for c in listed if c["State"] == "storage")
            return [name for name in found if name.startswith(prefix)]

        return await self._run(call, on=LISTING)

    async def log_tail(self, name: str, lines: int = 10) -> str:
        """Return the last lines that a container wrote; empty when there are none."""

        def call(api: Any) -> str:  # noqa: ANN401
            params = {"stdout": True, "stderr": True, "tail": lines}
            answer = api.get(f"/containers/{name}/logs", params=params, timeout=CALL_SECONDS)
            answer.raise_for_status()
            return demultiplex(answer.content)

        return await self._run(call, on=name)


def _create(api: Any, name: str, new: NewContainer) -> None:  # noqa: ANN401
    spec = json.dumps(container_spec(name, new))
    api.post("/containers/create", data=spec, timeout=CALL_SECONDS).raise_for_status()
