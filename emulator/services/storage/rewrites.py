"""Rewrites that take more than one call: what is copied so far, by token.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta

from google.api_core.exceptions import BadRequest

from emulator.core.clock import Clock
from emulator.core.state import Database
from emulator.services.storage.files import Files
from emulator.services.storage.resources import microseconds
from emulator.services.storage.staged import Staged

#: A call that names no limit copies at most this much where bytes have to move.
BYTES_PER_CALL = 1 << 30
_UNIT = 1 << 20
_LIFETIME = timedelta(days=7)


@dataclass(frozen=True)
class Rewrite:
    """One that is not complete. The file staged under its token holds the first `size` bytes."""

    token: str
    source: str
    """bucket, name and generation"""
    destination: str
    size: int
    crc32c: int


class Rewrites:
    def __init__(self, database: Database, clock: Clock, files: Files) -> None:
        self._database = database
        self._clock = clock
        self._files = files
        database.create(
            "CREATE TABLE IF NOT EXISTS storage_rewrites (token TEXT PRIMARY KEY, source TEXT NOT NULL, "
            "destination TEXT NOT NULL, size INTEGER NOT NULL, crc32c INTEGER NOT NULL, created INTEGER NOT NULL)"
        )

    def unfinished(self) -> set[str]:
        """Names of staged files that are still needed."""
        self._expire()
        return {row["token"] for row in self._database.query("SELECT token FROM storage_rewrites")}

    def _expire(self) -> None:
        oldest = microseconds(self._clock.now() - _LIFETIME)
        with self._database.transaction() as connection:
            gone = connection.execute(
                "DELETE FROM storage_rewrites WHERE created < ? RETURNING token", (oldest,)
            ).fetchall()
        for row in gone:
            self._files.remove_staged(row["token"])

    def begin(self, source: str, destination: str) -> tuple[Rewrite, Staged]:
        """A new rewrite and the empty file for its bytes."""
        self._expire()
        rewrite = Rewrite(secrets.token_urlsafe(48), source, destination, 0, 0)
        return rewrite, self._files.stage(rewrite.token, md5=False)

    def resume(self, token: str, source: str, destination: str) -> tuple[Rewrite, Staged]:
        """Raises BadRequest for a token that is unknown or of another rewrite."""
        self._expire()
        rows = self._database.query(
            "SELECT token, source, destination, size, crc32c FROM storage_rewrites WHERE token = ?", (token,)
        )
        rewrite = Rewrite(*rows[0]) if rows else None
        if rewrite is None or (rewrite.source, rewrite.destination) != (source, destination):
            raise BadRequest("Invalid rewrite token: it is unknown, expired, or belongs to another rewrite.")
        staged = self._files.resume(token, rewrite.size, rewrite.crc32c)
        if staged is None:
            raise BadRequest("Invalid rewrite token: it has expired.")
        if staged.size > rewrite.size:
            staged.truncate(rewrite.size)
        return rewrite, staged

    def save(self, rewrite: Rewrite, staged: Staged) -> None:
        """Remember how far it is; closes the file."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO storage_rewrites VALUES (?, ?, ?, ?, ?, ?)",
                (rewrite.token, rewrite.source, rewrite.destination, staged.size, staged.crc32c,
                 microseconds(self._clock.now())),
            )  # fmt: skip
        staged.close()

    def forget(self, token: str) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM storage_rewrites WHERE token = ?", (token,))


def bytes_per_call(asked: int | None) -> int:
    """How much one call may copy. Raises BadRequest for a limit that is no multiple of a mebibyte."""
    if asked is None:
        return BYTES_PER_CALL
    if asked < _UNIT or asked % _UNIT:
        raise BadRequest(
            f"Invalid value for maxBytesRewrittenPerCall: {asked}. It must be a positive multiple of 1048576.",
            errors=[
                {"reason": "invalidParameter", "locationType": "parameter", "location": "maxBytesRewrittenPerCall"}
            ],
        )
    return asked
