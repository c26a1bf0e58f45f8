"""Every call that reached the emulator, kept for looking back: `inv emulator.journal`.

Calls are noted in memory and written together a few times a second, so that a journal costs a call nothing;
`kill -9` may cost it the last moments. The oldest go when there are too many.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from emulator.core.state import Database

KEPT = 100_000
_FLUSH_SECONDS = 0.25
#: Calls waiting to be written; beyond it the newest are counted and dropped rather than held in memory.
_WAITING = 20_000


class Call(NamedTuple):
    """One call: when, by whom, what, and how it ended."""

    time: float
    """seconds since the epoch; read back as text"""
    transport: str
    method: str
    status: str
    """`OK` or the name of the error's code"""
    milliseconds: float
    caller: str
    sandbox: str = ""
    detail: str = ""
    """the error's message; never a payload or a token"""


class Journal:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[Call] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        database.create(
            "CREATE TABLE IF NOT EXISTS journal (sequence INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT, "
            "transport TEXT, method TEXT, status TEXT, milliseconds REAL, caller TEXT, sandbox TEXT, detail TEXT)"
        )
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    def record(self, call: Call) -> None:
        with self._lock:
            if len(self._waiting) < _WAITING:
                self._waiting.append(call)

    def read(self, limit: int = 100, method: str = "") -> Iterator[dict[str, Any]]:
        """The latest calls, newest first; `method` narrows to names that contain it."""
        self.flush()
        for row in self._database.iterate(
            "SELECT * FROM journal WHERE instr(method, ?) > 0 ORDER BY sequence DESC LIMIT ?", (method, limit)
        ):
            yield dict(row)

    def flush(self) -> None:
        with self._lock:
            calls, self._waiting = self._waiting, []
        if not calls:
            return
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT INTO journal (time, transport, method, status, milliseconds, caller, sandbox, detail) VALUES "
                "(strftime('%Y-%m-%dT%H:%M:%fZ', ?, 'unixepoch'), ?, ?, ?, ?, ?, ?, ?)",
                calls,
            )
            connection.execute("DELETE FROM journal WHERE sequence <= (SELECT MAX(sequence) FROM journal) - ?", (KEPT,))

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        self.flush()

    def _write(self) -> None:
        while not self._stop.wait(_FLUSH_SECONDS):
            self.flush()
