"""What an RPC's messages are over REST: JSON, or bytes of any kind where the RPC answers google.api.HttpBody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from emulator.core import transcoding

HTTP_BODY = "google.api.HttpBody"
#: Headers of an answer in JSON.
JSON = {"content-type": "application/json; charset=UTF-8", "vary": "Origin, X-Origin, Referer"}


def whole(response: Any, enums_as_numbers: bool) -> tuple[str, bytes]:
    """Content type and body of one message."""
    if response.DESCRIPTOR.full_name == HTTP_BODY:
        return response.content_type or "application/octet-stream", response.data
    document = transcoding.to_json(response, enums_as_numbers=enums_as_numbers)
    return JSON["content-type"], transcoding.dump(document)


def streamed(responses: Iterator[Any], enums_as_numbers: bool) -> tuple[Mapping[str, str], Iterator[bytes]]:
    """Headers and body of a stream, once its first message is there or it has failed before that."""
    first = next(responses, None)
    messages = _resumed(first, responses)
    if first is None or first.DESCRIPTOR.full_name != HTTP_BODY:
        return JSON, _json_array(messages, enums_as_numbers)
    content_type = first.content_type or "application/octet-stream"
    return {"content-type": content_type}, (message.data for message in messages if message.data)


def _resumed(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    if first is not None:
        yield first
        yield from rest


def _json_array(responses: Iterable[Any], enums_as_numbers: bool) -> Iterator[bytes]:
    """A stream as Google's REST sends it: one JSON array, an element as each message comes."""
    separator = b"["
    for response in responses:
        document = transcoding.to_json(response, enums_as_numbers=enums_as_numbers)
        yield separator + transcoding.dump(document)
        separator = b",\n"
    yield b"[]" if separator == b"[" else b"]"
