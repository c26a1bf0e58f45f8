from __future__ import annotations

from pathlib import Path

import pytest

from ml.errors import InputError
from ml.taxi_tips import data, schemas

HEADER = (
    "pickup_datetime,dropoff_datetime,trip_distance,pickup_location_id,dropoff_location_id,"
    "payment_type,fare_amount,tip_amount"
)
ROW = "2019-03-23 20:21:09,2019-03-23 20:27:24,1.6,141,233,{payment},{fare},{tip}"


def _row(payment: object = 1, fare: object = 10, tip: object = 3) -> str:
    return ROW.format(payment=payment, fare=fare, tip=tip)


def _csv(tmp_path: Path, *lines: str, header: str = HEADER) -> Path:
    file = tmp_path / "trips.csv"
    file.write_text("\n".join([header, *lines]) + "\n")
    return file


def test_read_labels_a_tip_of_exactly_a_fifth_as_one(tmp_path: Path) -> None:
    # 5.70 * 0.2 is 1.1400000000000001 in binary: the comparison must be made in cents.
    file = _csv(tmp_path, _row(fare=5.70, tip=1.14), _row(fare=5.70, tip=1.13))
    assert data.read([file]).examples[data.LABEL].tolist() == [1, 0]


def test_read_leaves_out_rows_without_a_label_and_counts_them(tmp_path: Path) -> None:
    file = _csv(
        tmp_path,
        _row(tip=3),
        _row(tip=0),
        _row(payment=2, tip=0),
        _row(payment="", tip=0),
        _row(fare=-10, tip=0),
        _row(tip=""),
        "2019-03-23 20:21:09,2019-03-23 20:21:09,1.6,141,233,1,10,3",
    )
    dataset = data.read([file])
    assert dataset.examples[data.LABEL].tolist() == [1, 0]
    assert dataset.rows_read == 7
    assert dataset.dropped == {
        "not paid by card": 2,
        "incomplete": 1,
        "no fare, or a refund": 1,
        "no time passed, or a negative distance": 1,
    }


def test_read_makes_the_features_of_a_trip(tmp_path: Path) -> None:
    example = data.read([_csv(tmp_path, _row(), _row(tip=0))]).examples.iloc[0]
    assert example.to_dict() == {
        "trip_month": 3,
        "trip_day": 23,
        "trip_day_of_week": 7,  # a Saturday
        "trip_hour": 20,
        "trip_duration": 375,
        "trip_distance": 1.6,
        "pickup_zone": 141,
        "dropoff_zone": 233,
        "tip_bin": 1,
    }


@pytest.mark.parametrize("pickup", ["2019-03-23 20:21:09 UTC", "2019-03-23T20:21:09", "2019-03-23 20:21:09+00:00"])
def test_read_takes_times_as_bigquery_exports_them(tmp_path: Path, pickup: str) -> None:
    file = _csv(tmp_path, _row().replace("2019-03-23 20:21:09", pickup), _row(tip=0))
    assert data.read([file]).examples["trip_duration"].tolist() == [375, 375]


def test_read_takes_the_tables_of_several_publishers_together(tmp_path: Path) -> None:
    files = []
    for prefix in ("tpep", "lpep"):
        header = HEADER.replace("pickup_datetime", f"{prefix}_pickup_datetime")
        header = header.replace("dropoff_datetime", f"{prefix}_dropoff_datetime")
        header = header.replace("pickup_location_id", "PULocationID").replace("dropoff_location_id", "DOLocationID")
        folder = tmp_path / prefix
        folder.mkdir()
        files.append(_csv(folder, _row(), _row(tip=0), header=header))
    prepared = tmp_path / "prepared.csv"
    prepared.write_text(
        "trip_month,trip_day,trip_day_of_week,trip_hour,trip_duration,trip_distance,payment_type,"
        "pickup_zone,dropoff_zone,tip_bin\n3,23,7,20,375,1.6,1,141,233,1\n3,23,7,20,375,1.6,0,141,233,0\n"
    )
    examples = data.read([*files, prepared]).examples
    assert len(examples) == 5
    assert examples.drop(columns=data.LABEL).drop_duplicates().shape[0] == 1


