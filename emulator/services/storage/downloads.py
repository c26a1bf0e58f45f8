"""`alt=media`: an object's bytes, whole, in part, or inflated.

Source: https://cloud.google.com/storage/docs/json_api/v1/parameters#range, …/docs/transcoding
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

from google.api_core.exceptions import RequestRangeNotSatisfiable, ServiceUnavailable

from emulator.core.service import FileBody, JsonResponse
from emulator.services.storage import checksums, resources
from emulator.services.storage.catalogue import StoredObject

_CLIENT_TEXTS = {"content-type", "content-disposition", "cache-control", "content-language"}
#: A body up to this is read here and sent with its head, which is quicker than opening a stream for it.
_AT_ONCE_BYTES = 64 * 1024


def media_response(stored: StoredObject, descriptor: int, headers: Mapping[str, str]) -> JsonResponse:
    """The answer to a request for an object's bytes; takes over the descriptor."""
    try:
        fields = stored.settings
        answer = _headers(stored, fields)
        if _is_inflated(fields, headers):
            answer["warning"] = "214 UploadServer gunzipped"
            body = _inflated(descriptor)
            descriptor = -1
            return JsonResponse(body, 200, answer)
        if "contentEncoding" in fields:
            answer["content-encoding"] = header_text(fields["contentEncoding"])
        try:
            span = _range(headers.get("range", ""), stored.size)
        except RequestRangeNotSatisfiable as error:
            # Clients that read in chunks learn from the header that an object is empty.
            refused = {"content-type": "text/plain; charset=UTF-8", "content-range": f"bytes */{stored.size}"}
            return JsonResponse(error.message.encode(), 416, refused)
        first, last = span or (0, stored.size - 1)
        if span:
            answer["content-range"] = f"bytes {first}-{last}/{stored.size}"
        length = last - first + 1
        answer["content-length"] = str(length)
        status = 206 if span else 200
        if length > _AT_ONCE_BYTES:
            file, descriptor = FileBody(descriptor, first, length), -1
            return JsonResponse(file, status, answer)
        data = os.pread(descriptor, length, first)
        if len(data) != length:
            raise ServiceUnavailable(f"gs://{stored.bucket}/{stored.name} is being written by a job.")
        return JsonResponse(data, status, answer)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _headers(stored: StoredObject, fields: Mapping[str, str]) -> dict[str, str]:
    hashes = f"crc32c={checksums.crc32c_text(stored.crc32c)}"
    if stored.md5 is not None:
        hashes += f",md5={checksums.md5_text(stored.md5)}"
    headers = {
        "content-type": fields.get("contentType", "application/octet-stream"),
        "content-disposition": fields.get("contentDisposition", "attachment"),
        "cache-control": fields.get("cacheControl", "no-cache, no-store, max-age=0, must-revalidate"),
        "etag": resources.object_etag(stored),
        "last-modified": format_datetime(datetime.fromtimestamp(stored.updated // 1_000_000, UTC), usegmt=True),
        "accept-ranges": "bytes",
        "x-goog-hash": hashes,
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": str(stored.metageneration),
        "x-goog-stored-content-length": str(stored.size),
        "x-goog-stored-content-encoding": header_text(fields.get("contentEncoding", "identity")),
        "x-goog-storage-class": fields.get("storageClass", "STANDARD"),
        # On the plain port a stored page would else run as one of the emulator's own.
        "content-security-policy": "sandbox",
        "x-content-type-options": "nosniff",
    }
    if "contentLanguage" in fields:
        headers["content-language"] = fields["contentLanguage"]
    for name in _CLIENT_TEXTS & headers.keys():
        headers[name] = header_text(headers[name])
    return headers


def header_text(value: str) -> str:
    """A client's text as one header line: no line breaks, and UTF-8 in HTTP's bytes."""
    if value.isascii() and value.isprintable():
        return value
    return re.sub(r"[\x00-\x1f\x7f]", " ", value).encode().decode("latin-1")


def _is_inflated(fields: Mapping[str, str], headers: Mapping[str, str]) -> bool:
    return (
        fields.get("contentEncoding") == "gzip"
        and "gzip" not in headers.get("accept-encoding", "")
        and "no-transform" not in fields.get("cacheControl", "")
    )


def _inflated(descriptor: int) -> Iterator[bytes]:
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
        while block := file.read(checksums.BLOCK):
            while block:
                yield inflater.decompress(block, checksums.BLOCK)
                block = inflater.unconsumed_tail
        yield inflater.flush()


def _range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte of `bytes=a-b`, `a-` or `-n`; None for the whole, which any other header gets too."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return None
    if not match[1]:
        first, last = max(0, size - int(match[2])), size - 1
        satisfiable = int(match[2]) > 0 and size > 0
    else:
        first, last = int(match[1]), min(int(match[2] or size), size - 1)
        if match[2] and int(match[2]) < first:
            return None
        satisfiable = first < size
    if not satisfiable:
        raise RequestRangeNotSatisfiable("The requested range cannot be satisfied.")
    return first, last
