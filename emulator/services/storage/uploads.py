"""Resumable uploads: sessions that outlive their connections and the emulator's process.

A session's bytes lie in a file named after it; its length is how much is held. The address of a session, with
its id in it, is all that a client needs to go on.
Source: https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from google.api_core.exceptions import BadRequest, GoogleAPICallError, NotFound, ServiceUnavailable

from emulator.core.clock import Clock
from emulator.core.state import Database
from emulator.services.storage.catalogue import StoredObject
from emulator.services.storage.checksums import Expected
from emulator.services.storage.files import Files
from emulator.services.storage.preconditions import Preconditions
from emulator.services.storage.resources import microseconds
from emulator.services.storage.staged import Staged

#: What is held of an unfinished upload is a multiple of this.
QUANTUM = 256 * 1024
_LIFETIME = timedelta(days=7)
#: How long a client waits for the connection that it had before.
_TAKEOVER_SECONDS = 10
_CONTENT_RANGE = re.compile(r"bytes\s+(?:(\d+)-(\d+)|\*)/(?:(\d+)|\*)")


class Commit(Protocol):
    def __call__(
        self,
        staged: Staged,
        bucket: str,
        name: str,
        fields: dict[str, Any],
        *,
        conditions: Preconditions,
    ) -> StoredObject: ...


@dataclass(frozen=True)
class Span:
    """What a Content-Range says of a body: bytes `first` to `last`, of `total` where that is known."""

    first: int | None
    """None asks for the status"""
    last: int
    total: int | None


@dataclass
class _Progress:
    """What the process remembers of a session, to save computing the checksum again."""

    lock: threading.Lock
    size: int = -1
    crc32c: int = 0


@dataclass(frozen=True)
class _Session:
    id: str
    bucket: str
    name: str
    fields: dict[str, Any]
    conditions: Preconditions
    expected: Expected
    total: int | None
    generation: int | None
    """of the object that it became"""


class ResumableUploads:
    """The sessions of one store. commit: makes a staged file an object."""

    def __init__(self, database: Database, clock: Clock, files: Files, commit: Commit) -> None:
        self._database = database
        self._clock = clock
        self._files = files
        self._commit = commit
        self._progress: dict[str, _Progress] = {}
        self._lock = threading.Lock()
        database.create(
            "CREATE TABLE IF NOT EXISTS storage_uploads (id TEXT PRIMARY KEY, bucket TEXT NOT NULL, "
            "name TEXT NOT NULL, fields TEXT NOT NULL, conditions TEXT NOT NULL, expected TEXT NOT NULL, "
            "total INTEGER, created INTEGER NOT NULL, generation INTEGER)",
            "CREATE INDEX IF NOT EXISTS storage_uploads_by_age ON storage_uploads (created)",
        )

    def unfinished(self) -> set[str]:
        """Ids of sessions whose file is still needed."""
        self._expire()
        return {row["id"] for row in self._database.query("SELECT id FROM storage_uploads WHERE generation IS NULL")}

    def _expire(self) -> None:
        """Forget what began more than a week ago."""
        oldest = microseconds(self._clock.now() - _LIFETIME)
        with self._database.transaction() as connection:
            gone = connection.execute(
                "DELETE FROM storage_uploads WHERE created < ? RETURNING id", (oldest,)
            ).fetchall()
        for row in gone:
            self._files.remove_staged(row["id"])

    def begin(
        self,
        bucket: str,
        name: str,
        fields: dict[str, Any],
        *,
        conditions: Preconditions,
        expected: Expected,
        total: int | None,
    ) -> str:
        """A new session's id."""
        self._expire()
        upload_id = secrets.token_urlsafe(48)
        self._files.stage(upload_id).close()
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO storage_uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
                (upload_id, bucket, name, json.dumps(fields), json.dumps(vars(conditions)), json.dumps(vars(expected)),
                 total, microseconds(self._clock.now())),
            )  # fmt: skip
        return upload_id

    def receive(
        self, upload_id: str, headers: Mapping[str, str], body: Iterable[bytes], find: Callable[..., StoredObject]
    ) -> StoredObject | int:
        """Take in a piece of an upload: the object when it is complete, else the number of bytes held.

        find: gives an object by bucket, name and generation. Raises BadRequest for a Content-Range that does not
        fit what is held or what comes, and what the commit raises; NotFound for an unknown session.
        """
        span = parse_content_range(headers.get("content-range", ""))
        with self._exclusive(upload_id) as progress:
            session = self._session(upload_id)
            if session.generation is not None:
                return find(session.bucket, session.name, session.generation)
            staged = self._reopen(session, progress)
            try:
                total = self._take(session, staged, span, headers, body)
                if total is not None and staged.size == total:
                    return self._finish(session, staged, headers)
                if staged.size % QUANTUM:
                    staged.truncate(staged.size - staged.size % QUANTUM)
                return staged.size
            finally:
                progress.size, progress.crc32c = staged.size, staged.crc32c
                staged.close()

    def cancel(self, upload_id: str) -> None:
        """Raises NotFound."""
        with self._exclusive(upload_id):
            self._session(upload_id)
            self._forget(upload_id)

    def _take(
        self, session: _Session, staged: Staged, span: Span | None, headers: Mapping[str, str], body: Iterable[bytes]
    ) -> int | None:
        """Append what is new; gives back the upload's total length where it is known now."""
        if span is None:
            # The whole upload in one request.
            if staged.size:
                staged.truncate(0)
            with _undone_unless_complete(staged, 0):
                for piece in body:
                    staged.write(piece)
            received = staged.size
            if session.total not in (None, received):
                staged.truncate(0)
                raise BadRequest(f"Invalid request.  {received} byte(s) came where {session.total} were announced.")
            return received
        total = session.total if span.total is None else span.total
        if session.total is not None and total != session.total:
            raise BadRequest(
                f"Invalid request.  The total size {total} of the Content-Range header differs from the "
                f"{session.total} bytes announced before."
            )
        if total is not None and (staged.size > total or (span.first is not None and span.last >= total)):
            raise BadRequest(f"Invalid request.  The upload is longer than its total size of {total} bytes.")
        if span.first is not None:
            _append(staged, span.first, span.last, headers, body)
        if total is not None and session.total is None:
            with self._database.transaction() as connection:
                connection.execute("UPDATE storage_uploads SET total = ? WHERE id = ?", (total, session.id))
        return total

    def _finish(self, session: _Session, staged: Staged, headers: Mapping[str, str]) -> StoredObject:
        try:
            expected = session.expected.merged(Expected.of({}, headers))
            expected.check(staged.crc32c, staged.md5)
            # One transaction: a client that asks again after a crash hears of the object or of the session.
            with self._database.transaction() as connection:
                stored = self._commit(
                    staged, session.bucket, session.name, session.fields, conditions=session.conditions
                )
                connection.execute(
                    "UPDATE storage_uploads SET generation = ? WHERE id = ?", (stored.generation, session.id)
                )
        except GoogleAPICallError:
            self._forget(session.id)
            raise
        with self._lock:
            self._progress.pop(session.id, None)
        return stored

    def _forget(self, upload_id: str) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM storage_uploads WHERE id = ?", (upload_id,))
        self._files.remove_staged(upload_id)
        with self._lock:
            self._progress.pop(upload_id, None)

    def _session(self, upload_id: str) -> _Session:
        rows = self._database.query("SELECT * FROM storage_uploads WHERE id = ?", (upload_id,))
        if not rows or rows[0]["created"] < microseconds(self._clock.now() - _LIFETIME):
            raise NotFound("The resumable upload does not exist or is no longer available.")
        row = rows[0]
        return _Session(
            row["id"], row["bucket"], row["name"], json.loads(row["fields"]),
            Preconditions(**json.loads(row["conditions"])), Expected(**json.loads(row["expected"])), row["total"],
            row["generation"],
        )  # fmt: skip

    def _reopen(self, session: _Session, progress: _Progress) -> Staged:
        staged = self._files.resume(session.id, progress.size, progress.crc32c)
        if staged is None:
            self._forget(session.id)
            raise NotFound("The resumable upload does not exist or is no longer available.")
        return staged

    @contextmanager
    def _exclusive(self, upload_id: str) -> Iterator[_Progress]:
        """One request at a time: a client that lost its connection comes back while the old one still ends."""
        with self._lock:
            progress = self._progress.setdefault(upload_id, _Progress(threading.Lock()))
        if not progress.lock.acquire(timeout=_TAKEOVER_SECONDS):
            raise ServiceUnavailable("Another request of this resumable upload is still being received.")
        try:
            yield progress
        finally:
            progress.lock.release()
            if progress.size < 0:
                with self._lock:
                    self._progress.pop(upload_id, None)


