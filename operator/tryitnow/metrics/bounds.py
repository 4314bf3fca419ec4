"""Bounds of the histograms, so that each objective and each limit of ours is one of them."""

from __future__ import annotations

START_OBJECTIVE_SECONDS = 2.0
"""A restored demo is to be ready in this time: the bound that the alerts' objective is about."""

START_BOUNDS = (
    0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, START_OBJECTIVE_SECONDS, 3.0, 5.0, 10.0,
    15.0, 30.0, 60.0, 120.0, 300.0,
)  # fmt: skip
"""0.1 s: a claim of a warm sandbox. 0.5 s: a restore of a small shop from prepared data. 2 s: the
objective. 15 s and 300 s: the defaults of spec.readiness.restoreTimeout and timeout."""

PHASE_BOUNDS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, START_OBJECTIVE_SECONDS, 5.0, 15.0, 60.0,
)  # fmt: skip

BUILD_BOUNDS = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""A build is a cold start (up to 300 s by default), a checkpoint and a test restore."""

CALL_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
"""Calls that touch local state take milliseconds; 15 s and 60 s are the clients' own limits."""
