from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ml.taxi_tips import generate, zones

TIMES = ["pickup_datetime", "dropoff_datetime"]
AIRPORTS = [zones.JFK, zones.LA_GUARDIA, zones.NEWARK]


@pytest.fixture(scope="module")
def trips(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    file = tmp_path_factory.mktemp("trips") / "trips.csv"
    generate.write(file, rows=60_000, seed=3)
    return pd.read_csv(file, parse_dates=TIMES)


def _airport_share(trips: pd.DataFrame) -> float:
    return float((trips["pickup_location_id"].isin(AIRPORTS) | trips["dropoff_location_id"].isin(AIRPORTS)).mean())


def test_write_with_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate.write(tmp_path / name, rows=500, seed=seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_write_of_more_rows_begins_with_the_same_rows(tmp_path: Path) -> None:
    generate.write(tmp_path / "few", rows=100, seed=1)
    generate.write(tmp_path / "more", rows=generate.BLOCK + 7, seed=1)
    few, more = ((tmp_path / name).read_text().splitlines() for name in ("few", "more"))
    assert more[: len(few)] == few
    assert len(more) == generate.BLOCK + 8


def test_write_has_the_columns_of_the_public_table(trips: pd.DataFrame) -> None:
    assert tuple(trips.columns) == generate.COLUMNS
    assert not trips.isna().any(axis=None)


def test_write_keeps_what_a_taxi_trip_keeps(trips: pd.DataFrame) -> None:
    assert trips["pickup_datetime"].between("2019-03-01", "2019-03-31 23:59:59").all()
    assert (trips["dropoff_datetime"] > trips["pickup_datetime"]).all()
    parts = ["fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "imp_surcharge"]
    assert (trips[parts].sum(axis=1) - trips["total_amount"]).abs().max() < 0.005
    assert (trips.loc[trips["payment_type"] != 1, "tip_amount"] == 0).all()
    assert (trips.loc[trips["rate_code"] == 2, "fare_amount"] == 52).all()
    assert trips["pickup_location_id"].between(1, 265).all()


def test_write_looks_like_the_trips_of_march_2019(trips: pd.DataFrame) -> None:
    """The right-hand figures are measured on TLC's 5,500 yellow trips of that month."""
    cards = trips[trips["payment_type"] == 1]
    assert len(cards) / len(trips) == pytest.approx(0.733, abs=0.02)
    assert ((cards["tip_amount"] * 100).round() * 5 >= (cards["fare_amount"] * 100).round()).mean() == pytest.approx(
        0.773, abs=0.02
    )
    assert trips["trip_distance"].median() == pytest.approx(1.60, rel=0.1)
    assert trips["fare_amount"].mean() == pytest.approx(13.05, rel=0.1)
    assert (trips["dropoff_datetime"] - trips["pickup_datetime"]).dt.total_seconds().median() == pytest.approx(
        657, rel=0.1
    )
    assert _airport_share(trips) == pytest.approx(0.071, abs=0.015)


def test_write_of_real_trips_agrees_with_the_figures_above(real: Path) -> None:
    yellow = pd.read_csv(real).query("color == 'yellow'")
    assert (yellow["payment_type"] == 1).mean() == pytest.approx(0.733, abs=0.001)
    assert yellow["trip_distance"].median() == pytest.approx(1.60, abs=0.005)
    assert yellow["fare_amount"].mean() == pytest.approx(13.05, abs=0.005)


def test_write_with_a_shift_sends_more_trips_to_airports(tmp_path: Path, trips: pd.DataFrame) -> None:
    generate.write(tmp_path / "shifted.csv", rows=10_000, seed=3, shift=0.5)
    shifted = pd.read_csv(tmp_path / "shifted.csv")
    assert _airport_share(shifted) == pytest.approx(0.5 + 0.5 * _airport_share(trips), abs=0.03)


def test_write_of_february_rolls_over_into_march(tmp_path: Path) -> None:
    generate.write(tmp_path / "trips.csv", rows=50_000, seed=5, month="2020-02")
    trips = pd.read_csv(tmp_path / "trips.csv", parse_dates=TIMES)
    assert trips["pickup_datetime"].dt.month.eq(2).all()
    assert trips["dropoff_datetime"].max() >= pd.Timestamp("2020-03-01")
    assert trips["pickup_datetime"].dt.day.max() == 29


@pytest.mark.parametrize(
    "arguments",
    [["--rows", "0"], ["--month", "2019-13"], ["--month", "March"], ["--shift", "1.5"], ["--seed", "-1"]],
)
def test_main_refuses_arguments_that_make_no_sense(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        generate.main([*arguments, "--out", str(tmp_path / "trips.csv")])
    assert capsys.readouterr().err.startswith(f"error: {arguments[0][2:]} is ")
    assert not (tmp_path / "trips.csv").exists()
