"""Event loops that serve one connection each, on threads of their own.

On a loop that serves everybody a handler must go to another thread and back, which wakes sleeping processors and
hands the interpreter's lock over several times: more work than a short call itself. A loop with a single connection
keeps nobody waiting, so that handlers run right on it. There is one for as many connections as were asked for; those
beyond share a loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any


class ConnectionLoops:
    """Up to so many loops, begun as they are needed and kept for later connections; they end with `close`."""

    def __init__(self, most: int, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._most = most
        self._new_loop = new_loop
        self._lock = threading.Lock()
        self._all: list[asyncio.AbstractEventLoop] = []
        # The loop that was given back last is taken first: its memory is still in a processor's cache.
        self._idle: list[asyncio.AbstractEventLoop] = []

    def take(self) -> asyncio.AbstractEventLoop | None:
        """A loop with nothing to do, for `serve`; None when all of them are taken."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if len(self._all) >= self._most:
                return None
            loop = self._new_loop()
            self._all.append(loop)
            name = f"connection-{len(self._all)}"
        threading.Thread(target=self._run, args=(loop,), name=name, daemon=True).start()
        return loop

    def serve(self, loop: asyncio.AbstractEventLoop, connection: Coroutine[Any, Any, None]) -> None:
        """Run a connection to its end on a loop that was taken."""
        served = asyncio.run_coroutine_threadsafe(connection, loop)
        served.add_done_callback(lambda _: self._give_back(loop))

    def close(self) -> None:
        """Let the threads end, each after the call it is at."""
        with self._lock:
            loops, self._all, self._most = self._all, [], 0
            self._idle.clear()
        for loop in loops:
            loop.call_soon_threadsafe(loop.stop)

    def _give_back(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if loop in self._all:
                self._idle.append(loop)

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        loop.close()
