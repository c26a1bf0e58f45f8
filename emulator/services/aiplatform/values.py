"""google.protobuf.Value and plain Python objects, each way: what instances and predictions travel as.

json_format does the same by way of strings and takes several times as long.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Beyond it a double is no longer exact to the unit, and an integer would pretend to be.
_LARGEST_WHOLE = 2.0**53


def plain(value: Any) -> Any:
    """What a Value holds. A whole number is an int: `20`, not `20.0`, as the service writes it to containers."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and -_LARGEST_WHOLE < number < _LARGEST_WHOLE else number
    if kind == "list_value":
        return [plain(item) for item in value.list_value.values]
    if kind == "struct_value":
        return {key: plain(item) for key, item in value.struct_value.fields.items()}
    if kind == "null_value" or kind is None:
        return None
    return getattr(value, kind)


def fill(value: Any, item: Any) -> None:
    """Make an empty Value hold what JSON gave. Raises OverflowError for a number that no double is."""
    if isinstance(item, bool):
        value.bool_value = item
    elif isinstance(item, (int, float)):
        value.number_value = item
    elif isinstance(item, str):
        value.string_value = item
    elif isinstance(item, list):
        value.list_value.SetInParent()
        extend(value.list_value.values, item)
    elif isinstance(item, dict):
        value.struct_value.SetInParent()
        for key, inner in item.items():
            fill(value.struct_value.fields[key], inner)
    else:
        value.null_value = 0


def extend(values: Any, items: Iterable[Any]) -> None:
    """Add items to a repeated field of Values."""
    for item in items:
        fill(values.add(), item)


def plain_struct(struct: Any) -> dict[str, Any]:
    """What a Struct holds, numbers as `plain` gives them."""
    return {key: plain(item) for key, item in struct.fields.items()}
