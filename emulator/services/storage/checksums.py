"""CRC32C and MD5 as Cloud Storage writes them: base64, the CRC as four big-endian bytes.

Source: https://cloud.google.com/storage/docs/data-validation
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping
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


@dataclass(frozen=True)
class Expected:
    """Checksums that a client says its data has; empty text where it says nothing."""

    crc32c: str = ""
    md5: str = ""

    @classmethod
    def of(cls, metadata: Mapping[str, object], headers: Mapping[str, str]) -> Expected:
        """From an object's metadata, or `x-goog-hash: crc32c=…,md5=…` and Content-MD5."""
        hashes = dict(re.findall(r"(crc32c|md5)=([A-Za-z0-9+/]+=*)", headers.get("x-goog-hash", "")))
        return cls(
            str(metadata.get("crc32c") or hashes.get("crc32c", "")),
            str(metadata.get("md5Hash") or hashes.get("md5") or headers.get("content-md5", "")),
        )

    def merged(self, other: Expected) -> Expected:
        return Expected(other.crc32c or self.crc32c, other.md5 or self.md5)

    def check(self, crc32c: int, descriptor: int, size: int) -> bytes | None:
        """The file's MD5 where it had to be computed. Raises BadRequest when a checksum differs."""
        if self.crc32c and self.crc32c != (actual := crc32c_text(crc32c)):
            raise BadRequest(f'Provided CRC32C "{self.crc32c}" doesn\'t match calculated CRC32C "{actual}".')
        if not self.md5:
            return None
        digest = file_md5(descriptor, size)
        if self.md5 != (actual := md5_text(digest)):
            raise BadRequest(f'Provided MD5 hash "{self.md5}" doesn\'t match calculated MD5 hash "{actual}".')
        return digest
