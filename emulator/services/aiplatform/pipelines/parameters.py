"""Types of parameters, and the values that are of a type.

Every number travels as a double. A whole one is an int here, as containers get it.
Source: https://github.com/kubeflow/pipelines/blob/master/api/v2alpha1/pipeline_spec.proto (ParameterType)
"""

from __future__ import annotations

import json
import math
from enum import Enum
from typing import Any

#: Larger whole doubles stay floats: they are not exact to the unit.
_LARGEST_WHOLE = 2.0**53


class ParameterType(Enum):
    NUMBER_DOUBLE = "NUMBER_DOUBLE"
    NUMBER_INTEGER = "NUMBER_INTEGER"
    STRING = "STRING"
    BOOLEAN = "BOOLEAN"
    LIST = "LIST"
    STRUCT = "STRUCT"
    TASK_FINAL_STATUS = "TASK_FINAL_STATUS"


class WrongType(Exception):
    """A value that is not of its parameter's type; the text says what it is."""


def normal(value: Any) -> Any:
    """The value with every whole double as an int, also inside lists and structures."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < _LARGEST_WHOLE:
        return int(value)
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, dict):
        return {key: normal(item) for key, item in value.items()}
    return value


def check(value: Any, kind: ParameterType) -> Any:
    """The normal form of a value that a caller gives for a parameter. Raises WrongType."""
    value = normal(value)
    fits = {
        ParameterType.NUMBER_DOUBLE: _is_number(value),
        ParameterType.NUMBER_INTEGER: isinstance(value, int) and not isinstance(value, bool),
        ParameterType.STRING: isinstance(value, str),
        ParameterType.BOOLEAN: isinstance(value, bool),
        ParameterType.LIST: isinstance(value, list),
        ParameterType.STRUCT: isinstance(value, dict),
        ParameterType.TASK_FINAL_STATUS: isinstance(value, dict),
    }[kind]
    if not fits:
        raise WrongType(f"{as_text(value)[:100]} is {_kind_of(value)}, not {kind.value}")
    return value


def convert(value: Any, kind: ParameterType) -> Any:
    """A value that another task or a loop gives, as the type that a component declares. Raises WrongType.

    Items of a loop are declared as STRING whatever they are, so numbers become texts and texts what they say.
    """
    value = normal(value)
    if kind is ParameterType.STRING and not isinstance(value, str):
        return as_text(value)
    if kind is not ParameterType.STRING and isinstance(value, str):
        return parse(value, kind)
    return check(value, kind)


def parse(text: str, kind: ParameterType) -> Any:
    """The value that a container wrote into a parameter's file. Raises WrongType."""
    if kind is ParameterType.STRING:
        return text
    try:
        # Python's `True` is what a component that prints a bool writes.
        value = {"True": True, "False": False}[text] if text in ("True", "False") else json.loads(text)
    except (ValueError, RecursionError):
        raise WrongType(f"{text[:100]!r} is not {kind.value}") from None
    return check(value, kind)


def as_text(value: Any) -> str:
    """A value inside a text: a string as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "BOOLEAN"
    return {int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", str: "STRING", list: "LIST"}.get(type(value), "STRUCT")
