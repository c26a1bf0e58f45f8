"""Small moves on protobuf messages that every service makes.

The classes come from `selfloop_apis`, whose descriptor pool is its own: use its Timestamp, Status and Empty
rather than those of google.protobuf and google.rpc, which are other classes to `CopyFrom`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

import selfloop_apis
from google.protobuf.message import Message


def stamp(field: Any, time: datetime) -> None:
    """Set a Timestamp field to an aware time, to the microsecond."""
    field.FromDatetime(time.astimezone(UTC).replace(tzinfo=None))


def as_datetime(field: Any) -> datetime:
    """The aware UTC time of a Timestamp."""
    value: datetime = field.ToDatetime(tzinfo=UTC)
    return value


def as_version(message: Message, version: str) -> Message:
    """The same message as another version of its API has it, by its bytes, so that unknown fields survive.

    A message that the version does not have (google.protobuf.Empty) is given back as it is.
    """
    other = _twin(message.DESCRIPTOR.full_name, version)
    if other is None or other is type(message):
        return message
    twin = other()
    twin.ParseFromString(message.SerializeToString())
    return twin


def unpack(any_message: Any) -> Any:
    """The message inside an Any, or None when it is empty or of an unknown type."""
    name = any_message.type_url.rpartition("/")[2]
    if not name:
        return None
    try:
        message = selfloop_apis.message(name)()
    except KeyError:
        return None
    message.ParseFromString(any_message.value)
    return message


@cache
def _twin(full_name: str, version: str) -> type[Message] | None:
    package, dot, rest = full_name.partition(".v1beta1.") if ".v1beta1." in full_name else full_name.partition(".v1.")
    if not dot:
        return None
    try:
        return selfloop_apis.message(f"{package}.{version}.{rest}")
    except KeyError:
        return None
