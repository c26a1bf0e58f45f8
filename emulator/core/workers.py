"""Threads for what handlers do, nearer to the event loop than an executor.

A call's way to a thread and back is most of what a short call costs: `run_in_executor` builds two futures with
locks around each, and wakes the thread that has slept longest. Here the result goes straight into the future that
is awaited, and the thread that was busy last is woken first.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any


class Workers:
    """Up to so many threads, started as they are needed; they end with `close`."""

    def __init__(self, threads: int, name: str) -> None:
        self._most = threads
        self._name = name
        self._lock = threading.Lock()
        self._started = 0
        self._waiting: deque[_Work] = deque()
        # The thread that was busy last is taken first: its memory is still in a processor's cache.
        self._idle: list[SimpleQueue[_Work | None]] = []
        self._closed = False

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What the work returns, or raises, on one of the threads."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        job = (loop, future, work, arguments)
        with self._lock:
            if self._closed:
                raise RuntimeError("the workers are closed")
            if self._idle:
                self._idle.pop().put(job)
            else:
                self._waiting.append(job)
                if self._started < self._most:
                    self._started += 1
                    name = f"{self._name}-{self._started}"
                    threading.Thread(target=self._serve, name=name, daemon=True).start()
        return await future

    def close(self) -> None:
        """Let the threads end, each after the work it is at; what is still waiting is not begun."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            while self._idle:
                self._idle.pop().put(None)

    def _serve(self) -> None:
        inbox: SimpleQueue[_Work | None] = SimpleQueue()
        while (job := self._next(inbox)) is not None:
            loop, future, work, arguments = job
            result = error = None
            try:
                result = work(*arguments)
            except BaseException as raised:  # noqa: BLE001  # raised again where it is awaited
                error = raised
            # A loop that has closed has nobody waiting any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, future, result, error)
            # Nothing of a call is kept until the next.
            del job, future, work, arguments, result, error

    def _next(self, inbox: SimpleQueue[_Work | None]) -> _Work | None:
        with self._lock:
            if self._closed:
                return None
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(inbox)
        return inbox.get()


_Work = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return  # who awaited it was cancelled
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
