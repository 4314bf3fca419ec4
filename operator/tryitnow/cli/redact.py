"""What leaves the cluster in a report: our objects without what may be a secret.

Two nets: fields that may hold a secret are blanked by their name, and whatever was blanked is
blanked again wherever else it turns up (an application may have printed it, and the tail of its
output stands in a condition).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from tryitnow.api.meta import API_VERSION, Resource

T = TypeVar("T")

REDACTED = "REDACTED"

_TELLING = 6
"""Shortest value that is looked for elsewhere: "1" and "en" stand everywhere."""

_WHOLE = {"annotations", "parameters", "data", "stringData"}
"""Below these, every text is blanked, except the names of declared parameters."""

_VALUES = {"value", "values", "default", "expectedBody"}

_QUERY = re.compile(r"\?\S*")
_PROGRAM_ENDS = re.compile(r"[\s=]")
_WORDS = re.compile(r"[^\s\"']+")
_TELLS_SECRET = re.compile(r"-p$|-u$|--?\S*(pass|pwd|token|secret|key|auth)", re.IGNORECASE)
"""An option whose value is the next word."""

_URL_PASSWORD = re.compile(r"://[^:/@\s]*:([^@\s]+)@")


class Redactor:
    """Blanks secrets, and remembers them for the texts that come after."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def redacted(self, resource: Resource) -> dict[str, Any]:
        """Return an object with the first net drawn through it; ``scrub`` is the second."""
        cleaned: dict[str, Any] = self._clean({"apiVersion": API_VERSION, **resource.to_api()})
        return cleaned

    def scrub(self, node: T) -> T:
        """Return a text, or all texts of an object, without what was blanked in any object."""
        return cast("T", self._scrub(node))

    def _scrub(self, node: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(node, Mapping):
            return {key: self._scrub(value) for key, value in node.items()}
        if isinstance(node, list):
            return [self._scrub(item) for item in node]
        if not isinstance(node, str):
            return node
        # The longest first: one may be a part of another.
        for secret in sorted(self._secrets, key=len, reverse=True):
            node = node.replace(secret, REDACTED)
        return node

    def _clean(self, node: Any, name: str = "") -> Any:  # noqa: ANN401 - JSON
        if name in _WHOLE:
            declared = isinstance(node, list)
            return [self._blank_declared(item) for item in node] if declared else self._blank(node)
        if name == "args" and isinstance(node, list):
            return self._blank(node)
        if name == "command" and isinstance(node, list):
            return [*map(self._program, node[:1]), *(self._blank(item) for item in node[1:])]
        if isinstance(node, Mapping):
            return {key: self._clean(value, key) for key, value in node.items()}
        if isinstance(node, list):
            return [self._clean(item, name) for item in node]
        if isinstance(node, str):
            if name in _VALUES:
                return self._blank(node)
            if name in {"path", "paths"} and "?" in node:
                self._remember(node.partition("?")[2])
                return _QUERY.sub(f"?{REDACTED}", node)
        return node

    def _program(self, text: Any) -> Any:  # noqa: ANN401 - JSON
        """Keep a program's name: passwords are given as its options."""
        if not isinstance(text, str):
            return self._blank(text)
        name = _PROGRAM_ENDS.split(text, maxsplit=1)[0]
        more = text.removeprefix(name)
        self._remember(more)
        return f"{name} {REDACTED}" if more else name

    def _blank_declared(self, item: Any) -> Any:  # noqa: ANN401 - JSON
        """Blank a declared parameter, but for its name."""
        if not isinstance(item, Mapping):
            return self._blank(item)
        return {key: item[key] if key == "name" else self._blank(item[key]) for key in item}

    def _blank(self, node: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(node, Mapping):
            return {key: self._blank(value) for key, value in node.items()}
        if isinstance(node, list):
            return [self._blank(item) for item in node]
        if not isinstance(node, str) or not node:
            return node
        self._remember(node)
        return REDACTED

    def _remember(self, text: str) -> None:
        # One of several lines may turn up line by line, and an option's value by itself.
        pieces = [text, *text.splitlines(), *_URL_PASSWORD.findall(text)]
        before = ""
        for word in _WORDS.findall(text):
            pieces.append(word if _TELLS_SECRET.match(before) else word.partition("=")[2])
            before = word
        self._secrets.update(p.strip() for p in pieces if len(p.strip()) >= _TELLING)
