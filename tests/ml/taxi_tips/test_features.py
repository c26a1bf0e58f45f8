from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

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
