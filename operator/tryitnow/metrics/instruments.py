"""The metrics of one program, with a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.metrics import Counter, Histogram, disable_created_metrics
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from tryitnow import __version__
from tryitnow.metrics.catalogue import exposed_by
from tryitnow.metrics.family import Counted, Program, State, Timed
from tryitnow.metrics.program import BUILD_INFO

# One more series beside each counter and histogram, which nothing of ours reads.
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Reading:
    """How one thing stands right now."""

    family: State
    value: float
    labels: tuple[str, ...] = ()
    """Values, in the order of the family's labels."""


Source = Callable[[], Iterable[Reading]]
"""Reads how things stand; called at each scrape, in the event loop's thread: it must not block."""


class Metrics:
    """Counts, times, and reads states when it is scraped."""

    def __init__(self, program: Program | None = None) -> None:
        """Make the metrics of a program; of both without one, for parts that stand alone."""
        self.registry = CollectorRegistry()
        families = exposed_by(program)
        self._counters = {
            family: Counter(family.name, family.help, family.labels, registry=self.registry)
            for family in families
            if isinstance(family, Counted)
        }
        self._histograms = {
            family: Histogram(
                family.name,
                family.help,
                family.labels,
                buckets=family.buckets,
                registry=self.registry,
            )
            for family in families
            if isinstance(family, Timed)
        }
        states = [family for family in families if isinstance(family, State)]
        self._states = _States(states)
        self.registry.register(self._states)
        if program is not None:
            info = Reading(BUILD_INFO, 1, (str(program), __version__))
            self.read_from(lambda: (info,))

    def count(self, family: Counted, amount: float = 1, /, **labels: str) -> None:
        """Count something that happened."""
        counter = self._counters[family]
        (counter.labels(**labels) if labels else counter).inc(amount)

    def observe(self, family: Timed, seconds: float, /, **labels: str) -> None:
        """Take note of how long something took."""
        histogram = self._histograms[family]
        (histogram.labels(**labels) if labels else histogram).observe(seconds)

    def expect(self, family: Counted | Timed, /, **labels: str) -> None:
        """Show it with 0 before it happens: of series that appear with 1, no rate sees the first.

        (Prometheus' own advice, "Avoid missing metrics" in its best practices.)
        """
        if isinstance(family, Counted):
            self._counters[family].labels(**labels)
        else:
            self._histograms[family].labels(**labels)

    def read_from(self, source: Source) -> None:
        """Ask this source at each scrape."""
        self._states.sources.append(source)

    def forget(self, **labels: str) -> None:
        """Drop what was counted and timed under these labels: what they name is gone."""
        for family, instrument in (*self._counters.items(), *self._histograms.items()):
            if set(labels) <= set(family.labels):
                instrument.remove_by_labels(labels)


class _States(Collector):
    def __init__(self, families: list[State]) -> None:
        self._families = families
        self.sources: list[Source] = []

    def describe(self) -> Iterator[Metric]:
        # Without it the registry would scrape at registration, before there is anything to read.
        return iter(self._empty().values())

    def collect(self) -> Iterator[Metric]:
        made = self._empty()
        for source in self.sources:
            for reading in source():
                made[reading.family].add_metric(list(reading.labels), reading.value)
        return iter(made.values())

    def _empty(self) -> dict[State, GaugeMetricFamily]:
        return {
            family: GaugeMetricFamily(family.name, family.help, labels=family.labels)
            for family in self._families
        }
