"""What a program answers to Prometheus and to the kubelet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.unit.conftest import ADDRESS
from tests.unit.metrics.scrape import Scrape
from tryitnow.metrics.endpoint import serving
from tryitnow.metrics.family import Program
from tryitnow.metrics.instruments import Metrics, Reading
from tryitnow.metrics.node import FETCHED_BYTES
from tryitnow.settings import InvalidSettingError

PORT = 23090
URL = f"http://{ADDRESS}:{PORT}"


@pytest.fixture
def missing() -> list[str]:
    return []


@pytest.fixture
async def metrics(missing: list[str]) -> AsyncIterator[Metrics]:
    metrics = Metrics(Program.AGENT)
    async with serving(metrics, lambda: missing, host=ADDRESS, port=PORT):
        yield metrics


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_prometheus_is_given_its_text_format(
    metrics: Metrics, http: aiohttp.ClientSession
) -> None:
    metrics.count(FETCHED_BYTES, 7)
    async with http.get(f"{URL}/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        found = Scrape(await answer.text())
    assert found.value("tryitnow_fetched_bytes_total") == 7


async def test_the_process_is_measured_too(metrics: Metrics, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{URL}/metrics") as answer:
        found = Scrape(await answer.text())
    assert (found.value("process_resident_memory_bytes") or 0) > 1 << 20
    assert metrics.registry


async def test_open_metrics_are_given_to_who_asks(
    metrics: Metrics, http: aiohttp.ClientSession
) -> None:
    metrics.count(FETCHED_BYTES, 7)
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with http.get(f"{URL}/metrics", headers=accept) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        text = await answer.text()
    assert text.endswith("# EOF\n")
    assert "tryitnow_fetched_bytes_total 7.0" in text


@pytest.mark.usefixtures("metrics")
async def test_a_program_that_starts_is_alive_but_not_ready(
    http: aiohttp.ClientSession, missing: list[str]
) -> None:
    missing.append("the first list of all objects")
    async with http.get(f"{URL}/healthz") as alive, http.get(f"{URL}/readyz") as ready:
        assert alive.status == 200
        assert ready.status == 503
        assert "waiting for the first list" in await ready.text()
    missing.clear()
    async with http.get(f"{URL}/readyz") as ready:
        assert ready.status == 200


@pytest.mark.usefixtures("metrics")
async def test_a_port_that_is_taken_is_named_with_its_setting() -> None:
    with pytest.raises(InvalidSettingError, match=f"METRICS_PORT={PORT}: .*free port"):
        async with serving(Metrics(Program.AGENT), tuple, host=ADDRESS, port=PORT):
            pass


async def test_scrapes_in_a_row_cost_one(metrics: Metrics, http: aiohttp.ClientSession) -> None:
    reads = 0

    def read() -> list[Reading]:
        nonlocal reads
        reads += 1
        return []

    metrics.read_from(read)
    for _ in range(50):
        async with http.get(f"{URL}/metrics") as answer:
            assert answer.status == 200
    assert reads <= 2, "the fifty may take longer than a second, not longer than two"


@pytest.fixture
async def token_file(tmp_path: Path) -> AsyncIterator[Path]:
    file = tmp_path / "token"
    file.write_text("the token\n")
    async with serving(Metrics(Program.AGENT), tuple, host=ADDRESS, port=PORT, token_file=file):
        yield file


@pytest.mark.usefixtures("token_file")
@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ("Bearer the token", 200),
        ("Bearer another", 401),
        ("Bearer ", 401),
        ("Basic the token", 401),
        ("Bearer caf\xe9", 401),
        ("", 401),
    ],
)
async def test_where_there_is_a_token_a_scrape_must_show_it(
    http: aiohttp.ClientSession, shown: str, status: int
) -> None:
    async with http.get(f"{URL}/metrics", headers={"Authorization": shown}) as answer:
        assert answer.status == status
        assert ("tryitnow_" in await answer.text()) == (status == 200)
    for page in ("healthz", "readyz"):  # the kubelet shows none
        async with http.get(f"{URL}/{page}") as answer:
            assert answer.status == 200


@pytest.mark.parametrize("content", ["", "\n", None])
async def test_without_a_usable_token_nobody_is_let_in(
    token_file: Path, http: aiohttp.ClientSession, content: str | None
) -> None:
    if content is None:
        token_file.unlink()
    else:
        token_file.write_text(content)
    for shown in ("", "Bearer", "Bearer "):
        async with http.get(f"{URL}/metrics", headers={"Authorization": shown}) as answer:
            assert answer.status == 503
