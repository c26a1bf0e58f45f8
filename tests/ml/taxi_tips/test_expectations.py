"""What trips must look like."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ml.taxi_tips import data, expectations


@pytest.fixture
def examples(generated: Path) -> pd.DataFrame:
    return data.read([generated]).examples


def missed(examples: pd.DataFrame) -> list[str]:
    return [finding.subject for finding in expectations.check(examples) if not finding.is_met]


def test_generated_trips_are_as_expected(examples: pd.DataFrame) -> None:
    assert missed(examples) == []


def test_real_trips_are_as_expected(real: Path) -> None:
    assert missed(data.read([real]).examples) == []


@pytest.mark.parametrize(
    ("column", "value", "share"),
    [
        ("trip_hour", 24, 0.001),
        ("trip_hour", 7.5, 0.001),
        ("pickup_zone", 999, 0.001),
        ("trip_duration", 1e6, 0.05),
        ("trip_distance", -1, 0.05),
    ],
)
def test_values_outside_are_found(examples: pd.DataFrame, column: str, value: float, share: float) -> None:
    changed = examples.astype({column: "float64"})
    changed.loc[: max(1, int(len(changed) * share)), column] = value
    assert missed(changed) == [column]


def test_few_values_outside_are_forgiven_where_meters_fail(examples: pd.DataFrame) -> None:
    changed = examples.copy()
    changed.loc[0, "trip_duration"] = 1e6
    assert missed(changed) == []


def test_few_rows_and_one_sided_labels_are_found(examples: pd.DataFrame) -> None:
    assert missed(examples.head(10).assign(**{data.LABEL: 1})) == ["rows", data.LABEL]
    assert "rows" in missed(examples.head(0))
