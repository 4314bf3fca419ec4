"""``tryitnow``: one command for all programs; also ``kubectl tryitnow``."""

from __future__ import annotations

import sys

from tryitnow.packages import spare_start


def main(argv: list[str] | None = None) -> None:
    """Run a command and exit with its status."""
    words = sys.argv[1:] if argv is None else argv
    spare_start()
    from tryitnow.cli import programs

    if words in (["controller"], ["agent"]):
        # They take no options and run for months: without the library that reads command lines
        # (click: 3.7 MB and 30 ms).
        sys.exit(programs.run(words[0]))
    from tryitnow.cli.commands import tryitnow

    tryitnow.main(words, prog_name="tryitnow")
