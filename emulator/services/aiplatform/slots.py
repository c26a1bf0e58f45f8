"""How many predictions may be under way: they hold threads that every other call needs too."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from google.api_core.exceptions import ResourceExhausted


class Slots:
    """A bounded number of places. While they change hands quickly, callers wait for one.

    patience_seconds: once the longest-held place has been held for so long, the models are slow, and waiting would
    only take threads from calls that have nothing to do with them: further callers are refused at once.
    """

    def __init__(self, count: int, patience_seconds: float) -> None:
        self._count = count
        self._patience_seconds = patience_seconds
        self._taken: dict[object, float] = {}
        self._changed = threading.Condition()

    @contextmanager
    def take(self) -> Iterator[None]:
        """A place for the time of a `with`. Raises ResourceExhausted."""
        place = object()
        with self._changed:
            while len(self._taken) >= self._count:
                # The first is the oldest: a dict keeps the order of insertion.
                left = next(iter(self._taken.values())) + self._patience_seconds - time.monotonic()
                if left <= 0:
                    raise ResourceExhausted(
                        f"{self._count} predictions are under way and take their time; retry when one is over."
                    )
                self._changed.wait(left)
            self._taken[place] = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                del self._taken[place]
                self._changed.notify()
