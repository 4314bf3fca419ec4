"""One SMTP connection of a demo, with a bound for everything that the other side decides.

Whatever it sends is accepted, with any user and password, so that the application sees success.
Nothing of it is logged: not an address, not a word.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any, AnyStr

from aiosmtpd.smtp import SMTP, AuthResult
from aiosmtpd.smtp import Envelope as Transaction
from aiosmtpd.smtp import Session as SmtpSession

from tryitnow.agent.mail.connections import Connections
from tryitnow.agent.mail.mailbox import Envelope, Keep

logger = logging.getLogger(__name__)

# It writes the addresses and the content of mails into the log, and a stack where a client errs.
logging.getLogger("mail.log").disabled = True

MOST_BYTES = 1 << 20
"""Of a mail. An order of a shop with its invoice takes 0.1 to 0.3 MB. It is in memory until its
end, once for each connection (``server.MOST_CONNECTIONS``)."""

MOST_RECIPIENTS = 100
"""Of a mail: as many as any server must take (RFC 5321, section 4.5.3.1.8)."""

MOST_MAILS = 100
"""Of a connection; then it is closed, as real servers do. The next one counts anew."""

LINE_BYTES = 4096
"""Longest piece of a line that is read at once, which also bounds the length of commands. Content
may have longer lines: PHP applications send HTML in one."""

IDLE_SECONDS = 60.0
"""Without a command. Servers wait for 5 min (RFC 5321, section 4.5.3.2.7) for people at terminals
and slow lines; here is neither."""

SESSION_SECONDS = 300.0
"""Of a connection as a whole, so that one that drips ends as well."""

PAUSE_SECONDS = 0.01
LINES_AT_ONCE = 256
"""Before each reply, and after so many lines. A demo that sends without end gets some percent of
the agent's only core for that, and an honest mail takes 0.1 s."""

_BUSY = b"421 4.3.2 Too many connections; try again later\r\n"
_TOO_LARGE = f"552 5.3.4 The mail has more than {MOST_BYTES} bytes"
_TOO_MANY = "452 4.5.3 Too many recipients"
_NOT_KEPT = "452 4.3.1 The disk of the node has no room for the mail"
_NOT_UNDERSTOOD = "500 5.5.2 Not understood"


class Refusal(asyncio.Protocol):
    """A connection that is one too many: told so, and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell it."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(_BUSY)
        transport.close()


class Hooks:
    """What the library asks us about a transaction."""

    def __init__(self, keep: Callable[[], Keep | None]) -> None:
        """Know how mails are kept; ``keep`` returns None while they are forgotten."""
        self._keep = keep
        self._keep_this: Keep | None = None
        self._mails = 0

    async def handle_MAIL(  # noqa: N802 - the library's name
        self,
        server: SMTP,  # noqa: ARG002
        session: SmtpSession,  # noqa: ARG002
        envelope: Transaction,
        address: str,
        options: list[str],
    ) -> str:
        """Begin a mail."""
        # Decided here: a mail that a warm sandbox began belongs to no demo, whenever it ends.
        self._keep_this = self._keep()
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802 - the library's name
        self,
        server: SMTP,  # noqa: ARG002
        session: SmtpSession,  # noqa: ARG002
        envelope: Transaction,
        address: str,
        options: list[str],
    ) -> str:
        """Add a recipient."""
        if len(envelope.rcpt_tos) >= MOST_RECIPIENTS:
            return _TOO_MANY
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    @property
    def keeps(self) -> bool:
        """Whether the mail that has begun is kept."""
        return self._keep_this is not None

    async def end_mail(self, envelope: Transaction, content: bytes) -> str:
        """Keep the mail, or forget it; return the reply."""
        if self._keep_this is None:
            return "250 2.0.0 OK"
        sender = envelope.mail_from or ""
        try:
            await self._keep_this(Envelope(sender, tuple(envelope.rcpt_tos)), content)
        except OSError as error:
            logger.warning("a mail of a demo cannot be kept: %s", error)
            return _NOT_KEPT
        return "250 2.0.0 OK"

    async def handle_exception(self, error: Exception) -> str:
        """Answer what the library does not understand."""
        # Its message may have a piece of the mail.
        logger.debug("an SMTP command of a demo was not understood: %s", type(error).__name__)
        return _NOT_UNDERSTOOD


class Session(SMTP):
    """A connection that is served."""

    # The library reads with this bound.
    line_length_limit = LINE_BYTES

    def __init__(
        self,
        host: str,
        keep: Callable[[], Keep | None],
        groups: tuple[Connections, ...],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Be one of each of ``groups`` from its beginning until its end."""
        self._hooks = Hooks(keep)
        self._groups = groups
        self._own: asyncio.Transport | None = None
        self._end: asyncio.TimerHandle | None = None
        super().__init__(
            self._hooks,
            data_size_limit=MOST_BYTES,
            enable_SMTPUTF8=True,
            hostname=host,
            ident="accepts mail and delivers none",
            timeout=IDLE_SECONDS,
            auth_require_tls=False,
            authenticator=_anybody,
            command_call_limit={
                "*": MOST_MAILS,
                # Each recipient of each mail; what is in the way is MAIL's limit.
                "RCPT": MOST_MAILS * MOST_RECIPIENTS,
            },
            loop=loop,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._own = transport
        for group in self._groups:
            group.open.add(transport)
        self._end = self.loop.call_later(SESSION_SECONDS, transport.abort)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        assert self._own is not None
        assert self._end is not None
        for group in self._groups:
            group.open.discard(self._own)
        self._end.cancel()
        super().connection_lost(error)

    async def push(self, status: AnyStr) -> None:
        """Reply."""
        await asyncio.sleep(PAUSE_SECONDS)
        await super().push(status)

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802 - the library's name
        """Read a mail.

        In place of the library's, which holds each line as an object of its own (30 times the size
        of a mail of empty lines), keeps all of a line that never ends, and refuses long ones.
        """
        assert self.envelope is not None
        if not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 RCPT comes before DATA")
            return
        if arg:
            await self.push("501 5.5.4 DATA has no argument")
            return
        await self.push("354 End the mail with <CR><LF>.<CR><LF>")
        content, size = await self._read_content(keeps=self._hooks.keeps)
        if size > MOST_BYTES:
            reply = _TOO_LARGE
        else:
            reply = await self._hooks.end_mail(self.envelope, content)
        self.envelope = self._create_envelope()
        await self.push(reply)

    async def _read_content(self, *, keeps: bool) -> tuple[bytes, int]:
        """Read up to the end of a mail; return it and its size, or nothing where it is too large.

        What is too large is read on: an answer before the end would be lost (section 4.2.5).
        """
        content = bytearray()
        size = 0
        at_start = True
        for number in itertools.count(1):
            if number % LINES_AT_ONCE == 0:
                await asyncio.sleep(PAUSE_SECONDS)
            try:
                piece = bytes(await self._reader.readuntil(b"\r\n"))
            except asyncio.LimitOverrunError as error:
                piece = await self._reader.read(error.consumed)
            ends = piece.endswith(b"\r\n")
            if at_start and piece == b".\r\n":
                return bytes(content), size
            if at_start and piece.startswith(b"."):
                piece = piece[1:]  # the dot is of the transport (section 4.5.2)
            at_start = ends
            size += len(piece)
            if size > MOST_BYTES:
                content.clear()
            elif keeps:
                content += piece
        raise AssertionError  # it counts without end


def _anybody(*_: Any) -> AuthResult:
    return AuthResult(success=True)
