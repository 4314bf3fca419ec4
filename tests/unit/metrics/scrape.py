"""Reading metrics as Prometheus does: from the text of a scrape."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tryitnow.metrics.instruments import Metrics


class Scrape:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self._samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of the only sample with these labels (and perhaps others)."""
        found = self.all(name, **labels)
        assert len(found) < 2, found
        return next(iter(found.values()), None)

    def all(self, name: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Return the values of all samples with these labels, by the values of all labels."""
        return {
            tuple(sample.labels.values()): sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }

    def names(self) -> set[str]:
        """Return the names of all samples."""
        return {sample.name for sample in self._samples}


def scrape(metrics: Metrics) -> Scrape:
    """Scrape a registry."""
    return Scrape(generate_latest(metrics.registry).decode())
