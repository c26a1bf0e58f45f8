"""Rows of CSV files, and which of them are for training, validation and test."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from typing import Any

import pytest
from google.api_core.exceptions import Cancelled, InvalidArgument, NotFound
from hypothesis import given
from hypothesis import strategies as st
from selfloop_apis import aiplatform_v1 as api

from emulator.services.aiplatform.csv_table import CsvTable
from emulator.services.aiplatform.data_splits import assigner, check_split, fractions
from tests.emulator.services.aiplatform.fakes import MemoryObjects


def table(text: str) -> CsvTable:
    return CsvTable(MemoryObjects(a=text), ["gs://data/a.csv"])


def config(kind: str, **fields: Any) -> api.InputDataConfig:
    made = api.InputDataConfig()
    getattr(made, kind).CopyFrom(type(getattr(made, kind))(**fields))
    return made


def roles(split: api.InputDataConfig, text: str) -> dict[str | None, list[str]]:
    """Role -> first fields of its rows."""
    data = table(text)
    assign = assigner(split, data)
    found: dict[str | None, list[str]] = {}
    for row in data.rows():
        found.setdefault(assign(row), []).append(row.fields[0])
    return found


def numbered(count: int, columns: str = "n") -> str:
    return f"{columns}\n" + "".join(f"{index}\n" for index in range(count))


def test_rows_keep_their_bytes() -> None:
    text = '\ufeffa,b\r\n1,"x, y"\r\n\r\n2,"two\n\nlines ""quoted"""\n3,5" pipe\nlast,ü'
    data = table(text)
    assert data.columns == ["a", "b"]
    assert [row.fields[1] for row in data.rows()] == ["x, y", 'two\n\nlines "quoted"', '5" pipe', "ü"]
    assert [row.number for row in data.rows()] == [0, 1, 2, 3]
    raw = data.header + b"".join(row.raw for row in data.rows())
    assert raw.decode() == 'a,b\r\n1,"x, y"\r\n2,"two\n\nlines ""quoted"""\n3,5" pipe\nlast,ü\n'


def test_files_of_a_pattern_are_one_table() -> None:
    objects = MemoryObjects(a1="n\n1\n2\n", a2="n\n", a3="n\n3\n", b="m\n4\n")
    data = CsvTable(objects, ["gs://data/a*.csv"])
    assert [(row.number, row.fields) for row in data.rows()] == [(0, ["1"]), (1, ["2"]), (2, ["3"])]
    with pytest.raises(NotFound, match=r"no objects like gs://data/c\*"):
        CsvTable(objects, ["gs://data/c*"])
    with pytest.raises(InvalidArgument, match=r"columns of gs://data/b\.csv are not those of gs://data/a1\.csv"):
        list(CsvTable(objects, ["gs://data/a1.csv", "gs://data/b.csv"]).rows())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a\n" + '"' + "x" * 200_000, "cannot be read as CSV near line 2"),
    ],
)
def test_what_is_no_table_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        list(table(text).rows())


def test_bytes_that_are_no_text_are_refused() -> None:
    objects = MemoryObjects(a="")
    objects.content["gs://data/a.csv"] = b"a\n\xff\n"
    with pytest.raises(InvalidArgument, match=r"near line 2: 'utf-8' codec"):
        list(CsvTable(objects, ["gs://data/a.csv"]).rows())


@pytest.mark.parametrize("count", [10, 100, 1003])
def test_no_split_is_80_10_10(count: int) -> None:
    found = roles(api.InputDataConfig(), numbered(count))
    shares = {role: len(rows) / count for role, rows in found.items()}
    assert shares == pytest.approx({"training": 0.8, "validation": 0.1, "test": 0.1}, abs=2 / count)
    assert found == roles(api.InputDataConfig(), numbered(count))


@pytest.mark.parametrize(
    ("stated", "filled"),
    [
        ({}, (0.8, 0.1, 0.1)),
        ({"training_fraction": 0.6}, (0.6, 0.2, 0.2)),
        ({"training_fraction": 0.7, "validation_fraction": 0.3}, (0.7, 0.3, 0.0)),
        ({"training_fraction": 0.5, "test_fraction": 0.2}, (0.5, 0.3, 0.2)),
        ({"training_fraction": 0.5, "validation_fraction": 0.2, "test_fraction": 0.2}, (0.6, 0.2, 0.2)),
    ],
)
def test_fractions_left_out_are_filled(stated: dict[str, float], filled: tuple[float, ...]) -> None:
    assert fractions(api.FractionSplit(**stated)) == pytest.approx(filled)


