"""``tryitnow mail``: the mails that a demo sent, where its Checkpoint has ``network.mail: Sink``.

They lie on the demo's node. The way there is that of ``tryitnow logs`` (``container``), and so is
the right.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from tryitnow.agent.mail.mailbox import MOST_MAILS, KeptMail, Mailbox
from tryitnow.agent.sandbox.names import PREFIX, Role, parse, parse_pod
from tryitnow.api.meta import Key
from tryitnow.cli.container import agent_namespace_option, go_to_node, on_node_option
from tryitnow.cli.failures import FAILED, NOT_FOUND, STATUSES, CommandFailedError
from tryitnow.cli.letter import Letter, read_letter
from tryitnow.cli.names import complete_demo, some_name
from tryitnow.cli.options import output, where
from tryitnow.cli.output import emit
from tryitnow.cli.table import first_line, size, table

_NO_MAIL = (
    "no mail is kept; a demo's mails are kept where spec.network.mail of its Checkpoint is Sink"
)
_WIDTH = 40
"""Most characters of an address or a subject in the list."""


@click.command(epilog=STATUSES)
@click.argument("name", metavar="DEMO", callback=some_name, shell_complete=complete_demo)
@click.argument("number", type=click.IntRange(min=1), required=False)
@on_node_option
@agent_namespace_option
@where
@output
def mail(
    *,
    name: str,
    number: int | None,
    on_node: bool,
    agent_namespace: str,
    namespace: str | None,
    context: str | None,
    as_json: bool,
) -> None:
    """List the mails that a demo sent, or show the one with NUMBER.

    The last 100 are kept until the demo ends, where spec.network.mail of its Checkpoint is Sink.
    Needs the right to exec into the agents' Pods (docs/command-line.md).
    """
    if on_node:
        _print(Key(namespace or "default", name), number, as_json=as_json)
        return
    words = ["mail", name, *([str(number)] if number else []), *(["-o", "json"] * as_json)]
    go_to_node(name, words, namespace, context, agent_namespace, terminal=False)


def _print(key: Key, number: int | None, *, as_json: bool) -> None:
    box = Mailbox(asyncio.run(_directory_of(key)))
    try:
        if number is None:
            _print_list(list(box.mails()), as_json=as_json)
            return
        found = box.mail(number)
    except OSError as error:
        msg = f"the mails of {key} cannot be read: {error}"
        raise CommandFailedError(msg, FAILED) from error
    if found is None:
        msg = (
            f"{key} has no mail {number}; the last {MOST_MAILS} are kept: "
            f"`tryitnow mail {key.name} -n {key.namespace}`"
        )
        raise CommandFailedError(msg, NOT_FOUND)
    letter = read_letter(found)
    if as_json:
        emit(_json({**_summary(found, letter), **_whole(found, letter)}))
    else:
        emit(_page(letter))


def _print_list(mails: list[KeptMail], *, as_json: bool) -> None:
    read = [(each, read_letter(each)) for each in mails]
    if as_json:
        emit(_json([_summary(each, letter) for each, letter in read]))
        return
    if not read:
        emit(_NO_MAIL, err=True)
        return
    rows = [
        (
            str(each.number),
            f"{each.received:%Y-%m-%d %H:%M:%S}",
            _cell(letter.sender),
            _cell(", ".join(each.envelope.recipients)),
            size(len(each.content)),
            _cell(letter.subject),
        )
        for each, letter in read
    ]
    emit(table(("MAIL", "RECEIVED (UTC)", "FROM", "TO", "SIZE", "SUBJECT"), rows))


def _cell(text: str) -> str:
    return first_line(text, _WIDTH)


def _page(letter: Letter) -> str:
    head = [
        f"From: {letter.sender}",
        f"To: {letter.to}",
        f"Subject: {letter.subject}",
        f"Date: {letter.date}",
        *(
            f"Attachment: {each.name} ({each.content_type}, {size(each.size_bytes)})"
            for each in letter.attachments
        ),
    ]
    # What a mail says must forge no line of its head here.
    lines = [" ".join(line.split()) for line in head]
    return "\n".join([*lines, "", letter.text or letter.html])


def _summary(mail: KeptMail, letter: Letter) -> dict[str, Any]:
    return {
        "number": mail.number,
        "receivedAt": mail.received.isoformat(),
        "envelopeFrom": mail.envelope.sender,
        "envelopeTo": mail.envelope.recipients,
        "from": letter.sender,
        "to": letter.to,
        "subject": letter.subject,
        "sizeBytes": len(mail.content),
    }


def _whole(mail: KeptMail, letter: Letter) -> dict[str, Any]:
    attachments = [
        {"name": e.name, "contentType": e.content_type, "sizeBytes": e.size_bytes}
        for e in letter.attachments
    ]
    return {
        "date": letter.date,
        "text": letter.text,
        "html": letter.html,
        "attachments": attachments,
        "source": mail.content.decode(errors="replace"),
    }


def _json(value: object) -> str:
    # All but ASCII is escaped: control characters would steer a terminal.
    return json.dumps(value, indent=2)


async def _directory_of(key: Key) -> Path:
    """Return the directory of a demo's volumes on this node, where it has one."""
    from tryitnow.podman.client import Podman
    from tryitnow.podman.errors import PodmanFailure
    from tryitnow.settings import agent_settings

    settings = agent_settings()
    podman = Podman(settings.podman)
    try:
        for state in await podman.list_containers(PREFIX):
            name = parse(state.name)
            if name is None or name.role is not Role.DEMO or name.owner != key or not state.pod:
                continue
            pod = await podman.inspect_pod(state.pod)
            found = parse_pod(pod.name) if pod is not None else None
            if found is not None:
                return settings.volumes_path / found.tag
    except PodmanFailure as error:
        raise CommandFailedError(str(error), FAILED) from error
    finally:
        podman.close()
    msg = (
        f"the demo {key} is not on this node; where it is: "
        f"`kubectl get demoinstance {key.name} -n {key.namespace} -o wide`"
    )
    raise CommandFailedError(msg, NOT_FOUND)
