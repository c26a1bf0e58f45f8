"""Points of a study's search space, chosen parameter by parameter, those that depend on a value after it.

Source: the comments of study.proto
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from selfloop_apis.aiplatform_v1 import StudySpec, Trial

ParameterSpec = StudySpec.ParameterSpec


class Chooser(Protocol):
    """Chooses one value after the other for a point. `key` names a parameter within the whole space."""

    def number(self, key: str, low: float, high: float, *, is_log: bool) -> float:
        """From low to high, both included; is_log: evenly by its logarithm."""
        ...

    def integer(self, key: str, low: int, high: int, *, is_log: bool) -> int: ...

    def place(self, key: str, count: int) -> int:
        """0 to count - 1, of values in an order that means something."""
        ...

    def category(self, key: str, count: int) -> int:
        """0 to count - 1, of values in no order."""
        ...


def choose_point(specs: Iterable[Any], chooser: Chooser) -> list[Any]:
    """One `Trial.Parameter` for each parameter that is active at this point. specs: `StudySpec.parameters`."""
    return list(_choose(specs, chooser, ""))


def flag(parameter: Any) -> str:
    """`--learning_rate=0.01`, as a trial's program gets it."""
    value = parameter.value
    text = value.string_value if value.HasField("string_value") else _as_text(value.number_value)
    return f"--{parameter.parameter_id}={text}"


def _choose(specs: Iterable[Any], chooser: Chooser, path: str) -> Iterator[Any]:
    for spec in specs:
        key = f"{path}{spec.parameter_id}"
        value = _value(spec, chooser, key)
        parameter = Trial.Parameter(parameter_id=spec.parameter_id)
        if isinstance(value, str):
            parameter.value.string_value = value
        else:
            parameter.value.number_value = value
        yield parameter
        for number, conditional in enumerate(spec.conditional_parameter_specs):
            if value in _parent_values(conditional):
                yield from _choose([conditional.parameter_spec], chooser, f"{key}[{number}].")


def _value(spec: Any, chooser: Chooser, key: str) -> float | str:
    scale = ParameterSpec.ScaleType
    is_log = spec.scale_type in (scale.UNIT_LOG_SCALE, scale.UNIT_REVERSE_LOG_SCALE)
    is_reversed = spec.scale_type == scale.UNIT_REVERSE_LOG_SCALE
    kind = spec.WhichOneof("parameter_value_spec")
    if kind == "double_value_spec":
        low, high = spec.double_value_spec.min_value, spec.double_value_spec.max_value
        number = chooser.number(key, low, high, is_log=is_log)
        return min(max(low + high - number, low), high) if is_reversed else number
    if kind == "integer_value_spec":
        least, most = spec.integer_value_spec.min_value, spec.integer_value_spec.max_value
        chosen = chooser.integer(key, least, most, is_log=is_log)
        return float(least + most - chosen if is_reversed else chosen)
    if kind == "discrete_value_spec":
        values = spec.discrete_value_spec.values
        return float(values[chooser.place(key, len(values))])
    categories = spec.categorical_value_spec.values
    return str(categories[chooser.category(key, len(categories))])


def _parent_values(conditional: Any) -> Sequence[float | str]:
    kind = conditional.WhichOneof("parent_value_condition")
    return [] if kind is None else list(getattr(conditional, kind).values)


def _as_text(number: float) -> str:
    """Without a point where it is a whole number: trainers read integers and discrete values as `int`."""
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
