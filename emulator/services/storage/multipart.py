"""Uploads in several parts: metadata, then data, or a form with a file; cut apart as they arrive.

Clients differ: the boundary may stand bare, in double or in single quotes; lines end in CRLF or in LF alone. The
one line break before a closing boundary belongs to the boundary, and everything before it to the data.
Source: RFC 2387; https://cloud.google.com/storage/docs/json_api/v1/how-tos/multipart-upload
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.api_core.exceptions import BadRequest

_LARGEST_HEAD_BYTES = 1 << 20


class _Message:
    """A multipart body on its way in; the buffer begins behind what was read."""

    def __init__(self, content_type: str, body: Iterable[bytes]) -> None:
        self._boundary = b"--" + _boundary(content_type)
        self._pieces = iter(body)
        self._buffer = b""
        self._line_end = b"\r\n"
        first = self._line()
        while first == b"":
            first = self._line()
        if first != self._boundary:
            raise BadRequest("Malformed multipart body: it does not begin with the boundary.")

    def data(self) -> Iterator[bytes]:
        """Raises BadRequest when the body ends without its closing boundary."""
        return self._until_boundary()

    def _fill(self) -> None:
        piece = next(self._pieces, None)
        if piece is None:
            raise BadRequest("Missing end boundary in multipart body.")
        self._buffer += piece

    def _line(self) -> bytes:
        """The next line without its end. Notes which kind of end the message uses."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _LARGEST_HEAD_BYTES:
                raise BadRequest("Malformed multipart body: a header is too long.")
            self._fill()
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        self._line_end = b"\r\n" if line.endswith(b"\r") else b"\n"
        return line.rstrip(b"\r")

    def _headers(self) -> Mapping[str, str]:
        headers = {}
        total = 0
        while line := self._line():
            total += len(line)
            if total > _LARGEST_HEAD_BYTES:
                raise BadRequest("Malformed multipart body: its headers are too long.")
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

    def _until_boundary(self, limit: int | None = None) -> Iterator[bytes]:
        """A part's content; afterwards the buffer begins behind the boundary."""
        # A payload may end in a carriage return of its own, so the end is the kind that the headers used.
        closing = self._line_end + self._boundary
        total = 0
        if self._buffer_starts_with(self._boundary):
            self._buffer = self._buffer[len(self._boundary) :]
            return
        while (at := self._buffer.find(closing)) < 0:
            kept = len(closing) - 1
            if len(self._buffer) > kept:
                piece, self._buffer = self._buffer[:-kept], self._buffer[-kept:]
                total += len(piece)
                if limit is not None and total > limit:
                    raise BadRequest("The metadata of an upload is too large.")
                yield piece
            self._fill()
        if at:
            yield self._buffer[:at]
        self._buffer = self._buffer[at + len(closing) :]

    def _buffer_starts_with(self, text: bytes) -> bool:
        """An empty part may have no line break before its boundary."""
        while len(self._buffer) < len(text) and text.startswith(self._buffer):
            self._fill()
        return self._buffer.startswith(text)


class MultipartUpload(_Message):
    """One upload. Reading `metadata` is done on construction; `data` yields the second part's bytes once."""

    def __init__(self, content_type: str, body: Iterable[bytes]) -> None:
        super().__init__(content_type, body)
        self._headers()
        self.metadata = parse_metadata(b"".join(self._until_boundary(limit=_LARGEST_HEAD_BYTES)))
        rest = self._line()
        if rest.startswith(b"--"):
            raise BadRequest("Malformed multipart body: it has no data part.")
        self.content_type = self._headers().get("content-type", "")


class FormData(_Message):
    """An HTML form whose last field is a file; `data` yields its bytes once. What follows the file is ignored.

    Source: RFC 7578
    """

    def __init__(self, content_type: str, body: Iterable[bytes]) -> None:
        super().__init__(content_type, body)
        self.fields: dict[str, str] = {}
        """by name in lower case"""
        left = _LARGEST_HEAD_BYTES
        while True:
            headers = self._headers()
            disposition = headers.get("content-disposition", "")
            name = _quoted(disposition, "name").lower()
            if name == "file":
                self.file_name = _quoted(disposition, "filename").replace("\\", "/").rpartition("/")[2]
                self.content_type = headers.get("content-type", "")
                return
            value = b"".join(self._until_boundary(limit=left))
            left -= len(value) + len(name)
            if not name or self._line().startswith(b"--"):
                raise BadRequest("The form must end in a field named file.")
            self.fields[name] = value.decode("utf-8", "replace")


def _quoted(disposition: str, name: str) -> str:
    """A parameter of Content-Disposition; browsers write it in UTF-8, with %22 for a quotation mark."""
    match = re.search(rf';\s*{name}="([^"]*)"', disposition)
    return match[1].encode("latin-1").decode("utf-8", "replace").replace("%22", '"') if match else ""


def _boundary(content_type: str) -> bytes:
    match = re.search(r"""boundary=(?:"([^"]+)"|'([^']+)'|([^;\s]+))""", content_type, re.IGNORECASE)
    if match is None:
        raise BadRequest("A multipart upload needs a boundary in its Content-Type.")
    return next(group for group in match.groups() if group).encode("latin-1")


def parse_metadata(text: bytes) -> dict[str, Any]:
    """An object's metadata as a client sends it; nothing at all means none. Raises BadRequest."""
    if not text.strip():
        return {}
    try:
        document = json.loads(text)
    except ValueError:
        raise BadRequest("Parse Error", errors=[{"reason": "parseError"}]) from None
    if not isinstance(document, dict):
        raise BadRequest("Parse Error", errors=[{"reason": "parseError"}])
    return document
