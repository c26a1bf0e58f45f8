"""The object store: buckets and generations of objects, whole or not there at all.

Bytes are streamed to a file beside the tree, renamed into place and then entered in the catalogue, all inside
one transaction; a killed process leaves at most a file that was complete and not acknowledged. Every generation
is a file of its own, so a reader keeps what it opened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.api_core.exceptions import Conflict, NotFound, ServiceUnavailable

from emulator.core.clock import Clock
from emulator.core.projects import Projects
from emulator.core.state import Database
from emulator.services.storage import checksums, preconditions, resources
from emulator.services.storage.catalogue import Catalogue, StoredBucket, StoredObject
from emulator.services.storage.files import Files, Signature, Staged
from emulator.services.storage.job_files import JobFiles
from emulator.services.storage.names import after_prefix, check_bucket_name, check_object_name, path_of, split_uri
from emulator.services.storage.preconditions import Preconditions
from emulator.services.storage.resources import microseconds
from emulator.services.storage.uploads import ResumableUploads

_PAGE = 1000
_ATTEMPTS = 3


class ObjectFiles:
    """Cloud Storage's data; implements `core.interfaces.ObjectStore`. folder: where everything is kept."""

    def __init__(self, database: Database, clock: Clock, projects: Projects, folder: Path) -> None:
        self.database = database
        self.clock = clock
        self.projects = projects
        self.catalogue = Catalogue(database)
        self.files = Files(folder)
        self.jobs = JobFiles(database, self.catalogue, self.files, clock)
        self.uploads = ResumableUploads(database, clock, self.files, self.commit)
        self.files.sweep(self.uploads.unfinished(), self.catalogue.apart())

    @property
    def tree(self) -> Path:
        return self.files.tree

    # Buckets

    def bucket(self, name: str) -> StoredBucket:
        found = self.catalogue.find_bucket(name)
        if found is None:
            raise NotFound("The specified bucket does not exist.")
        return found

    def create_bucket(self, name: str, project: str, fields: dict[str, Any]) -> StoredBucket:
        """fields: what the client asks for. Raises Conflict, BadRequest."""
        check_bucket_name(name)
        owner = self.projects.get(project)
        now = microseconds(self.clock.now())
        bucket = StoredBucket(name, owner.id, 1, now, now, json.dumps(resources.new_bucket_fields(fields, now)), "")
        with self.database.transaction():
            taken = self.catalogue.find_bucket(name)
            if taken is not None:
                raise Conflict(_TAKEN_BY_YOU if taken.project == owner.id else _TAKEN)
            self.files.make_bucket(name)
            self.catalogue.save_bucket(bucket)
        return bucket

    def change_bucket(self, name: str, change: Callable[[StoredBucket, int], StoredBucket]) -> StoredBucket:
        """Apply a change, which is given the time, as one step. What changes nothing leaves no trace."""
        with self.database.transaction():
            before = self.bucket(name)
            now = microseconds(self.clock.now())
            after = change(before, now)
            if after == before:
                return before
            after = replace(after, metageneration=before.metageneration + 1, updated=now)
            self.catalogue.save_bucket(after)
        return after

    def delete_bucket(self, name: str, check: Callable[[StoredBucket], None]) -> None:
        """Raises Conflict while it holds objects, and what `check` raises."""
        self.bucket(name)
        self.jobs.publish(name)
        with self.database.transaction():
            check(self.bucket(name))
            if self.catalogue.objects(name, "", None, 1):
                raise Conflict("The bucket you tried to delete is not empty.")
            self.catalogue.delete_bucket(name)
            self.files.remove_bucket(name)
        self.jobs.forget(name)

    # Objects

    def find(self, bucket: str, name: str, generation: int | None = None) -> StoredObject:
        """An object as it is now. Raises NotFound."""
        row = self.catalogue.find(bucket, name)
        if row is None:
            # Asked before the file: a bucket's name is safe as part of a path only once the bucket is known.
            self.bucket(bucket)
        if not self.jobs.settled(bucket, name, row):
            row = self.jobs.settle(bucket, name)
        if row is None or generation not in (None, row.generation):
            raise no_such_object(bucket, name)
        return row

    def open(self, bucket: str, name: str, generation: int | None = None) -> tuple[StoredObject, int]:
        """An object and a descriptor of its bytes, which the caller closes.

        Raises NotFound, and ServiceUnavailable while a job is rewriting the file in place.
        """
        row = self.catalogue.find(bucket, name)
        if row is not None and not row.apart and generation in (None, row.generation):
            opened = self._open_row(row)
            if opened is not None:
                return opened
        opened = self._open_row(self.find(bucket, name, generation))
        if opened is None:
            # No upload gets in between now, so that only a job's file can differ from its row.
            with self.database.transaction():
                opened = self._open_row(self.find(bucket, name, generation))
        if opened is None:
            raise ServiceUnavailable(f"gs://{bucket}/{name} is being written by a job.")
        return opened

    def _open_row(self, row: StoredObject) -> tuple[StoredObject, int] | None:
        """None when the file is not the one of the row."""
        opened = self.files.open(row.bucket, row.name, row.apart)
        if opened is None:
            return None
        descriptor, status = opened
        if row.apart or Signature.of(status) == row.signature:
            return row, descriptor
        os.close(descriptor)
        return None

    def md5(self, stored: StoredObject) -> StoredObject:
        """The object with its MD5, computed and kept the first time; a composed object has none."""
        if stored.md5 is not None or stored.component_count:
            return stored
        opened = self.files.open(stored.bucket, stored.name, stored.apart)
        if opened is None:
            return stored
        descriptor, status = opened
        try:
            if Signature.of(status) != stored.signature:
                return stored
            digest = checksums.file_md5(descriptor, stored.size)
        finally:
            os.close(descriptor)
        self.catalogue.save_md5(stored, digest)
        return replace(stored, md5=digest)

    def commit(
        self,
        staged: Staged,
        bucket: str,
        name: str,
        fields: dict[str, Any],
        *,
        conditions: Preconditions = preconditions.NONE,
        md5: bytes | None = None,
        component_count: int = 0,
    ) -> StoredObject:
        """Make a staged file the live generation of an object. It is discarded when that fails."""
        try:
            check_object_name(name)
            if md5 is None and not component_count:
                md5 = staged.running_md5
            for attempt in range(_ATTEMPTS):
                with self.database.transaction():
                    self.bucket(bucket)
                    row = self.catalogue.find(bucket, name)
                    # A job's file is taken in first, so that preconditions see it; one being written is replaced.
                    if self.jobs.settled(bucket, name, row) or attempt == _ATTEMPTS - 1:
                        check_conditions(conditions, row)
                        stored = self._put(staged, bucket, name, row, fields, md5=md5, parts=component_count)
                        break
                self.jobs.settle(bucket, name)
        except BaseException:
            staged.discard()
            raise
        staged.close()
        if row is not None and row.apart:
            self.files.remove(bucket, name, row.apart)
        return stored

    def _put(
        self,
        staged: Staged,
        bucket: str,
        name: str,
        row: StoredObject | None,
        fields: dict[str, Any],
        *,
        md5: bytes | None,
        parts: int,
    ) -> StoredObject:
        signature = staged.signature()
        now = microseconds(self.clock.now())
        generation = now if row is None else max(now, row.generation + 1)
        with self.jobs.own_change(bucket, name):
            apart = self.files.put(staged, bucket, name)
        stored = StoredObject(
            bucket, name, generation, 1, signature.inode, signature.size, signature.mtime_ns, staged.crc32c,
            md5, parts, apart, now, now, json.dumps(fields),
        )  # fmt: skip
        self.catalogue.save(stored)
        return stored

    def change(
        self,
        bucket: str,
        name: str,
        change: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        generation: int | None = None,
        conditions: Preconditions = preconditions.NONE,
    ) -> StoredObject:
        """Apply a change to what clients may set of an object, as one step."""
        self.find(bucket, name, generation)
        with self.database.transaction():
            row = self.catalogue.find(bucket, name)
            if row is None or generation not in (None, row.generation):
                raise no_such_object(bucket, name)
            check_conditions(conditions, row)
            row = replace(
                row,
                metageneration=row.metageneration + 1,
                updated=microseconds(self.clock.now()),
                fields=json.dumps(change(json.loads(row.fields))),
            )
            self.catalogue.save(row)
        return row

    def delete(
        self, bucket: str, name: str, *, generation: int | None = None, conditions: Preconditions = preconditions.NONE
    ) -> None:
        """Raises NotFound, PreconditionFailed."""
        self.find(bucket, name, generation)
        with self.database.transaction():
            row = self.catalogue.find(bucket, name)
            if row is None or generation not in (None, row.generation):
                raise no_such_object(bucket, name)
            check_conditions(conditions, row)
            self.catalogue.delete(bucket, name)
            with self.jobs.own_change(bucket, name):
                self.files.remove(bucket, name, row.apart)

    def page(self, bucket: str, start: str, end: str | None, limit: int) -> tuple[list[StoredObject], str | None]:
        """Objects with start <= name < end as they are now, and where to go on; None at the end."""
        rows = self.catalogue.objects(bucket, start, end, limit)
        more = rows[-1].name + "\0" if len(rows) == limit else None
        return self.jobs.settle_rows(bucket, rows), more

    # core.interfaces.ObjectStore

    def read(self, uri: str) -> Iterator[bytes]:
        _, descriptor = self.open(*split_uri(uri))
        return _blocks(descriptor)

    def write(self, uri: str, data: Iterable[bytes], content_type: str = "application/octet-stream") -> None:
        bucket, name = split_uri(uri)
        self.bucket(bucket)
        staged = self.files.stage()
        try:
            for block in data:
                staged.write(block)
        except BaseException:
            staged.discard()
            raise
        self.commit(staged, bucket, name, resources.new_object_fields({}, content_type, "STANDARD"))

    def names(self, prefix: str) -> Iterator[str]:
        bucket, start = split_uri(prefix)
        self.bucket(bucket)
        return self._names(bucket, start)

    def _names(self, bucket: str, prefix: str) -> Iterator[str]:
        self.jobs.find_new(bucket, prefix)
        start: str | None = prefix
        while start is not None:
            rows, start = self.page(bucket, start, after_prefix(prefix), _PAGE)
            yield from (f"gs://{bucket}/{row.name}" for row in rows)

    def download(self, prefix: str, folder: Path) -> int:
        bucket, base = split_uri(prefix)
        base = base if not base or base.endswith("/") else f"{base}/"
        count = 0
        for uri in self.names(f"gs://{bucket}/{base}"):
            name = split_uri(uri)[1]
            # What no path can stand for, such as a folder's own marker or `..`, has no file here either.
            parts = path_of(name.removeprefix(base))
            if parts is None:
                continue
            target = folder.joinpath(*parts)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "xb") as file:
                    file.writelines(self.read(uri))
            except (FileExistsError, NotADirectoryError):
                continue  # `a` beside `a/b`: a folder holds one of them
            count += 1
        return count

    def publish(self, bucket: str | None = None) -> None:
        for name in [self.bucket(bucket).name] if bucket else self.catalogue.bucket_names():
            self.jobs.publish(name)

    def close(self) -> None:
        self.files.close()


def check_conditions(conditions: Preconditions, row: StoredObject | None) -> None:
    """Raises PreconditionFailed unless they hold for an object, or for its absence."""
    if conditions is preconditions.NONE:
        return
    if row is None:
        conditions.check_for_write(0, 0, "")
    else:
        conditions.check_for_write(row.generation, row.metageneration, resources.object_etag(row))


def no_such_object(bucket: str, name: str) -> NotFound:
    return NotFound(f"No such object: {bucket}/{name}")


def _blocks(descriptor: int) -> Iterator[bytes]:
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while block := file.read(checksums.BLOCK):
            yield block


_TAKEN_BY_YOU = "Your previous request to create the named bucket succeeded and you already own it."
_TAKEN = (
    "The requested bucket name is not available. The bucket namespace is shared by all users of the system. "
    "Please select a different name and try again."
)
