"""Which points of a study's space are tried, and in which order.

Bayesian search is Optuna's tree-structured Parzen estimator; Optuna is imported when a study first needs it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, Protocol

from selfloop_apis.aiplatform_v1 import StudySpec

from emulator.services.aiplatform.tuning.space import choose_point


class Search(Protocol):
    """Proposes points and learns from what came of them."""

    def ask(self) -> list[Any] | None:
        """The next point, a list of `Trial.Parameter`; None when the whole space was proposed."""
        ...

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """What came of the point that the `number`th ask gave, from 0: a value for each metric; None for nothing."""
        ...


def search_for(spec: StudySpec) -> Search:
    """The search that a checked spec asks for."""
    if spec.algorithm == StudySpec.Algorithm.GRID_SEARCH:
        return GridSearch(spec)
    if spec.algorithm == StudySpec.Algorithm.RANDOM_SEARCH:
        return RandomSearch(spec)
    return BayesianSearch(spec)


class GridSearch:
    """Every point once, the last parameter running fastest."""

    def __init__(self, spec: StudySpec) -> None:
        self._parameters = spec.parameters
        self._next: list[int] | None = []

    def ask(self) -> list[Any] | None:
        if self._next is None:
            return None
        odometer = _Odometer(self._next)
        point = choose_point(self._parameters, odometer)
        self._next = odometer.following()
        return point

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """The grid stays what it is."""


class _Odometer:
    """Chooses by given digits, and 0 where these end. A digit's range may depend on those before it."""

    def __init__(self, digits: Sequence[int]) -> None:
        self._given = digits
        self._digits: list[int] = []
        self._counts: list[int] = []

    def following(self) -> list[int] | None:
        """The digits of the next point; None after the last."""
        digits, counts = self._digits, self._counts
        while digits and digits[-1] + 1 == counts[len(digits) - 1]:
            digits = digits[:-1]
        return [*digits[:-1], digits[-1] + 1] if digits else None

    def number(self, key: str, low: float, high: float, *, is_log: bool) -> float:
        raise AssertionError(f"{key} is no parameter of a grid")  # the spec was checked

    def integer(self, key: str, low: int, high: int, *, is_log: bool) -> int:
        return low + self.place(key, high - low + 1)

    def place(self, key: str, count: int) -> int:
        position = len(self._digits)
        digit = self._given[position] if position < len(self._given) else 0
        self._digits.append(digit)
        self._counts.append(count)
        return digit

    category = place


class RandomSearch:
    """Points drawn evenly, each by itself."""

    def __init__(self, spec: StudySpec, seed: int | None = None) -> None:
        self._parameters = spec.parameters
        self._dice = _Dice(seed)

    def ask(self) -> list[Any] | None:
        return choose_point(self._parameters, self._dice)

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """Nothing is learnt."""


class _Dice:
    def __init__(self, seed: int | None) -> None:
        self._random = random.Random(seed)  # noqa: S311  # nothing secret

    def number(self, key: str, low: float, high: float, *, is_log: bool) -> float:
        if is_log:
            drawn = math.exp(self._random.uniform(math.log(low), math.log(high)))
            return min(max(drawn, low), high)
        return self._random.uniform(low, high)

    def integer(self, key: str, low: int, high: int, *, is_log: bool) -> int:
        if is_log:
            return min(high, int(self.number(key, low, high + 1, is_log=True)))
        return self._random.randint(low, high)

    def place(self, key: str, count: int) -> int:
        return self._random.randrange(count)

    category = place


class BayesianSearch:
    """Points where, after what is known, a better value is likely; points still at work count as bad ones."""

    def __init__(self, spec: StudySpec, seed: int | None = None) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._parameters = spec.parameters
        self._study = optuna.create_study(
            directions=["minimize" if is_minimized(metric) else "maximize" for metric in spec.metrics],
            sampler=optuna.samplers.TPESampler(constant_liar=True, seed=seed),
        )
        self._asked: list[Any] = []

    def ask(self) -> list[Any] | None:
        trial = self._study.ask()
        self._asked.append(trial)
        return choose_point(self._parameters, _Suggestions(trial))

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        from optuna.trial import TrialState

        if values is None:
            self._study.tell(self._asked[number], state=TrialState.FAIL)
        else:
            self._study.tell(self._asked[number], list(values))


class _Suggestions:
    """Optuna's suggestions for one point."""

    def __init__(self, trial: Any) -> None:
        self._trial = trial

    def number(self, key: str, low: float, high: float, *, is_log: bool) -> float:
        return float(self._trial.suggest_float(key, low, high, log=is_log))

    def integer(self, key: str, low: int, high: int, *, is_log: bool) -> int:
        return int(self._trial.suggest_int(key, low, high, log=is_log))

    def place(self, key: str, count: int) -> int:
        return int(self._trial.suggest_int(key, 0, count - 1))

    def category(self, key: str, count: int) -> int:
        return int(self._trial.suggest_categorical(key, list(range(count))))


def is_minimized(metric: Any) -> bool:
    """Whether less is better. A metric without a goal is maximized."""
    return bool(metric.goal == StudySpec.MetricSpec.GoalType.MINIMIZE)
