"""Which row of a dataset is for training, which for validation, which for the test.

Every split is a function of the rows and their order alone: the same dataset is always split alike.

Source: the comments of training_pipeline.proto, and https://cloud.google.com/vertex-ai/docs/general/ml-use
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from typing import Any

from google.api_core.exceptions import InvalidArgument
from selfloop_apis.aiplatform_v1 import InputDataConfig

from emulator.services.aiplatform.csv_table import CsvTable, Row

ROLES = ("training", "validation", "test")
#: A row -> its role, or None for a row that is left out.
Assign = Callable[[Row], str | None]

_DEFAULT_FRACTIONS = (0.8, 0.1, 0.1)
_NAMES = {"train": "training", "validate": "validation"} | {role: role for role in ROLES}
#: Multiples of the golden ratio, modulo one, fill any interval evenly, whatever their number: shares come out
#: right to a row even for ten rows, and no period in the data falls together with them.
_GOLDEN = 0x9E3779B97F4A7C15
_WHOLE = 1 << 64
#: Values of a stratified split that are counted each for themselves.
_MOST_STRATA = 10_000
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?[Zz]")


def check_split(config: InputDataConfig) -> None:
    """Raises InvalidArgument for a split that no tabular dataset has, or whose fractions cannot be."""
    kind = config.WhichOneof("split")
    if kind == "filter_split":
        raise InvalidArgument("filter_split is not supported for tabular datasets; they have no data items.")
    if kind is None:
        return
    split = getattr(config, kind)
    if kind != "fraction_split" and not split.key:
        raise InvalidArgument(f"List of found errors:\t1.Field: {kind}.key; Message: Required field is not set.\t")
    if kind != "predefined_split":
        fractions(split)


def fractions(split: Any) -> tuple[float, float, float]:
    """The shares of training, validation and test, 1 in sum.

    What is left of 1 goes to the sets without a fraction, in the proportion of the defaults, or else to training.
    Raises InvalidArgument for shares below 0 or above 1 in sum.
    """
    given = (split.training_fraction, split.validation_fraction, split.test_fraction)
    left = 1 - sum(given)
    if not (min(given) >= 0 and left >= -1e-6):  # NaN is neither
        raise InvalidArgument(f"The fractions {', '.join(map(str, given))} must be positive and sum up to at most 1.")
    open_shares = [default if not share else 0.0 for share, default in zip(given, _DEFAULT_FRACTIONS, strict=True)]
    if left <= 1e-6 or not any(open_shares):
        return given[0] + left, given[1], given[2]
    filled = [share + left * part / sum(open_shares) for share, part in zip(given, open_shares, strict=True)]
    return filled[0], filled[1], filled[2]


def assigner(config: Any, table: CsvTable) -> Assign:
    """How the rows of a table are split by an InputDataConfig or ExportDataConfig.

    A timestamp split reads the table once for it. Raises InvalidArgument for a key that is no column.
    """
    kind = config.WhichOneof("split")
    if kind is None:
        return _by_fraction(_DEFAULT_FRACTIONS)
    split = getattr(config, kind)
    if kind == "fraction_split":
        return _by_fraction(fractions(split))
    column = table.column(split.key)
    if kind == "predefined_split":
        return lambda row: _NAMES.get(_value(row, column).strip().lower())
    if kind == "stratified_split":
        return _by_stratum(fractions(split), column)
    return _by_time(fractions(split), column, table)


def _by_fraction(shares: tuple[float, float, float]) -> Assign:
    return lambda row: _role_at(row.number * _GOLDEN % _WHOLE / _WHOLE, shares)


def _by_stratum(shares: tuple[float, float, float], column: int) -> Assign:
    """The same within the rows of each value; each begins elsewhere, so that rare values go to every set."""
    seen: Counter[str] = Counter()

    def assign(row: Row) -> str:
        value = _value(row, column)
        if value not in seen and len(seen) >= _MOST_STRATA:
            return _role_at(row.number * _GOLDEN % _WHOLE / _WHOLE, shares)
        start = int.from_bytes(hashlib.sha256(value.encode()).digest()[:8], "big")
        at = (start + seen[value] * _GOLDEN) % _WHOLE / _WHOLE
        seen[value] += 1
        return _role_at(at, shares)

    return assign


def _by_time(shares: tuple[float, float, float], column: int, table: CsvTable) -> Assign:
    """Oldest first: training, validation, test. Rows without a time are left out.

    The reference says it the other way round, the guide to data splits like this, and only this makes a test.
    """
    first_of_validation, first_of_test = _bounds(shares, column, table)

    def assign(row: Row) -> str | None:
        moment = _moment(_value(row, column))
        if moment is None:
            return None
        at = (moment, row.number)
        if first_of_validation is None or at < first_of_validation:
            return "training"
        return "validation" if first_of_test is None or at < first_of_test else "test"

    return assign


def _bounds(
    shares: tuple[float, float, float], column: int, table: CsvTable
) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    """Time and number of the rows with which validation and test begin; None where that is behind the last."""

    def moments() -> Iterator[tuple[str, int]]:
        for row in table.rows():
            moment = _moment(_value(row, column))
            if moment is not None:
                yield moment, row.number

    # An empty name is a database in a temporary file: sorting takes no memory in the rows.
    with closing(sqlite3.connect("")) as database:
        database.execute("CREATE TABLE moments (moment TEXT NOT NULL, number INTEGER NOT NULL)")
        database.executemany("INSERT INTO moments VALUES (?, ?)", moments())
        (count,) = database.execute("SELECT COUNT(*) FROM moments").fetchone()
        database.execute("CREATE INDEX in_order ON moments (moment, number)")
        places = (round(count * shares[0]), round(count * (shares[0] + shares[1])))
        found = [
            database.execute(
                "SELECT moment, number FROM moments ORDER BY moment, number LIMIT 1 OFFSET ?", (place,)
            ).fetchone()
            for place in places
        ]
    return found[0], found[1]


def _moment(text: str) -> str | None:
    """A time of RFC 3339 in UTC as text that sorts as times do; None for anything else."""
    match = _MOMENT.fullmatch(text.strip())
    if match is None:
        return None
    whole = f"{match[1]}T{match[2]}"
    try:
        datetime.fromisoformat(whole)
    except ValueError:
        return None
    return f"{whole}.{(match[3] or '').rstrip('0')}"


def _value(row: Row, column: int) -> str:
    return row.fields[column] if column < len(row.fields) else ""


def _role_at(place: float, shares: tuple[float, float, float]) -> str:
    """The set that a place from 0 to 1 falls into."""
    if place < shares[0] or not (shares[1] or shares[2]):
        return "training"
    return "validation" if place < shares[0] + shares[1] or not shares[2] else "test"
