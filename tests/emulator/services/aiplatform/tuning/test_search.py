"""Searches of a study's space, without any trial."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop_apis.aiplatform_v1 import Measurement, StudySpec

from emulator.services.aiplatform.tuning.reports import falls_behind
from emulator.services.aiplatform.tuning.search import BayesianSearch, GridSearch, RandomSearch
from emulator.services.aiplatform.tuning.space import flag

SCALES = ["UNIT_LINEAR_SCALE", "UNIT_LOG_SCALE", "UNIT_REVERSE_LOG_SCALE"]


def study(*parameters: dict[str, Any], goal: str = "MAXIMIZE") -> StudySpec:
    spec: dict[str, Any] = {"metrics": [{"metric_id": "score", "goal": goal}], "parameters": parameters}
    return StudySpec(**spec)


def point(parameters: list[Any]) -> dict[str, Any]:
    return {p.parameter_id: p.value.string_value or p.value.number_value for p in parameters}


def everything(spec: StudySpec) -> list[dict[str, Any]]:
    search, points = GridSearch(spec), []
    while (asked := search.ask()) is not None:
        points.append(point(asked))
    return points


def test_grid_goes_over_parameters_that_depend_on_others() -> None:
    depth = {"parameter_id": "depth", "integer_value_spec": {"min_value": 2, "max_value": 3}}
    forest = {"parent_categorical_values": {"values": ["forest"]}, "parameter_spec": depth}
    model = {
        "parameter_id": "model",
        "categorical_value_spec": {"values": ["line", "forest"]},
        "conditional_parameter_specs": [forest],
    }
    size = {"parameter_id": "size", "discrete_value_spec": {"values": [1, 2]}}
    assert everything(study(model, size)) == [
        {"model": "line", "size": 1},
        {"model": "line", "size": 2},
        {"model": "forest", "depth": 2, "size": 1},
        {"model": "forest", "depth": 2, "size": 2},
        {"model": "forest", "depth": 3, "size": 1},
        {"model": "forest", "depth": 3, "size": 2},
    ]


@settings(max_examples=50, deadline=None)
@given(
    low=st.integers(1, 1000),
    span=st.integers(0, 10**6),
    scale=st.sampled_from(SCALES),
    search=st.sampled_from([RandomSearch, BayesianSearch]),
    seed=st.integers(0, 99),
)
def test_points_lie_within_the_space(low: int, span: int, scale: str, search: Any, seed: int) -> None:
    limits = {"min_value": low, "max_value": low + span}
    spec = study(
        {"parameter_id": "whole", "integer_value_spec": limits, "scale_type": scale},
        {"parameter_id": "real", "double_value_spec": limits, "scale_type": scale},
    )
    found = point(search(spec, seed).ask())
    assert low <= found["whole"] <= low + span
    assert found["whole"].is_integer()
    assert low <= found["real"] <= low + span


@pytest.mark.parametrize(("goal", "sign"), [("MAXIMIZE", 1), ("MINIMIZE", -1)])
def test_bayesian_search_learns_where_values_are_good(goal: str, sign: int) -> None:
    x = {"parameter_id": "x", "double_value_spec": {"min_value": 0, "max_value": 100}}
    search = BayesianSearch(study(x, goal=goal), seed=1)
    tried = []
    for number in range(40):
        asked = search.ask()
        assert asked is not None
        tried.append(point(asked)["x"])
        # One in five trials fails, and nothing is learnt of it.
        search.tell(number, None if number % 5 == 4 else [-sign * (tried[-1] - 70) ** 2])
    late = sorted(abs(value - 70) for value in tried[-15:])
    assert late[len(late) // 2] < 15  # random points are 27 away in the median


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.0, "--p=3"), (0.1, "--p=0.1"), (1e-05, "--p=1e-05"), (-2.0, "--p=-2"), (1e300, "--p=1e+300")],
)
def test_flag_is_a_whole_number_where_it_can(value: float, text: str) -> None:
    from selfloop_apis.aiplatform_v1 import Trial

    parameter = Trial.Parameter(parameter_id="p")
    parameter.value.number_value = value
    assert flag(parameter) == text


@pytest.mark.parametrize(
    ("own", "completed", "behind"),
    [
        ([1.0], [], False),
        ([1.0], [[3.0, 3.0], [2.0, 2.0]], True),
        ([2.5], [[3.0, 3.0], [2.0, 2.0]], False),  # at the median, not below it
        ([1.0, 9.0], [[3.0, 3.0]], False),  # its best counts
        ([2.0], [[1.0, 9.0]], False),  # later values of others do not
    ],
)
def test_falls_behind_the_median_of_averages(own: list[float], completed: list[list[float]], behind: bool) -> None:
    def measurement(step: int, value: float) -> Measurement:
        made = Measurement(step_count=step)
        made.metrics.add(metric_id="score", value=value)
        return made

    def measurements(values: list[float]) -> list[Measurement]:
        return [measurement(step, value) for step, value in enumerate(values, start=1)]

    metric = study().metrics[0]
    others = [measurements(values) for values in completed]
    assert falls_behind(measurements(own), others, metric, by_duration=False) is behind
