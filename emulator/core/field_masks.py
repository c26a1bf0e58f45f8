"""Field masks: what an update changes and what a read shows.

Source: https://google.aip.dev/134, https://google.aip.dev/157, https://google.aip.dev/203
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from google.api_core.exceptions import InvalidArgument
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from emulator.core import field_behavior
from emulator.core.filters import descriptor_of, find_field, map_entry

M = TypeVar("M", bound=Message)

_STRUCTURED = ("google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue")


@dataclass(frozen=True)
class _Path:
    """One path of a mask: the fields it leads through, and the key where the last is a map or a Struct."""

    text: str
    fields: tuple[FieldDescriptor, ...]
    key: str = ""

    @property
    def top(self) -> str:
        return str(self.fields[0].name)


def update(stored: Message, given: Message, mask: Iterable[str], updatable: Collection[str] | None = None) -> set[str]:
    """Bring the fields that a mask names from `given` into `stored`; gives back their top-level names.

    A field that is named and left out of `given` is cleared. `*` replaces every field that may change.
    Output-only fields, `name` and `etag` are passed over. A path may lead into a message or to a map's key.
    updatable: top-level fields that the method changes; None for all.
    Raises InvalidArgument for an empty mask, an unknown path, one outside `updatable`, an immutable field
    that would change.
    """
    named = list(mask)
    if not named:
        raise InvalidArgument("List of found errors:\t1.Field: update_mask; Message: Required field is not set.\t")
    descriptor = descriptor_of(stored)
    untouched = field_behavior.output_only_fields(descriptor) | {"name", "etag"}
    if "*" in named:
        fixed = untouched | field_behavior.immutable_fields(descriptor)
        named = [
            field.name
            for field in descriptor.fields
            if field.name not in fixed and (updatable is None or field.name in updatable)
        ]
    paths = [path for path in (_parse(descriptor, text) for text in named) if path.top not in untouched]
    # Every path is looked at before the first one is applied: a bad mask changes nothing.
    for path in paths:
        if updatable is not None and path.top not in updatable:
            raise InvalidArgument(f"The field {path.text} cannot be updated.")
        _check_immutable(stored, given, path)
    for path in paths:
        _bring(stored, given, path)
    return {path.top for path in paths}


def read(message: M, mask: Collection[str]) -> M:
    """A copy with the fields that a read mask names, and `name`; the message itself for an empty mask or `*`.

    A path into a Struct shows what is there under its first key. Raises InvalidArgument for an unknown path.
    """
    if not mask or "*" in mask:
        return message
    descriptor = descriptor_of(message)
    shown = type(message)()
    for text in mask:
        _bring(shown, message, _parse(descriptor, text), only_set=True)
    if "name" in descriptor.fields_by_name:
        _copy(shown, message, descriptor.fields_by_name["name"])
    return shown


def _parse(descriptor: Descriptor, text: str) -> _Path:
    fields: list[FieldDescriptor] = []
    parts = text.split(".")
    within: Descriptor | None = descriptor
    for index, part in enumerate(parts):
        field = find_field(within, part) if within is not None else None
        if field is None:
            raise InvalidArgument(f"Invalid field mask: {descriptor.name} has no field {text}.")
        fields.append(field)
        rest = parts[index + 1 :]
        if rest and (map_entry(field) is not None or _is_structured(field)):
            key = ".".join(rest).strip("`") if map_entry(field) is not None else rest[0]
            return _Path(text, tuple(fields), key)
        within = None if field.is_repeated else field.message_type
    return _Path(text, tuple(fields))


def _check_immutable(stored: Any, given: Any, path: _Path) -> None:
    """Refuse a change of a field that is immutable, or that lies below one."""
    fixed = False
    for field in path.fields:
        fixed = fixed or field.name in field_behavior.immutable_fields(stored.DESCRIPTOR)
        stored, given = getattr(stored, field.name), getattr(given, field.name)
    if fixed and stored != given:
        raise InvalidArgument(f"The field {path.text} is immutable.")


def _bring(target: Any, source: Any, path: _Path, *, only_set: bool = False) -> None:
    """Make the end of the path in `target` what it is in `source`.

    only_set: leave messages on the way unset where the source has none.
    """
    *way, last = path.fields
    for field in way:
        if only_set and not source.HasField(field.name):
            return
        target, source = getattr(target, field.name), getattr(source, field.name)
        target.SetInParent()
    if path.key:
        _copy_key(getattr(target, last.name), getattr(source, last.name), last, path.key)
    else:
        target.ClearField(last.name)
        _copy(target, source, last)


def _copy(target: Any, source: Any, field: FieldDescriptor) -> None:
    value = getattr(source, field.name)
    if field.is_repeated:
        getattr(target, field.name).MergeFrom(value)
    elif field.message_type is not None:
        if source.HasField(field.name):
            getattr(target, field.name).CopyFrom(value)
    elif not field.has_presence or source.HasField(field.name):
        setattr(target, field.name, value)


def _copy_key(target: Any, source: Any, field: FieldDescriptor, key: str) -> None:
    """One entry of a map, or one key of a Struct; a list inside a Value is copied whole."""
    entry = map_entry(field)
    if entry is None and field.message_type is not None:
        if field.message_type.name == "Value":
            target, source = target.struct_value, source.struct_value
        if field.message_type.name == "ListValue":
            target.CopyFrom(source)
            return
        target, source = target.fields, source.fields
    if key not in source:
        target.pop(key, None)
    elif entry is None or entry.fields_by_name["value"].message_type is not None:
        target[key].CopyFrom(source[key])
    else:
        target[key] = source[key]


def _is_structured(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name in _STRUCTURED
