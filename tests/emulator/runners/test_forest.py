"""A forest's trees called directly say what the forest says."""

from __future__ import annotations

import warnings
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier

from emulator.runners.model_server import forest

GENERATOR = numpy.random.default_rng(0)
ROWS: Any = GENERATOR.normal(size=(400, 5))
NUMBERS: Any = ROWS[:, 0] * 3 + ROWS[:, 1]
NAMES: Any = numpy.array(["low", "mid", "high"])[numpy.digitize(NUMBERS, [-1, 1])]
FORESTS = {
    "classifier": RandomForestClassifier(30, random_state=0).fit(ROWS, NUMBERS > 0),
    "names": RandomForestClassifier(30, random_state=0, class_weight="balanced").fit(ROWS, NAMES),
    "one class": RandomForestClassifier(3, random_state=0).fit(ROWS, numpy.ones(400)),
    "extra": ExtraTreesClassifier(30, random_state=0).fit(ROWS, NAMES),
    "regressor": RandomForestRegressor(30, random_state=0).fit(ROWS, NUMBERS),
    "extra regressor": ExtraTreesRegressor(30, random_state=0).fit(ROWS, NUMBERS),
}
DIRECT: Any = {name: forest.direct(FORESTS[name]) for name in ("names", "regressor")}


@pytest.fixture(params=FORESTS)
def model(request: pytest.FixtureRequest) -> Any:
    return FORESTS[request.param]


def test_direct_says_what_the_forest_says(model: Any) -> None:
    predict = forest.direct(model)
    assert predict is not None
    rows = GENERATOR.normal(size=(5000, 5))
    assert numpy.array_equal(predict(rows), model.predict(rows))
    assert predict(rows).dtype == model.predict(rows).dtype
    for row in rows[:50]:
        assert predict(row.reshape(1, -1)).tolist() == model.predict(row.reshape(1, -1)).tolist()


@settings(max_examples=200, deadline=None)
@given(arrays(numpy.float64, (2, 5), elements=st.floats(-1e30, 1e30)))
def test_direct_is_equal_for_any_rows(rows: Any) -> None:
    for name in ("names", "regressor"):
        assert numpy.array_equal(DIRECT[name](rows), FORESTS[name].predict(rows))


@pytest.mark.parametrize(
    "instances",
    [[[1, 2, 3]], [1, 2, 3, 4, 5], [["a"] * 5], [[1e300] * 5], [[float("inf")] * 5], [], [{"a": 1}]],
)
def test_what_the_forest_refuses_is_refused_in_its_words(instances: Any) -> None:
    model = FORESTS["classifier"]
    predict = forest.direct(model)
    assert predict is not None
    rows = numpy.array(instances)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of casts to single precision, on both sides
        with pytest.raises(Exception) as expected:  # noqa: PT011  # whatever scikit-learn raises
            model.predict(rows)
        with pytest.raises(type(expected.value)) as raised:
            predict(rows)
    assert str(raised.value) == str(expected.value)


def test_missing_values_and_texts_of_numbers_are_the_forest_s_own_affair() -> None:
    holes = ROWS.copy()
    holes[::7, 0] = numpy.nan
    model = RandomForestClassifier(10, random_state=0).fit(holes, NUMBERS > 0)
    predict = forest.direct(model)
    assert predict is not None
    assert numpy.array_equal(predict(holes), model.predict(holes))
    for rows in (ROWS[:10].astype(str), numpy.array([[None, 1, 2, 3, 4]])):
        assert numpy.array_equal(predict(rows), model.predict(rows))


@pytest.mark.parametrize(
    "other",
    [
        DecisionTreeClassifier().fit(ROWS, NUMBERS > 0),
        GradientBoostingClassifier(n_estimators=3).fit(ROWS, NUMBERS > 0),
        RandomForestRegressor(3).fit(ROWS, ROWS[:, :2]),
        RandomForestClassifier(),
        object(),
    ],
    ids=["tree", "boosting", "two outputs", "not fitted", "no model"],
)
def test_direct_leaves_other_models_alone(other: Any) -> None:
    assert forest.direct(other) is None


def test_direct_leaves_a_subclass_alone() -> None:
    class Inverted(RandomForestClassifier):  # type: ignore[misc]  # ships no types
        def predict(self, rows: Any) -> Any:
            return ~super().predict(rows)

    assert forest.direct(Inverted(3, random_state=0).fit(ROWS, NUMBERS > 0)) is None


def test_direct_gives_way_when_the_trees_say_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    model = RandomForestClassifier(5, random_state=0).fit(ROWS, NUMBERS > 0)
    monkeypatch.setattr(forest._Forest, "predict", lambda self, rows: numpy.zeros(len(rows)))
    assert forest.direct(model) is None