@pytest.mark.parametrize("stated", [(0.8, 0.3, 0.1), (-0.1, 0.5, 0.6), (math.nan, 0.1, 0.1)])
def test_fractions_that_cannot_be_are_refused(stated: tuple[float, float, float]) -> None:
    split = config(
        "fraction_split", training_fraction=stated[0], validation_fraction=stated[1], test_fraction=stated[2]
    )
    with pytest.raises(InvalidArgument, match="sum up to at most 1"):
        check_split(split)


def test_a_set_of_fraction_nothing_gets_no_rows() -> None:
    split = config("fraction_split", training_fraction=0.5, test_fraction=0.5, validation_fraction=0.0)
    found = roles(split, numbered(1000))
    assert set(found) == {"training", "test"}
    assert len(found["training"]) == 500


def test_predefined_split_follows_the_column_and_leaves_out_other_rows() -> None:
    text = "n,use\n1,training\n2,TRAIN\n3,validation\n4,VALIDATE\n5,test\n6,TEST\n7,\n8,other\n9\n"
    found = roles(config("predefined_split", key="use"), text)
    assert found == {"training": ["1", "2"], "validation": ["3", "4"], "test": ["5", "6"], None: ["7", "8", "9"]}


def test_timestamp_split_trains_on_the_oldest() -> None:
    times = [f"2026-01-{day:02}T10:00:00Z" for day in range(10, 0, -1)]
    text = "t\n" + "\n".join([*times, "2026-01-01", "2026-13-01T10:00:00Z", "2026-01-01T10:00:00+01:00"])
    found = roles(config("timestamp_split", key="t"), text)
    assert sorted(found["training"]) == sorted(times[2:])
    assert found["validation"] == [times[1]]
    assert found["test"] == [times[0]]
    assert found[None] == ["2026-01-01", "2026-13-01T10:00:00Z", "2026-01-01T10:00:00+01:00"]


def test_timestamp_split_orders_parts_of_seconds_and_equal_times() -> None:
    parts = ["2026-01-01T00:00:00.25Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00Z"]
    split = config("timestamp_split", key="t", training_fraction=0.5, validation_fraction=0.25, test_fraction=0.25)
    found = roles(split, "t\n" + "\n".join(parts))
    assert found == {"training": [parts[1], parts[3]], "validation": [parts[0]], "test": [parts[2]]}


def test_stratified_split_mirrors_every_value() -> None:
    values = ["A"] * 500 + ["B"] * 250 + ["C"] * 250
    found = roles(config("stratified_split", key="v"), "v\n" + "\n".join(values))
    for role, share in (("training", 0.8), ("validation", 0.1), ("test", 0.1)):
        counts = Counter(found[role])
        assert [counts[value] for value in "ABC"] == pytest.approx([500 * share, 250 * share, 250 * share], abs=2)


def test_stratified_split_gives_rare_values_to_every_set() -> None:
    found = roles(config("stratified_split", key="v"), "v\n" + "\n".join(f"v{index}" for index in range(1000)))
    assert len(found["training"]) == pytest.approx(800, abs=50)
    assert len(found["test"]) == pytest.approx(100, abs=40)


@pytest.mark.parametrize("kind", ["predefined_split", "timestamp_split", "stratified_split"])
def test_a_key_that_is_no_column_is_refused(kind: str) -> None:
    with pytest.raises(InvalidArgument, match='no column "when"; it has n'):
        roles(config(kind, key="when"), numbered(3))
    with pytest.raises(InvalidArgument, match=rf"Field: {kind}\.key; Message: Required"):
        check_split(config(kind))


def test_reading_for_a_split_can_be_cancelled() -> None:
    asked: list[int] = []

    def is_cancelled() -> bool:
        asked.append(1)
        return len(asked) > 1

    text = "t\n" + "2026-01-01T00:00:00Z\n" * 5000
    data = CsvTable(MemoryObjects(a=text), ["gs://data/a.csv"], is_cancelled)
    with pytest.raises(Cancelled):
        assigner(config("timestamp_split", key="t"), data)
    assert len(asked) == 2


FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.tuples(FIELD, FIELD, FIELD), max_size=20), st.integers(1, 30))
def test_any_table_is_read_as_it_was_written(rows: list[tuple[str, str, str]], piece: int) -> None:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerows([("a", "b", "c"), *rows])
    data = written.getvalue().encode()
    objects = MemoryObjects(a="")
    objects.read = lambda uri: (data[at : at + piece] for at in range(0, len(data), piece))  # type: ignore[method-assign]
    found = CsvTable(objects, ["gs://data/a.csv"])
    assert [tuple(row.fields) for row in found.rows()] == rows
    assert found.header + b"".join(row.raw for row in found.rows()) == data


def test_filter_split_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="filter_split is not supported for tabular"):
        check_split(config("filter_split", training_filter="-", validation_filter="-", test_filter="-"))
