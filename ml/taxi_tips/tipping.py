"""How made-up passengers tip by card. Figures are TLC's yellow trips of March 2019."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ml.taxi_tips import zones

# The screen in the cab offers shares of everything on the meter, tolls and surcharges too.
_GENEROUS = ((0.20, 0.80), (0.25, 0.15), (0.30, 0.05))
# What the others do: nothing, a smaller share, or round dollars.
_NOTHING, _TENTH, _SEVENTH = 0.14, 0.28, 0.46
_DOLLARS = ((100, 0.42), (200, 0.28), (300, 0.13), (400, 0.05), (500, 0.09), (1000, 0.03))


def tip_cents(
    generator: np.random.Generator,
    *,
    before_tip: npt.NDArray[np.int64],
    miles: npt.NDArray[np.float64],
    hour: npt.NDArray[np.int64],
    pickup: npt.NDArray[np.int64],
    dropoff: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Tips in cents. before_tip: what the meter asks, in cents; zones are TLC's numbers."""
    rows = len(before_tip)
    generous = generator.random(rows) < 1 / (1 + np.exp(-_warmth(miles, hour, pickup, dropoff)))
    share = _choice(generator, _GENEROUS, rows)
    kind = generator.random(rows)
    dollars = _choice(generator, _DOLLARS, rows)
    other = np.select(
        [kind < _NOTHING, kind < _TENTH, kind < _SEVENTH],
        [0 * before_tip, before_tip * 0.10, before_tip * 0.15],
        dollars,
    )
    return np.where(generous, before_tip * share, other).round().astype(np.int64)


def _warmth(
    miles: npt.NDArray[np.float64],
    hour: npt.NDArray[np.int64],
    pickup: npt.NDArray[np.int64],
    dropoff: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """The log-odds that a passenger presses one of the offered shares."""
    outer = list(zones.OUTER)
    warmth: npt.NDArray[np.float64] = 0.95 - 0.22 * np.log(miles.clip(0.3))
    warmth -= 1.5 * np.isin(pickup, outer) + 0.7 * np.isin(dropoff, outer)
    warmth -= 0.4 * (pickup == zones.JFK) + 0.3 * (dropoff == zones.JFK)
    warmth += 0.35 * ((hour >= 19) | (hour < 3)) - 0.25 * ((hour >= 6) & (hour < 13))
    # Neighbourhoods differ, each always in the same way: 0.7 at most to either side.
    warmth += 0.45 * np.sin(pickup * 12.9898) + 0.25 * np.sin(dropoff * 78.233)
    return warmth


def _choice(
    generator: np.random.Generator, weighted: tuple[tuple[float, float], ...], rows: int
) -> npt.NDArray[np.float64]:
    values, weights = np.array(weighted, dtype=np.float64).T
    chosen: npt.NDArray[np.float64] = values[
        np.searchsorted(np.cumsum(weights) / weights.sum(), generator.random(rows), side="right")
    ]
    return chosen
