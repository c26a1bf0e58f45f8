"""Files that jobs wrote, changed or deleted under /gcs, taken in as objects.

An object whose file still has the (inode, size, mtime) of its row is known; any other file is a new generation,
once nobody has it open for writing. A read looks at its own file, a listing at the files of its page and at
folders to which something was added; `publish` looks at everything and is what runners call when a step ends.
"""

from __future__ import annotations

import json
import mimetypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from google.api_core.exceptions import Forbidden

from emulator.core.clock import Clock
from emulator.core.state import Database
from emulator.services.storage import checksums, protection
from emulator.services.storage.catalogue import Catalogue, StoredBucket, StoredObject
from emulator.services.storage.file_system import is_open_for_writing
from emulator.services.storage.files import Files, FolderState, is_shown_folder
from emulator.services.storage.generations import Generations
from emulator.services.storage.names import MAX_NAME_BYTES, is_object_name, path_of
from emulator.services.storage.resources import microseconds
from emulator.services.storage.safekeeping import Safekeeping
from emulator.services.storage.staged import Signature

_ATTEMPTS = 5
_KNOWN_FOLDERS = 20_000
#: File systems stamp with the tick of a timer: a folder changed this recently may change again unseen.
_TICK_NS = 20_000_000
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class _Folder:
    mtime_ns: int
    folders: tuple[str, ...]


class Tell(Protocol):
    def __call__(self, event: str, stored: StoredObject, now: int, other_generation: int = 0) -> None: ...


