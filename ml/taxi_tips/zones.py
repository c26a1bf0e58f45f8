"""Where made-up trips begin and end: kinds of journey, and the taxi zones behind them.

Figures are TLC's yellow trips of March 2019; zone numbers are TLC's taxi zones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

JFK, LA_GUARDIA, NEWARK = 132, 138, 1
UNKNOWN = (264, 265)

# Taxi zone -> trips per mille that begin there, and that end there. Rarely seen zones have 0.3.
MANHATTAN = {
    **{4: (2, 6), 12: (0.3, 1), 13: (8, 9), 24: (3, 3), 41: (2, 6), 42: (1, 5), 43: (11, 15), 45: (3, 2)},
    **{
        48: (39, 28),
        50: (7, 12),
        68: (24, 22),
        74: (4, 6),
        75: (7, 14),
        79: (28, 27),
        87: (6, 7),
        88: (3, 4),
    },
    **{
        90: (18, 13),
        100: (20, 17),
        107: (20, 20),
        113: (17, 14),
        114: (14, 10),
        116: (1, 3),
        120: (0.3, 0.3),
    },
    **{
        125: (8, 5),
        127: (0.3, 1),
        128: (0.3, 0.3),
        137: (11, 13),
        140: (17, 19),
        141: (22, 24),
        142: (33, 28),
    },
    **{143: (15, 12), 144: (10, 9), 148: (14, 13), 151: (9, 9), 152: (1, 1), 153: (0.3, 0.3), 158: (10, 10)},
    **{161: (42, 39), 162: (37, 32), 163: (26, 23), 164: (26, 21), 166: (5, 7), 170: (30, 40), 186: (39, 27)},
    **{194: (0.3, 0.3), 202: (0.3, 1), 209: (2, 3), 211: (9, 6), 224: (1, 4), 229: (19, 18), 230: (34, 29)},
    **{231: (17, 14), 232: (2, 5), 233: (13, 17), 234: (33, 26), 236: (34, 43), 237: (39, 31), 238: (18, 21)},
    **{239: (26, 24), 243: (0.3, 1), 244: (2, 3), 246: (15, 18), 249: (20, 18), 261: (4, 4), 262: (13, 11)},
    263: (19, 18),
}
_BUSY_OUTER = {
    **{7: (2, 4), 25: (1, 2), 33: (1, 4), 40: (1, 1), 61: (0.3, 2), 65: (1, 2), 80: (0.3, 2), 97: (1, 2)},
    **{145: (1, 4), 181: (1, 3), 223: (1, 1), 226: (2, 3), 255: (1, 2), 256: (1, 2)},
}
# TLC's zones go to 263; 57, 103, 104 and 105 are islands or names given up.
_OTHERS = sorted(set(range(2, 264)) - set(MANHATTAN) - {JFK, LA_GUARDIA, 57, 103, 104, 105})
OUTER = {zone: _BUSY_OUTER.get(zone, (0.05, 0.1)) for zone in _OTHERS}

_M, _O, _J, _L, _N, _U = range(6)
_PLACES: tuple[dict[int, tuple[float, float]], ...] = (
    MANHATTAN,
    OUTER,
    {JFK: (1, 1)},
    {LA_GUARDIA: (1, 1)},
    {NEWARK: (1, 1)},
    dict.fromkeys(UNKNOWN, (1, 1)),
)
# One line a kind of journey: from, to, share of trips, mean and spread of log(miles), and the shares of
# it that pay by card, use a toll road, touch Manhattan below 96th Street, agree on a price.
_KINDS = (
    (_M, _M, 0.849, 0.373, 0.698, 0.741, 0.00, 0.97, 0.001),
    (_M, _J, 0.007, 2.894, 0.131, 0.850, 0.85, 0.92, 0.000),
    (_M, _L, 0.009, 2.372, 0.191, 0.860, 0.86, 0.92, 0.000),
    (_M, _N, 0.002, 2.873, 0.065, 0.750, 1.00, 0.90, 0.000),
    (_M, _O, 0.046, 1.818, 0.535, 0.714, 0.15, 0.88, 0.005),
    (_J, _M, 0.013, 2.924, 0.102, 0.775, 0.79, 0.94, 0.000),
    (_J, _O, 0.012, 2.374, 0.502, 0.545, 0.05, 0.00, 0.030),
    (_L, _M, 0.019, 2.248, 0.167, 0.880, 0.95, 0.90, 0.000),
    (_L, _O, 0.008, 1.790, 0.692, 0.537, 0.07, 0.02, 0.010),
    (_O, _M, 0.011, 1.710, 0.649, 0.644, 0.25, 0.63, 0.050),
    (_O, _O, 0.018, 0.699, 1.000, 0.516, 0.03, 0.01, 0.120),
    (_U, _U, 0.006, 0.799, 0.989, 0.800, 0.20, 0.45, 0.100),
)
_FROM, _TO = ([kind[side] for kind in _KINDS] for side in (0, 1))
SHARES, LOG_MILES, LOG_MILES_SPREAD, CARDS, TOLL_ROADS, BELOW_96TH_STREET, NEGOTIATED = np.array(
    [kind[2:] for kind in _KINDS], dtype=np.float64
).T
_AIRPORTS = np.array([bool({start, end} & {_J, _L, _N}) for start, end in zip(_FROM, _TO, strict=True)])
JFK_FLAT = [index for index, (start, end) in enumerate(zip(_FROM, _TO, strict=True)) if {start, end} == {_M, _J}]
TO_NEWARK = _TO.index(_N)


def shares(shift: float) -> npt.NDArray[np.float64]:
    """The share of each kind of journey when `shift` of all trips turn into airport journeys."""
    usual = SHARES / SHARES.sum()
    airports = np.where(_AIRPORTS, usual, 0)
    shifted: npt.NDArray[np.float64] = (1 - shift) * usual + shift * airports / airports.sum()
    return shifted


def ends(
    generator: np.random.Generator, kind: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A start and an end zone for each journey, by how often the zones of its two places are used."""
    return _zones(generator, np.array(_FROM)[kind], side=0), _zones(generator, np.array(_TO)[kind], side=1)


def _zones(generator: np.random.Generator, place: npt.NDArray[np.int64], side: int) -> npt.NDArray[np.int64]:
    chosen = np.zeros(len(place), dtype=np.int64)
    points = generator.random(len(place))
    for index, weights in enumerate(_PLACES):
        here = place == index
        bounds = np.cumsum([pair[side] for pair in weights.values()])
        chosen[here] = np.array(list(weights))[np.searchsorted(bounds / bounds[-1], points[here], side="right")]
    return chosen
