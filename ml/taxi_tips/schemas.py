"""The column names under which taxi trips are published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ml.errors import InputError

TIMES = ("pickup_datetime", "dropoff_datetime")
# What a trip needs to become an instance, and what tells its label.
TRIP = (*TIMES, "trip_distance", "pickup_location_id", "dropoff_location_id")
OUTCOME = ("payment_type", "fare_amount", "tip_amount")
# The same, once features were made of it: the table of Google's "Implementing MLOps on GCP" exercises.
PREPARED = (
    "trip_month",
    "trip_day",
    "trip_day_of_week",
    "trip_hour",
    "trip_duration",
    "trip_distance",
    "pickup_zone",
    "dropoff_zone",
)
PREPARED_OUTCOME = ("payment_type", "tip_bin")


@dataclass(frozen=True, eq=False)
class Schema:
    """One publisher's table: our name of each column -> theirs."""

    name: str
    trip: dict[str, str]
    outcome: dict[str, str]
    prepared: bool = False

    def columns(self, labelled: bool) -> dict[str, str]:
        """Our name -> theirs, of the columns to read."""
        return {**self.trip, **self.outcome} if labelled else self.trip


def _tlc(colour: str, prefix: str) -> Schema:
    trip = {
        "pickup_datetime": f"{prefix}_pickup_datetime",
        "dropoff_datetime": f"{prefix}_dropoff_datetime",
        "trip_distance": "trip_distance",
        "pickup_location_id": "PULocationID",
        "dropoff_location_id": "DOLocationID",
    }
    return Schema(f"TLC {colour} trips", trip, {name: name for name in OUTCOME})


# Sources: the dictionaries at https://www.nyc.gov/site/tlc/about/tlc-trip-record-data.page and the table
# bigquery-public-data.new_york_taxi_trips.tlc_yellow_trips_2018, whose names are ours.
SCHEMAS = (
    Schema("BigQuery taxi trips", {name: name for name in TRIP}, {name: name for name in OUTCOME}),
    _tlc("yellow", "tpep"),
    _tlc("green", "lpep"),
    Schema(
        "prepared trips",
        {name: name for name in PREPARED},
        {name: name for name in PREPARED_OUTCOME},
        prepared=True,
    ),
)


def recognise(header: Sequence[str], file: str, labelled: bool) -> Schema:
    """The schema whose columns a file has.

    Raises InputError naming the missing columns of the schema that comes nearest.
    """
    have = set(header)
    missing = {
        schema: [theirs for theirs in schema.columns(labelled).values() if theirs not in have] for schema in SCHEMAS
    }
    nearest = min(SCHEMAS, key=lambda schema: len(missing[schema]))
    if missing[nearest]:
        names = ", ".join(missing[nearest])
        plural = "columns" if len(missing[nearest]) > 1 else "column"
        raise InputError(
            f"{file}:1: {plural} {names} missing; taken for {nearest.name}, other tables known: "
            + ", ".join(schema.name for schema in SCHEMAS if schema is not nearest)
        )
    return nearest