def test_read_of_real_trips_keeps_card_payments(real: Path) -> None:
    dataset = data.read([real])
    assert dataset.rows_read == 6500
    assert dataset.dropped["not paid by card"] == 1886
    assert dataset.examples[data.LABEL].mean() == pytest.approx(0.73, abs=0.005)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"trips\.csv: the file is empty"),
        (HEADER + "\n", r"trips\.csv: has a header and no rows"),
        (HEADER.replace(",tip_amount", "") + "\n1\n", r"trips\.csv:1: column tip_amount missing"),
        ("a,b\n1,2\n", r"trips\.csv:1: columns .* missing; taken for"),
        (f"{HEADER}\n{_row()}\n\n{_row(fare='ten')}\n", r"trips\.csv:4: column fare_amount: 'ten' is not a number"),
        (f"{HEADER}\n{_row(fare='inf')}\n", r"trips\.csv:2: column fare_amount: 'inf' is not a number"),
        (
            f"{HEADER}\n{_row()}\n{_row().replace('2019-03-23 20:27:24', 'soon')}\n",
            r"trips\.csv:3: column dropoff_datetime: 'soon' is not a time",
        ),
        (f"{HEADER}\n{_row(tip=0)}\n{_row(tip=0.1)}\n", "of 2 trips paid by card none has a tip of 20 %"),
        (f"{HEADER}\n{_row(tip=9)}\n", "every one has a tip of 20 %"),
        (f"{HEADER}\n{_row(payment=2)}\n", r"no trip has a usable label \(1 not paid by card\)"),
    ],
)
def test_read_of_unusable_data_says_where_it_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "trips.csv"
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        data.read([file])


def test_read_of_rows_that_end_with_a_comma_keeps_columns_in_place(tmp_path: Path) -> None:
    plain, trailing = tmp_path / "plain", tmp_path / "trailing"
    for folder, end in ((plain, ""), (trailing, ",")):
        folder.mkdir()
        _csv(folder, _row() + end, _row(tip=0) + end)
    assert data.read([trailing / "trips.csv"]).examples.equals(data.read([plain / "trips.csv"]).examples)


def test_read_of_a_label_that_is_neither_0_nor_1_says_where(tmp_path: Path) -> None:
    file = tmp_path / "prepared.csv"
    header = ",".join([*schemas.PREPARED, *schemas.PREPARED_OUTCOME])
    file.write_text(f"{header}\n3,23,7,20,375,1.6,141,233,1,1\n3,23,7,20,375,1.6,141,233,1,0.5\n")
    with pytest.raises(InputError, match=r"prepared\.csv:3: column tip_bin: '0\.5' is not 0 or 1"):
        data.read([file])


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", b'"never closed,\n1,2\n'])
def test_read_of_a_file_that_is_no_csv_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "trips.csv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"trips\.csv"):
        data.read([file])


def test_split_is_of_the_stated_shares_and_moves_no_row_when_rows_are_added(generated: Path, tmp_path: Path) -> None:
    examples = data.read([generated]).examples
    sides = data.split_of(examples)
    shares = {name: (sides == name).mean() for name in data.SPLITS}
    assert shares == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.03)
    # Backwards and only half of it: where a row falls depends on nothing but the row.
    half = examples.iloc[::-2]
    assert (data.split_of(half) == sides[::-2]).all()


def test_split_of_one_trip_is_always_the_same(tmp_path: Path) -> None:
    examples = data.read([_csv(tmp_path, _row(), _row(tip=0), _row(payment=1.0))]).examples
    # A literal, so that another hash, which would move trips between splits, does not go unseen.
    assert data.split_of(examples).tolist() == ["train"] * 3


def test_split_keeps_equal_trips_together(generated: Path) -> None:
    parts = data.split(data.read([generated, generated]).examples)
    columns = ["trip_day", "trip_hour", "trip_duration", "trip_distance", "pickup_zone", "dropoff_zone"]
    keys = {name: set(map(tuple, rows[columns].to_numpy())) for name, rows in parts.items()}
    assert keys["train"].isdisjoint(keys["test"])
    assert keys["train"].isdisjoint(keys["validation"])


def test_split_of_too_few_trips_asks_for_more(tmp_path: Path) -> None:
    examples = data.read([_csv(tmp_path, _row(), _row(tip=0))]).examples
    with pytest.raises(InputError, match="give more trips"):
        data.split(examples)
