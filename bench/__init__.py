"""`make bench`: how long each way to a running copy takes, measured side by side on a lab.

It drives the operator from outside only, as a user would: through the Kubernetes API and HTTP, and
next to it Podman by hand. It imports the lab, and of the operator nothing.
"""

from __future__ import annotations


class BenchError(Exception):
    """The run cannot go on; the message says what to do."""
