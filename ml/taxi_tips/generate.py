"""Made-up New York taxi trips with the schema and the statistical shape of the public tables.

Columns are those of bigquery-public-data.new_york_taxi_trips.tlc_yellow_trips_2018. The same seed gives
the same rows, and more rows leave the first ones as they were: each block of BLOCK rows draws from a
random stream of its own.

Measured on TLC's yellow trips of March 2019 and kept here: the share of each kind of journey (within
Manhattan 85 %, to and from the airports 6 %, other boroughs), its log-normal distance, its share of cards
and of toll roads; how often each Manhattan zone is a start and an end; hours on working days and at
weekends, the weight of each weekday; speed, which grows with distance to the power 0.31 and falls in
the day; passengers, vendors; and how people tip by card: half press 20 % of what the meter shows, 10 %
press 25 %, 5 % nothing, one in six gives round dollars, and long rides and the other boroughs tip less.

By rule, not measured: the fare (the tariff of 2012 to 2022: $2.50, then $0.50 a fifth of a mile or a
minute in slow traffic; JFK $52; Newark $17.50 on top), surcharges (night $0.50, rush hour $1.00, since
February 2019 $2.50 for Manhattan below 96th Street, which some meters report in `extra`: so do we), the
MTA's $0.50 and the $0.30 improvement surcharge.

    python -m ml.taxi_tips.generate --rows 20000 --seed 1 --month 2019-03 --out trips.csv
"""

from __future__ import annotations

import argparse
import calendar
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ml.errors import InputError, one_line_errors
from ml.paths import local_path
from ml.taxi_tips import zones
from ml.taxi_tips.tipping import tip_cents

BLOCK = 50_000
COLUMNS = (
    "vendor_id",
    "pickup_datetime",
    "dropoff_datetime",
    "passenger_count",
    "trip_distance",
    "rate_code",
    "store_and_fwd_flag",
    "payment_type",
    "fare_amount",
    "extra",
    "mta_tax",
    "tip_amount",
    "tolls_amount",
    "imp_surcharge",
    "total_amount",
    "pickup_location_id",
    "dropoff_location_id",
    "data_file_year",
    "data_file_month",
)
CARD, CASH, NO_CHARGE, DISPUTE = 1, 2, 3, 4
STANDARD, JFK, NEWARK, NEGOTIATED = 1, 2, 3, 5

Columns = dict[str, npt.NDArray[np.int64]]

# Trips that begin in each hour, per mille of the day.
_WORKING_DAY = [23, 10, 10, 5, 5, 10, 27, 43, 57, 50, 47, 39, 48, 46, 54, 55, 50, 61, 67, 65, 61, 64, 55, 49]
_WEEKEND = [53, 34, 28, 24, 19, 7, 9, 18, 30, 36, 51, 61, 59, 60, 61, 49, 47, 55, 53, 62, 53, 39, 47, 46]
# Trips of each weekday from Monday, per mille of a week.
_WEEKDAYS = [112, 131, 148, 143, 174, 161, 132]
# Speed in each hour over the day's middle.
_TRAFFIC = [
    *(1.21, 1.33, 1.36, 1.36, 1.45, 1.48, 1.35, 1.17, 0.93, 0.87, 0.88, 0.88),
    *(0.90, 0.93, 0.87, 0.91, 0.90, 0.90, 0.92, 1.01, 1.07, 1.10, 1.15, 1.12),
]
# mph = exp(_SPEED_AT_ONE_MILE) * miles ** _SPEED_GROWTH, give or take exp(_SPEED_SPREAD).
_SPEED_AT_ONE_MILE, _SPEED_GROWTH, _SPEED_SPREAD = 2.13, 0.31, 0.33
_PASSENGERS = {0: 17, 1: 699, 2: 149, 3: 42, 4: 20, 5: 46, 6: 27}
_FAST_MPH, _SLOW_MPH = 20.0, 6.0


def write(path: str | Path, rows: int, seed: int, month: str = "2019-03", shift: float = 0.0) -> None:
    """Write a CSV file of trips, a block at a time.

    month: YYYY-MM, in which they begin. shift: the share of trips, 0 to 1, turned into journeys to and
    from the airports, as when habits change and a model must notice.
    Raises InputError when rows, month or shift make no sense.
    """
    blocks = trips(rows, seed, month, shift)
    with local_path(str(path)).open("w", encoding="ascii", newline="") as file:
        file.write(",".join(COLUMNS) + "\n")
        texts = _Texts(month)
        for block in blocks:
            file.write(texts.lines(block))


