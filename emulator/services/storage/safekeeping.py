"""What jobs might overwrite or delete under /gcs, kept beside the tree for as long as any job runs.

    <folder>/kept/<inode>-<size>-<mtime_ns>   the bytes of the generation whose file has this signature

A job writes the very files of the tree, so whatever must survive that has to be kept before. Where nothing may be
lost (noncurrent generations, holds, retention) that is a copy, which file systems that share blocks make for nothing.
Where soft delete alone asks for it, it is a second name of the file: it costs no room and outlives the deleting and
replacing of the first, but says nothing of the bytes once a job has rewritten the file in place, or renamed it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
from dataclasses import replace
from pathlib import Path

from emulator.services.storage import protection
from emulator.services.storage.catalogue import Catalogue, StoredBucket, StoredObject
from emulator.services.storage.files import Files
from emulator.services.storage.staged import Signature, Staged

logger = logging.getLogger(__name__)

_BATCH = 1000
_PIECE = 1 << 26


class Safekeeping:
    """The kept files of one store."""

    def __init__(self, folder: Path, catalogue: Catalogue, files: Files) -> None:
        self._folder = folder / "kept"
        self._folder.mkdir(exist_ok=True)
        self._catalogue = catalogue
        self._files = files
        self._jobs = 0
        self._lock = threading.Lock()

    @property
    def has_left_over(self) -> bool:
        """Whether an emulator was killed while jobs ran, and what they did may still be set right."""
        return bool(os.listdir(self._folder))

    def begin(self) -> list[str]:
        """Keep what a job that is about to see the tree might overwrite; gives back what its log should say."""
        with self._lock:
            self._jobs += 1
        try:
            self._keep_all()
        except OSError as error:
            return [f"What this run overwrites or deletes under /gcs may be lost for good: {error.strerror}."]
        return []

    def _keep_all(self) -> None:
        for name in self._catalogue.bucket_names():
            start = ""
            while rows := self._catalogue.objects(name, start, None, _BATCH):
                bucket = self._catalogue.find_bucket(name)
                for row in rows:
                    if bucket is not None:
                        self._keep(bucket, row)
                start = rows[-1].name + "\0"

    def end(self) -> None:
        """A job is over, and what it did has been taken in."""
        with self._lock:
            self._jobs -= 1
            if not self._jobs:
                self.clear()

    def clear(self) -> None:
        for name in os.listdir(self._folder):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._folder / name)

    def keep(self, bucket: StoredBucket, row: StoredObject) -> None:
        """Keep a generation that has come about while jobs run."""
        if self._jobs:
            try:
                self._keep(bucket, row)
            except OSError as error:
                logger.warning("gs://%s/%s is not kept from jobs: %s", row.bucket, row.name, error)

    def _keep(self, bucket: StoredBucket, row: StoredObject) -> None:
        if row.apart:
            return  # where no job sees it
        settings = bucket.settings
        if protection.is_versioned(settings) or protection.is_protected(settings, row):
            self._copy(row)
        elif protection.soft_delete_seconds(settings):
            self._files.link(row.bucket, row.name, row.signature, self._path(row.signature))

    def _copy(self, row: StoredObject) -> None:
        path = self._path(row.signature)
        with contextlib.suppress(FileNotFoundError):
            if Signature.of(path.stat()).inode != row.inode:
                return  # there is a copy already, and no second name of the file
        opened = self._files.open(row.bucket, row.name)
        if opened is None:
            return
        source, status = opened
        partial = path.with_name(f"{secrets.token_hex(8)}.partial")
        try:
            if Signature.of(status) != row.signature:
                return
            with open(partial, "xb") as target:
                _copy_bytes(source, target.fileno(), row.size)
            if Signature.of(os.fstat(source)) == row.signature:
                os.replace(partial, path)
        finally:
            os.close(source)
            partial.unlink(missing_ok=True)

    def staged(self, row: StoredObject) -> Staged | None:
        """The bytes of a generation as a file to put in place; it is still kept, until that is committed."""
        path = self._path(row.signature)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        status = os.fstat(descriptor)
        found = Signature.of(status)
        # A second name of a file that was rewritten in place holds what was written; that of one that a job renamed
        # is of a file that jobs go on with.
        if found.inode == row.inode and (found != row.signature or status.st_nlink > 1):
            os.close(descriptor)
            return None
        staged = Staged(os.fspath(path), descriptor, row.size, row.crc32c)
        # It keeps its name when it is put in place, until the caller removes it.
        staged.is_named = True
        return staged

    def set_aside(self, row: StoredObject) -> StoredObject | None:
        """A generation that a job replaced or deleted, with its bytes in a place apart; None where they are lost."""
        staged = self.staged(row)
        if staged is None:
            return None
        try:
            signature = staged.signature()
            apart = self._files.link_apart(staged.path)
        finally:
            staged.close()
        return replace(row, apart=apart, inode=signature.inode, mtime_ns=signature.mtime_ns)

    def _path(self, signature: Signature) -> Path:
        return self._folder / f"{signature.inode}-{signature.size}-{signature.mtime_ns}"


def _copy_bytes(source: int, target: int, size: int) -> None:
    """Copy a file's bytes, sharing blocks where the file system does that. Raises OSError."""
    done = 0
    while done < size:
        if hasattr(os, "copy_file_range"):
            count = os.copy_file_range(source, target, min(size - done, _PIECE), done, done)
        else:
            count = os.pwrite(target, os.pread(source, min(size - done, 1 << 20), done), done)
        if not count:
            return  # the file was cut meanwhile, as its signature will tell
        done += count
