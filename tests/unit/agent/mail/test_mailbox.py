"""The mails of a demo on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tryitnow.agent.mail import mailbox
from tryitnow.agent.mail.mailbox import Envelope, Mailbox

FROM = Envelope("shop@example.com", ("anna@example.com", "ben@example.com"))


def numbers(box: Mailbox) -> list[int]:
    return [mail.number for mail in box.mails()]


def test_only_the_last_ones_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MOST_MAILS", 3)
    box = Mailbox(tmp_path)
    for number in range(5):
        box.add(FROM, b"%d" % number)
    assert numbers(box) == [3, 4, 5]
    assert [mail.content for mail in box.mails()] == [b"2", b"3", b"4"]


def test_their_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MOST_BYTES", 3000)
    box = Mailbox(tmp_path)
    for _ in range(6):
        box.add(FROM, b"x" * 1000)
    assert numbers(box) == [5, 6]
    assert sum(file.stat().st_size for file in (tmp_path / ".mail").iterdir()) <= 3000


def test_a_number_is_not_given_again(tmp_path: Path) -> None:
    for _ in range(2):
        Mailbox(tmp_path).add(FROM, b"")
    (tmp_path / ".mail/1").unlink()
    Mailbox(tmp_path).add(FROM, b"")
    assert numbers(Mailbox(tmp_path)) == [2, 3]


def test_nobody_but_root_can_look_in(tmp_path: Path) -> None:
    Mailbox(tmp_path).add(FROM, b"hello")
    assert (tmp_path / ".mail").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".mail/1").stat().st_mode & 0o777 == 0o600


def test_what_a_loss_of_power_left_is_not_shown(tmp_path: Path) -> None:
    box = Mailbox(tmp_path)
    box.add(FROM, b"hello")
    (tmp_path / ".mail/2").write_bytes(b"")
    (tmp_path / ".mail/.3").write_bytes(b"half")
    assert numbers(box) == [1]
    box.add(FROM, b"next")
    assert numbers(box) == [1, 3]


def test_there_may_be_none(tmp_path: Path) -> None:
    assert Mailbox(tmp_path).mails() == []
    assert Mailbox(tmp_path).mail(1) is None
    with pytest.raises(FileNotFoundError):
        Mailbox(tmp_path / "gone").add(FROM, b"")
