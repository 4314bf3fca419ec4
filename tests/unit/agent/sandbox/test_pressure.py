"""How long processes of the node waited while a demo was started."""

from __future__ import annotations

from pathlib import Path

from tryitnow.agent.sandbox.pressure import pressure_between, read_stalls
from tryitnow.api.demoinstance import Pressure

LINES = (
    "some avg10=1.23 avg60=0.40 avg300=0.10 total={}\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
)


def test_the_share_of_a_start_in_which_processes_waited(tmp_path: Path) -> None:
    for resource, total in (("cpu", 1_000_000), ("io", 50), ("memory", 0)):
        (tmp_path / resource).write_text(LINES.format(total))
    before = read_stalls(tmp_path)
    assert before == {"cpu": 1_000_000, "io": 50, "memory": 0}
    (tmp_path / "cpu").write_text(LINES.format(2_500_000))
    (tmp_path / "io").write_text(LINES.format(200_050))
    found = pressure_between(before, read_stalls(tmp_path), 2.0)
    assert found == Pressure(cpu=75, io=10, memory=0)


def test_never_more_than_all_of_it() -> None:
    """The kernel sums up some milliseconds after the clock was read."""
    assert pressure_between({"cpu": 0}, {"cpu": 2_100_000}, 2.0) == Pressure(cpu=100)


def test_a_kernel_that_does_not_measure_it_tells_nothing(tmp_path: Path) -> None:
    assert read_stalls(tmp_path) == {}
    assert pressure_between({}, {}, 1.0) is None
