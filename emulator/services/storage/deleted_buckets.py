"""Buckets that soft delete still holds. Their generations are kept under a key that no bucket can have as its name.

Source: https://cloud.google.com/storage/docs/soft-delete
"""

from __future__ import annotations

from emulator.core.state import Database
from emulator.services.storage.catalogue import StoredBucket


class DeletedBuckets:
    """Rows by name and generation. Changes belong inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create(
            "CREATE TABLE IF NOT EXISTS storage_deleted_buckets (name TEXT NOT NULL, project TEXT NOT NULL, "
            "metageneration INTEGER NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL, "
            "fields TEXT NOT NULL, policy TEXT NOT NULL, soft_deleted INTEGER NOT NULL, "
            "hard_delete INTEGER NOT NULL, PRIMARY KEY (name, created)) WITHOUT ROWID"
        )

    @staticmethod
    def key(bucket: StoredBucket) -> str:
        """What stands for the bucket's name in rows of its generations."""
        return f"{bucket.name}:{bucket.created}"

    def save(self, bucket: StoredBucket) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO storage_deleted_buckets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (bucket.name, bucket.project, bucket.metageneration, bucket.created, bucket.updated, bucket.fields,
                 bucket.policy, bucket.soft_deleted, bucket.hard_delete),
            )  # fmt: skip

    def find(self, name: str, generation: int, now: int) -> StoredBucket | None:
        rows = self._database.query(
            "SELECT * FROM storage_deleted_buckets WHERE name = ? AND created = ? AND hard_delete > ?",
            (name, generation, now),
        )
        return StoredBucket(*rows[0]) if rows else None

    def delete(self, bucket: StoredBucket) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM storage_deleted_buckets WHERE name = ? AND created = ?", (bucket.name, bucket.created)
            )

    def page(self, project: str, prefix: str, start: tuple[str, int], limit: int, now: int) -> list[StoredBucket]:
        """A project's, by name and generation, from `start` on."""
        rows = self._database.query(
            "SELECT * FROM storage_deleted_buckets WHERE project = ? AND hard_delete > ? AND (name, created) >= (?, ?) "
            "AND substr(name, 1, ?) = ? ORDER BY name, created LIMIT ?",
            (project, now, *start, len(prefix), prefix, limit),
        )
        return [StoredBucket(*row) for row in rows]

    def next_hard_delete(self) -> int | None:
        """When the next one is to go for good; None where none is."""
        rows = self._database.query("SELECT MIN(hard_delete) AS next FROM storage_deleted_buckets")
        return rows[0]["next"]  # type: ignore[no-any-return]  # sqlite3.Row is untyped

    def expired(self, now: int) -> list[StoredBucket]:
        rows = self._database.query("SELECT * FROM storage_deleted_buckets WHERE hard_delete <= ?", (now,))
        return [StoredBucket(*row) for row in rows]
