"""The mails of one demo, as files: ``volumes/<sandbox>/.mail/<number>``.

They lie beside the volumes of the sandbox, so they go with them: when the demo is deleted, and when
nobody owns what is left. No volume has that name, since one begins with a letter or a digit.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

DIRECTORY = ".mail"

MOST_MAILS = 100
"""Of a demo. More than a person reads: what a shop sends in some hours of clicking."""

MOST_BYTES = 16 << 20
"""Of all mails of a demo, on the disk. An order with its invoice takes 0.1 to 0.3 MB."""

_PARTIAL = "."
"""Beginning of the name of a file that is being written."""


@dataclass(frozen=True)
class Envelope:
    """What the application said of a mail before its content. A mail's own head may say another."""

    sender: str
    recipients: tuple[str, ...]


Keep = Callable[[Envelope, bytes], Awaitable[None]]
"""Keeps a mail.

Raises:
    OSError: it cannot.

"""


@dataclass(frozen=True)
class KeptMail:
    """A mail that was kept."""

    number: int
    """Counts from 1 for each demo; those of mails that had to go are not given again."""

    received: datetime
    envelope: Envelope
    content: bytes
    """Head and body, as the application sent them."""


class Mailbox:
    """The mails of one sandbox. All methods block, and one thread at a time may add."""

    def __init__(self, sandbox: Path) -> None:
        """Be the mailbox in the directory of a sandbox's volumes."""
        self._directory = sandbox / DIRECTORY

    def add(self, envelope: Envelope, content: bytes) -> None:
        """Keep a mail; the oldest go where there are too many, or too much.

        Raises:
            OSError: the disk is full or broken, or the sandbox is gone.

        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        sizes = self._sizes()
        number = max(sizes, default=0) + 1
        head = json.dumps({"received": time.time(), **asdict(envelope)}).encode()
        self._write(number, b"%s\n%s" % (head, content))
        sizes[number] = len(head) + 1 + len(content)
        for oldest in sorted(sizes)[:-1]:
            if len(sizes) <= MOST_MAILS and sum(sizes.values()) <= MOST_BYTES:
                break
            (self._directory / str(oldest)).unlink(missing_ok=True)
            del sizes[oldest]

    def _write(self, number: int, content: bytes) -> None:
        # Not brought to the disk at once: a demo that sends without end would have the disk of all
        # others wait. A loss of power may take the last mails, and what is half there is not shown.
        partial = self._directory / f"{_PARTIAL}{number}"
        partial.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            with os.fdopen(os.open(partial, flags, 0o600), "wb") as file:
                file.write(content)
            partial.rename(self._directory / str(number))
        except OSError:
            with contextlib.suppress(OSError):  # the first one says what is wrong
                partial.unlink(missing_ok=True)
            raise

    def _sizes(self) -> dict[int, int]:
        """Return the size of each mail, by its number."""
        try:
            found = [entry for entry in os.scandir(self._directory) if entry.name.isdecimal()]
        except FileNotFoundError:
            return {}  # nothing was sent yet
        return {int(entry.name): entry.stat(follow_symlinks=False).st_size for entry in found}

    def mails(self) -> Sequence[KeptMail]:
        """Return all mails, the oldest first.

        Raises:
            OSError: the disk is broken.

        """
        found = (self.mail(number) for number in sorted(self._sizes()))
        return [mail for mail in found if mail is not None]

    def mail(self, number: int) -> KeptMail | None:
        """Return one mail; None where there is none of that number.

        Raises:
            OSError: the disk is broken.

        """
        try:
            text = (self._directory / str(number)).read_bytes()
        except FileNotFoundError:
            return None
        head, _, content = text.partition(b"\n")
        try:
            head_fields = json.loads(head)
            received = datetime.fromtimestamp(head_fields["received"], UTC)
            envelope = Envelope(head_fields["sender"], tuple(head_fields["recipients"]))
        except (ValueError, KeyError, TypeError):
            return None  # the node lost its power while it was written
        return KeptMail(number, received, envelope, content)
