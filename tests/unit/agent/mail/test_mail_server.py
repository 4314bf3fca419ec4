"""Mail of sandboxes, sent by a real client; the network is the test's own."""

from __future__ import annotations

import asyncio
import logging
import os
import smtplib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import pytest

from tryitnow.agent.mail import mailbox, server, smtp
from tryitnow.agent.mail.mailbox import Mailbox
from tryitnow.agent.mail.server import MailServer
from tryitnow.agent.transfer.certificate import make_certificate
from tryitnow.api.network import Mail

T = TypeVar("T")
NAME = "tryitnow_demo_default_annas_12345678"
TEXT = "From: shop@shop.example\r\nSubject: Your order\r\n\r\nThank you.\r\n"

_PORTS = iter(range(24300 + os.getpid() % 300 * 2, 65000, 2))


def tls() -> ssl.SSLContext:
    return make_certificate("mail.example").context


@pytest.fixture
async def mails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MailServer]:
    """A server in the test's own network; several tests may run at once."""
    plain = next(_PORTS)
    monkeypatch.setattr(server, "PLAIN_PORT", plain)
    monkeypatch.setattr(server, "TLS_PORT", plain + 1)
    monkeypatch.setattr(smtp, "PAUSE_SECONDS", 0.0)
    (tmp_path / "pod").mkdir()
    made = MailServer(tmp_path, lambda _: nullcontext(), tls)
    yield made
    made.close()
    await asyncio.sleep(0)  # their connections end


async def serve(mails: MailServer, mail: Mail = Mail.SINK, *, keeps: bool = True) -> None:
    await mails.serve(NAME, "pod", os.getpid(), mail, keeps=keeps)


def client(**options: float) -> smtplib.SMTP:
    return smtplib.SMTP(server.ADDRESSES[0], server.PLAIN_PORT, **{"timeout": 10, **options})  # type: ignore[arg-type]


async def by_client(use: Callable[[smtplib.SMTP], T]) -> T:
    def run() -> T:
        with client() as connected:
            return use(connected)

    return await asyncio.to_thread(run)


def send(connected: smtplib.SMTP, text: str | bytes = TEXT) -> None:
    connected.sendmail("shop@shop.example", ["anna@example.com"], text)


async def test_a_demos_mails_are_kept(mails: MailServer, tmp_path: Path) -> None:
    await serve(mails)
    await by_client(send)
    await by_client(send)
    kept = Mailbox(tmp_path / "pod").mails()
    assert [mail.number for mail in kept] == [1, 2]
    assert kept[0].content == TEXT.encode()
    assert kept[0].envelope == mailbox.Envelope("shop@shop.example", ("anna@example.com",))


async def test_they_are_read_again_after_a_start_of_the_agent(
    mails: MailServer, tmp_path: Path
) -> None:
    await serve(mails)
    await by_client(send)
    await serve(mails)  # as a new agent does
    await by_client(send)
    assert [mail.number for mail in Mailbox(tmp_path / "pod").mails()] == [1, 2]


async def test_dropped_mail_is_accepted_and_forgotten(mails: MailServer, tmp_path: Path) -> None:
    await serve(mails, Mail.DROP)
    await by_client(send)
    assert list((tmp_path / "pod").iterdir()) == []


async def test_refused_mail_has_no_server(mails: MailServer) -> None:
    await serve(mails, Mail.REFUSE)
    with pytest.raises(ConnectionRefusedError):
        await by_client(send)


async def test_mail_of_builds_and_warm_sandboxes_is_forgotten(
    mails: MailServer, tmp_path: Path
) -> None:
    await serve(mails, keeps=False)
    await by_client(send)
    mails.hand_over(NAME, "of-anna", keeps=True)
    assert Mailbox(tmp_path / "pod").mails() == []
    await by_client(lambda connected: send(connected, "Subject: hers\r\n\r\n"))
    [mail] = Mailbox(tmp_path / "pod").mails()
    assert mail.content == b"Subject: hers\r\n\r\n"


async def test_a_mail_that_was_begun_before_the_claim_is_forgotten(
    mails: MailServer, tmp_path: Path
) -> None:
    await serve(mails, keeps=False)
    begun, claimed = threading.Event(), threading.Event()

    def slowly(connected: smtplib.SMTP) -> None:
        connected.ehlo()
        connected.mail("cron@template.example")
        begun.set()
        claimed.wait(10)
        connected.rcpt("root@template.example")
        connected.data(TEXT)
        send(connected)

    sending = asyncio.create_task(by_client(slowly))
    await asyncio.to_thread(begun.wait, 10)
    mails.hand_over(NAME, "of-anna", keeps=True)
    claimed.set()
    await sending
    [mail] = Mailbox(tmp_path / "pod").mails()
    assert mail.envelope.sender == "shop@shop.example"


async def test_any_user_and_password_are_accepted(mails: MailServer) -> None:
    await serve(mails)

    def log_in(connected: smtplib.SMTP) -> None:
        connected.login("shop", "wrong")
        send(connected)

    await by_client(log_in)


