"""What trips must look like before a model learns from them; what is declared here, `check` holds them to."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ml.taxi_tips.data import LABEL


@dataclass(frozen=True)
class Expectation:
    """Of one column: values from low to high, whole numbers where it says so, but for a share of the rows."""

    low: float
    high: float
    is_whole: bool = False
    most_outside: float = 0.0
    """share of the rows that may lie outside: meters fail now and then"""

    def text(self) -> str:
        kind = "whole numbers" if self.is_whole else "numbers"
        but = f", but for {self.most_outside:.1%} of the rows" if self.most_outside else ""
        return f"{kind} from {self.low:g} to {self.high:g}{but}"


@dataclass(frozen=True)
class Finding:
    """How one expectation was met."""

    subject: str
    expected: str
    found: str
    is_met: bool


#: Source of the ranges: the dictionary at https://www.nyc.gov/site/tlc/about/tlc-trip-record-data.page
COLUMNS = {
    "trip_day_of_week": Expectation(1, 7, is_whole=True),
    "trip_hour": Expectation(0, 23, is_whole=True),
    "trip_duration": Expectation(1, 24 * 3600, most_outside=0.01),
    "trip_distance": Expectation(0, 200, most_outside=0.01),
    "pickup_zone": Expectation(1, 265, is_whole=True),
    "dropoff_zone": Expectation(1, 265, is_whole=True),
}
FEWEST_ROWS = 1000
#: Share of the trips whose tip is 20 % or more; outside of it the label is computed of something else.
POSITIVES = (0.1, 0.9)


def check(examples: pd.DataFrame) -> list[Finding]:
    """How labelled trips meet each expectation. examples: those of `ml.taxi_tips.data.read`."""
    rows = len(examples)
    positives = float(examples[LABEL].mean()) if rows else 0.0
    findings = [
        Finding("rows", f"{FEWEST_ROWS} or more", str(rows), rows >= FEWEST_ROWS),
        Finding(
            LABEL,
            f"1 in {POSITIVES[0]:.0%} to {POSITIVES[1]:.0%} of the rows",
            f"{positives:.1%}",
            POSITIVES[0] <= positives <= POSITIVES[1],
        ),
    ]
    return findings + [_column(examples[name], expectation) for name, expectation in COLUMNS.items()]


def _column(values: pd.Series[float], expectation: Expectation) -> Finding:
    right = values.between(expectation.low, expectation.high)
    if expectation.is_whole:
        right &= values % 1 == 0
    outside = 1 - float(right.mean()) if len(values) else 0.0
    found = f"{values.min():g} to {values.max():g}, {outside:.2%} outside" if len(values) else "no rows"
    return Finding(str(values.name), expectation.text(), found, outside <= expectation.most_outside)
