"""Conditions as kfp compiles them, and what is no condition."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.services.aiplatform.pipelines.expressions import (
    ExpressionError,
    is_true,
    parse_condition,
    parse_selector,
)

P = "inputs.parameter_values['%s']"
N, A, B, R = (P % name for name in ("n", "a", "b", "r"))
INPUTS: dict[str, Any] = {"n": 3, "a": "heads", "b": True, "r": 0.5, "t": "it's (ok)", "w": "7"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (f"int({N}) > 2", True),
        (f"int({N}) >= 4", False),
        (f"{A} == 'heads'", True),
        (f"!({A} == 'heads') && {A} == 'tails'", False),
        (f"!({A} == 'tails') && !({A} == 'edge')", True),
        (f"{B} == true", True),
        (f"{B} != false", True),
        (f"{R} >= 0.25", True),
        (f"double({R}) < 1", True),
        (f"{N} == 3.0", True),
        (f"{N} < -1 || {R} == 5e-1", True),
        (f"int({P % 'w'}) == 7", True),
        (f"string({N}) == '3'", True),
        (f"{P % 't'} == 'it's (ok)'", True),
        (f"({N} == 3 || {N} == 4) && ({A} == 'tails' || {B} == true)", True),
        (f'inputs.parameter_values["a"] == "heads" && {A} < \'i\'', True),
        ("1 < 2", True),
    ],
)
def test_condition_holds_or_not(text: str, holds: bool) -> None:
    assert is_true(parse_condition(text), INPUTS) is holds


@pytest.mark.parametrize(
    "text",
    [
        "", "1 +", "a.b == 1", "__import__('os')", f"{N} ==", f"({N} == 3", f"{N} == 3)", "'open", f"{N} = 3",
        f"{N} == 3 {N} == 3", "inputs.parameter_values[n] == 1", "size('abc') == 3",
    ],
)  # fmt: skip
def test_text_that_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match="cannot be read"):
        parse_condition(text)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ExpressionError, match="more than 100 deep"):
        parse_condition("(" * 5000 + "true" + ")" * 5000)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{P % 'missing'} == 1", "no such key: missing"),
        (f"{A} > 1", "no matching overload for '>'"),
        (f"{A} == 1", "no matching overload"),
        (f"int({A}) == 1", r"int\(\) has no value"),
        (A, "is not a bool"),
        (f"{N} && true", "is not a bool"),
    ],
)
def test_condition_without_a_value_says_why(text: str, why: str) -> None:
    with pytest.raises(ExpressionError, match=why):
        is_true(parse_condition(text), INPUTS)


def test_right_side_is_not_asked_where_the_left_decides() -> None:
    assert not is_true(parse_condition(f"false && {P % 'missing'} == 1"), {})
    assert is_true(parse_condition(f"true || {P % 'missing'} == 1"), {})


@pytest.mark.parametrize(
    ("text", "value", "part"),
    [
        ('parseJson(string_value)["a"]', {"a": 1}, 1),
        ('parseJson(string_value)["a"]["b"]', '{"a": {"b": [5]}}', [5]),
        ("parseJson(string_value)[1]", "[3, 4]", 4),
        ("parseJson(string_value)", '{"x": 1}', {"x": 1}),
    ],
)
def test_selector_takes_its_part(text: str, value: Any, part: Any) -> None:
    assert parse_selector(text)(value) == part


def test_selector_that_finds_nothing_says_so() -> None:
    select = parse_selector('parseJson(string_value)["a"]')
    values: list[Any] = [{"b": 1}, "no json", 3, []]
    for value in values:
        with pytest.raises(ExpressionError, match="finds nothing"):
            select(value)
    with pytest.raises(ExpressionError, match="is not of the form"):
        parse_selector("os.environ")
