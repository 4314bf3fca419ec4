"""``python -m tests.unit.agent.histories FROM-TO``: live the histories of these seeds.

A program of its own: a set of names has the same order each time only where PYTHONHASHSEED was set
before Python began, and thousands of histories leave nothing in the process of other tests.
"""

from __future__ import annotations

import gc
import sys

from tests.unit.agent.histories.history import HistoryError, live


def main(text: str) -> int:
    """Live them; return how many failed."""
    # Modules stay, and a history leaves little: what is collected often costs a tenth of the time.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    first, _, last = text.partition("-")
    failed = 0
    for seed in range(int(first), int(last or first) + 1):
        try:
            live(seed)
        except HistoryError as error:
            failed += 1
            print(error, end="\n\n", flush=True)  # noqa: T201
    return failed


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1]), 100))