class JobFiles:
    """tell: called inside the transaction of every change, in the words of notifications."""

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        files: Files,
        *,
        generations: Generations,
        kept: Safekeeping,
        clock: Clock,
        tell: Tell,
    ) -> None:
        self._tell = tell
        self._database = database
        self._catalogue = catalogue
        self._files = files
        self._generations = generations
        self._kept = kept
        self._clock = clock
        self._refusals: list[str] = []
        self._known: dict[tuple[str, tuple[str, ...]], _Folder] = {}
        self._lock = threading.Lock()

    def settled(self, bucket: str, name: str, row: StoredObject | None) -> bool:
        """Whether the file in the tree is the one of this row, or there is neither."""
        if name.endswith("/"):
            state = self._files.folder_state(bucket, name)
            if row is None:
                return state is not FolderState.BARE
            return state is not FolderState.GONE or not is_shown_folder(row.apart)
        return _agree(row, self._files.signature(bucket, name))

    def settle(self, bucket: str, name: str) -> StoredObject | None:
        """The object as it is now: its row, after taking in what a job did to its file.

        While a job still writes the file, the row of the generation before.
        """
        row = None
        for _ in range(_ATTEMPTS):
            row = self._catalogue.find(bucket, name)
            if self.settled(bucket, name, row):
                return row
            # Waits for an upload that has renamed its file and not yet committed.
            with self._database.transaction():
                row = self._catalogue.find(bucket, name)
                if self.settled(bucket, name, row):
                    return row
                owner = self._catalogue.find_bucket(bucket)
                if owner is None:
                    return None
                if name.endswith("/"):
                    return self._make_folder(owner, name) if row is None else self._remove(owner, row)
                if row is not None and self._files.signature(bucket, name) is None:
                    return self._remove(owner, row)
            if not self._take_in(bucket, name, row):
                return row
        return row

    def _take_in(self, bucket: str, name: str, row: StoredObject | None) -> bool:
        """Make a generation of a file; False while a job has it open."""
        opened = self._files.open(bucket, name)
        if opened is None:
            return True
        descriptor, status = opened
        try:
            if is_open_for_writing(descriptor):
                return False
            signature = Signature.of(status)
            crc32c = checksums.file_crc32c(descriptor, signature.size)
            if Signature.of(os.fstat(descriptor)) != signature:
                return True
        finally:
            os.close(descriptor)
        with self._database.transaction():
            owner = self._catalogue.find_bucket(bucket)
            if (
                owner is not None
                and self._catalogue.find(bucket, name) == row
                and self._files.signature(bucket, name) == signature
                and not (row is not None and self._put_back(owner, row))
            ):
                self._replace(owner, name, row, signature, crc32c=crc32c)
        return True

    def _make_folder(self, owner: StoredBucket, name: str) -> StoredObject:
        """The object `folder/` for an empty folder, as gcsfuse makes it."""
        staged = self._files.stage()
        try:
            signature = staged.signature()
            apart = self._files.put(staged, owner.name, name, replaces=True)
            self._database.on_rollback(lambda: self._files.remove_apart(apart))
        finally:
            staged.close()
        return self._replace(owner, name, None, signature, apart=apart)

    def _replace(
        self,
        owner: StoredBucket,
        name: str,
        row: StoredObject | None,
        signature: Signature,
        *,
        crc32c: int = 0,
        apart: str = "",
    ) -> StoredObject:
        """Enter a new live generation, and make of the one before what the bucket's settings want."""
        bucket, settings = owner.name, owner.settings
        now = microseconds(self._clock.now())
        generation = self._generations.next_generation(bucket, name, row, now)
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        fields = protection.new_object(settings, {"contentType": content_type}, now)
        stored = StoredObject(
            bucket, name, generation, 1, signature.inode, signature.size, signature.mtime_ns, crc32c, None,
            0, apart, now, now, json.dumps(fields),
        )  # fmt: skip
        self._catalogue.save(stored)
        self._database.after_commit(lambda: self._kept.keep(owner, stored))
        self._tell("OBJECT_FINALIZE", stored, now, row.generation if row else 0)
        if row is not None:
            self._retire(owner, row, now, generation)
        return stored

    def _remove(self, owner: StoredBucket, row: StoredObject) -> StoredObject | None:
        """Delete an object whose file a job removed; gives back the object where it must stay."""
        back = self._put_back(owner, row)
        if back is None:
            self._catalogue.delete(row.bucket, row.name)
            self._retire(owner, row, microseconds(self._clock.now()))
        return back

    def _retire(self, owner: StoredBucket, row: StoredObject, now: int, other_generation: int = 0) -> None:
        is_kept = self._generations.set_kept_aside(owner, row, now)
        is_archived = is_kept and protection.is_versioned(owner.settings)
        self._tell("OBJECT_ARCHIVE" if is_archived else "OBJECT_DELETE", row, now, other_generation)

    def _put_back(self, owner: StoredBucket, row: StoredObject) -> StoredObject | None:
        """The object as it was before a job touched it, where a hold or a retention keeps it; else None."""
        settings = owner.settings
        now = microseconds(self._clock.now())
        try:
            protection.check_removal(settings, row, now, becomes_noncurrent=protection.is_versioned(settings))
        except Forbidden as refusal:
            back = self._restored(row)
            outcome = "It was put back." if back else "Its bytes could not be kept."
            self._refusals.append(f"/gcs/{row.bucket}/{row.name}: {refusal.message} {outcome}")
            if back is not None:
                self._catalogue.save(back)
                self._database.after_commit(lambda: self._kept.keep(owner, back))
            return back
        return None

    def _restored(self, row: StoredObject) -> StoredObject | None:
        """The row of a generation whose file is back in its place; None where its bytes are lost."""
        if is_shown_folder(row.apart):
            self._files.make_folder(row.bucket, row.name)
            return row
        if row.apart:
            self._files.remove(row.bucket, row.name, "")
            return row
        staged = self._kept.staged(row)
        if staged is None:
            return None
        try:
            apart = self._files.put(staged, row.bucket, row.name, replaces=True)
            if staged.is_linked:
                self._database.after_commit(staged.unlink)
            signature = staged.signature()
        finally:
            staged.close()
        return replace(row, inode=signature.inode, mtime_ns=signature.mtime_ns, apart=apart)

    def refusals(self) -> list[str]:
        """What jobs did in vain since this was last asked for, a sentence each."""
        said, self._refusals = self._refusals, []
        return said

    def settle_rows(self, bucket: str, rows: list[StoredObject]) -> list[StoredObject]:
        """Rows of a listing, in order, each as it is now; what is gone is left out."""
        signatures = self._files.signatures(bucket, [row.name for row in rows])
        settled = []
        for row, (name, signature) in zip(rows, signatures, strict=True):
            agree = self.settled(bucket, name, row) if name.endswith("/") else _agree(row, signature)
            now = row if agree else self.settle(bucket, name)
            if now is not None:
                settled.append(now)
        return settled

    def find_new(self, bucket: str, prefix: str, *, everything: bool = False) -> None:
        """Take in files without a row at and below a prefix; folders nothing was added to are passed over."""
        head = prefix.rpartition("/")[0]
        start = path_of(head) if head else ()
        waiting = [start] if start is not None else []
        while waiting:
            parts = waiting.pop()
            with self._lock:
                known = self._known.get((bucket, parts))
            if not everything and known and known.mtime_ns == self._files.folder_mtime(bucket, parts):
                folders = known.folders
            else:
                folders = self._scan(bucket, parts)
            base = _path(parts)
            waiting.extend((*parts, folder) for folder in folders if f"{base}{folder}/".startswith(prefix))

    def _scan(self, bucket: str, parts: tuple[str, ...]) -> tuple[str, ...]:
        """Take in a folder's new files; gives back the folders in it that may hold objects."""
        began = time.time_ns()
        scan = self._files.scan(bucket, parts)
        base = _path(parts)
        folders = tuple(folder for folder in scan.folders if _fits(base + folder))
        pending = False
        for name in _missing((base + file for file in scan.files), self._catalogue.names_in_folder(bucket, base)):
            if is_object_name(name):
                row = self.settle(bucket, name)
                # One that a job still writes has to be looked at again, though nothing is added to its folder.
                pending |= row is None or row.apart != ""
        if scan.is_bare and _fits(base[:-1]):
            self.settle(bucket, base)
        if scan.mtime_ns >= 0:
            steady = not pending and scan.mtime_ns < began - _TICK_NS
            with self._lock:
                if len(self._known) >= _KNOWN_FOLDERS:
                    self._known.clear()
                self._known[bucket, parts] = _Folder(scan.mtime_ns if steady else -2, folders)
        return folders

    def publish(self, bucket: str) -> None:
        """Take in all that jobs wrote, changed and deleted in a bucket."""
        start = ""
        while rows := self._catalogue.objects(bucket, start, None, _BATCH):
            self.settle_rows(bucket, rows)
            start = rows[-1].name + "\0"
        self.find_new(bucket, "", everything=True)

    @contextmanager
    def own_change(self, bucket: str, name: str) -> Iterator[None]:
        """Around the emulator's own change of a folder, so that the next listing need not scan it for that."""
        parts = path_of(name)
        key = (bucket, parts[:-1]) if parts else None
        with self._lock:
            known = self._known.get(key) if key else None
        if key is None or known is None or known.mtime_ns != self._files.folder_mtime(*key):
            yield
            return
        yield
        mtime_ns = self._files.folder_mtime(*key)
        with self._lock:
            self._known[key] = _Folder(mtime_ns, known.folders)

    def forget(self, bucket: str) -> None:
        """Know nothing of a bucket's folders any more."""
        with self._lock:
            self._known = {key: folder for key, folder in self._known.items() if key[0] != bucket}


def _agree(row: StoredObject | None, signature: Signature | None) -> bool:
    if row is None or row.apart:
        return signature is None
    return signature == row.signature


def _path(parts: tuple[str, ...]) -> str:
    return "".join(f"{part}/" for part in parts)


def _fits(path: str) -> bool:
    return is_object_name(path) and len(path.encode()) < MAX_NAME_BYTES


def _missing(have: Iterator[str], known: Iterator[str]) -> Iterator[str]:
    """What the first sorted stream holds and the second does not."""
    other = next(known, None)
    for name in have:
        while other is not None and other < name:
            other = next(known, None)
        if other != name:
            yield name
