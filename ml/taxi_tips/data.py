"""Trips from CSV files, checked, labelled and split.

**The label.** `tip_bin` is 1 when the tip is 20 % of the fare or more. Only payments by card (type 1)
carry a recorded tip: cash tips are real but never written down, and appear as 0. So rows of other
payment types have no label, neither for training nor for evaluation; taking their 0 for an answer would
teach the model to recognise cash. Refunds and voided meters (a fare of 0 or less) have no label either.

**The split** goes by the trip itself: a hash of what identifies it chooses train (80 %), validation
(10 %) or test (10 %). The same trip falls on the same side in every file and run, twice the same row
never sits on both sides, and adding rows moves none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ml.errors import InputError
from ml.taxi_tips import features, schemas

LABEL = "tip_bin"
CARD = 1
SPLITS = ("train", "validation", "test")
_VALIDATION_FROM, _TEST_FROM = 0.8, 0.9
# A quality measured on fewer rows than this says nothing.
_FEWEST_ROWS = 20
_KEY = (
    "trip_month",
    "trip_day",
    "trip_hour",
    "trip_duration",
    "trip_distance",
    "pickup_zone",
    "dropoff_zone",
)


@dataclass
class Dataset:
    """Labelled examples, and what was left out on the way."""

    examples: pd.DataFrame
    """The columns of `features.from_trips` and LABEL, one row a trip."""
    rows_read: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason -> rows."""


def read(files: Sequence[Path]) -> Dataset:
    """The labelled trips of some CSV files, of any schema in `schemas.SCHEMAS`.

    Raises InputError with file, line and column for what cannot be read, and when there is nothing to
    learn: no row with a label, or only one kind of label.
    """
    parts: list[pd.DataFrame] = []
    whole = Dataset(pd.DataFrame())
    for file in files:
        table, schema = _read_table(file, labelled=True)
        whole.rows_read += len(table)
        parts.append(_labelled(table, schema, file, whole.dropped))
    whole.examples = pd.concat(parts, ignore_index=True)
    _require_both_labels(whole, files)
    return whole


def read_unlabelled(files: Sequence[Path]) -> pd.DataFrame:
    """The columns of `features.from_trips` for every row of some CSV files; no outcome is needed."""
    tables = (_read_table(file, labelled=False) for file in files)
    return pd.concat(
        [table if schema.prepared else features.from_trips(table) for table, schema in tables],
        ignore_index=True,
    )


def split_of(examples: pd.DataFrame) -> npt.NDArray[np.str_]:
    """The split of each row: "train", "validation" or "test"."""
    columns = [examples[name].to_numpy(dtype=np.float64).tolist() for name in _KEY]
    points = np.fromiter((_point(row) for row in zip(*columns, strict=True)), dtype=np.float64, count=len(examples))
    return np.select([points < _VALIDATION_FROM, points < _TEST_FROM], SPLITS[:2], SPLITS[2])


