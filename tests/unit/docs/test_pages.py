"""Nothing that a page tells people to run is left untried, and no link leads nowhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from charts.render import template
from tests.pages import COMMANDS, DOCS, ROOT, Block, all_blocks, mentions, pages, prose

SHOWN = {"", "yaml", "promql", "python"}
"""Marks of blocks that nobody is told to run; those with YAML and PromQL are checked elsewhere."""

RUNBOOKS = "runbooks/"
"""Below it all blocks of all pages are run by tests/system/test_alerts.py."""


ASKS = {"blocks", "walkthrough"}
"""Functions of ``tests.pages`` that a test gets a page's commands from."""


def asked_for() -> set[tuple[str, str]]:
    """Page and mark of all blocks that a test of whole systems names, in so many words."""
    found = set()
    for module in [*(ROOT / "tests").glob("system/*.py"), *(ROOT / "tests").glob("machines/*.py")]:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {
                "blocks",
                "walkthrough",
            }:
                page, *mark = map(ast.literal_eval, node.args)
                found.add((page, mark[0] if mark else "sh"))
    return found


def test_every_block_of_commands_is_run_by_a_test() -> None:
    reported = {(block.page, block.mark) for block in all_blocks() if block.mark in COMMANDS}
    run = {pair for pair in asked_for() if pair[1] in COMMANDS}
    assert {pair for pair in reported if not pair[0].startswith(RUNBOOKS)} == run


def test_every_block_says_what_it_is() -> None:
    odd = [block for block in all_blocks() if block.mark not in {*COMMANDS, *SHOWN}]
    assert odd == []


def test_every_target_of_make_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {command.split()[1] for command in mentions() if command.startswith("make ")}
    assert asked
    assert asked <= targets


def anchors(text: str) -> set[str]:
    """What a page's headings are linked by, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", pages())
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (DOCS / page).parent / path if path else DOCS / page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text()), target


VALUES = [
    block for block in all_blocks() if block.mark == "yaml" and block.text.startswith("agent:")
]


@pytest.mark.parametrize("block", VALUES, ids=[block.page for block in VALUES])
def test_the_chart_takes_the_values_that_a_page_shows(block: Block, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(block.text)
    rendered = template(files=(values,), only="agent.yaml")
    assert rendered != template(only="agent.yaml"), "it makes no difference"
