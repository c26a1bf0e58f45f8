"""The command that turns trips into instances."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ml.taxi_tips import instances


def test_main_writes_one_instance_a_line_for_every_trip(
    generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    instances.main(["--data", str(generated), "--out", str(tmp_path / "instances.jsonl")])
    lines = (tmp_path / "instances.jsonl").read_text().splitlines()
    assert len(lines) == 4000
    instances.main(["--data", str(generated), "--limit", "2"])
    assert capsys.readouterr().out.splitlines() == lines[:2]


def test_main_needs_no_outcome_of_the_trips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "running.csv"
    file.write_text(
        "pickup_datetime,dropoff_datetime,trip_distance,pickup_location_id,dropoff_location_id\n"
        "2019-03-23 20:21:09,2019-03-23 20:27:24,1.6,141,233\n"
        "2019-03-23 20:21:09,2019-03-23 20:27:24,,141,233\n"
    )
    instances.main(["--data", str(file)])
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert written == [[7, 20, 375, 1.6, 141, 233], [7, 20, 375, None, 141, 233]]
