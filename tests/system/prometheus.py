"""The lab's Prometheus, asked through its API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import requests

from lab.cluster import Cluster
from lab.prometheus import INTERVAL_SECONDS
from tests.system.objects import wait_until

SEEN_WITHIN = 6 * INTERVAL_SECONDS
"""Seconds: what a program tells is scraped, and judged by the rules, in two intervals."""


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels, and its samples as (time, value)."""

    labels: dict[str, str]
    samples: list[tuple[float, float]]

    @property
    def value(self) -> float:
        return self.samples[-1][1]


class Prometheus:
    """Asks, and waits for answers."""

    def __init__(self, cluster: Cluster) -> None:
        cluster.start_prometheus()
        self.url = cluster.prometheus
        self._session = requests.Session()
        self._session.trust_env = False

    def query(self, expression: str, at: float | None = None) -> list[Series]:
        """Return what an expression was at a time (now)."""
        parameters = {"query": expression, **({"time": str(at)} if at else {})}
        data = self._get("query", parameters)
        if data["resultType"] == "scalar":
            return [Series({}, [_sample(data["result"])])]
        return [
            Series(
                {name: value for name, value in found["metric"].items() if name != "__name__"},
                [_sample(s) for s in found.get("values") or [found["value"]]],
            )
            for found in data["result"]
        ]

    def wait(self, expression: str, what: str, within: float = SEEN_WITHIN) -> list[Series]:
        """Wait until an expression has an answer."""
        wait_until(lambda: bool(self.query(expression)), what, within)
        return self.query(expression)

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules that are loaded, with how their evaluation went."""
        return [rule for group in self._get("rules", {})["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("targets", {})["activeTargets"]
        return found

    def _get(self, what: str, parameters: dict[str, str]) -> dict[str, Any]:
        answer = self._session.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=30)
        body = answer.json()
        assert body["status"] == "success", body
        data: dict[str, Any] = body["data"]
        return data


def _sample(found: list[Any]) -> tuple[float, float]:
    return float(found[0]), float(found[1])
