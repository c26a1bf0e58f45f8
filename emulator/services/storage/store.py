"""The object store: buckets and generations of objects, whole or not there at all.

Bytes are streamed to a file beside the tree, renamed into place and then entered in the catalogue, all inside
one transaction; a killed process leaves at most a file that was complete and not acknowledged. Every generation
is a file of its own, so a reader keeps what it opened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from google.api_core.exceptions import Conflict, NotFound, ServiceUnavailable

from emulator.core.clock import Clock
from emulator.core.projects import Projects
from emulator.core.state import Database
from emulator.services.storage import checksums, preconditions, protection, resources
from emulator.services.storage.catalogue import Catalogue, StoredBucket, StoredObject
from emulator.services.storage.deleted_buckets import DeletedBuckets
from emulator.services.storage.files import Files, Occupied, is_shown_folder
from emulator.services.storage.generations import Generations
from emulator.services.storage.job_files import JobFiles
from emulator.services.storage.names import after_prefix, check_bucket_name, check_object_name, path_of, split_uri
from emulator.services.storage.part_uploads import PartUploads
from emulator.services.storage.preconditions import Preconditions, check_conditions
from emulator.services.storage.resources import microseconds
from emulator.services.storage.rewrites import Rewrites
from emulator.services.storage.safekeeping import Safekeeping
from emulator.services.storage.staged import Signature, Staged
from emulator.services.storage.uploads import ResumableUploads
from emulator.services.storage.versions import Position, Versions

_PAGE = 1000
_ATTEMPTS = 3


@dataclass(frozen=True)
class ObjectChange:
    """What happened to a generation, in the words of Pub/Sub notifications."""

    event: str
    """OBJECT_FINALIZE, OBJECT_DELETE, OBJECT_ARCHIVE or OBJECT_METADATA_UPDATE"""
    stored: StoredObject
    time: int
    other_generation: int = 0
    """the one that it replaced, or that replaced it"""


class ObjectFiles:
    """Cloud Storage's data; implements `core.interfaces.ObjectStore`. folder: where everything is kept."""

    def __init__(self, database: Database, clock: Clock, projects: Projects, folder: Path) -> None:
        self.database = database
        self.clock = clock
        self.projects = projects
        self.catalogue = Catalogue(database)
        self.versions = Versions(database)
        self.deleted_buckets = DeletedBuckets(database)
        self.when_deleted: list[Callable[[str], None]] = []
        """what else forgets a bucket with it, inside the transaction"""
        self.when_made: list[Callable[[str], None]] = []
        """who is told of buckets that are made or restored"""
        self.when_changed: list[Callable[[ObjectChange], None]] = []
        """who is told of changes to objects, once they are committed"""
        self.files = Files(folder, is_object=lambda bucket, name: self.catalogue.find(bucket, name) is not None)
        self.kept = Safekeeping(folder, self.catalogue, self.files)
        self.generations = Generations(database, self.catalogue, self.versions, self.files, self.kept)
        self.jobs = JobFiles(
            database,
            self.catalogue,
            self.files,
            generations=self.generations,
            kept=self.kept,
            clock=clock,
            tell=self._tell,
        )
        self.uploads = ResumableUploads(database, clock, self.files, self.commit)
        self.rewrites = Rewrites(database, clock, self.files)
        self.parts = PartUploads(database, clock, self.files, self.commit)
        self.when_deleted.append(self.parts.forget_bucket)
        self.generations.recover(self.uploads.unfinished() | self.rewrites.unfinished() | self.parts.unfinished())
        if self.kept.has_left_over:
            self.publish()
            self.kept.clear()

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
        for listener in self.when_made:
            listener(name)
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
        """Raises Conflict while it holds live or noncurrent objects, and what `check` raises."""
        self.bucket(name)
        self.jobs.publish(name)
        with self.database.transaction():
            bucket = self.bucket(name)
            check(bucket)
            if self.catalogue.objects(name, "", None, 1) or self.versions.has_noncurrent(name):
                raise Conflict("The bucket you tried to delete is not empty.")
            self.catalogue.delete_bucket(name)
            seconds = int(json.loads(bucket.fields)["softDeletePolicy"]["retentionDurationSeconds"])
            now = microseconds(self.clock.now())
            if seconds:
                self.deleted_buckets.save(replace(bucket, soft_deleted=now, hard_delete=now + seconds * 1_000_000))
                self.versions.move_bucket(name, self.deleted_buckets.key(bucket))
            for version in self.versions.of_bucket(name):
                self.generations.forget(version)
            for forget in self.when_deleted:
                forget(name)
            self.files.remove_bucket(name)
        self.jobs.forget(name)

    def restore_bucket(self, name: str, generation: int) -> StoredBucket:
        """A soft-deleted bucket, live again with what of its objects can be restored. Raises NotFound, Conflict."""
        with self.database.transaction():
            bucket = self.soft_deleted_bucket(name, generation)
            if self.catalogue.find_bucket(name) is not None:
                raise Conflict(_TAKEN_BY_YOU)
            self.deleted_buckets.delete(bucket)
            self.versions.move_bucket(self.deleted_buckets.key(bucket), name)
            self.files.make_bucket(name)
            now = microseconds(self.clock.now())
            bucket = replace(
                bucket, metageneration=bucket.metageneration + 1, updated=now, soft_deleted=0, hard_delete=0
            )
            self.catalogue.save_bucket(bucket)
        for listener in self.when_made:
            listener(name)
        return bucket

    def soft_deleted_bucket(self, name: str, generation: int) -> StoredBucket:
        """Raises NotFound."""
        found = self.deleted_buckets.find(name, generation, microseconds(self.clock.now()))
        if found is None:
            raise NotFound("The specified bucket does not exist.")
        return found

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
            row = None if generation is None else self.versions.find(bucket, name, generation)
            if row is None:
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
        # A noncurrent generation's file was in the tree once, where a job may still have it open.
        if (row.apart and row.is_live) or Signature.of(status) == row.signature:
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
        (self.catalogue if stored.is_live else self.versions).save_md5(stored, digest)
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
                # A job's file is taken in first, so that preconditions see it; one being written is replaced.
                last = attempt == _ATTEMPTS - 1
                with suppress(Occupied), self.database.transaction():
                    owner = self.bucket(bucket)
                    row = self.catalogue.find(bucket, name)
                    # Where there should be no file, and nothing else asks for one, putting it there tells.
                    is_new = row is None and conditions is preconditions.NONE
                    if last or is_new or self.jobs.settled(bucket, name, row):
                        check_conditions(conditions, row)
                        stored = self._put(
                            staged, owner, name, row, fields, md5=md5, parts=component_count,
                            replaces=last or row is not None,
                        )  # fmt: skip
                        break
                self.jobs.settle(bucket, name)
        except BaseException:
            # What belongs to a session is for the session to keep or to drop.
            if staged.is_named:
                staged.close()
            else:
                staged.discard()
            raise
        staged.close()
        return stored

    def _put(
        self,
        staged: Staged,
        owner: StoredBucket,
        name: str,
        row: StoredObject | None,
        fields: dict[str, Any],
        *,
        md5: bytes | None,
        parts: int,
        replaces: bool,
    ) -> StoredObject:
        bucket = owner.name
        signature = staged.signature()
        now = microseconds(self.clock.now())
        settings = owner.settings
        if row is not None:
            protection.check_removal(settings, row, now, becomes_noncurrent=protection.is_versioned(settings))
        fields = protection.new_object(settings, fields, now)
        generation = self.generations.next_generation(bucket, name, row, now)
        with self.jobs.own_change(bucket, name):
            if row is not None:
                self.generations.set_aside(owner, row, now, replaced=True)
            apart = self.files.put(staged, bucket, name, replaces=replaces)
            if staged.is_linked:
                self.database.after_commit(staged.unlink)
            if row is None or row.apart:
                self.database.on_rollback(lambda: self.files.remove(bucket, name, apart))
        stored = StoredObject(
            bucket, name, generation, 1, signature.inode, signature.size, signature.mtime_ns, staged.crc32c,
            md5, parts, apart, now, now, json.dumps(fields),
        )  # fmt: skip
        self.catalogue.save(stored)
        if is_shown_folder(apart):
            self.database.after_commit(lambda: self.files.mark_folder(bucket, name, is_object=True))
        self.database.after_commit(lambda: self.kept.keep(owner, stored))
        self._tell("OBJECT_FINALIZE", stored, now, row.generation if row else 0)
        if row is not None:
            self._tell(
                "OBJECT_ARCHIVE" if protection.is_versioned(settings) else "OBJECT_DELETE", row, now, stored.generation
            )
        return stored

    def _tell(self, event: str, stored: StoredObject, now: int, other_generation: int = 0) -> None:
        """Inside a transaction: let listeners know once it is committed."""
        if self.when_changed:
            change = ObjectChange(event, stored, now, other_generation)
            for listener in self.when_changed:
                self.database.after_commit(lambda listener=listener: listener(change))  # type: ignore[misc]

    def change(
        self,
        bucket: str,
        name: str,
        change: Callable[[dict[str, Any], StoredBucket, int], dict[str, Any]],
        *,
        generation: int | None = None,
        conditions: Preconditions = preconditions.NONE,
    ) -> StoredObject:
        """Apply a change to an object's fields as one step; it is given the bucket and the time besides."""
        self.find(bucket, name, generation)
        with self.database.transaction():
            row = self._row(bucket, name, generation)
            check_conditions(conditions, row)
            now = microseconds(self.clock.now())
            owner = self.bucket(bucket)
            fields = change(json.loads(row.fields), owner, now)
            row = replace(row, metageneration=row.metageneration + 1, updated=now, fields=json.dumps(fields))
            (self.catalogue if row.is_live else self.versions).save(row)
            self.database.after_commit(lambda: self.kept.keep(owner, row))
            self._tell("OBJECT_METADATA_UPDATE", row, now)
        return row

    def _row(self, bucket: str, name: str, generation: int | None) -> StoredObject:
        """The row of a generation, or of the live one. Raises NotFound."""
        row = self.catalogue.find(bucket, name)
        if row is None or generation not in (None, row.generation):
            row = None if generation is None else self.versions.find(bucket, name, generation)
            if row is None:
                raise no_such_object(bucket, name)
        return row

    def delete(
        self, bucket: str, name: str, *, generation: int | None = None, conditions: Preconditions = preconditions.NONE
    ) -> None:
        """Delete a generation for good, or make the live one what the bucket's versioning wants.

        Raises NotFound, PreconditionFailed, Forbidden.
        """
        self.find(bucket, name, generation)
        with self.database.transaction():
            row = self._row(bucket, name, generation)
            check_conditions(conditions, row)
            owner, now = self.bucket(bucket), microseconds(self.clock.now())
            if not row.is_live:
                self.generations.remove_version(owner, row, now)
                self._tell("OBJECT_DELETE", row, now)
                return
            settings = json.loads(owner.fields)
            archives = generation is None and protection.is_versioned(settings)
            protection.check_removal(settings, row, now, becomes_noncurrent=archives)
            self.catalogue.delete(bucket, name)
            with self.jobs.own_change(bucket, name):
                if archives:
                    self.generations.set_aside(owner, row, now, replaced=False)
                else:
                    self.generations.remove_live(owner, row, now)
            self._tell("OBJECT_ARCHIVE" if archives else "OBJECT_DELETE", row, now)

    def page(self, bucket: str, start: str, end: str | None, limit: int) -> tuple[list[StoredObject], str | None]:
        """Objects with start <= name < end as they are now, and where to go on; None at the end."""
        rows = self.catalogue.objects(bucket, start, end, limit)
        more = rows[-1].name + "\0" if len(rows) == limit else None
        return self.jobs.settle_rows(bucket, rows), more

    def page_of_generations(
        self, bucket: str, start: Position, end: str | None, limit: int
    ) -> tuple[list[StoredObject], Position | None]:
        """The same for all generations, noncurrent ones among them."""
        rows = self.versions.generations(bucket, start, end, limit)
        more = (rows[-1].name, rows[-1].generation + 1) if len(rows) == limit else None
        live = {row.name: row for row in self.jobs.settle_rows(bucket, [row for row in rows if row.is_live])}
        shown = [row if not row.is_live else live.get(row.name) for row in rows]
        return [row for row in shown if row is not None], more

    def page_of_soft_deleted(
        self, bucket: str, start: Position, end: str | None, limit: int
    ) -> tuple[list[StoredObject], Position | None]:
        """The same for generations that can be restored."""
        rows = self.versions.soft_deleted(bucket, start, end, limit, microseconds(self.clock.now()))
        return rows, (rows[-1].name, rows[-1].generation + 1) if len(rows) == limit else None

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
        self.commit(staged, bucket, name, resources.new_object_fields({}, content_type))

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

    def begin_job(self) -> list[str]:
        return self.kept.begin()

    def end_job(self) -> list[str]:
        try:
            self.publish()
        finally:
            self.kept.end()
        return self.jobs.refusals()

    def close(self) -> None:
        self.files.close()


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
