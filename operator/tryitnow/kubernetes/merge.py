"""JSON merge patches (RFC 7396) between two states of an object."""

from __future__ import annotations

from typing import Any


def merge_patch(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the smallest merge patch that turns ``old`` into ``new``; empty when they are equal.

    Fields that are gone become null, which is how a merge patch removes them.
    """
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            if inner := merge_patch(before, value):
                patch[key] = inner
        elif before != value or key not in old:
            patch[key] = value
    return patch
