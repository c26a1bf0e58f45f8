"""Log entries in SQLite: written in batches, read in order of time, the oldest dropped.

Entries that share log, resource and labels form a stream; what they share is stored once. A job's line is then
little more than its text, so that a job which prints 100 MB costs about that on disk.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from google.api_core.exceptions import NotFound
from selfloop_apis import logging_v2

from emulator.core.clock import Clock
from emulator.core.interfaces import LogRecord
from emulator.core.projects import Projects
from emulator.core.state import Database
from emulator.services.logging import query_plan
from emulator.services.logging.query_language import Node
from emulator.services.logging.query_match import SEVERITIES

#: What a project keeps; beyond it the entries with the earliest times go.
MOST_ENTRIES = 2_000_000
MOST_BYTES = 512 << 20
#: How long after its receipt an entry goes, on the emulator's clock: as in Google's `_Default` bucket.
KEPT = timedelta(days=30)
#: Largest entry. Source: https://cloud.google.com/logging/quotas
LARGEST_ENTRY_BYTES = 256 * 1024

#: Entries, and bytes of them, that one transaction writes: other writers wait for it.
_BATCH_ENTRIES = 1000
_BATCH_BYTES = 4 << 20
#: Batches of old entries that go with one that comes: more than one, so that it catches up; not all, or a write after
#: the clock was advanced would hold up the others for seconds.
_DROPS_PER_WRITE = 5
#: A page ends at this many bytes, whatever its number of entries, or after searching for this long.
_PAGE_BYTES = 8 << 20
_PAGE_SECONDS = 5.0
#: What a row takes beside its payload.
_ROW_BYTES = 100
#: Up to this many streams are read by an index of their own and merged; more by the project's index.
_MERGED_STREAMS = 50
_KNOWN_STREAMS = 4096
_TEXT, _JSON, _ENTRY = 0, 1, 2
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)

_COLUMNS = "sequence, stream, time, received, severity, insert_id, kind, payload"
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS log_projects (id INTEGER PRIMARY KEY, project TEXT UNIQUE NOT NULL, "
    "entries INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE IF NOT EXISTS log_streams (id INTEGER PRIMARY KEY AUTOINCREMENT, project INTEGER NOT NULL, "
    "log_name TEXT NOT NULL, template BLOB UNIQUE NOT NULL)",
    "CREATE INDEX IF NOT EXISTS log_streams_by_name ON log_streams (project, log_name)",
    # time and received are nanoseconds since 1970. A number is never given twice: tails go by it.
    "CREATE TABLE IF NOT EXISTS log_entries (sequence INTEGER PRIMARY KEY AUTOINCREMENT, project INTEGER NOT NULL, "
    "stream INTEGER NOT NULL, time INTEGER NOT NULL, received INTEGER NOT NULL, severity INTEGER NOT NULL, "
    "insert_id TEXT NOT NULL, kind INTEGER NOT NULL, payload BLOB NOT NULL, size INTEGER NOT NULL)",
    # Two entries of one project with the same time and insert id are one.
    "CREATE UNIQUE INDEX IF NOT EXISTS log_entries_by_time ON log_entries (project, time, insert_id)",
    "CREATE INDEX IF NOT EXISTS log_entries_by_stream ON log_entries (stream, time, insert_id)",
)
_IS_NEWER = "sequence > ? AND stream IN (SELECT value FROM json_each(?))"
_DROPPED = "SELECT sequence, project, stream, received, size FROM log_entries"
_INSERT = (
    "INSERT OR IGNORE INTO log_entries (project, stream, time, received, severity, insert_id, kind, payload, size) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True)
class Scope:
    """What a call may read: logs of these projects (ids) for whose names `holds` is true."""

    projects: frozenset[str]
    holds: Callable[[str], bool] = lambda log_name: True


@dataclass(frozen=True)
class Position:
    """Where in the order of entries a page ended."""

    time: int
    insert_id: str
    sequence: int


@dataclass(frozen=True)
class EntryPage:
    entries: list[Any]
    end: Position | None
    """where to go on; None at the end"""


class LogStore:
    """The entries of every project; the LogSink of the rest of the emulator."""

    def __init__(self, database: Database, clock: Clock, projects: Projects) -> None:
        self._database = database
        self._clock = clock
        self._projects = projects
        self._known: dict[bytes, int] = {}
        self._written = threading.Condition()
        database.create(*_SCHEMA)
        newest = database.query("SELECT received FROM log_entries ORDER BY sequence DESC LIMIT 1")
        self._last_stamp = int(newest[0]["received"]) if newest else 0

    # Writing

    def write(self, project: str, records: Iterable[LogRecord]) -> None:
        """Store entries of one project, in this order; a text larger than an entry becomes several."""
        project_id = self._projects.get(project).id
        for batch in _batches(_cut(records)):
            with self._database.transaction() as connection:
                number = self._project(connection, project_id)
                self._insert(connection, number, self._rows(connection, number, project_id, batch))
            self._announce()

    def write_entries(self, project: str, entries: Sequence[Any]) -> None:
        """Store LogEntry messages of one project; each has its log name and resource."""
        with self._database.transaction() as connection:
            number = self._project(connection, project)
            stamps = self._stamps(len(entries))
            rows = [self._row(connection, number, *pair) for pair in zip(entries, stamps, strict=True)]
            self._insert(connection, number, rows)
        self._announce()

    def _rows(self, connection: Any, number: int, project: str, records: Sequence[LogRecord]) -> list[tuple[Any, ...]]:
        rows = []
        stamps = self._stamps(len(records))
        last: tuple[Any, ...] = ()
        stream = 0
        for record, received in zip(records, stamps, strict=True):
            shared = (record.log_id, record.resource_type, record.resource_labels, record.labels)
            # A job's lines come in runs of one stream: comparing is cheaper than looking up.
            if shared != last:
                stream = self._stream(connection, number, _template(project, *shared))
                last = shared
            if isinstance(record.payload, str):
                kind, payload = _TEXT, _clean(record.payload)
            else:
                kind, payload = _JSON, _clean(json.dumps(record.payload, ensure_ascii=False, default=str))
            moment = received if record.time is None else _nanoseconds(record.time)
            severity = SEVERITIES[record.severity]
            insert_id = f"{received // 1000:x}"
            size = len(payload) + _ROW_BYTES
            rows.append((number, stream, moment, received, severity, insert_id, kind, payload, size))
        return rows

    def _row(self, connection: Any, number: int, entry: Any, received: int) -> tuple[Any, ...]:
        shared = logging_v2.LogEntry(log_name=entry.log_name)
        shared.resource.CopyFrom(entry.resource)
        stream = self._stream(connection, number, shared)
        moment = entry.timestamp.seconds * 10**9 + entry.timestamp.nanos if entry.HasField("timestamp") else received
        insert_id = entry.insert_id or f"{received // 1000:x}"
        own = logging_v2.LogEntry()
        own.CopyFrom(entry)
        for name in ("log_name", "resource", "timestamp", "receive_timestamp", "severity", "insert_id"):
            own.ClearField(name)
        payload = own.SerializeToString()
        size = len(payload) + _ROW_BYTES
        return (number, stream, moment, received, entry.severity, insert_id, _ENTRY, payload, size)

    def _stamps(self, count: int) -> range:
        """Times of receipt from now on, a microsecond apart and later than every one before.

        The insert ids made of them are unique and in order. Called inside a transaction, so by one thread at a time.
        """
        first = max(_nanoseconds(self._clock.now()), self._last_stamp + 1000)
        stamps = range(first, first + count * 1000, 1000)
        self._last_stamp = stamps[-1] if count else self._last_stamp
        return stamps

    def _project(self, connection: Any, project: str) -> int:
        connection.execute("INSERT OR IGNORE INTO log_projects (project) VALUES (?)", (project,))
        row = connection.execute("SELECT id FROM log_projects WHERE project = ?", (project,)).fetchone()
        return int(row["id"])

    def _stream(self, connection: Any, number: int, template: Any) -> int:
        key = template.SerializeToString(deterministic=True)
        if key not in self._known:
            if len(self._known) >= _KNOWN_STREAMS:
                self._known.clear()
            connection.execute(
                "INSERT OR IGNORE INTO log_streams (project, log_name, template) VALUES (?, ?, ?)",
                (number, template.log_name, key),
            )
            row = connection.execute("SELECT id FROM log_streams WHERE template = ?", (key,)).fetchone()
            self._known[key] = int(row["id"])
        return self._known[key]

    def _insert(self, connection: Any, number: int, rows: Sequence[tuple[Any, ...]]) -> None:
        try:
            before = connection.execute("SELECT MAX(sequence) FROM log_entries").fetchone()[0] or 0
            connection.executemany(_INSERT, rows)
            count, size = connection.execute(
                "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM log_entries WHERE sequence > ?", (before,)
            ).fetchone()
            self._account(connection, number, count, size)
            self._drop_oldest(connection, number)
        except BaseException:
            # The transaction is rolled back, and streams that it made with it.
            self._known.clear()
            raise

    @staticmethod
    def _account(connection: Any, number: int, entries: int, size: int) -> None:
        connection.execute(
            "UPDATE log_projects SET entries = entries + ?, bytes = bytes + ? WHERE id = ?", (entries, size, number)
        )

    def _drop_oldest(self, connection: Any, number: int) -> None:
        """Hold the project to its limits, and everything to its time; what is left of much goes with later writes."""
        for _ in range(_DROPS_PER_WRITE):
            rows = self._expired(connection) or self._excess(connection, number)
            if not rows:
                return
            self._drop(connection, rows)

    def _expired(self, connection: Any) -> list[Any]:
        """Some of the entries that are past their time."""
        earliest = _nanoseconds(self._clock.now() - KEPT)
        oldest = connection.execute("SELECT received FROM log_entries ORDER BY sequence LIMIT 1").fetchone()
        if oldest is None or oldest["received"] >= earliest:
            return []
        rows = connection.execute(f"{_DROPPED} ORDER BY sequence LIMIT ?", (_BATCH_ENTRIES,))
        return [row for row in rows if row["received"] < earliest]

    def _excess(self, connection: Any, number: int) -> list[Any]:
        """Some of the entries by which a project is over its limits."""
        usage = "SELECT entries, bytes FROM log_projects WHERE id = ?"
        entries, size = connection.execute(usage, (number,)).fetchone()
        if entries <= MOST_ENTRIES and size <= MOST_BYTES:
            return []
        excess = []
        sql = f"{_DROPPED} WHERE project = ? ORDER BY time, insert_id LIMIT ?"
        for row in connection.execute(sql, (number, _BATCH_ENTRIES)).fetchall():
            if entries <= MOST_ENTRIES and size <= MOST_BYTES:
                break
            excess.append(row)
            entries -= 1
            size -= row["size"]
        return excess

    def _drop(self, connection: Any, rows: Sequence[Any]) -> None:
        """Remove entries, and streams that have none left."""
        if not rows:
            return
        connection.executemany("DELETE FROM log_entries WHERE sequence = ?", [(row["sequence"],) for row in rows])
        for number in {row["project"] for row in rows}:
            sizes = [row["size"] for row in rows if row["project"] == number]
            self._account(connection, number, -len(sizes), -sum(sizes))
        connection.executemany(
            "DELETE FROM log_streams WHERE id = ? AND NOT EXISTS (SELECT 1 FROM log_entries WHERE stream = ?)",
            [(stream, stream) for stream in {row["stream"] for row in rows}],
        )
        self._known.clear()

    def delete_log(self, project: str, log_name: str) -> None:
        """Remove the entries of a log. Raises NotFound for one that has none."""
        streams = self._database.query(
            "SELECT s.id FROM log_streams s JOIN log_projects p ON p.id = s.project "
            "WHERE p.project = ? AND s.log_name = ?",
            (project, log_name),
        )
        if not streams:
            raise NotFound("Requested entity was not found.")
        for row in streams:
            while self._drop_some_of(row["id"]):
                pass

    def _drop_some_of(self, stream: int) -> bool:
        """A step of a deletion, in a transaction of its own, for which other writers wait; False at the end."""
        with self._database.transaction() as connection:
            rows = connection.execute(f"{_DROPPED} WHERE stream = ? LIMIT 5000", (stream,)).fetchall()
            self._drop(connection, rows)
        return bool(rows)

    # Reading

    def log_names(self, scope: Scope) -> list[str]:
        """Full names of the logs that have entries, in order."""
        rows = self._database.query(
            "SELECT DISTINCT s.log_name FROM log_streams s JOIN log_projects p ON p.id = s.project "
            "WHERE p.project IN (SELECT value FROM json_each(?)) ORDER BY s.log_name",
            (json.dumps(list(scope.projects)),),
        )
        return [row["log_name"] for row in rows if scope.holds(row["log_name"])]

    def read(self, scope: Scope, query: Node, *, descending: bool, limit: int, after: Position | None) -> EntryPage:
        """A page of the entries that pass a filter, by time and insert id.

        It may be short, even empty, and yet have an end to go on from: a search is cut off after some seconds.
        Raises InvalidArgument.
        """
        streams = self._streams(scope)
        plan = query_plan.make_plan(self._follow_clock(query), streams)
        if not plan.streams:
            return EntryPage([], None)
        entries: list[Any] = []
        last: Any = None
        size = 0
        give_up = time.monotonic() + _PAGE_SECONDS
        wanted = None if plan.rest else limit + 1
        for count, row in enumerate(self._select(plan, descending, after, wanted)):
            full = len(entries) >= limit or size >= _PAGE_BYTES
            if full or (count and count % 256 == 0 and time.monotonic() > give_up):
                return EntryPage(entries, Position(last["time"], last["insert_id"], last["sequence"]))
            last = row
            entry = _entry(row, streams[row["stream"]])
            if plan.rest is None or plan.rest(entry):
                entries.append(entry)
                size += len(row["payload"])
        return EntryPage(entries, None)

    def newest(self) -> int:
        """The number of the entry that was received last."""
        rows = self._database.query("SELECT MAX(sequence) AS newest FROM log_entries")
        return int(rows[0]["newest"] or 0)

    def received_after(self, scope: Scope, query: Node, sequence: int, limit: int) -> tuple[list[Any], int]:
        """Entries that pass a filter, in order of receipt, and the number up to which they were looked for."""
        streams = self._streams(scope)
        plan = query_plan.make_plan(query, streams)
        where = " AND ".join(filter(None, [_IS_NEWER, plan.where]))
        entries = []
        newest = self.newest()
        sql = f"SELECT {_COLUMNS} FROM log_entries WHERE {where} ORDER BY sequence"  # noqa: S608  # made of constants
        for row in self._database.iterate(sql, (sequence, json.dumps(plan.streams), *plan.parameters)):
            entry = _entry(row, streams[row["stream"]])
            if plan.rest is None or plan.rest(entry):
                entries.append(entry)
            if len(entries) >= limit:
                return entries, int(row["sequence"])
        return entries, max(newest, sequence)

    def wait(self, sequence: int, seconds: float) -> bool:
        """Whether something was received after this number, at once or within this time."""
        with self._written:
            return self._written.wait_for(lambda: self.newest() > sequence, seconds)

    def _announce(self) -> None:
        with self._written:
            self._written.notify_all()

    def _follow_clock(self, query: Node) -> Node:
        machine_now = time.time_ns()
        return query_plan.follow_clock(query, machine_now, _nanoseconds(self._clock.now()) - machine_now)

    def _streams(self, scope: Scope) -> dict[int, Any]:
        """Id -> what its entries share, of every stream that may be read."""
        rows = self._database.query(
            "SELECT s.id, s.log_name, s.template FROM log_streams s JOIN log_projects p ON p.id = s.project "
            "WHERE p.project IN (SELECT value FROM json_each(?))",
            (json.dumps(list(scope.projects)),),
        )
        return {
            row["id"]: logging_v2.LogEntry.FromString(row["template"]) for row in rows if scope.holds(row["log_name"])
        }

    def _select(
        self,
        plan: query_plan.Plan,
        descending: bool,
        after: Position | None,
        limit: int | None,
    ) -> Iterator[Any]:
        """Rows in order. SQLite merges the selects of several streams, each of which an index has in order."""
        conditions: list[str] = []
        parameters: list[Any] = []
        if after:
            # First, so that SQLite begins there rather than at a bound of the filter's.
            conditions.append(f"(time, insert_id, sequence) {'<' if descending else '>'} (?, ?, ?)")
            parameters += [after.time, after.insert_id, after.sequence]
        if plan.where:
            conditions.append(plan.where)
            parameters += plan.parameters
        if len(plan.streams) <= _MERGED_STREAMS:
            sources = [("stream = ?", [stream]) for stream in plan.streams]
        else:
            conditions.append("stream IN (SELECT value FROM json_each(?))")
            parameters.append(json.dumps(plan.streams))
            rows = self._database.query(
                "SELECT DISTINCT project FROM log_streams WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(plan.streams),),
            )
            sources = [("project = ?", [row["project"]]) for row in rows]
        selects = [
            f"SELECT {_COLUMNS} FROM log_entries WHERE {' AND '.join([source, *conditions])}"  # noqa: S608  # as above
            for source, _ in sources
        ]
        way = "DESC" if descending else "ASC"
        sql = f"{' UNION ALL '.join(selects)} ORDER BY time {way}, insert_id {way}, sequence {way}"
        values = [value for _, own in sources for value in (*own, *parameters)]
        if limit is not None:
            sql += " LIMIT ?"
            values.append(limit)
        return self._database.iterate(sql, values)


def _template(
    project: str, log_id: str, resource_type: str, resource_labels: Mapping[str, str], labels: Mapping[str, str]
) -> Any:
    template = logging_v2.LogEntry(log_name=f"projects/{project}/logs/{quote(log_id, safe='')}")
    template.resource.type = resource_type
    template.resource.labels.update(resource_labels)
    template.labels.update(labels)
    return template


def _entry(row: Any, template: Any) -> Any:
    """The LogEntry of a row."""
    entry = logging_v2.LogEntry()
    entry.CopyFrom(template)
    match row["kind"]:
        case 0:
            entry.text_payload = row["payload"]
        case 1:
            # Infinity and NaN are numbers to Python, not to JSON: they come back as text.
            entry.json_payload.update(json.loads(row["payload"], parse_constant=str))
        case _:
            entry.MergeFromString(row["payload"])
    entry.timestamp.seconds, entry.timestamp.nanos = divmod(row["time"], 10**9)
    entry.receive_timestamp.seconds, entry.receive_timestamp.nanos = divmod(row["received"], 10**9)
    entry.severity = row["severity"]
    entry.insert_id = row["insert_id"]
    return entry


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND * 1000


def _clean(text: str) -> str:
    """Text that can be stored: half of a surrogate pair, as undecodable output has it, becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _cut(records: Iterable[LogRecord]) -> Iterator[LogRecord]:
    """The same records, a text too large for one entry as several."""
    longest = LARGEST_ENTRY_BYTES // 4  # characters, which take up to four bytes
    for record in records:
        payload = record.payload
        if not isinstance(payload, str) or len(payload) <= longest:
            yield record
            continue
        for start in range(0, len(payload), longest):
            yield LogRecord(
                record.log_id, record.resource_type, record.resource_labels, payload[start : start + longest],
                record.severity, record.labels, record.time,
            )  # fmt: skip


def _batches(records: Iterable[LogRecord]) -> Iterator[list[LogRecord]]:
    batch: list[LogRecord] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.payload)
        if len(batch) >= _BATCH_ENTRIES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
