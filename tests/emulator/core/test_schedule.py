"""The schedule: due events in their order, each at its own time, and waits for what they start."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from emulator.core.clock import MovableClock
from emulator.core.schedule import Due, Schedule, Started
from tests.conftest import wait_until

HOUR = timedelta(hours=1)


class Run:
    """Over once it is told so."""

    name = "a run"

    def __init__(self) -> None:
        self.over = threading.Event()

    def wait(self, seconds: float) -> bool:
        return self.over.wait(seconds)


class Every:
    """A source due at fixed times; notes when it ran."""

    def __init__(self, name: str, times: list[datetime], slack: timedelta = timedelta()) -> None:
        self.name = name
        self.times = times
        self.slack = slack
        self.ran: list[datetime] = []
        self.starts: Callable[[], list[Started]] = list

    def next_due(self) -> Due | None:
        return Due(self.times[0], self.times[0] + self.slack) if self.times else None

    def run(self, now: datetime) -> list[Started]:
        self.ran.append(now)
        self.times = [time for time in self.times if time > now]
        return self.starts()


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def schedule(clock: MovableClock) -> Iterator[Schedule]:
    schedule = Schedule(clock)
    yield schedule
    schedule.close()


def test_advance_runs_each_event_at_its_own_time_and_in_order(clock: MovableClock, schedule: Schedule) -> None:
    start = clock.now()
    hourly = Every("hourly", [start + HOUR * number for number in (1, 2, 3, 9)])
    other = Every("other", [start + HOUR * 1.5])
    schedule.add(hourly)
    schedule.add(other)
    advanced = schedule.advance(HOUR * 4)
    assert advanced.events == 4
    late = [(ran - start) - planned for ran, planned in zip(hourly.ran, (HOUR, 2 * HOUR, 3 * HOUR), strict=True)]
    assert all(timedelta() <= by < timedelta(seconds=10) for by in late)
    assert hourly.ran[0] < other.ran[0] < hourly.ran[1]
    assert HOUR * 4 <= clock.now() - start < HOUR * 4 + timedelta(seconds=10)
    assert clock.offset == HOUR * 4


def test_events_close_together_are_one_unless_the_advance_ends_between_them(
    clock: MovableClock, schedule: Schedule
) -> None:
    start = clock.now()
    source = Every("slack", [start + timedelta(minutes=number) for number in range(10, 130, 10)], slack=HOUR)
    schedule.add(source)
    assert schedule.advance(timedelta(minutes=15)).events == 1
    assert len(source.times) == 11
    assert schedule.advance(timedelta(hours=3)).events == 2
    assert source.times == []


def test_advance_waits_for_what_an_event_started_and_names_what_takes_longer(
    clock: MovableClock, schedule: Schedule
) -> None:
    started = Run()
    source = Every("cron", [clock.now() + HOUR])
    source.starts = lambda: [started]
    schedule.add(source)
    threading.Timer(0.2, started.over.set).start()
    assert schedule.advance(HOUR).unfinished == []
    assert started.over.is_set()
    endless = Run()
    source.times, source.starts = [clock.now() + HOUR], lambda: [endless]
    assert schedule.advance(HOUR * 2, wait_seconds=0.05).unfinished == ["a run"]


def test_source_that_fails_or_does_not_get_on_holds_up_nothing(clock: MovableClock, schedule: Schedule) -> None:
    class Stuck(Every):
        def run(self, now: datetime) -> list[Started]:
            self.ran.append(now)
            raise RuntimeError("not today")

    stuck = Stuck("stuck", [clock.now() + HOUR])
    good = Every("good", [clock.now() + HOUR * 2])
    schedule.add(stuck)
    schedule.add(good)
    schedule.advance(HOUR * 3)
    assert (len(stuck.ran), len(good.ran)) == (1, 1)


def test_events_come_due_as_time_passes(clock: MovableClock, schedule: Schedule) -> None:
    source = Every("soon", [clock.now() + timedelta(seconds=0.2)])
    schedule.add(source)
    schedule.start()
    wait_until(lambda: source.ran, seconds=5, every=0.01)
    source.times = [clock.now() - HOUR]
    schedule.changed()
    wait_until(lambda: len(source.ran) == 2, seconds=5, every=0.01)


def test_clock_never_goes_back(clock: MovableClock, schedule: Schedule) -> None:
    with pytest.raises(ValueError, match="only moves forward"):
        schedule.advance(timedelta(seconds=-1))
    assert clock.now() < datetime.now(UTC) + HOUR
