"""Have a demo of the Checkpoint ``shop`` for the length of a block, and look whether it answers."""

from __future__ import annotations

import urllib.request

from tryitnow.client import CheckpointNotFoundError, DemoError, demo


def main() -> int:
    """Return the exit status: 0 when the shop answered."""
    try:
        with demo("shop", ttl="10m") as running:
            answer = urllib.request.urlopen(f"{running.url}/healthz").read()
            print(running.url, running.started_by, answer.decode())
    except CheckpointNotFoundError as error:
        print(f"create the Checkpoint first: {error}")
        return 1
    except DemoError as error:
        print(f"no demo: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
