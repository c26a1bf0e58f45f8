"""The points of time series, in a table of their own: nothing of them is held in memory.

A scalar takes a row of three numbers. A write to a step that is there replaces it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from selfloop_apis.aiplatform_v1 import (
    TensorboardBlob,
    TensorboardBlobSequence,
    TensorboardTimeSeries,
    TimeSeriesDataPoint,
)

from emulator.core.ids import new_id
from emulator.core.state import Database

_NANOS = 10**9


class Points:
    """Points by the full name of their time series, in the order of their steps."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create(
            "CREATE TABLE IF NOT EXISTS time_series (key INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL)",
            # A scalar that is no number is NULL: SQLite has no NaN. Of other kinds, the message is kept in `data`.
            "CREATE TABLE IF NOT EXISTS time_series_points (series INTEGER, step INTEGER, wall_nanos INTEGER, "
            "scalar REAL, data BLOB, PRIMARY KEY (series, step)) WITHOUT ROWID",
        )

    def write(self, name: str, points: Iterable[TimeSeriesDataPoint]) -> None:
        """Add points, or replace those of the same steps."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO time_series (name) VALUES (?)", (name,))
            key = connection.execute("SELECT key FROM time_series WHERE name = ?", (name,)).fetchone()["key"]
            connection.executemany(
                "INSERT OR REPLACE INTO time_series_points VALUES (?, ?, ?, ?, ?)",
                ((key, *_row(point)) for point in points),
            )

    def count(self, name: str) -> int:
        row = self._database.query(f"SELECT COUNT(*) AS n {_FROM} WHERE name = ?", (name,))[0]
        return int(row["n"])

    def read(
        self, series: TensorboardTimeSeries, *, after: int | None = None, descending: bool = False
    ) -> Iterator[TimeSeriesDataPoint]:
        """Points without the bytes of blobs. after: the step behind which to begin."""
        rows = self._rows(series.name, after, descending=descending)
        return (_point(row, series.value_type) for row in rows)

    def sample(
        self, series: TensorboardTimeSeries, most: int, test: Callable[[TimeSeriesDataPoint], bool] | None = None
    ) -> Iterator[TimeSeriesDataPoint]:
        """At most so many of the points, those that pass a test if there is one; evenly spaced, with both ends."""

        def rows() -> Iterator[Any]:
            found = self._rows(series.name, None, descending=False)
            return found if test is None else (row for row in found if test(_point(row, series.value_type)))

        total = self.count(series.name)
        if test is not None and total > most:
            total = sum(1 for _ in rows())
        wanted = _evenly(most, total)
        # A row that is passed over is never made a message.
        return (_point(row, series.value_type) for index, row in enumerate(rows()) if index in wanted)

    def blobs(self, name: str, ids: set[str]) -> Iterator[TensorboardBlob]:
        """The blobs of these ids whose bytes were written with them."""
        for row in self._rows(name, None, descending=False):
            for blob in TensorboardBlobSequence.FromString(row["data"]).values:
                if blob.id in ids and blob.data:
                    yield blob

    def size(self, prefix: str) -> int:
        """Bytes that the points below a resource take."""
        row = self._database.query(
            f"SELECT SUM(24 + IFNULL(LENGTH(data), 0)) AS size {_FROM} WHERE name >= ? AND name < ?",
            (f"{prefix}/", f"{prefix}0"),
        )[0]
        return int(row["size"] or 0)

    def delete(self, name: str) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM time_series_points WHERE series IN (SELECT key FROM time_series WHERE name = ?)", (name,)
            )
            connection.execute("DELETE FROM time_series WHERE name = ?", (name,))

    def _rows(self, name: str, after: int | None, *, descending: bool) -> Iterator[Any]:
        bound = "" if after is None else f"AND step {'<' if descending else '>'} ?"
        order = "DESC" if descending else "ASC"
        return self._database.iterate(
            f"SELECT step, wall_nanos, scalar, data {_FROM} WHERE name = ? {bound} ORDER BY step {order}",
            (name,) if after is None else (name, after),
        )


_FROM = "FROM time_series JOIN time_series_points ON series = key"


def _row(point: TimeSeriesDataPoint) -> tuple[int, int, float | None, bytes | None]:
    wall_nanos = point.wall_time.seconds * _NANOS + point.wall_time.nanos
    if point.HasField("scalar"):
        return point.step, wall_nanos, point.scalar.value, None
    if point.HasField("blobs"):
        for blob in point.blobs.values:
            blob.id = blob.id or new_id()
        return point.step, wall_nanos, None, point.blobs.SerializeToString()
    return point.step, wall_nanos, None, point.tensor.SerializeToString()


def _evenly(most: int, total: int) -> range | set[int]:
    """So many of the indexes below a total, the first and the last among them; of one, the last."""
    if total <= most:
        return range(total)
    return {round(index * (total - 1) / (most - 1)) for index in range(most)} if most > 1 else {total - 1}


def _point(row: Any, kind: TensorboardTimeSeries.ValueType.ValueType) -> TimeSeriesDataPoint:
    point = TimeSeriesDataPoint(step=row["step"])
    point.wall_time.seconds, point.wall_time.nanos = divmod(row["wall_nanos"], _NANOS)
    if kind == TensorboardTimeSeries.SCALAR:
        point.scalar.value = math.nan if row["scalar"] is None else row["scalar"]
    elif kind == TensorboardTimeSeries.TENSOR:
        point.tensor.ParseFromString(row["data"])
    else:
        point.blobs.ParseFromString(row["data"])
        for blob in point.blobs.values:
            blob.ClearField("data")
    return point
