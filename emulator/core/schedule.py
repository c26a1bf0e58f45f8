"""What falls due on the emulator's clock: lifecycle rules, cron jobs, windows of monitors.

Sources say when they are due next. In real time a thread runs them as the clock reaches them; `advance` moves the
clock from one due event to the next and waits, within a limit, for what each one started, so that a day of them
passes in seconds and none is skipped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from emulator.core.clock import MovableClock

logger = logging.getLogger(__name__)

#: How long the thread rests at most before it asks the sources again.
_LONGEST_REST_SECONDS = 300.0
#: How long a source that failed, or did not get on, is left alone in real time.
_REST_AFTER_FAILURE_SECONDS = 60.0


@dataclass(frozen=True)
class Due:
    """When a source wants to run: from `at` on, and `latest` then, so that what is close together is done at once."""

    at: datetime
    latest: datetime

    @classmethod
    def exactly(cls, at: datetime) -> Due:
        return cls(at, at)


class Started(Protocol):
    """Something that a due event has begun and that goes on by itself."""

    @property
    def name(self) -> str: ...

    def wait(self, seconds: float) -> bool:
        """Whether it is over, after waiting for so long at most (on the machine's clock)."""
        ...


class Source(Protocol):
    """What has due events. Its methods are called from one thread at a time."""

    @property
    def name(self) -> str: ...

    def next_due(self) -> Due | None:
        """None where nothing is planned. What lies in the past is due now."""
        ...

    def run(self, now: datetime) -> Iterable[Started]:
        """Do all that is due at this time; what it gives back goes on when it returns."""
        ...


@dataclass
class Advanced:
    """What an advance did: how many events came due, and what they started that was not over in time."""

    events: int = 0
    unfinished: list[str] = field(default_factory=list)


class Schedule:
    """Every source of the emulator, and the one hand that moves its clock."""

    def __init__(self, clock: MovableClock) -> None:
        self._clock = clock
        self._sources: list[Source] = []
        self._resting: dict[str, float] = {}
        self._turn = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def add(self, source: Source) -> None:
        self._sources.append(source)

    def start(self) -> None:
        """Run what falls due as real time passes."""
        self._thread = threading.Thread(target=self._follow, name="schedule", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Start nothing any more; returns once a running event is over."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def changed(self) -> None:
        """A source is due earlier than it said before."""
        self._wake.set()

    def advance(self, by: timedelta, wait_seconds: float = 60.0) -> Advanced:
        """Move the clock, running on the way what falls due, each at its own time.

        wait_seconds: how long to wait for what one event started before going on. Raises ValueError for a step
        backwards.
        """
        if by < timedelta():
            raise ValueError("the clock only moves forward")
        result = Advanced()
        with self._turn:
            target, left = self._clock.now() + by, by
            last: dict[str, datetime] = {}
            while not self._closed:
                waiting = self._waiting(last, target)
                if not waiting:
                    break
                step = max(timedelta(), min(*(due.latest for _, due in waiting), target) - self._clock.now())
                now, left = self._clock.advance(step), left - step
                for source, due in waiting:
                    if due.at <= now:
                        last[source.name] = due.at
                        result.events += 1
                        self._settle(self._run(source, now), wait_seconds, result)
            # The offset grows by what was asked for: the time that events took comes on top.
            self._clock.advance(left)
        self._wake.set()
        return result

    def _waiting(self, last: dict[str, datetime], target: datetime) -> list[tuple[Source, Due]]:
        """Sources that are due until `target`; one that has not got on since it last ran is passed over."""
        found = []
        for source in self._sources:
            due = self._next_due(source)
            if due is None or due.at > target or (source.name in last and due.at <= last[source.name]):
                continue
            found.append((source, due))
        return found

    def _settle(self, started: Iterable[Started], wait_seconds: float, result: Advanced) -> None:
        deadline = time.monotonic() + wait_seconds
        for one in started:
            if not one.wait(max(0.0, deadline - time.monotonic())):
                result.unfinished.append(one.name)

    def _follow(self) -> None:
        while not self._closed:
            self._wake.clear()
            with self._turn:
                rest = self._run_due()
            self._wake.wait(rest)

    def _run_due(self) -> float:
        """Run the sources whose latest time has come; gives back how long to rest."""
        rest = _LONGEST_REST_SECONDS
        for source in self._sources:
            pause = self._resting.get(source.name, 0.0) - time.monotonic()
            if pause > 0:
                rest = min(rest, pause)
                continue
            due = self._next_due(source)
            if due is None:
                continue
            now = self._clock.now()
            if due.latest <= now:
                self._run(source, now)
                following = self._next_due(source)
                if following is not None and following.at <= due.at:
                    self._rest(source)
                rest = 0.0
            else:
                rest = min(rest, (due.latest - now).total_seconds())
        return rest

    def _next_due(self, source: Source) -> Due | None:
        try:
            return source.next_due()
        except Exception:
            logger.exception("%s cannot say when it is due", source.name)
            self._rest(source)
            return None

    def _run(self, source: Source, now: datetime) -> list[Started]:
        try:
            return list(source.run(now))
        except Exception:
            logger.exception("what was due of %s failed", source.name)
            self._rest(source)
            return []

    def _rest(self, source: Source) -> None:
        self._resting[source.name] = time.monotonic() + _REST_AFTER_FAILURE_SECONDS
