"""What the store knows of buckets and objects: two SQLite tables, clustered in the order of listings."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from emulator.core.state import Database
from emulator.services.storage.names import after_prefix
from emulator.services.storage.staged import Signature

COLUMNS = (
    "bucket, name, generation, metageneration, inode, size, mtime_ns, crc32c, md5, component_count, apart, created, "
    "updated, fields"
)


@dataclass(frozen=True, slots=True)
class StoredBucket:
    name: str
    project: str
    """id of the project it belongs to"""
    metageneration: int
    created: int
    updated: int
    fields: str
    """JSON: what clients set, with the defaults of a new bucket"""
    policy: str
    """JSON of the IAM policy; empty until a client sets one"""
    soft_deleted: int = 0
    """when it was deleted; 0 for one that is there"""
    hard_delete: int = 0
    """until when it can be restored then"""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What `fields` says, for reading alone."""
        return _read(self.fields)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One generation of an object. Times are microseconds since the epoch."""

    bucket: str
    name: str
    generation: int
    metageneration: int
    inode: int
    size: int
    mtime_ns: int
    crc32c: int
    md5: bytes | None
    """None until somebody asks, and always for a composed object"""
    component_count: int
    """number of uploads that a composed object was made of, else 0"""
    apart: str
    """name of the file where it is not in the tree"""
    created: int
    updated: int
    fields: str
    """JSON: what clients set, and what the server remembers of it under names that begin with `_`"""
    deleted: int = 0
    """when it became noncurrent; 0 for a live one"""
    soft_deleted: int = 0
    """when it was deleted for good, but for the bucket's soft delete policy; else 0"""
    hard_delete: int = 0
    """until when it can be restored then"""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What `fields` says, for reading alone."""
        return _read(self.fields)

    @property
    def is_live(self) -> bool:
        return not (self.deleted or self.soft_deleted)

    @property
    def signature(self) -> Signature:
        return Signature(self.inode, self.size, self.mtime_ns)


@lru_cache(maxsize=256)
def _read(fields: str) -> Mapping[str, Any]:
    # Shared by all who ask. A bucket's are asked for several times a call, and most objects have the same.
    document: Mapping[str, Any] = json.loads(fields)
    return document


class Catalogue:
    """Rows by name. Changes belong inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Every call on an object asks for its bucket, some of them four times.
        self._known: dict[str, StoredBucket] = {}
        self._changing: Counter[str] = Counter()
        self._changes = 0
        self._lock = threading.Lock()
        database.create(
            "CREATE TABLE IF NOT EXISTS storage_buckets (name TEXT PRIMARY KEY, project TEXT NOT NULL, "
            "metageneration INTEGER NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL, "
            "fields TEXT NOT NULL, policy TEXT NOT NULL) WITHOUT ROWID",
            "CREATE INDEX IF NOT EXISTS storage_buckets_by_project ON storage_buckets (project, name)",
            # Text compares by its UTF-8 bytes, the order in which Cloud Storage lists.
            "CREATE TABLE IF NOT EXISTS storage_objects (bucket TEXT NOT NULL, name TEXT NOT NULL, "
            "generation INTEGER NOT NULL, metageneration INTEGER NOT NULL, inode INTEGER NOT NULL, "
            "size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, crc32c INTEGER NOT NULL, md5 BLOB, "
            "component_count INTEGER NOT NULL, apart TEXT NOT NULL, created INTEGER NOT NULL, "
            "updated INTEGER NOT NULL, fields TEXT NOT NULL, PRIMARY KEY (bucket, name)) WITHOUT ROWID",
            "CREATE INDEX IF NOT EXISTS storage_objects_apart ON storage_objects (apart) WHERE apart != ''",
        )

    # Buckets

    def find_bucket(self, name: str) -> StoredBucket | None:
        known = self._known.get(name)
        if known is not None:
            return known
        changes = self._changes
        rows = self._database.query("SELECT * FROM storage_buckets WHERE name = ?", (name,))
        if not rows:
            return None
        found = StoredBucket(*rows[0])
        with self._lock:
            # A change under way, or one begun and ended meanwhile, may have made it a row of yesterday.
            if changes == self._changes and not self._changing[name]:
                self._known[name] = found
        return found

    def _change_bucket(self, name: str) -> None:
        """Within the transaction that changes a bucket: until that is over, its row is read each time."""

        def end() -> None:
            with self._lock:
                self._changing[name] -= 1
                self._changes += 1

        with self._lock:
            self._known.pop(name, None)
            self._changing[name] += 1
            self._changes += 1
        self._database.after_commit(end)
        self._database.on_rollback(end)

    def save_bucket(self, bucket: StoredBucket) -> None:
        with self._database.transaction() as connection:
            self._change_bucket(bucket.name)
            connection.execute(
                "INSERT OR REPLACE INTO storage_buckets VALUES (?, ?, ?, ?, ?, ?, ?)",
                (bucket.name, bucket.project, bucket.metageneration, bucket.created, bucket.updated, bucket.fields,
                 bucket.policy),
            )  # fmt: skip

    def delete_bucket(self, name: str) -> None:
        with self._database.transaction() as connection:
            self._change_bucket(name)
            connection.execute("DELETE FROM storage_buckets WHERE name = ?", (name,))

    def bucket_names(self) -> list[str]:
        return [row["name"] for row in self._database.query("SELECT name FROM storage_buckets ORDER BY name")]

    def buckets(self, project: str, prefix: str, start: str, limit: int) -> list[StoredBucket]:
        """A project's buckets from the name `start` on, by name."""
        rows = self._database.query(
            "SELECT * FROM storage_buckets WHERE project = ? AND name >= ? AND substr(name, 1, ?) = ? "
            "ORDER BY name LIMIT ?",
            (project, max(start, prefix), len(prefix), prefix, limit),
        )
        return [StoredBucket(*row) for row in rows]

    def buckets_with_fields(self, field: str) -> list[StoredBucket]:
        """Buckets that have a setting of this name."""
        rows = self._database.query(
            "SELECT * FROM storage_buckets WHERE instr(fields, ?) > 0 ORDER BY name", (f'"{field}"',)
        )
        return [StoredBucket(*row) for row in rows]

    # Objects

    def find(self, bucket: str, name: str) -> StoredObject | None:
        rows = self._database.query(
            f"SELECT {COLUMNS} FROM storage_objects WHERE bucket = ? AND name = ?",  # noqa: S608  # constant columns
            (bucket, name),
        )
        return StoredObject(*rows[0]) if rows else None

    def save(self, stored: StoredObject) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                f"INSERT OR REPLACE INTO storage_objects ({COLUMNS}) "  # noqa: S608  # constant columns
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (stored.bucket, stored.name, stored.generation, stored.metageneration, stored.inode, stored.size,
                 stored.mtime_ns, stored.crc32c, stored.md5, stored.component_count, stored.apart, stored.created,
                 stored.updated, stored.fields),
            )  # fmt: skip

    def save_md5(self, stored: StoredObject, md5: bytes) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE storage_objects SET md5 = ? WHERE bucket = ? AND name = ? AND generation = ?",
                (md5, stored.bucket, stored.name, stored.generation),
            )

    def delete(self, bucket: str, name: str) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM storage_objects WHERE bucket = ? AND name = ?", (bucket, name))

    def objects(self, bucket: str, start: str, end: str | None, limit: int) -> list[StoredObject]:
        """Objects with start <= name < end, in order."""
        before = "" if end is None else " AND name < ?"
        rows = self._database.query(
            f"SELECT {COLUMNS} FROM storage_objects WHERE bucket = ? AND name >= ?{before} "  # noqa: S608
            "ORDER BY name LIMIT ?",
            (bucket, start, *([] if end is None else [end]), limit),
        )
        return [StoredObject(*row) for row in rows]

    def names_in_folder(self, bucket: str, folder: str) -> Iterator[str]:
        """Names of the objects that are files directly in a folder of the tree (`a/b/`, or nothing), in order."""
        parameters: list[Any] = [bucket, folder, len(folder) + 1]
        end = after_prefix(folder)
        before = "" if end is None else " AND name < ?"
        rows = self._database.iterate(
            "SELECT name FROM storage_objects WHERE bucket = ? AND name >= ? AND apart = '' "  # noqa: S608
            f"AND instr(substr(name, ?), '/') = 0{before} ORDER BY name",
            [*parameters, *([] if end is None else [end])],
        )
        return (row["name"] for row in rows)

    def live_with_inodes(self, inodes: Iterable[int]) -> list[StoredObject]:
        """Objects in the tree whose file has one of these inodes. Reads the whole table: for recovery alone."""
        wanted = set(inodes)
        rows = self._database.iterate(f"SELECT {COLUMNS} FROM storage_objects WHERE apart = ''")  # noqa: S608
        return [stored for stored in (StoredObject(*row) for row in rows) if stored.inode in wanted]

    def apart(self) -> set[str]:
        """Names of all files that hold an object outside the tree."""
        return {row["apart"] for row in self._database.query("SELECT apart FROM storage_objects WHERE apart != ''")}
