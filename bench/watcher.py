"""A watch on a kind's objects: when was something first true of an object, as its user saw it?"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from bench import BenchError
from bench.client import Client, Found

Test = Callable[[Found], bool]
Note = Callable[[Found, float], None]


class Watcher:
    """Watches a collection in a thread of its own, and remembers when what was seen first."""

    def __init__(
        self, client: Client, path: str, test: Test, note: Note = lambda _, __: None
    ) -> None:
        """Watch ``path``; ``test`` is what is waited for. ``note`` is told of every change."""
        self._test = test
        self._note = note
        self._client = client
        self._path = path
        self._closing = False
        self._changed = threading.Condition()
        self._since: dict[str, float] = {}
        self._objects: dict[str, Found] = {}
        self._ended = False
        lines = self._open()
        self._thread = threading.Thread(target=self._follow, args=(lines,), daemon=True)

    def _open(self) -> Iterator[bytes]:
        """List, and watch from there."""
        listed = self._client.get(self._path)
        with self._changed:
            for name in self._objects.keys() - {i["metadata"]["name"] for i in listed["items"]}:
                del self._objects[name]
        for found in listed["items"]:
            self._take({"type": "ADDED", "object": found}, time.perf_counter())
        version = listed["metadata"]["resourceVersion"]
        # Bookmarks and a timeout of the server's own would end or fill a quiet watch.
        query = f"watch=1&resourceVersion={version}&timeoutSeconds=86400"
        self._connection, lines = self._client.lines(f"{self._path}?{query}")
        return lines

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._closing = True
        if self._connection.sock is not None:
            # Closing alone does not wake a thread that reads.
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(2)
        self._thread.join()
        self._connection.close()

    def wait(self, name: str, within_s: float) -> tuple[float, Found]:
        """Wait until the test holds of an object; returns when it first did, and the object."""
        self._wait_for(lambda: name in self._since, within_s, name)
        return self._since[name], self._objects[name]

    def seen(self, name: str) -> tuple[float, Found] | None:
        """Return when the test first held of an object, and the object; None until then."""
        with self._changed:
            at = self._since.get(name)
            return None if at is None else (at, self._objects[name])

    def wait_gone(self, names: list[str], within_s: float) -> None:
        """Wait until objects are no more."""
        self._wait_for(lambda: not any(n in self._objects for n in names), within_s, str(names))
        for name in names:
            self._since.pop(name, None)

    def _wait_for(self, done: Callable[[], bool], within_s: float, what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: done() or self._ended, within_s) or not done():
                last = json.dumps(self._objects.get(what, {}).get("status"), indent=1)
                why = "the watch ended" if self._ended else f"{within_s:.0f} s have passed"
                raise BenchError(f"{what}: not there yet and {why}; its last status:\n{last}")

    def _follow(self, lines: Iterator[bytes]) -> None:
        try:
            while not self._closing:
                try:
                    for line in lines:
                        self._take(json.loads(line), time.perf_counter())
                except (OSError, ValueError, http.client.HTTPException):
                    pass  # it was closed, or broke
                if not self._closing:
                    # The API server ends a watch whose reader is slow for a moment.
                    lines = self._open()
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _take(self, event: Found, at: float) -> None:
        found: Found = event["object"]
        name: str = found["metadata"]["name"]
        with self._changed:
            if event["type"] == "DELETED":
                self._objects.pop(name, None)
            else:
                self._objects[name] = found
                self._note(found, at)
                if name not in self._since and self._test(found):
                    self._since[name] = at
            self._changed.notify_all()
