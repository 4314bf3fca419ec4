"""A mail for people to read, whatever it holds: a client of a demo may have written it."""

from __future__ import annotations

import email
import email.policy
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from typing import Any

from tryitnow.agent.mail.mailbox import KeptMail


@dataclass(frozen=True)
class Attachment:
    """A part of a mail that is no text to read."""

    name: str
    content_type: str
    size_bytes: int


@dataclass(frozen=True)
class Letter:
    """What a person reads of a mail."""

    sender: str
    to: str
    subject: str
    date: str
    text: str = ""
    """Its text; empty where it has HTML alone."""

    html: str = ""
    attachments: tuple[Attachment, ...] = ()


def read_letter(mail: KeptMail) -> Letter:
    """Read a mail; what cannot be read is shown as it was sent."""
    envelope = mail.envelope
    sender, to = envelope.sender, ", ".join(envelope.recipients)
    try:
        # The older policy: it raises nothing at a strange head, where the newer one does.
        message = email.message_from_bytes(mail.content, policy=email.policy.compat32)
        found = _Parts()
        for part in message.walk():
            found.add(part)
    except RecursionError:  # parts within parts, a thousand deep
        return Letter(sender, to, "", "", mail.content.decode(errors="replace"))
    return Letter(
        _head(message, "From") or sender,
        _head(message, "To") or to,
        _head(message, "Subject"),
        _head(message, "Date"),
        found.text,
        found.html,
        tuple(found.attachments),
    )


class _Parts:
    def __init__(self) -> None:
        self.text = self.html = ""
        self.attachments: list[Attachment] = []

    def add(self, part: Message[Any, Any]) -> None:
        if part.is_multipart():
            return
        kind = part.get_content_type()
        name = _decoded(part.get_filename() or "")
        content = _content(part)
        if not name and kind == "text/plain" and not self.text:
            self.text = _text(part, content)
        elif not name and kind == "text/html" and not self.html:
            self.html = _text(part, content)
        else:
            self.attachments.append(Attachment(name or "without a name", kind, len(content)))


def _content(part: Message[Any, Any]) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _text(part: Message[Any, Any], content: bytes) -> str:
    try:
        return content.decode(part.get_content_charset("utf-8"), errors="replace")
    except (LookupError, ValueError):  # no such character set, or a name that is none
        return content.decode(errors="replace")


def _head(message: Message[Any, Any], name: str) -> str:
    value = message.get(name)
    return "" if value is None else _decoded(str(value))


def _decoded(value: str) -> str:
    """Return the words of a head, on one line."""
    try:
        pieces = decode_header(value)
    except (HeaderParseError, ValueError):
        pieces = [(value, None)]
    words = [_piece(piece, charset) for piece, charset in pieces]
    return " ".join("".join(words).split())


def _piece(piece: str | bytes, charset: str | None) -> str:
    if isinstance(piece, str):
        return piece
    try:
        return piece.decode(charset or "utf-8", errors="replace")
    except (LookupError, ValueError):
        return piece.decode(errors="replace")
