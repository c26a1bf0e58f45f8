"""A part of a pipeline's specification, read with errors that name the place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from google.api_core.exceptions import InvalidArgument, MethodNotImplemented


class SpecNode:
    """A JSON object and its path. Every getter raises InvalidArgument for a value of another type."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            raise wrong(path, f"must be an object, not {type(value).__name__}")
        self._value = value
        self.path = path

    def __contains__(self, key: str) -> bool:
        return key in self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def raw(self, key: str, default: Any = None) -> Any:
        return self._value.get(key, default)

    def node(self, key: str) -> SpecNode:
        """The object at a key, an empty one where there is none."""
        return SpecNode(self._value.get(key, {}), f"{self.path}.{key}")

    def nodes(self, key: str) -> Iterator[tuple[str, SpecNode]]:
        """Names and objects of a map of objects."""
        for name, value in self.node(key)._value.items():
            yield name, SpecNode(value, f"{self.path}.{key}.{name}")

    def node_list(self, key: str) -> list[SpecNode]:
        return [SpecNode(item, f"{self.path}.{key}[{index}]") for index, item in enumerate(self._list(key))]

    def text(self, key: str) -> str:
        return str(self._typed(key, str, ""))

    def texts(self, key: str) -> tuple[str, ...]:
        items = self._list(key)
        if not all(isinstance(item, str) for item in items):
            raise wrong(f"{self.path}.{key}", "must be a list of strings")
        return tuple(items)

    def flag(self, key: str) -> bool:
        return bool(self._typed(key, bool, False))

    def number(self, key: str, default: float) -> float:
        value = self._value.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise wrong(f"{self.path}.{key}", "must be a number")
        try:
            # Integers of 64 bits are strings in the JSON of protobuf.
            return float(value)
        except ValueError:
            raise wrong(f"{self.path}.{key}", "must be a number") from None

    def only_one_of(self, kinds: Collection[str], what: str) -> str:
        """The one of these keys that is there; anything else is not emulated and refused by its name."""
        given = sorted(self._value)
        known = [kind for kind in kinds if kind in self._value]
        for key in given:
            if key not in kinds:
                raise MethodNotImplemented(f"{self.path}.{key}: this kind of {what} is not emulated.")
        if len(known) != 1:
            raise wrong(self.path, f"must have exactly one of {', '.join(kinds)}")
        return known[0]

    def refuse_others(self, known: Collection[str]) -> None:
        """Raise MethodNotImplemented for a key that says something which would be passed over."""
        for key, value in self._value.items():
            if key not in known and value not in (None, "", {}, [], False):
                raise MethodNotImplemented(f"{self.path}.{key} is not emulated.")

    def _list(self, key: str) -> list[Any]:
        return list(self._typed(key, list, []))

    def _typed(self, key: str, kind: type, default: Any) -> Any:
        value = self._value.get(key, default)
        if not isinstance(value, kind):
            raise wrong(f"{self.path}.{key}", f"must be a {kind.__name__}")
        return value


def wrong(path: str, why: str) -> InvalidArgument:
    """What is raised for a part of a specification that means nothing."""
    return InvalidArgument(f"Invalid pipeline spec: {path} {why}.")