def trips(rows: int, seed: int, month: str = "2019-03", shift: float = 0.0) -> Iterator[Columns]:
    """The trips as blocks of integer columns: times in seconds of the month, distance in hundredths of a
    mile, money in cents, the rest as in the table. See `write` for the arguments."""
    year, number = _parse_month(month)
    if rows < 1:
        raise InputError(f"rows is {rows}; it must be 1 or more")
    if not 0 <= shift <= 1:
        raise InputError(f"shift is {shift}; it is a share, from 0 to 1")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be 0 or more")
    return _blocks(rows, seed, year, number, shift)


def _blocks(rows: int, seed: int, year: int, month: int, shift: float) -> Iterator[Columns]:
    for block, first in enumerate(range(0, rows, BLOCK)):
        generator = np.random.default_rng(np.random.SeedSequence([seed, year, month, block]))
        # A whole block is drawn even when fewer rows are wanted: then more rows later change none of these.
        columns = _block(generator, year, month, shift)
        yield {name: values[: rows - first] for name, values in columns.items()}


def _block(generator: np.random.Generator, year: int, month: int, shift: float) -> Columns:
    kind = _pick(generator, zones.shares(shift))
    pickup, dropoff = zones.ends(generator, kind)
    miles = np.exp(generator.normal(zones.LOG_MILES[kind], zones.LOG_MILES_SPREAD[kind])).clip(0.01, 60).round(2)
    weekday, day, hour, second = _moments(generator, year, month)
    noise = generator.normal(0, _SPEED_SPREAD, BLOCK)
    mph = np.exp(_SPEED_AT_ONE_MILE + noise) * miles**_SPEED_GROWTH * np.array(_TRAFFIC)[hour]
    seconds = (miles / mph.clip(2, 55) * 3600).clip(10, 4 * 3600).astype(np.int64)

    rate = _rates(generator, kind)
    fare = _fares(generator, rate, miles, seconds)
    extra = _surcharges(generator, kind, rate, weekday=weekday, hour=hour, with_congestion=(year, month) >= (2019, 2))
    tolls = np.where(generator.random(BLOCK) < zones.TOLL_ROADS[kind], 576, 0)
    paid = generator.random(BLOCK)
    card = zones.CARDS[kind]
    payment = np.select([paid < card, paid < 0.992, paid < 0.997], [CARD, CASH, NO_CHARGE], DISPUTE)
    vendor = 1 + (generator.random(BLOCK) < 0.63)
    before_tip = fare + extra + tolls + 50 + 30
    tip = tip_cents(generator, before_tip=before_tip, miles=miles, hour=hour, pickup=pickup, dropoff=dropoff)
    tip = np.where(payment == CARD, tip, 0)
    whole = np.ones(BLOCK, dtype=np.int64)
    return {
        "vendor_id": vendor,
        "pickup_datetime": (day * 24 + hour) * 3600 + second,
        "dropoff_datetime": (day * 24 + hour) * 3600 + second + seconds,
        "passenger_count": np.array(list(_PASSENGERS))[_pick(generator, list(_PASSENGERS.values()))],
        "trip_distance": (miles * 100).round().astype(np.int64),
        "rate_code": rate,
        "store_and_fwd_flag": (generator.random(BLOCK) < 0.004).astype(np.int64),
        "payment_type": payment,
        "fare_amount": fare,
        "extra": extra,
        "mta_tax": 50 * whole,
        "tip_amount": tip,
        "tolls_amount": tolls,
        "imp_surcharge": 30 * whole,
        "total_amount": before_tip + tip,
        "pickup_location_id": pickup,
        "dropoff_location_id": dropoff,
        "data_file_year": year * whole,
        "data_file_month": month * whole,
    }


