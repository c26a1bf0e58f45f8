"""What a path of a filter finds in an entry, as plain Python values.

Lists are searched item by item, so a path may find several values; one that is not there finds none. A
structure finds itself, as an `Inside`, for `:` to look into.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.api_core.exceptions import InvalidArgument
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from selfloop_apis import logging_v2

#: A value: text, number, truth, None for JSON's null, or one of the three classes below.
Value = Any
Getter = Callable[[Any], Iterator[Value]]


@dataclass(frozen=True)
class Time:
    """A point in time or a stretch of it."""

    nanoseconds: int


@dataclass(frozen=True)
class Rank:
    """A value of an enum: compared by number, written by name."""

    number: int
    name: str


@dataclass(frozen=True)
class Inside:
    """A message, map or JSON object, as its keys and what they hold."""

    items: Callable[[], Iterable[tuple[str, Value]]]


@dataclass(frozen=True)
class Path:
    """A path into LogEntry, resolved once for a filter."""

    get: Getter
    kind: str
    """`timestamp`, `duration`, `enum` or empty where only the value tells"""
    first: str
    """the field of LogEntry that it goes through, in snake_case"""


def resolve(path: tuple[str, ...]) -> Path:
    """Raises InvalidArgument for a field that entries do not have."""
    descriptor = logging_v2.LogEntry.DESCRIPTOR
    if not path:
        raise InvalidArgument("Field not found: ''.")
    getter, kind = _message_getter(descriptor, path, path)
    return Path(getter, kind, _field(descriptor, path[0], path).name)


def all_values(entry: Any) -> Iterator[Value]:
    """Every value of an entry, for a search that names no field."""
    yield from leaves(_read_message(entry))


def leaves(value: Value) -> Iterator[Value]:
    """The value itself, or what is inside it at any depth."""
    if isinstance(value, Inside):
        for _, item in value.items():
            yield from leaves(item)
    else:
        yield value


def _field(descriptor: Descriptor, name: str, path: tuple[str, ...]) -> FieldDescriptor:
    field = descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name.get(name)
    if field is None:
        raise InvalidArgument(f"Field not found: '{'.'.join(path)}'.")
    return field


def _message_getter(descriptor: Descriptor, rest: tuple[str, ...], path: tuple[str, ...]) -> tuple[Getter, str]:
    field = _field(descriptor, rest[0], path)
    name, below = field.name, rest[1:]
    inner, kind = _value_getter(field, below, path)
    if field.message_type is not None and not field.is_repeated:
        return lambda message: inner(getattr(message, name)) if message.HasField(name) else iter(()), kind
    return lambda message: inner(getattr(message, name)), kind


def _value_getter(field: FieldDescriptor, rest: tuple[str, ...], path: tuple[str, ...]) -> tuple[Getter, str]:
    message_type = field.message_type
    if message_type is None:
        if rest:
            raise InvalidArgument(f"Field not found: '{'.'.join(path)}'.")
        if field.enum_type is not None:
            names = {value.number: value.name for value in field.enum_type.values}
            return lambda number: iter((Rank(number, names.get(number, str(number))),)), "enum"
        if field.type == FieldDescriptor.TYPE_STRING:
            return lambda text: iter((text,) if text else ()), ""
        return lambda value: iter((value,)), ""
    if message_type.GetOptions().map_entry:
        if not rest:
            return lambda entries: iter((Inside(entries.items),) if entries else ()), ""
        # A label's key may hold dots that were not quoted.
        key = ".".join(rest)
        return lambda entries: iter((entries[key],) if key in entries else ()), ""
    match message_type.full_name:
        case "google.protobuf.Timestamp" | "google.protobuf.Duration" if not rest:
            kind = message_type.name.lower()
            return lambda value: iter((Time(value.seconds * 10**9 + value.nanos),)), kind
        case "google.protobuf.Struct":
            return lambda struct: _walk(_read_struct(struct), rest), ""
        case "google.protobuf.Any":
            return lambda any_message: _walk(_read_any(any_message), rest), ""
    return _message_getter(message_type, rest, path) if rest else (lambda message: iter((_read_message(message),)), "")


def _walk(value: Value, rest: tuple[str, ...]) -> Iterator[Value]:
    """What a path finds below a JSON value; the items of a list each count."""
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, rest)
    elif not rest:
        yield Inside(lambda: _flat(value.items())) if isinstance(value, dict) else value
    elif isinstance(value, dict) and rest[0] in value:
        yield from _walk(value[rest[0]], rest[1:])


def _flat(items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Value]]:
    for key, value in items:
        for item in _walk(value, ()):
            yield key, item


def _read_struct(struct: Any) -> dict[str, Any]:
    return {key: _read_json(value) for key, value in struct.fields.items()}


def _read_json(value: Any) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return value.number_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _read_struct(value.struct_value)
        case "list_value":
            return [_read_json(item) for item in value.list_value.values]
    return None


def _read_any(any_message: Any) -> dict[str, Any]:
    """A protoPayload as JSON; empty where its type is unknown here."""
    from google.protobuf import json_format

    from emulator.core.messages import unpack

    message = unpack(any_message)
    if message is None:
        return {}
    document: dict[str, Any] = json.loads(json_format.MessageToJson(message))
    return document


def _read_message(message: Any) -> Inside:
    def items() -> Iterator[tuple[str, Value]]:
        for field, value in message.ListFields():
            getter, _ = _value_getter(field, (), ())
            # Of a list of messages or texts each item counts; a map is one value.
            is_list = field.is_repeated and not (
                field.message_type is not None and field.message_type.GetOptions().map_entry
            )
            for item in value if is_list else (value,):
                for found in getter(item):
                    yield field.camelcase_name, found

    return Inside(items)
