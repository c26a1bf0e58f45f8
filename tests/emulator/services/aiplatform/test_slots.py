"""Places for predictions, while they change hands quickly and when they do not."""

from __future__ import annotations

import threading
import time

import pytest
from google.api_core.exceptions import ResourceExhausted

from emulator.services.aiplatform.slots import Slots
from tests.emulator.services.aiplatform.world import until


def test_a_caller_waits_for_a_place_that_is_held_briefly() -> None:
    slots = Slots(1, patience_seconds=10)
    order: list[str] = []

    def second() -> None:
        with slots.take():
            order.append("second")

    with slots.take():
        thread = threading.Thread(target=second)
        thread.start()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_caller_is_refused_when_places_are_held_for_long() -> None:
    slots = Slots(1, patience_seconds=0.05)
    with slots.take():
        with pytest.raises(ResourceExhausted, match="retry when one is over"), slots.take():
            pass
        started = time.monotonic()
        with pytest.raises(ResourceExhausted), slots.take():
            pass
        assert time.monotonic() - started < 0.04
    with slots.take():
        pass


def test_a_place_is_free_again_after_an_exception() -> None:
    slots = Slots(1, patience_seconds=0)
    with pytest.raises(KeyError), slots.take():
        raise KeyError
    with slots.take():
        pass


def test_no_more_are_under_way_than_there_are_places() -> None:
    slots = Slots(3, patience_seconds=10)
    inside, most, lock = [0], [0], threading.Lock()

    def work() -> None:
        for _ in range(50):
            with slots.take():
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                with lock:
                    inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    until(lambda: not any(thread.is_alive() for thread in threads))
    assert 1 <= most[0] <= 3
