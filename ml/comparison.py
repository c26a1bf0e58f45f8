"""Whether a challenger takes the champion's place, by one measure of both on the same frozen data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ml.errors import InputError

# Whether more of a measure is better.
HIGHER_IS_BETTER = {
    "accuracy": True,
    "auc_pr": True,
    "auc_roc": True,
    "log_loss": False,
    "precision": True,
    "recall": True,
}
# Differences of measures below this are rounding: 0.71 - 0.70 is not 0.01 in binary.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Decision:
    """What came of a comparison."""

    accepted: bool
    """the challenger shall serve"""
    reason: str
    metric: str
    challenger: float | None
    champion: float | None
    gain: float | None
    """by how much the challenger is better, in the measure's own unit; None when one of the two has no measure"""
    margin: float


def compare(challenger: float | None, champion: float | None, metric: str, margin: float = 0.0) -> Decision:
    """Whether the challenger is better by at least the margin.

    challenger, champion: the measure of each on the same rows; None and NaN alike mean that it has none, and
    a champion of None also that there is none. margin: a positive one must be reached; with 0 a tie keeps
    the champion, since changing what serves has a cost; a negative one is what the challenger may be worse by.

    | challenger | champion | accepted |
    | --- | --- | --- |
    | a number | better, worse or equal by the margin's rule | by the margin's rule |
    | a number | none, or not a number | yes |
    | not a number | any | no |

    Raises InputError for an unknown metric and for a margin that is no finite number.
    """
    if metric not in HIGHER_IS_BETTER:
        raise InputError(f"metric is {metric!r}; known: {', '.join(sorted(HIGHER_IS_BETTER))}")
    if not math.isfinite(margin):
        raise InputError(f"margin is {margin}; it must be a finite number")
    ours, theirs = _finite(challenger), _finite(champion)
    gain = None
    if ours is not None and theirs is not None:
        gain = ours - theirs if HIGHER_IS_BETTER[metric] else theirs - ours
    accepted, reason = _judge(ours, theirs, gain, margin)
    return Decision(accepted, reason, metric, ours, theirs, gain, margin)


def _judge(ours: float | None, theirs: float | None, gain: float | None, margin: float) -> tuple[bool, str]:
    if ours is None:
        return False, "the challenger has no measure"
    if theirs is None or gain is None:
        return True, "there is no champion with a measure"
    if margin == 0 and abs(gain) <= _ROUNDING:
        return False, "a tie: the champion stays"
    if gain >= margin - _ROUNDING:
        return True, f"the challenger is better by {gain:.6g}, {margin:.6g} is asked"
    how = (
        f"better by only {gain:.6g}" if gain > _ROUNDING else f"worse by {-gain:.6g}" if gain < -_ROUNDING else "equal"
    )
    return False, f"the challenger is {how}, {margin:.6g} is asked"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
