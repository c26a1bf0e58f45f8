"""What becomes of a generation that is replaced or deleted: noncurrent, soft-deleted, or gone.

Its file is taken out of the tree inside the transaction that changes the rows, and put back should that fail; a
restart puts back what a killed process had taken out without committing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from emulator.core.state import Database
from emulator.services.storage import protection
from emulator.services.storage.catalogue import Catalogue, StoredBucket, StoredObject
from emulator.services.storage.files import Files, is_shown_folder
from emulator.services.storage.safekeeping import Safekeeping
from emulator.services.storage.versions import Versions

_SECOND = 1_000_000


class Generations:
    def __init__(
        self, database: Database, catalogue: Catalogue, versions: Versions, files: Files, kept: Safekeeping
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._versions = versions
        self._files = files
        self._kept = kept

    def next_generation(self, bucket: str, name: str, row: StoredObject | None, now: int) -> int:
        """Microseconds since the epoch, and more than any generation that the name is known to have had."""
        before = row.generation if row else self._versions.latest_generation(bucket, name)
        return max(now, before + 1)

    def set_aside(self, bucket: StoredBucket, row: StoredObject, now: int, *, replaced: bool) -> None:
        """Keep a live generation's bytes as the bucket's settings want it, inside the caller's transaction.

        replaced: whether another file takes its place in the tree; else it is taken out of there.
        """
        apart = row.apart
        if not apart:
            apart = self._files.set_aside(row.bucket, row.name, row.signature, keep=replaced)
            if not apart:
                self.set_kept_aside(bucket, row, now)
                return
            self._database.on_rollback(lambda: self._files.put_back(row.bucket, row.name, apart))
        elif not replaced and is_shown_folder(apart):
            self._files.mark_folder(row.bucket, row.name, is_object=False)
            self._database.after_commit(lambda: self._files.remove_folder(row.bucket, row.name))
        self._retire(bucket, replace(row, apart=apart), now)

    def set_kept_aside(self, bucket: StoredBucket, row: StoredObject, now: int) -> bool:
        """The same for one that a job has replaced or deleted; False where its bytes are lost."""
        aside = row if row.apart else self._kept.set_aside(row)
        if aside is None:
            return False
        if not row.apart:
            self._database.on_rollback(lambda: self._files.remove_apart(aside.apart))
        self._retire(bucket, aside, now)
        return True

    def _retire(self, bucket: StoredBucket, row: StoredObject, now: int) -> None:
        fields = bucket.settings
        if protection.is_versioned(fields):
            self._versions.save(replace(row, deleted=now))
        else:
            self._end(fields, row, now)

    def remove_version(self, bucket: StoredBucket, version: StoredObject, now: int) -> None:
        """Delete a noncurrent generation. Raises Forbidden while it must be kept."""
        fields = bucket.settings
        protection.check_removal(fields, version, now)
        self._versions.delete(version)
        self._end(fields, version, now)

    def remove_live(self, bucket: StoredBucket, row: StoredObject, now: int) -> None:
        """Delete the live generation for good, whether or not the bucket keeps versions."""
        unversioned = {**json.loads(bucket.fields), "versioning": {"enabled": False}}
        self.set_aside(replace(bucket, fields=json.dumps(unversioned)), row, now, replaced=False)

    def _end(self, fields: Mapping[str, Any], row: StoredObject, now: int) -> None:
        """Soft-delete, or delete, a generation whose file is apart."""
        seconds = protection.soft_delete_seconds(fields)
        if seconds:
            self._versions.save(replace(row, soft_deleted=now, hard_delete=now + seconds * _SECOND))
        else:
            self._database.after_commit(lambda: self._files.remove_apart(row.apart))

    def forget(self, version: StoredObject) -> None:
        """Remove a generation and its file, whatever its state."""
        self._versions.delete(version)
        self._database.after_commit(lambda: self._files.remove_apart(version.apart))

    def recover(self, uploads: set[str]) -> None:
        """After a start: undo what was not committed, and remove files that nothing refers to.

        uploads: names of staged files that are still needed.
        """
        linked = self._files.linked()
        if linked:
            committed = {row.inode for row in self._catalogue.live_with_inodes(linked)}
            self._files.remove_from_tree(linked - committed)
        known = self._catalogue.apart() | self._versions.apart()
        strays = self._files.strays(known)
        if strays:
            for row in self._catalogue.live_with_inodes(signature.inode for signature in strays.values()):
                apart = next((name for name, signature in strays.items() if signature == row.signature), None)
                if apart and self._files.signature(row.bucket, row.name) != row.signature:
                    self._files.put_back(row.bucket, row.name, apart)
        self._files.sweep(uploads, known)
