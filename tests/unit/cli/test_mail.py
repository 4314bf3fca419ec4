"""``tryitnow mail``: the way to a demo's mails, and what a person reads of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.unit.builders import make_demo
from tests.unit.cli.conftest import Run
from tests.unit.fakes import FakeKubernetes
from tryitnow.agent.mail.mailbox import Envelope, Mailbox
from tryitnow.api.meta import Key
from tryitnow.cli import mail as command

DEEP = range(3000)
FROM = Envelope("shop@example.com", ("anna@example.com",))
ORDER = b"""From: =?utf-8?q?Der_L=C3=A4den?= <shop@example.com>
To: Anna <anna@example.com>
Subject: =?utf-8?b?SWhyZSBCZXN0ZWxsdW5nIOKcqA==?=
Date: Mon, 30 Nov 2026 10:00:00 +0000
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=x

--x
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: base64

RGFua2Ug8J+OiQ==
--x
Content-Type: text/html; charset=utf-8

<b>Danke</b>
--x
Content-Type: application/pdf; name=invoice.pdf
Content-Disposition: attachment; filename=invoice.pdf
Content-Transfer-Encoding: base64

JVBERi0=
--x--
"""
HOSTILE = (
    b"From: \x1b[31mroot\x07@example.com\nSubject: =?utf-8?q?=1B]0;owned=07?= "
    b"=?nonsense?q?=FF?=\nTo: a\n\n\x1b[2J\x9b31mhello\xff\xe2\x80\xae\r\n"
)


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    """The mails of the demo ``annas`` on this node."""

    async def directory_of(key: Key) -> Path:
        assert key == Key("default", "annas")
        return tmp_path

    monkeypatch.setattr(command, "_directory_of", directory_of)
    return Mailbox(tmp_path)


def test_the_way_is_that_of_a_shell(
    run: Run, kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubernetes.put(make_demo("annas", node="node-a"))
    kubernetes.agents_pods[("tryitnow-system", "node-a")] = ["agent-x7"]
    seen: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _program, argv: seen.append(argv))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    run("mail", "annas", "7", "--output", "json")
    [argv] = seen
    assert argv[:2] == ["kubectl", "exec"]
    assert argv[argv.index("--") + 1 :] == [
        "tryitnow", "mail", "annas", "7", "-o", "json", "-n", "default", "--on-node",
    ]  # fmt: skip


def test_the_mails_of_a_demo_are_listed(run: Run, box: Mailbox) -> None:
    box.add(FROM, ORDER)
    box.add(FROM, b"Subject: second\n\n")
    done = run("mail", "annas", "--on-node")
    head, first, second = done.stdout.splitlines()
    assert head.split() == ["MAIL", "RECEIVED", "(UTC)", "FROM", "TO", "SIZE", "SUBJECT"]
    assert first.startswith("1 ")
    assert "Der Läden <shop@example.com>" in first
    assert first.endswith("Ihre Bestellung ✨")
    assert second.split()[-1] == "second"


def test_one_mail_is_shown_with_its_text_and_its_attachments(run: Run, box: Mailbox) -> None:
    box.add(FROM, ORDER)
    done = run("mail", "annas", "1", "--on-node")
    assert done.stdout.splitlines() == [
        "From: Der Läden <shop@example.com>",
        "To: Anna <anna@example.com>",
        "Subject: Ihre Bestellung ✨",
        "Date: Mon, 30 Nov 2026 10:00:00 +0000",
        "Attachment: invoice.pdf (application/pdf, 5 B)",
        "",
        "Danke 🎉",
    ]


def test_programs_get_all_of_it(run: Run, box: Mailbox) -> None:
    box.add(FROM, ORDER)
    [summary] = json.loads(run("mail", "annas", "--on-node", "-o", "json").stdout)
    assert summary["number"] == 1
    assert summary["envelopeTo"] == ["anna@example.com"]
    assert summary["subject"] == "Ihre Bestellung ✨"
    whole = json.loads(run("mail", "annas", "1", "--on-node", "-o", "json").stdout)
    assert whole["text"] == "Danke 🎉"
    assert whole["html"].strip() == "<b>Danke</b>"
    assert whole["attachments"] == [
        {"name": "invoice.pdf", "contentType": "application/pdf", "sizeBytes": 5}
    ]
    assert whole["source"] == ORDER.decode()


@pytest.mark.parametrize("more", [[], ["1"], ["-o", "json"], ["1", "-o", "json"]], ids=str)
def test_what_a_mail_holds_steers_no_terminal(run: Run, box: Mailbox, more: list[str]) -> None:
    box.add(Envelope("\x1b[31m\udcff", ("\x07a\nb",)), HOSTILE)
    done = run("mail", "annas", *more, "--on-node")
    assert done.exit_code == 0
    assert all(c == "\n" or c.isprintable() for c in done.stdout)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"no head at all",
        b"Subject: =?utf-8?b?x?=\n\n",
        b"Content-Type: text/plain; charset=\x00\n\nhello",
        b"Content-Type: text/plain; charset=punycode\n\n\xff\xff",
        b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n!!!",
        b"Content-Type: multipart/mixed\n\nnothing",
        b"Content-Type: message/rfc822\n\n" * 3000,
        b"".join(b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (n, n) for n in DEEP),
        b"Content-Disposition: attachment; filename*=utf-8''%ff\n\n",
        bytes(range(256)) * 40,
    ],
    ids=range(12),
)
def test_a_mail_that_is_none_is_shown_all_the_same(run: Run, box: Mailbox, content: bytes) -> None:
    box.add(FROM, content)
    assert run("mail", "annas", "--on-node").exit_code == 0
    assert run("mail", "annas", "1", "--on-node").exit_code == 0


def test_without_mails_the_field_is_named(run: Run, box: Mailbox) -> None:
    assert box.mails() == []
    done = run("mail", "annas", "--on-node")
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "spec.network.mail" in done.stderr
    assert run("mail", "annas", "--on-node", "-o", "json").stdout == "[]\n"
    missing = run("mail", "annas", "3", "--on-node")
    assert missing.exit_code == 4
    assert "has no mail 3" in missing.output
