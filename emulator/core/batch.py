"""Batch requests: many calls of one API in a `multipart/mixed` body, each answered as if it had come alone.

Every part is put to the application as a request of its own, so that it is authenticated, dispatched and noted in
the journal like any other. It takes the credentials of the whole where it brings none.
Source: https://cloud.google.com/storage/docs/batch
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from google.api_core.exceptions import BadRequest

from emulator.core.errors import status_phrase

MOST_CALLS = 100
LARGEST_BODY_BYTES = 10 * 1024 * 1024
_PATH = re.compile(r"/batch/storage/v1/?")
#: What a part may not change: who sent the whole, and to which host.
_OF_THE_WHOLE = ("host", "origin", "sec-fetch-site")
_REQUEST_LINE = re.compile(r"([A-Za-z]+) +(\S+)(?: +HTTP/\d(?:\.\d)?)?")
_MEDIA = re.compile(r"/(?:resumable/)?(?:upload|download|batch)/|[^?]*\?(?:.*&)?alt=media(?:&|$)")

#: Answers one request as ASGI has it: scope, receive, send.
Application = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True)
class Part:
    """One call of a batch."""

    content_id: str
    verb: str
    target: str
    """path and query, as they were sent"""
    headers: Mapping[str, str]
    """names in lower case"""
    body: bytes


@dataclass
class PartAnswer:
    """What the application sent for a part."""

    content_id: str
    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)


def is_batch(verb: str, path: str) -> bool:
    return verb == "post" and _PATH.fullmatch(path) is not None


async def answer(application: Application, headers: Mapping[str, str], body: bytes) -> tuple[str, bytes]:
    """Content type and body of the answer to a batch. Raises BadRequest for one that cannot be read.

    headers: those of the whole, names in lower case.
    """
    parts = parse(headers.get("content-type", ""), body)
    # One after the other: a client that deletes and lists in one batch gets what it would get without.
    return render([await _call(application, headers, part) for part in parts])


def parse(content_type: str, body: bytes) -> list[Part]:
    """The calls of a batch. Lines may end in CRLF or in LF alone. Raises BadRequest."""
    match = re.search(r"""boundary=(?:"([^"]+)"|'([^']+)'|([^;\s]+))""", content_type, re.IGNORECASE)
    if match is None or not content_type.lower().startswith("multipart/mixed"):
        raise BadRequest("A batch is of type multipart/mixed, with a boundary.")
    boundary = next(group for group in match.groups() if group)
    delimiter = re.compile(rb"(?:^|\r?\n)--" + re.escape(boundary.encode("latin-1")) + rb"(--)?[ \t]*(?:\r?\n|$)")
    marks = list(delimiter.finditer(body))
    # gcsfs ends a batch without a line break, others with an epilogue: only the first closing mark counts.
    last = next((number for number, mark in enumerate(marks) if mark[1]), None)
    if not marks or last is None:
        raise BadRequest("The batch has no parts, or lacks its closing boundary.")
    if last > MOST_CALLS:
        raise BadRequest(f"The batch holds more than {MOST_CALLS} calls.")
    return [_parse_part(body[one.end() : other.start()]) for one, other in pairwise(marks[: last + 1])]


def _parse_part(text: bytes) -> Part:
    outer, _, rest = _split_head(text)
    if not outer.get("content-type", "application/http").lower().startswith("application/http"):
        raise BadRequest("A part of a batch is of type application/http.")
    line, _, rest = rest.lstrip(b"\r\n").partition(b"\n")
    match = _REQUEST_LINE.fullmatch(line.decode("latin-1").strip())
    if match is None:
        raise BadRequest(f"A part of the batch begins with no request line: {line[:100].decode('latin-1')!r}")
    headers, found, body = _split_head(rest)
    target = re.sub(r"^https?://[^/]*", "", match[2])
    if not target.startswith("/"):
        target = f"/{target}"
    return Part(outer.get("content-id", ""), match[1].upper(), target, headers, body if found else b"")


def _split_head(text: bytes) -> tuple[dict[str, str], bool, bytes]:
    """Header fields, whether an empty line ends them, and what stands behind it."""
    headers: dict[str, str] = {}
    while text:
        line, _, text = text.partition(b"\n")
        line = line.rstrip(b"\r")
        if not line:
            return headers, True, text
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return headers, False, b""


async def _call(application: Application, outer: Mapping[str, str], part: Part) -> PartAnswer:
    result = PartAnswer(part.content_id)
    if _MEDIA.match(part.target):
        result.status = 400
        result.body += b"Uploads, downloads and batches cannot be part of a batch."
        result.headers.append((b"content-type", b"text/plain; charset=UTF-8"))
        return result
    path, _, query = part.target.partition("?")
    scope = {
        "type": "http",
        "method": part.verb,
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "headers": list(_headers(outer, part)),
    }
    unread = [part.body]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": unread.pop() if unread else b"", "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            result.status, result.headers = message["status"], list(message["headers"])
        else:
            result.body += message.get("body", b"")

    await application(scope, receive, send)
    return result


def _headers(outer: Mapping[str, str], part: Part) -> Iterator[tuple[bytes, bytes]]:
    """Of the part, and from the whole who asks and where."""
    headers = {name: value for name, value in part.headers.items() if name not in (*_OF_THE_WHOLE, "accept-encoding")}
    if "authorization" in outer:
        headers.setdefault("authorization", outer["authorization"])
    headers |= {name: outer[name] for name in _OF_THE_WHOLE if name in outer}
    headers["content-length"] = str(len(part.body))
    for name, value in headers.items():
        yield name.encode("latin-1"), value.encode("latin-1")


def render(answers: list[PartAnswer]) -> tuple[str, bytes]:
    """Content type and body. The boundary stands unquoted and last, where gcsfs looks for it."""
    boundary = f"batch_{secrets.token_hex(16)}"
    text = bytearray()
    for one in answers:
        text += f"--{boundary}\r\nContent-Type: application/http\r\n".encode()
        if one.content_id:
            text += f"Content-ID: {_response_id(one.content_id)}\r\n".encode("latin-1")
        text += f"\r\nHTTP/1.1 {one.status} {status_phrase(one.status)}\r\n".encode()
        for name, value in one.headers:
            if name.lower() != b"content-length":
                text += name.title() + b": " + value + b"\r\n"
        text += f"Content-Length: {len(one.body)}\r\n\r\n".encode() + one.body + b"\r\n"
    text += f"--{boundary}--\r\n".encode()
    return f"multipart/mixed; boundary={boundary}", bytes(text)


def _response_id(content_id: str) -> str:
    """`<response-x+1>` for `<x+1>`."""
    return f"<response-{content_id[1:]}" if content_id.startswith("<") else f"response-{content_id}"
