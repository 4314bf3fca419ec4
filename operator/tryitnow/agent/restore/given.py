"""The images that registries gave each namespace."""

from __future__ import annotations

from collections import OrderedDict

_KEPT = 1000
"""Names that are remembered: more than a node has Checkpoints."""


class GivenImages:
    """What each namespace was shown to be allowed to pull, since the agent began.

    Another agent asks the registries anew: nothing on the disk vouches for a namespace.
    """

    def __init__(self) -> None:
        self._given: OrderedDict[tuple[str, str], str] = OrderedDict()

    def note(self, namespace: str, name: str, pinned: str) -> None:
        """Remember that a registry gave a namespace an image by its name, and which one."""
        self._given[namespace, name] = pinned
        self._given.move_to_end((namespace, name))
        if len(self._given) > _KEPT:
            self._given.popitem(last=False)

    def find(self, namespace: str, name: str) -> str | None:
        """Return what a registry gave a namespace by that name last."""
        return self._given.get((namespace, name))
