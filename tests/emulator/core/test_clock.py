"""The emulator's clock."""

from __future__ import annotations

import threading
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from emulator.core.clock import MovableClock
from emulator.core.state import Database, Settings


def test_now_is_strictly_later_at_each_call() -> None:
    clock = MovableClock()
    times = [clock.now() for _ in range(1000)]
    assert all(earlier < later for earlier, later in pairwise(times))


def test_advance_moves_now_and_is_kept() -> None:
    kept: list[timedelta] = []
    clock = MovableClock(timedelta(hours=1), kept.append)
    before = clock.now()
    assert clock.advance(timedelta(hours=2)) - before >= timedelta(hours=2)
    assert kept == [timedelta(hours=3)]
    with pytest.raises(ValueError, match="only moves forward"):
        clock.advance(timedelta(seconds=-1))


def test_advance_and_a_transaction_that_asks_for_the_time_do_not_wait_for_each_other(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.sqlite")
    settings = Settings(database)
    saving = threading.Event()

    def save(offset: timedelta) -> None:
        saving.set()
        settings.set("offset", repr(offset))

    clock = MovableClock(save=save)
    with database.transaction():
        moving = threading.Thread(target=clock.advance, args=(timedelta(hours=1),), daemon=True)
        moving.start()
        assert saving.wait(10)
        asking = threading.Thread(target=clock.now, daemon=True)
        asking.start()
        asking.join(10)
        assert not asking.is_alive()
    moving.join(10)
    assert not moving.is_alive()
    assert clock.offset == timedelta(hours=1)
    database.close()
