from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from ml.taxi_tips import data, features


def test_from_trips_counts_weekdays_from_sunday_as_bigquery_does() -> None:
    pickups = pd.date_range("2019-03-24 23:59:59", periods=7, freq="D")  # from Sunday to Saturday
    trips = pd.DataFrame(
        {
            "pickup_datetime": pickups,
            "dropoff_datetime": pickups + pd.Timedelta("90s"),
            "trip_distance": 1.0,
            "pickup_location_id": 4,
            "dropoff_location_id": 7,
        }
    )
    examples = features.from_trips(trips)
    assert examples["trip_day_of_week"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert examples["trip_duration"].unique().tolist() == [90]


def test_instances_are_the_training_matrix_as_json(generated: Path) -> None:
    examples = data.read([generated]).examples
    sent = json.loads(json.dumps(features.instances(examples)))
    assert sent == features.matrix(examples).tolist()
    assert len(sent[0]) == len(features.COLUMNS) == 6


def test_main_writes_one_instance_a_line_for_every_trip(
    generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features.main(["--data", str(generated), "--out", str(tmp_path / "instances.jsonl")])
    lines = (tmp_path / "instances.jsonl").read_text().splitlines()
    assert len(lines) == 4000
    features.main(["--data", str(generated), "--limit", "2"])
    assert capsys.readouterr().out.splitlines() == lines[:2]


def test_main_needs_no_outcome_of_the_trips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "running.csv"
    file.write_text(
        "pickup_datetime,dropoff_datetime,trip_distance,pickup_location_id,dropoff_location_id\n"
        "2019-03-23 20:21:09,2019-03-23 20:27:24,1.6,141,233\n"
        "2019-03-23 20:21:09,2019-03-23 20:27:24,,141,233\n"
    )
    features.main(["--data", str(file)])
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert written == [[7, 20, 375, 1.6, 141, 233], [7, 20, 375, None, 141, 233]]