def _pick(generator: np.random.Generator, weights: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """A block of indices, each drawn with its weight."""
    bounds = np.cumsum(weights, dtype=np.float64)
    return np.searchsorted(bounds / bounds[-1], generator.random(BLOCK), side="right").astype(np.int64)


def _moments(
    generator: np.random.Generator, year: int, month: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Weekday (0 is Monday), day of the month from 0, hour, second of the hour."""
    first_weekday, days = calendar.monthrange(year, month)
    weekday_of = (first_weekday + np.arange(days)) % 7
    day = _pick(generator, np.array(_WEEKDAYS, dtype=np.float64)[weekday_of])
    weekday = weekday_of[day]
    hour = np.where(weekday < 5, _pick(generator, _WORKING_DAY), _pick(generator, _WEEKEND))
    return weekday, day, hour, generator.integers(0, 3600, BLOCK)


def _rates(generator: np.random.Generator, kind: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    negotiated = generator.random(BLOCK) < zones.NEGOTIATED[kind]
    return np.select(
        [negotiated, np.isin(kind, zones.JFK_FLAT), kind == zones.TO_NEWARK],
        [NEGOTIATED, JFK, NEWARK],
        STANDARD,
    )


def _fares(
    generator: np.random.Generator,
    rate: npt.NDArray[np.int64],
    miles: npt.NDArray[np.float64],
    seconds: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """The meter's fare in cents."""
    mph = miles / seconds * 3600
    # A trip's average speed as a mix of driving fast, which the meter counts in fifths of a mile, and of
    # slow traffic, which it counts in minutes.
    fast = ((mph - _SLOW_MPH) / (_FAST_MPH - _SLOW_MPH)).clip(0, 1)
    fast_miles = np.where(mph > _FAST_MPH, miles, fast * seconds / 3600 * _FAST_MPH)
    slow_minutes = (1 - fast) * seconds / 60
    metered = 250 + 50 * np.floor(5 * fast_miles + slow_minutes).astype(np.int64)
    agreed = 500 * generator.integers(2, 20, BLOCK)
    return np.select([rate == JFK, rate == NEWARK, rate == NEGOTIATED], [5200, metered + 1750, agreed], metered)


def _surcharges(
    generator: np.random.Generator,
    kind: npt.NDArray[np.int64],
    rate: npt.NDArray[np.int64],
    *,
    weekday: npt.NDArray[np.int64],
    hour: npt.NDArray[np.int64],
    with_congestion: bool,
) -> npt.NDArray[np.int64]:
    """The column `extra`, in cents."""
    rush = (weekday < 5) & (hour >= 16) & (hour < 20)
    night = (hour >= 20) | (hour < 6)
    timed = np.select([(rate == JFK) & rush, rate != STANDARD, rush, night], [450, 0, 100, 50], 0)
    congestion = generator.random(BLOCK) < zones.BELOW_96TH_STREET[kind]
    return timed + (250 * congestion if with_congestion else 0)


def _parse_month(month: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", month)
    if not match or not 2009 <= int(match[1]) <= 2100:
        raise InputError(f"month is {month!r}; write it as 2019-03, from 2009 on")
    return int(match[1]), int(match[2])


class _Texts:
    """Columns to CSV text by tables of ready-made strings: several times faster than formatting each cell."""

    def __init__(self, month: str) -> None:
        self._month = month
        year, number = _parse_month(month)
        following = f"{year + number // 12:04d}-{number % 12 + 1:02d}"
        days = [f"{month}-{day:02d}" for day in range(1, calendar.monthrange(year, number)[1] + 1)]
        # A trip that begins in the month's last hours ends in the next month.
        self._minutes = np.array(
            [
                f"{day} {hour:02d}:{minute:02d}:"
                for day in [*days, f"{following}-01"]
                for hour in range(24)
                for minute in range(60)
            ],
            dtype=object,
        )
        self._seconds = np.array([f"{second:02d}," for second in range(60)], dtype=object)
        self._hundredths = np.array([f"{n // 100}.{n % 100:02d}," for n in range(100_000)], dtype=object)
        self._integers = np.array([f"{n}," for n in range(3000)], dtype=object)
        self._flags = np.array(["N,", "Y,"], dtype=object)

    def lines(self, block: Columns) -> str:
        """The block's rows as CSV lines."""
        pieces: list[npt.NDArray[np.object_]] = []
        for name in COLUMNS:
            values = block[name]
            if name.endswith("_datetime"):
                pieces += [self._minutes[values // 60], self._seconds[values % 60]]
            elif name == "store_and_fwd_flag":
                pieces.append(self._flags[values])
            elif name == "trip_distance" or name.endswith(("_amount", "_tax", "surcharge", "extra")):
                pieces.append(self._hundredths[values])
            else:
                pieces.append(self._integers[values])
        rows = zip(*(piece.tolist() for piece in pieces), strict=True)
        return "".join(["".join(row)[:-1] + "\n" for row in rows])


def main(argv: Sequence[str] | None = None) -> int:
    """Write made-up taxi trips to a CSV file."""
    parser = argparse.ArgumentParser(prog="python -m ml.taxi_tips.generate", description=main.__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="how many trips (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same trips (default %(default)s)")
    parser.add_argument("--month", default="2019-03", help="in which they begin, YYYY-MM (default %(default)s)")
    parser.add_argument("--shift", type=float, default=0.0, help="share of trips turned into airport journeys, 0 to 1")
    parser.add_argument("--out", required=True, help="the CSV file to write")
    arguments = parser.parse_args(argv)
    with one_line_errors():
        write(arguments.out, arguments.rows, arguments.seed, arguments.month, arguments.shift)
        print(f"{arguments.out}: {arguments.rows} trips of {arguments.month}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
