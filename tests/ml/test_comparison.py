from __future__ import annotations

import math

import pytest

from ml.comparison import compare
from ml.errors import InputError

NAN = float("nan")


@pytest.mark.parametrize(
    ("challenger", "champion", "metric", "margin", "accepted"),
    [
        # direction
        (0.71, 0.70, "auc_roc", 0.0, True),
        (0.69, 0.70, "auc_roc", 0.0, False),
        (0.50, 0.51, "log_loss", 0.0, True),
        (0.52, 0.51, "log_loss", 0.0, False),
        # margin; the differences of such decimals are not exact in binary
        (0.71, 0.70, "auc_roc", 0.01, True),
        (0.8, 0.7, "auc_roc", 0.1, True),  # 0.8 - 0.7 is 0.10000000000000009
        (0.3, 0.2, "auc_roc", 0.1, True),  # 0.3 - 0.2 is 0.09999999999999998
        (0.705, 0.70, "auc_roc", 0.01, False),
        (0.695, 0.70, "auc_roc", -0.01, True),
        (0.68, 0.70, "auc_roc", -0.01, False),
        # tie
        (0.70, 0.70, "auc_roc", 0.0, False),
        (0.1 + 0.2, 0.3, "auc_roc", 0.0, False),
        (0.70, 0.70, "auc_roc", -0.01, True),
        (0.70, 0.70, "auc_roc", 0.01, False),
        # no champion, no measure
        (0.50, None, "auc_roc", 0.1, True),
        (0.50, NAN, "auc_roc", 0.1, True),
        (None, 0.70, "auc_roc", -1.0, False),
        (NAN, 0.70, "auc_roc", -1.0, False),
        (NAN, None, "auc_roc", 0.0, False),
        (math.inf, 0.5, "log_loss", 0.0, False),
    ],
)
def test_compare_decides(
    challenger: float | None, champion: float | None, metric: str, margin: float, accepted: bool
) -> None:
    decision = compare(challenger, champion, metric, margin)
    assert decision.accepted is accepted, decision.reason


def test_compare_says_by_how_much() -> None:
    decision = compare(0.52, 0.50, "log_loss", 0.01)
    assert decision.gain == pytest.approx(-0.02)
    assert decision.reason == "the challenger is worse by 0.02, 0.01 is asked"


@pytest.mark.parametrize(("metric", "margin"), [("auc", 0.0), ("auc_roc", NAN), ("auc_roc", math.inf)])
def test_compare_refuses_what_means_nothing(metric: str, margin: float) -> None:
    with pytest.raises(InputError, match=r"metric is|margin is"):
        compare(0.7, 0.6, metric, margin)
