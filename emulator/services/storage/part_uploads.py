"""Multipart uploads of the XML API: parts in any order, joined when the client says so.

Each part is a file beside the tree and a row; nothing of them is an object before the upload is completed.
Source: https://cloud.google.com/storage/docs/multipart-uploads
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from google.api_core.exceptions import BadRequest, NotFound

from emulator.core.clock import Clock
from emulator.core.state import Database
from emulator.services.storage import checksums
from emulator.services.storage.catalogue import StoredObject
from emulator.services.storage.checksums import Expected
from emulator.services.storage.files import Files
from emulator.services.storage.preconditions import Preconditions
from emulator.services.storage.resources import microseconds
from emulator.services.storage.staged import Staged
from emulator.services.storage.xml_documents import xml_error

MOST_PARTS = 10_000
#: Of every part but the last.
SMALLEST_PART_BYTES = 5 * 1024 * 1024


@dataclass(frozen=True)
class PartUpload:
    id: str
    bucket: str
    name: str
    fields: str
    """JSON: those of the object that it will be"""
    created: int
    """microseconds since the epoch, as below"""


@dataclass(frozen=True)
class Part:
    upload: str
    number: int
    file: str
    size: int
    crc32c: int
    md5: bytes
    created: int

    @property
    def etag(self) -> str:
        return f'"{self.md5.hex()}"'


class PartUploads:
    """Those of one store. commit: makes a staged file an object."""

    def __init__(self, database: Database, clock: Clock, files: Files, commit: Callable[..., StoredObject]) -> None:
        self._database = database
        self._clock = clock
        self._files = files
        self._commit = commit
        database.create(
            "CREATE TABLE IF NOT EXISTS storage_part_uploads (id TEXT PRIMARY KEY, bucket TEXT NOT NULL, "
            "name TEXT NOT NULL, fields TEXT NOT NULL, created INTEGER NOT NULL)",
            "CREATE INDEX IF NOT EXISTS storage_part_uploads_by_name ON storage_part_uploads (bucket, name, id)",
            "CREATE TABLE IF NOT EXISTS storage_parts (upload TEXT NOT NULL, number INTEGER NOT NULL, "
            "file TEXT NOT NULL, size INTEGER NOT NULL, crc32c INTEGER NOT NULL, md5 BLOB NOT NULL, "
            "created INTEGER NOT NULL, PRIMARY KEY (upload, number)) WITHOUT ROWID",
        )

    def unfinished(self) -> set[str]:
        """Names of the files that are still needed."""
        return {row["file"] for row in self._database.query("SELECT file FROM storage_parts")}

    def begin(self, bucket: str, name: str, fields: dict[str, Any]) -> PartUpload:
        """fields: of the object that it will be."""
        upload = PartUpload(
            secrets.token_urlsafe(48), bucket, name, json.dumps(fields), microseconds(self._clock.now())
        )
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO storage_part_uploads VALUES (?, ?, ?, ?, ?)",
                (upload.id, upload.bucket, upload.name, upload.fields, upload.created),
            )
        return upload

    def upload(self, bucket: str, name: str, upload_id: str) -> PartUpload:
        """Raises NotFound: NoSuchUpload."""
        rows = self._database.query(
            "SELECT * FROM storage_part_uploads WHERE id = ? AND bucket = ? AND name = ?", (upload_id, bucket, name)
        )
        if not rows:
            raise xml_error(NotFound, "NoSuchUpload", "The requested upload was not found.")
        return PartUpload(*rows[0])

    def put(self, upload: PartUpload, number: int, data: Iterable[bytes], expected: Expected) -> Part:
        """Take in a part; one with the same number is replaced. Raises BadRequest for other checksums."""
        if not 1 <= number <= MOST_PARTS:
            raise xml_error(
                BadRequest, "InvalidArgument", f"Part number must be an integer between 1 and {MOST_PARTS}, inclusive."
            )
        file = f"part-{secrets.token_hex(16)}"
        staged = self._files.stage(file)
        try:
            for piece in data:
                staged.write(piece)
            expected.check(staged.crc32c, staged.md5)
            part = Part(
                upload.id, number, file, staged.size, staged.crc32c, staged.md5(), microseconds(self._clock.now())
            )
            with self._database.transaction() as connection:
                self.upload(upload.bucket, upload.name, upload.id)
                old = connection.execute(
                    "SELECT file FROM storage_parts WHERE upload = ? AND number = ?", (upload.id, number)
                ).fetchone()
                connection.execute(
                    "INSERT OR REPLACE INTO storage_parts VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (part.upload, part.number, part.file, part.size, part.crc32c, part.md5, part.created),
                )
        except BaseException:
            staged.discard()
            raise
        staged.close()
        if old:
            self._files.remove_staged(old["file"])
        return part

    def parts(self, upload: PartUpload, after: int = 0, limit: int = MOST_PARTS) -> list[Part]:
        """Those with a greater number, in order."""
        rows = self._database.query(
            "SELECT * FROM storage_parts WHERE upload = ? AND number > ? ORDER BY number LIMIT ?",
            (upload.id, after, limit),
        )
        return [Part(*row) for row in rows]

    def uploads(self, bucket: str, prefix: str, after: tuple[str, str], limit: int) -> list[PartUpload]:
        """A bucket's unfinished uploads by name and id; after: the last that is known."""
        rows = self._database.query(
            "SELECT * FROM storage_part_uploads WHERE bucket = ? AND (name, id) > (?, ?) AND substr(name, 1, ?) = ? "
            "ORDER BY name, id LIMIT ?",
            (bucket, *after, len(prefix), prefix, limit),
        )
        return [PartUpload(*row) for row in rows]

    def complete(
        self, upload: PartUpload, wanted: Sequence[tuple[int, str]], conditions: Preconditions
    ) -> StoredObject:
        """Join parts, given as number and ETag, and make them an object; parts not named are dropped.

        Raises BadRequest: InvalidPartOrder, InvalidPart, EntityTooSmall; and what the commit raises.
        """
        parts = self._chosen(upload, wanted)
        staged = self._files.stage(md5=False)
        try:
            for part in parts:
                self._append(staged, part)
        except BaseException:
            staged.discard()
            raise
        try:
            # One transaction: whoever asks after a crash finds the upload or the object.
            with self._database.transaction():
                self.upload(upload.bucket, upload.name, upload.id)
                stored = self._commit(
                    staged, upload.bucket, upload.name, json.loads(upload.fields), conditions=conditions,
                    component_count=len(parts),
                )  # fmt: skip
                files = self._forget(upload.id)
        except BaseException:
            staged.discard()
            raise
        for file in files:
            self._files.remove_staged(file)
        return stored

    def abort(self, upload: PartUpload) -> None:
        """Drop an upload with its parts. Raises NotFound."""
        with self._database.transaction():
            self.upload(upload.bucket, upload.name, upload.id)
            files = self._forget(upload.id)
        for file in files:
            self._files.remove_staged(file)

    def forget_bucket(self, bucket: str) -> None:
        """Drop what was under way in a bucket that is being deleted; the next start removes the files."""
        for row in self._database.query("SELECT id FROM storage_part_uploads WHERE bucket = ?", (bucket,)):
            self._forget(row["id"])

    def _forget(self, upload_id: str) -> list[str]:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM storage_part_uploads WHERE id = ?", (upload_id,))
            gone = connection.execute("DELETE FROM storage_parts WHERE upload = ? RETURNING file", (upload_id,))
            return [row["file"] for row in gone.fetchall()]

    def _chosen(self, upload: PartUpload, wanted: Sequence[tuple[int, str]]) -> list[Part]:
        numbers = [number for number, _ in wanted]
        if not numbers:
            raise xml_error(BadRequest, "MalformedXML", "You must specify at least one part.")
        if any(one >= other for one, other in pairwise(numbers)):
            raise xml_error(BadRequest, "InvalidPartOrder", "The list of parts was not in ascending order.")
        known = {part.number: part for part in self.parts(upload)}
        chosen = []
        for number, etag in wanted:
            part = known.get(number)
            if part is None or etag.strip('"').lower() != part.md5.hex():
                raise xml_error(
                    BadRequest, "InvalidPart", "One or more of the specified parts could not be found.",
                    f"Part {number} was not uploaded, or its ETag is another.",
                )  # fmt: skip
            chosen.append(part)
        if any(part.size < SMALLEST_PART_BYTES for part in chosen[:-1]):
            raise xml_error(
                BadRequest, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed object size.",
                f"Every part but the last has at least {SMALLEST_PART_BYTES} bytes.",
            )  # fmt: skip
        return chosen

    def _append(self, staged: Staged, part: Part) -> None:
        source = self._files.resume(part.file, part.size, part.crc32c)
        if source is None:
            raise xml_error(NotFound, "NoSuchUpload", "The requested upload was not found.")
        try:
            offset = 0
            while block := os.pread(source.descriptor, checksums.BLOCK, offset):
                staged.write(block)
                offset += len(block)
        finally:
            source.close()