def parse_content_range(header: str) -> Span | None:
    """None without a header. Raises BadRequest for one that means nothing."""
    if not header:
        return None
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        raise BadRequest(f"Failed to parse Content-Range header: {header!r}")
    total = int(match[3]) if match[3] else None
    if match[1] is None:
        return Span(None, 0, total)
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise BadRequest(f"Failed to parse Content-Range header: {header!r}")
    return Span(first, last, total)


def _append(staged: Staged, first: int, last: int, headers: Mapping[str, str], body: Iterable[bytes]) -> None:
    """Write what of bytes first to last is not held yet: a chunk sent twice is taken once."""
    expected, held = last - first + 1, staged.size
    if first > held:
        raise BadRequest(
            f"Invalid request.  According to the Content-Range header, the upload offset is {first} byte(s), "
            f"which exceeds already uploaded size of {held} byte(s)."
        )
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) != expected:
        raise _lies(int(announced), first, last)
    received = 0
    with _undone_unless_complete(staged, held):
        for piece in body:
            known = max(0, min(len(piece), held - first - received))
            received += len(piece)
            if received > expected:
                break
            if known < len(piece):
                staged.write(piece[known:])
    if received != expected:
        staged.truncate(held)
        raise _lies(received, first, last)


@contextmanager
def _undone_unless_complete(staged: Staged, held: int) -> Iterator[None]:
    """When a connection breaks, whole quanta of what came are kept."""
    try:
        yield
    except BaseException:
        staged.truncate(max(held, staged.size - staged.size % QUANTUM))
        raise


def _lies(received: int, first: int, last: int) -> BadRequest:
    return BadRequest(
        f"Invalid request.  There were {received} byte(s) in the request body.  There should have been "
        f"{last - first + 1} byte(s) (starting at offset {first} and ending at offset {last}) according to the "
        "Content-Range header."
    )
