"""CRC32C and MD5 as Cloud Storage writes them: base64, the CRC as four big-endian bytes.

Source: https://cloud.google.com/storage/docs/data-validation
"""

from __future__ import annotations

import base64
import hashlib
import os
import queue
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import google_crc32c
from google.api_core.exceptions import BadRequest

BLOCK = 1 << 20


def crc32c_text(value: int) -> str:
    return base64.b64encode(value.to_bytes(4)).decode()


def md5_text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def extend_crc32c(value: int, data: bytes) -> int:
    return int(google_crc32c.extend(value, data))


def file_crc32c(descriptor: int, size: int) -> int:
    """CRC32C of the first `size` bytes of an open file."""
    value, offset = 0, 0
    while offset < size:
        block = os.pread(descriptor, min(BLOCK, size - offset), offset)
        if not block:
            break
        value = extend_crc32c(value, block)
        offset += len(block)
    return value


def file_md5(descriptor: int, size: int) -> bytes:
    """MD5 digest of the first `size` bytes of an open file."""
    digest, offset = hashlib.md5(usedforsecurity=False), 0
    while offset < size:
        block = os.pread(descriptor, min(BLOCK, size - offset), offset)
        if not block:
            break
        digest.update(block)
        offset += len(block)
    return digest.digest()


class StreamMd5:
    """MD5 of a stream: in line while it is short, then on a thread of its own, for it is slower than a disk.

    Give it an end with `digest` or `stop`.
    """

    def __init__(self) -> None:
        self._digest = hashlib.md5(usedforsecurity=False)
        self._size = 0
        self._thread: threading.Thread | None = None

    def update(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= BLOCK:
            self._digest.update(data)
            return
        if self._thread is None:
            self._pieces: queue.Queue[bytes | None] = queue.Queue(maxsize=4)
            self._thread = threading.Thread(target=self._run, name="md5", daemon=True)
            self._thread.start()
        self._pieces.put(data)

    def digest(self) -> bytes:
        """Of all that was given, once the thread has caught up. Nothing can be added afterwards."""
        self.stop()
        return self._digest.digest()

    def stop(self) -> None:
        if self._thread is not None:
            self._pieces.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._digest.update(piece)


@dataclass(frozen=True)
class Expected:
    """Checksums that a client says its data has; empty text where it says nothing."""

    crc32c: str = ""
    md5: str = ""

    @classmethod
    def of(cls, metadata: Mapping[str, object], headers: Mapping[str, str]) -> Expected:
        """From an object's metadata, or `x-goog-hash: crc32c=…,md5=…` and Content-MD5."""
        given = headers.get("x-goog-hash", "")
        hashes = dict(re.findall(r"(crc32c|md5)=([A-Za-z0-9+/]+=*)", given)) if given else {}
        return cls(
            str(metadata.get("crc32c") or hashes.get("crc32c", "")),
            str(metadata.get("md5Hash") or hashes.get("md5") or headers.get("content-md5", "")),
        )

    def merged(self, other: Expected) -> Expected:
        return Expected(other.crc32c or self.crc32c, other.md5 or self.md5)

    def check(self, crc32c: int, md5: Callable[[], bytes]) -> None:
        """Raises BadRequest when a checksum differs. md5: gives the digest, and is asked only when it matters."""
        if self.crc32c and self.crc32c != (actual := crc32c_text(crc32c)):
            raise BadRequest(f'Provided CRC32C "{self.crc32c}" doesn\'t match calculated CRC32C "{actual}".')
        if self.md5 and self.md5 != (actual := md5_text(md5())):
            raise BadRequest(f'Provided MD5 hash "{self.md5}" doesn\'t match calculated MD5 hash "{actual}".')
