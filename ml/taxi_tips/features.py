"""What the model sees of a trip. Written once: training, serving and batch prediction all begin here.

An instance is one list of six numbers in the order of COLUMNS, as JSON carries it:

    [7, 20, 375.0, 1.6, 141, 233]

| column            | meaning                                                             |
| ----------------- | ------------------------------------------------------------------- |
| trip_day_of_week  | day of the pick-up, 1 is Sunday, as BigQuery's EXTRACT(DAYOFWEEK)   |
| trip_hour         | hour of the pick-up, 0 to 23, New York time                         |
| trip_duration     | seconds from pick-up to drop-off                                    |
| trip_distance     | miles by the meter                                                  |
| pickup_zone       | taxi zone of the pick-up, a category although it is a number        |
| dropoff_zone      | taxi zone of the drop-off                                           |

All six are known when the meter stops, before anyone pays. Left out on purpose: `tip_amount` and
`total_amount`, which hold the answer; `payment_type`, which is the same in every row that has a label
(see `ml.taxi_tips.data`); month and day of the month, which one month of data cannot teach.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

COLUMNS = ("trip_day_of_week", "trip_hour", "trip_duration", "trip_distance", "pickup_zone", "dropoff_zone")
NUMBERS = [0, 1, 2, 3]
ZONES = [4, 5]


def from_trips(trips: pd.DataFrame) -> pd.DataFrame:
    """The model's columns, and the date that the key of a trip needs, for rows of the public trip tables.

    trips: columns pickup_datetime, dropoff_datetime (datetime64), trip_distance, pickup_location_id,
    dropoff_location_id; the index is kept.
    """
    pickup = trips["pickup_datetime"].dt
    return pd.DataFrame(
        {
            "trip_month": pickup.month,
            "trip_day": pickup.day,
            "trip_day_of_week": (pickup.dayofweek + 1) % 7 + 1,  # pandas counts from Monday, 0
            "trip_hour": pickup.hour,
            "trip_duration": (trips["dropoff_datetime"] - trips["pickup_datetime"]).dt.total_seconds(),
            "trip_distance": trips["trip_distance"],
            "pickup_zone": trips["pickup_location_id"],
            "dropoff_zone": trips["dropoff_location_id"],
        },
        index=trips.index,
    )


def matrix(examples: pd.DataFrame) -> npt.NDArray[np.float64]:
    """The model's input, shape (rows, 6), columns as in COLUMNS."""
    return examples[list(COLUMNS)].to_numpy(dtype=np.float64)


def instances(examples: pd.DataFrame) -> list[list[float | None]]:
    """The same rows as JSON instances for online and batch prediction; what is missing is None, as JSON has no NaN."""
    rows = matrix(examples)
    values = rows.astype(object)
    values[np.isnan(rows)] = None
    listed: list[list[float | None]] = values.tolist()
    return listed
