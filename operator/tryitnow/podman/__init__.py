"""The one place that talks to Podman: its REST socket, through the ``podman`` package.

No policy lives here: what to start, checkpoint or remove is decided by the callers.
"""

from tryitnow.packages import load_late

load_late("podman")