async def test_mail_over_tls_is_accepted_from_who_checks_no_certificate(
    mails: MailServer, tmp_path: Path
) -> None:
    await serve(mails)

    def run() -> None:
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        at = (server.ADDRESSES[0], server.TLS_PORT)
        with smtplib.SMTP_SSL(*at, timeout=10, context=trusting) as connected:
            send(connected)

    await asyncio.to_thread(run)
    assert len(Mailbox(tmp_path / "pod").mails()) == 1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"one\r\n.\r.\r\n..two\r\n.three\r\n" * 3, id="dots"),
        pytest.param(b"x" * 300_000 + b"\r\n." + b"y" * 20_000 + b"\r\n", id="long-lines"),
        pytest.param(b"\r\n" * 5000, id="empty-lines"),
        pytest.param("Grüße ☃\r\n".encode(), id="utf-8"),
    ],
)
async def test_a_mail_is_kept_as_it_was_sent(
    mails: MailServer, tmp_path: Path, text: bytes
) -> None:
    await serve(mails)

    def as_it_is(connected: smtplib.SMTP) -> None:
        connected.ehlo()
        connected.mail("a@example.com")
        connected.rcpt("b@example.com")
        connected.putcmd("data")
        assert connected.getreply()[0] == 354
        connected.send(text.replace(b"\r\n.", b"\r\n.."))
        connected.send(b".\r\n")
        assert connected.getreply()[0] == 250

    await by_client(as_it_is)
    assert Mailbox(tmp_path / "pod").mails()[0].content == text


async def test_an_answer_to_nobody_and_an_address_in_utf_8_are_accepted(
    mails: MailServer, tmp_path: Path
) -> None:
    await serve(mails)

    def bounce(connected: smtplib.SMTP) -> None:
        connected.sendmail("", ["anna@example.com"], TEXT)
        options = ["SMTPUTF8", "BODY=8BITMIME"]
        connected.sendmail("günther@example.com", ["anna@example.com"], TEXT.encode(), options)

    await by_client(bounce)
    senders = [mail.envelope.sender for mail in Mailbox(tmp_path / "pod").mails()]
    assert senders[1] == "günther@example.com"
    assert senders[0] in {"", "<>"}


async def test_a_mail_that_is_too_large_is_refused_and_the_next_is_taken(
    mails: MailServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "MOST_BYTES", 10_000)
    await serve(mails)

    def too_much(connected: smtplib.SMTP) -> None:
        connected.ehlo()
        connected.esmtp_features.pop("size")  # it does not look at what it is told
        with pytest.raises(smtplib.SMTPDataError, match="more than"):
            send(connected, "x" * 20_000)
        send(connected)

    await by_client(too_much)
    assert len(Mailbox(tmp_path / "pod").mails()) == 1


async def test_the_size_is_told_before(mails: MailServer) -> None:
    await serve(mails)
    with pytest.raises(smtplib.SMTPSenderRefused, match="552"):
        await by_client(lambda connected: send(connected, "x" * (smtp.MOST_BYTES + 1)))


async def test_too_many_recipients_are_refused(mails: MailServer, tmp_path: Path) -> None:
    await serve(mails)
    everybody = [f"{number}@example.com" for number in range(smtp.MOST_RECIPIENTS + 3)]
    refused = await by_client(lambda c: c.sendmail("a@example.com", everybody, TEXT))
    assert len(refused) == 3
    [mail] = Mailbox(tmp_path / "pod").mails()
    assert len(mail.envelope.recipients) == smtp.MOST_RECIPIENTS


async def test_one_connection_too_many_is_told_so(mails: MailServer) -> None:
    await serve(mails)

    def many() -> None:
        held = [client() for _ in range(server.OF_SANDBOX)]
        with pytest.raises(smtplib.SMTPConnectError, match="Too many connections"):
            client()
        for connected in held:
            connected.quit()

    await asyncio.to_thread(many)
    await by_client(send)


def test_one_sandbox_does_not_take_all_connections() -> None:
    assert server.OF_SANDBOX * 10 < server.MOST_CONNECTIONS


async def test_a_connection_that_says_nothing_or_drips_is_ended(
    mails: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "SESSION_SECONDS", 0.3)
    await serve(mails)

    def drip() -> bytes:
        with socket.create_connection((server.ADDRESSES[0], server.PLAIN_PORT), 10) as connected:
            try:
                while connected.recv(4096):
                    connected.sendall(b"NOOP\r\n")
            except ConnectionError:
                pass
            return b"ended"

    assert await asyncio.wait_for(asyncio.to_thread(drip), 10) == b"ended"


async def test_nothing_of_a_mail_is_logged(
    mails: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await serve(mails)

    def strangely(connected: smtplib.SMTP) -> None:
        connected.login("shop", "password-of-the-shop")
        send(connected)
        connected.docmd("MAIL", "FROM:<((((anna@example.com")
        connected.docmd("XYZZY", "anna@example.com")

    await by_client(strangely)
    for secret in ("anna@", "shop.example", "order", "password-of", "XYZZY"):
        assert secret not in caplog.text


async def test_a_full_disk_is_told_to_the_application(
    mails: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Mailbox, "add", full)
    await serve(mails)
    with pytest.raises(smtplib.SMTPDataError, match="no room"):
        await by_client(send)


async def test_a_sandbox_that_has_ended_is_let_go_of_with_its_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = next(_PORTS)
    monkeypatch.setattr(server, "PLAIN_PORT", plain)
    monkeypatch.setattr(server, "TLS_PORT", plain + 1)
    space = tmp_path / "7/ns/net"
    space.parent.mkdir(parents=True)
    space.touch()
    mails = MailServer(
        tmp_path,
        lambda _: nullcontext(),
        lambda: make_certificate("mail.example").context,
        tmp_path,
    )
    await mails.serve(NAME, "pod", 7, Mail.SINK, keeps=True)
    assert mails.serves(NAME, 7)
    assert not mails.serves(NAME, 8)
    connected = await asyncio.to_thread(client)
    space.unlink()
    mails.stop_gone()
    assert not mails.serves(NAME, 7)
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        await asyncio.to_thread(connected.noop)
    connected.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(client)


async def test_an_application_that_has_the_port_is_an_error(mails: MailServer) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", server.PLAIN_PORT))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            await serve(mails)
    await serve(mails)
    await by_client(send)