def split(examples: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each split. Raises InputError when one is too small to be of use."""
    side = split_of(examples)
    parts = {name: examples[side == name].reset_index(drop=True) for name in SPLITS}
    for name, rows in parts.items():
        require_usable(name, rows)
    return parts


def fingerprint(rows: pd.DataFrame) -> str:
    """Sixteen hexadecimal digits that are the same for the same examples and labels, in any order."""
    table = np.column_stack([features.matrix(rows), rows[LABEL].to_numpy(dtype=np.float64)])
    ordered = np.ascontiguousarray(table[np.lexsort(table.T)])
    return hashlib.blake2b(ordered.tobytes(), digest_size=8).hexdigest()


def require_usable(name: str, rows: pd.DataFrame) -> None:
    """Raise InputError when a split has too few rows, or labels of one kind only."""
    if len(rows) < _FEWEST_ROWS or rows[LABEL].nunique() < 2:
        raise InputError(
            f"the {name} split has {len(rows)} rows, {int(rows[LABEL].sum())} of them with a tip of 20 % or "
            f"more; it needs {_FEWEST_ROWS} rows and both kinds: give more trips, a thousand paid by card will do"
        )


def write_examples(examples: pd.DataFrame, file: Path) -> None:
    """Write labelled examples as CSV, every number exactly."""
    file.parent.mkdir(parents=True, exist_ok=True)
    examples.to_csv(file, index=False)


def read_examples(file: Path) -> pd.DataFrame:
    """What `write_examples` wrote."""
    return pd.read_csv(file, float_precision="round_trip")


def _point(key: tuple[float, ...]) -> float:
    """A number in [0, 1) that depends on the key alone: not on the machine, the run or the library."""
    month, day, hour, duration, distance, pickup, dropoff = key
    text = f"{month:.0f}-{day:.0f}-{hour:.0f}-{duration:.0f}-{distance:.2f}-{pickup:.0f}-{dropoff:.0f}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def _labelled(table: pd.DataFrame, schema: schemas.Schema, file: Path, dropped: dict[str, int]) -> pd.DataFrame:
    """The rows that have a label, with it. What is left out is counted into `dropped`."""

    def keep(rows: pd.DataFrame, mask: pd.Series[bool], reason: str) -> pd.DataFrame:
        left_out = len(rows) - int(mask.sum())
        if left_out:
            dropped[reason] = dropped.get(reason, 0) + left_out
        return rows[mask]

    rows = keep(table, table["payment_type"] == CARD, "not paid by card")
    rows = keep(rows, rows.notna().all(axis=1), "incomplete")
    if schema.prepared:
        examples = rows.drop(columns="payment_type")
        _refuse(examples[LABEL], examples[LABEL].where(examples[LABEL].isin([0, 1])), file, "0 or 1")
    else:
        rows = keep(rows, rows["fare_amount"] > 0, "no fare, or a refund")
        # Cents: 20 % of a fare is exact in whole numbers and not in binary fractions.
        tip, fare = ((rows[name] * 100).round() for name in ("tip_amount", "fare_amount"))
        examples = features.from_trips(rows).assign(**{LABEL: (tip * 5 >= fare).astype(int)})
    possible = (examples["trip_duration"] > 0) & (examples["trip_distance"] >= 0)
    return keep(examples, possible, "no time passed, or a negative distance")


def _require_both_labels(dataset: Dataset, files: Sequence[Path]) -> None:
    where = ", ".join(map(str, files))
    if dataset.examples.empty:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dataset.dropped.items()) or "no rows"
        raise InputError(f"{where}: no trip has a usable label ({reasons})")
    positives = int(dataset.examples[LABEL].sum())
    if positives in (0, len(dataset.examples)):
        which = "none" if positives == 0 else "every one"
        raise InputError(
            f"{where}: of {len(dataset.examples)} trips paid by card {which} has a tip of 20 % or more; "
            "there is nothing to tell apart"
        )


def _read_table(file: Path, labelled: bool) -> tuple[pd.DataFrame, schemas.Schema]:
    """A file's columns that we need, under our names, numbers as float64 and times as datetime64."""
    schema = schemas.recognise(_header(file), str(file), labelled)
    ours = {theirs: name for name, theirs in schema.columns(labelled).items()}
    try:
        # Blank lines are kept until the lines are numbered, and low_memory would type each chunk by itself.
        # Without index_col=False a comma at the end of each row would move all columns by one.
        raw = pd.read_csv(
            file,
            usecols=list(ours),
            index_col=False,
            skip_blank_lines=False,
            low_memory=False,
            encoding="utf-8-sig",
        )
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: is not a readable CSV file: {str(error).strip()}") from None
    raw = raw[raw.notna().any(axis=1)]
    if raw.empty:
        raise InputError(f"{file}: has a header and no rows")
    table = pd.DataFrame(
        {name: (_times if name in schemas.TIMES else _numbers)(raw[theirs], file) for theirs, name in ours.items()}
    )
    return table, schema


def _header(file: Path) -> list[str]:
    try:
        return [str(name) for name in pd.read_csv(file, nrows=0, encoding="utf-8-sig").columns]
    except pd.errors.EmptyDataError:
        raise InputError(f"{file}: the file is empty") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{file}:1: is not a readable CSV file: {str(error).strip()}") from None


def _numbers(column: pd.Series[float] | pd.Series[str], file: Path) -> pd.Series[float]:
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    finite = numbers.where(np.isfinite(numbers))
    _refuse(column, finite, file, "a number")
    return finite


def _times(column: pd.Series[str], file: Path) -> pd.Series[pd.Timestamp]:
    times = pd.to_datetime(column, errors="coerce", format="%Y-%m-%d %H:%M:%S")
    rest = column[times.isna() & column.notna()]
    if not rest.empty:
        # BigQuery exports the tables' local times as if they were UTC; the zone says nothing.
        texts = rest.astype("string").str.replace(r"\s*(UTC|Z|[+-]00:?00)$", "", regex=True)
        times[rest.index] = pd.to_datetime(texts, errors="coerce", format="ISO8601")
    _refuse(column, times, file, "a time such as 2019-03-23 20:21:09")
    return times


def _refuse(raw: pd.Series[str] | pd.Series[float], parsed: pd.Series, file: Path, wanted: str) -> None:
    """Raise InputError for the first cell that says something which is not what we want."""
    wrong = raw.notna() & parsed.isna()
    if wrong.any():
        first = int(np.argmax(wrong.to_numpy()))
        # The index counts data rows from 0, blank lines among them; the header is line 1.
        line = int(str(raw.index[first])) + 2
        raise InputError(f"{file}:{line}: column {raw.name}: {str(raw.iloc[first])[:40]!r} is not {wanted}")
