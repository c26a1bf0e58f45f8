"""Generations of objects that are no longer live: noncurrent ones, and those that soft delete still holds.

Their bytes are always apart from the tree.
Source: https://cloud.google.com/storage/docs/object-versioning, …/docs/soft-delete
"""

from __future__ import annotations

from typing import Any

from emulator.core.state import Database
from emulator.services.storage.catalogue import COLUMNS, StoredObject

#: Where a listing of generations stands: a name, and a generation of it.
Position = tuple[str, int]

_ALL_COLUMNS = f"{COLUMNS}, deleted, soft_deleted, hard_delete"


class Versions:
    """Rows by bucket, name and generation. Changes belong inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create(
            "CREATE TABLE IF NOT EXISTS storage_versions (bucket TEXT NOT NULL, name TEXT NOT NULL, "
            "generation INTEGER NOT NULL, metageneration INTEGER NOT NULL, inode INTEGER NOT NULL, "
            "size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, crc32c INTEGER NOT NULL, md5 BLOB, "
            "component_count INTEGER NOT NULL, apart TEXT NOT NULL, created INTEGER NOT NULL, "
            "updated INTEGER NOT NULL, fields TEXT NOT NULL, deleted INTEGER NOT NULL, "
            "soft_deleted INTEGER NOT NULL, hard_delete INTEGER NOT NULL, "
            "PRIMARY KEY (bucket, name, generation)) WITHOUT ROWID",
            "CREATE INDEX IF NOT EXISTS storage_versions_by_end ON storage_versions (hard_delete) "
            "WHERE hard_delete > 0",
        )

    def save(self, stored: StoredObject) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                f"INSERT OR REPLACE INTO storage_versions ({_ALL_COLUMNS}) "  # noqa: S608  # constant columns
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (stored.bucket, stored.name, stored.generation, stored.metageneration, stored.inode, stored.size,
                 stored.mtime_ns, stored.crc32c, stored.md5, stored.component_count, stored.apart, stored.created,
                 stored.updated, stored.fields, stored.deleted, stored.soft_deleted, stored.hard_delete),
            )  # fmt: skip

    def find(self, bucket: str, name: str, generation: int) -> StoredObject | None:
        """A noncurrent generation."""
        found = self._find(bucket, name, generation)
        return found if found and not found.soft_deleted else None

    def find_soft_deleted(self, bucket: str, name: str, generation: int, now: int) -> StoredObject | None:
        """A generation that can still be restored."""
        found = self._find(bucket, name, generation)
        return found if found and found.hard_delete > now else None

    def _find(self, bucket: str, name: str, generation: int) -> StoredObject | None:
        rows = self._database.query(
            f"SELECT {_ALL_COLUMNS} FROM storage_versions "  # noqa: S608  # constant columns
            "WHERE bucket = ? AND name = ? AND generation = ?",
            (bucket, name, generation),
        )
        return StoredObject(*rows[0]) if rows else None

    def delete(self, stored: StoredObject) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM storage_versions WHERE bucket = ? AND name = ? AND generation = ?",
                (stored.bucket, stored.name, stored.generation),
            )

    def save_md5(self, stored: StoredObject, md5: bytes) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE storage_versions SET md5 = ? WHERE bucket = ? AND name = ? AND generation = ?",
                (md5, stored.bucket, stored.name, stored.generation),
            )

    def latest_generation(self, bucket: str, name: str) -> int:
        """The newest generation that a name has had, as far as it is known; 0 for none."""
        rows = self._database.query(
            "SELECT MAX(generation) AS latest FROM storage_versions WHERE bucket = ? AND name = ?", (bucket, name)
        )
        return int(rows[0]["latest"] or 0)

    def all_of(self, bucket: str, name: str) -> list[StoredObject]:
        """The live and noncurrent generations of one name, oldest first."""
        return self.generations(bucket, (name, 0), f"{name}\0", -1)

    def has_noncurrent(self, bucket: str) -> bool:
        return bool(
            self._database.query(
                "SELECT 1 FROM storage_versions WHERE bucket = ? AND soft_deleted = 0 LIMIT 1", (bucket,)
            )
        )

    def generations(self, bucket: str, start: Position, end: str | None, limit: int) -> list[StoredObject]:
        """Live and noncurrent generations from `start` on, by name and generation, of names before `end`."""
        where, parameters = _span(bucket, start, end)
        rows = self._database.query(
            f"SELECT {COLUMNS}, 0 AS deleted, 0 AS soft_deleted, 0 AS hard_delete FROM storage_objects "  # noqa: S608
            f"WHERE {where} UNION ALL SELECT {_ALL_COLUMNS} FROM storage_versions WHERE {where} AND soft_deleted = 0 "
            "ORDER BY name, generation LIMIT ?",
            (*parameters, *parameters, limit),
        )
        return [StoredObject(*row) for row in rows]

    def soft_deleted(self, bucket: str, start: Position, end: str | None, limit: int, now: int) -> list[StoredObject]:
        """Generations that can be restored, in the same order."""
        where, parameters = _span(bucket, start, end)
        rows = self._database.query(
            f"SELECT {_ALL_COLUMNS} FROM storage_versions WHERE {where} AND hard_delete > ? "  # noqa: S608
            "ORDER BY name, generation LIMIT ?",
            (*parameters, now, limit),
        )
        return [StoredObject(*row) for row in rows]

    def next_hard_delete(self) -> int | None:
        """When the next generation is to go for good; None where none is."""
        rows = self._database.query("SELECT MIN(hard_delete) AS next FROM storage_versions WHERE hard_delete > 0")
        return rows[0]["next"]  # type: ignore[no-any-return]  # sqlite3.Row is untyped

    def expired(self, now: int, limit: int) -> list[StoredObject]:
        """Generations whose time is over."""
        rows = self._database.query(
            f"SELECT {_ALL_COLUMNS} FROM storage_versions WHERE hard_delete > 0 AND hard_delete <= ? "  # noqa: S608
            "ORDER BY hard_delete LIMIT ?",
            (now, limit),
        )
        return [StoredObject(*row) for row in rows]

    def of_bucket(self, bucket: str) -> list[StoredObject]:
        rows = self._database.query(
            f"SELECT {_ALL_COLUMNS} FROM storage_versions WHERE bucket = ?",  # noqa: S608  # constant columns
            (bucket,),
        )
        return [StoredObject(*row) for row in rows]

    def move_bucket(self, bucket: str, to: str) -> None:
        """Keep a bucket's generations under another key, so that its name can be taken anew."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE storage_versions SET bucket = ? WHERE bucket = ?", (to, bucket))

    def apart(self) -> set[str]:
        """Names of the files that hold them."""
        return {row["apart"] for row in self._database.query("SELECT apart FROM storage_versions")}


def _span(bucket: str, start: Position, end: str | None) -> tuple[str, list[Any]]:
    name, generation = start
    where, parameters = "bucket = ? AND name >= ? AND (name > ? OR generation >= ?)", [bucket, name, name, generation]
    return (where, parameters) if end is None else (f"{where} AND name < ?", [*parameters, end])
