"""The metrics of both programs.

``family`` says what a metric is; ``starts``, ``node``, ``cluster`` and ``program`` declare them by
subject, ``catalogue`` has them all; ``instruments`` makes them for one program, ``endpoint`` serves
them, ``page`` writes ``docs/metrics.md``. Nothing in here knows what is measured: each program
measures at its own edges.
"""

from tryitnow.packages import load_late

load_late("prometheus_client")
