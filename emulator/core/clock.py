"""The emulator's time: the machine's plus an offset that only grows.

What a service stamps or schedules reads this clock; TLS, tokens, signed URLs and the time-outs of running
processes read the machine's, because clients and processes live there. docs/clock.md lists the difference.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What services see of the time."""

    def now(self) -> datetime:
        """Aware UTC, strictly later at each call, so that every stamp of a resource is distinct."""
        ...


class MovableClock:
    """A clock that `advance` moves forward; the offset outlives the process through `save`."""

    def __init__(self, offset: timedelta = timedelta(), save: Callable[[timedelta], None] | None = None) -> None:
        self._offset = offset
        self._save = save
        self._last = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()
        self._moving = threading.Lock()

    @property
    def offset(self) -> timedelta:
        return self._offset

    def now(self) -> datetime:
        with self._lock:
            self._last = max(datetime.now(UTC) + self._offset, self._last + timedelta(microseconds=1))
            return self._last

    def advance(self, by: timedelta) -> datetime:
        """Move forward and give back the new time. Raises ValueError for a step backwards."""
        if by < timedelta():
            raise ValueError("the clock only moves forward")
        with self._moving:
            offset = self._offset + by
            if self._save:
                # Not under the lock of `now`: whoever writes to the database may be asking for the time.
                self._save(offset)
            with self._lock:
                self._offset = offset
        return self.now()
