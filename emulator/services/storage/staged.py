"""A file on its way in: what tells it from others, its running checksums, and a disk that has no room for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from emulator.core.errors import DiskFull, is_disk_full
from emulator.services.storage import checksums


@dataclass(frozen=True, slots=True)
class Signature:
    """What tells that a file is still the one whose checksum is known."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        # SQLite's integers are signed; some file systems use all 64 bits.
        return cls(status.st_ino & (2**63 - 1), status.st_size, status.st_mtime_ns)


class Staged:
    """A file on its way in, with a running CRC32C. `discard` unless it was put in place."""

    def __init__(self, path: str, descriptor: int, size: int = 0, crc32c: int = 0, *, md5: bool = True) -> None:
        self.path = path
        self.descriptor = descriptor
        self.size = size
        self.crc32c = crc32c
        self.is_linked = False
        self.is_named = False
        """whether it belongs to something that outlives a request, and a restart has to find it under its name"""
        self._md5 = checksums.StreamMd5() if md5 and size == 0 else None

    def write(self, data: bytes) -> None:
        """Append. Raises DiskFull."""
        view = memoryview(data)
        with disk_errors():
            while view:
                view = view[os.write(self.descriptor, view) :]
        self.crc32c = checksums.extend_crc32c(self.crc32c, data)
        self.size += len(data)
        if self._md5 is not None:
            self._md5.update(data)

    @property
    def running_md5(self) -> bytes | None:
        """Digest of what was written, None unless all of it was written through this object."""
        return None if self._md5 is None else self._md5.digest()

    def md5(self) -> bytes:
        """The same, read back from the file where it must be."""
        return self.running_md5 or checksums.file_md5(self.descriptor, self.size)

    def truncate(self, size: int) -> None:
        """Forget what came after the first `size` bytes."""
        os.ftruncate(self.descriptor, size)
        self.crc32c = checksums.file_crc32c(self.descriptor, size)
        self.size = size
        self._drop_md5()

    def signature(self) -> Signature:
        return Signature.of(os.fstat(self.descriptor))

    def _drop_md5(self) -> None:
        if self._md5 is not None:
            self._md5.stop()
            self._md5 = None

    def close(self) -> None:
        self._drop_md5()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def discard(self) -> None:
        self.close()
        self.unlink()

    def unlink(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.path)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raises DiskFull for what the file system says where there is no room."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            message = f"No space is left for objects: {error.strerror}."
            raise DiskFull(message) from None  # type: ignore[no-untyped-call]  # as api_core leaves its classes
        raise
