"""REST calls to messages and back, as Google's front end does it.

Bodies may use camelCase or snake_case names; answers are camelCase, without defaults. Numbers inside a Struct
come back as JSON integers where they are whole. Query parameters fill what path and body left open.
Source: google/api/http.proto, https://protobuf.dev/programming-guides/json/
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import selfloop_apis
from google.api_core.exceptions import InvalidArgument
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

#: Query parameters that every API takes and no message has.
SYSTEM_PARAMETERS = frozenset(
    {"$alt", "alt", "$fields", "fields", "key", "$key", "prettyPrint", "$prettyPrint", "quotaUser", "$.xgafv",
     "$userProject", "userProject", "access_token", "oauth_token", "callback", "uploadType", "upload_protocol"}
)  # fmt: skip
_STRUCTURED = frozenset({"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"})
#: Messages that a query parameter spells as one string.
_SCALAR_MESSAGES = frozenset(
    f"google.protobuf.{kind}"
    for kind in (
        "Timestamp", "Duration", "FieldMask", "Int32Value", "Int64Value", "UInt32Value", "UInt64Value", "FloatValue",
        "DoubleValue", "BoolValue", "StringValue",
    )
)  # fmt: skip


def parse_request(
    message_class: type[Message],
    body_field: str,
    path: Mapping[str, str],
    query: Iterable[tuple[str, str]],
    body: Any,
) -> Message:
    """The request message of a REST call. Raises InvalidArgument in Google's words for what does not fit.

    body_field: the field that the body is, `*` for the whole message, empty where the call has no body.
    """
    message = message_class()
    if body is not None and body_field:
        if body_field == "*":
            _parse(body, message)
        else:
            _parse(body, getattr(message, body_field))
            getattr(message, body_field).SetInParent()
    tree: dict[str, Any] = {}
    for name, value in [*path.items(), *((n, v) for n, v in query if n not in SYSTEM_PARAMETERS)]:
        _place(tree, message_class.DESCRIPTOR, name, value)
    if tree:
        extra = message_class()
        _parse(tree, extra)
        # The URL wins over the body: what names the resource is the path.
        for name in path:
            _clear(message, name)
        message.MergeFrom(extra)
    return message


def _parse(value: Any, message: Message) -> None:
    if not isinstance(value, dict) and message.DESCRIPTOR.full_name not in _STRUCTURED:
        raise InvalidArgument("Invalid JSON payload received. An object was expected.")
    try:
        json_format.ParseDict(value, message, descriptor_pool=selfloop_apis.POOL, max_recursion_depth=100)
    except json_format.ParseError as error:
        raise InvalidArgument(_explain(str(error))) from None
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InvalidArgument(f"Invalid JSON payload received. {error}") from None


def _explain(error: str) -> str:
    """The front end's sentence for what json_format says."""
    unknown = re.search(r'Message type "[^"]+" has no field named "([^"]+)" at "([^"]*)"', error)
    if unknown:
        name, where = unknown.groups()
        path = ".".join(_snake(part) for part in where.split(".")[1:])
        place = f" at '{path}'" if path else ""
        return f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.'
    enum = re.search(r"Invalid enum value (\S+) for enum type ([\w.]+)", error)
    if enum:
        field = re.search(r"Failed to parse (\w+) field", error)
        where = f" at '{_snake(field[1])}'" if field else ""
        return f'Invalid value{where} (type.googleapis.com/{enum[2]}), "{enum[1]}"'
    return f"Invalid JSON payload received. {error.removesuffix('.')}."


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _place(tree: dict[str, Any], descriptor: Any, name: str, value: str) -> None:
    """Put a parameter such as `schedule.name=x` into the tree that json_format will read."""
    *parents, last = name.split(".")
    for part in parents:
        field = _field(descriptor, part)
        if field is None or field.message_type is None:
            raise _unknown_parameter(name)
        tree = tree.setdefault(field.name, {})
        descriptor = field.message_type
    field = _field(descriptor, last)
    if field is None:
        raise _unknown_parameter(name)
    converted = _convert(field, name, value)
    if field.is_repeated:
        tree.setdefault(field.name, []).append(converted)
    else:
        tree[field.name] = converted


def _unknown_parameter(name: str) -> InvalidArgument:
    return InvalidArgument(
        f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter. '
        f"Field '{name}' could not be found in request message."
    )


def _field(descriptor: Any, name: str) -> FieldDescriptor | None:
    found: FieldDescriptor | None = descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name.get(name)
    return found


def _convert(field: FieldDescriptor, name: str, value: str) -> Any:
    if field.type == FieldDescriptor.TYPE_BOOL:
        if value.lower() not in ("true", "false", "1", "0"):
            raise InvalidArgument(f"Invalid value at '{name}' (TYPE_BOOL), \"{value}\"")
        return value.lower() in ("true", "1")
    if field.type == FieldDescriptor.TYPE_ENUM and value.lstrip("-").isdecimal():
        return int(value)
    if field.message_type is not None and field.message_type.full_name not in _SCALAR_MESSAGES:
        raise InvalidArgument(f"Invalid value at '{name}': a message cannot be a query parameter.")
    if field.message_type is not None and field.message_type.name == "FieldMask":
        # Clients send both spellings of a path; json_format takes camelCase alone.
        return ",".join(re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), part) for part in value.split(","))
    return value


def _clear(message: Message, name: str) -> None:
    *parents, last = name.split(".")
    for part in parents:
        field = _field(message.DESCRIPTOR, part)
        if field is None:
            return
        message = getattr(message, field.name)
    field = _field(message.DESCRIPTOR, last)
    if field is not None:
        message.ClearField(field.name)


def to_json(message: Message, *, enums_as_numbers: bool = False) -> Any:
    """The answer as Google prints it: camelCase, defaults left out, whole numbers whole."""
    document = json_format.MessageToDict(
        message, use_integers_for_enums=enums_as_numbers, descriptor_pool=selfloop_apis.POOL
    )
    return _whole_numbers(document)


def _whole_numbers(value: Any) -> Any:
    """A Struct holds every number as a double; 20 must not become 20.0 on its way through."""
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def dump(document: Any) -> bytes:
    """JSON bytes, UTF-8."""
    return _ENCODER.encode(document).encode()


def load(data: bytes) -> Any:
    """A JSON body. Raises InvalidArgument."""
    try:
        return json.loads(data) if data.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"Invalid JSON payload received. {error}") from None
