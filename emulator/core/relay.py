"""Carries bytes between two sockets: from a gRPC client to the gRPC server, from a client to the package index.

One thread serves every pair. It never waits on one of them: what a slow reader has not taken stays with the
sender, so memory stays at one buffer a direction.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
from collections import deque
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

_BUFFER_BYTES = 64 * 1024


@dataclass(eq=False)
class _End:
    """One side of a pair: its socket, and what waits to be written to it."""

    socket: socket.socket
    waiting: memoryview = field(default_factory=lambda: memoryview(b""))
    finished: bool = False
    """nothing more comes from this side"""
    other: _End | None = None
    events: int = 0


class Relay:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._new: deque[tuple[socket.socket, socket.socket, bytes]] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def join(self, client: socket.socket, server: socket.socket, first: bytes = b"") -> None:
        """Carry bytes both ways until both sides are done; owns the sockets from now on.

        first: what was read from the client already and belongs to the server.
        """
        self._new.append((client, server, first))
        self._wake()

    def close(self) -> None:
        self._closed = True
        self._wake()
        self._thread.join(timeout=5)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_writer.send(b".")

    def _run(self) -> None:
        while not self._closed:
            for key, events in self._selector.select():
                end = key.data
                if end is None:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_reader.recv(4096)
                    continue
                try:
                    self._step(end, events)
                except OSError:
                    self._drop(end)
                except Exception:
                    logger.exception("a relayed connection failed")
                    self._drop(end)
            while self._new:
                self._begin(*self._new.popleft())

    def _begin(self, client: socket.socket, server: socket.socket, first: bytes) -> None:
        one, two = _End(client), _End(server, waiting=memoryview(first))
        one.other, two.other = two, one
        for end in (one, two):
            end.socket.setblocking(False)
            if end.socket.family != socket.AF_UNIX:
                end.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch(one)
        self._watch(two)

    def _step(self, end: _End, events: int) -> None:
        other = end.other
        assert other is not None  # noqa: S101  # set for every pair in _begin
        if events & selectors.EVENT_WRITE and end.waiting:
            self._send(end)
        if events & selectors.EVENT_READ and not other.waiting and not end.finished:
            data = end.socket.recv(_BUFFER_BYTES)
            if data:
                other.waiting = memoryview(data)
                self._send(other)
            else:
                end.finished = True
        if end.finished and not other.waiting:
            with contextlib.suppress(OSError):
                other.socket.shutdown(socket.SHUT_WR)
        if other.finished and not end.waiting:
            with contextlib.suppress(OSError):
                end.socket.shutdown(socket.SHUT_WR)
        if end.finished and other.finished and not end.waiting and not other.waiting:
            self._drop(end)
            return
        self._watch(end)
        self._watch(other)

    @staticmethod
    def _send(end: _End) -> None:
        with contextlib.suppress(BlockingIOError):
            end.waiting = end.waiting[end.socket.send(end.waiting) :]

    def _watch(self, end: _End) -> None:
        assert end.other is not None  # noqa: S101  # set for every pair in _begin
        events = selectors.EVENT_WRITE if end.waiting else 0
        if not end.finished and not end.other.waiting:
            events |= selectors.EVENT_READ
        if events == end.events:
            return
        if not end.events:
            self._selector.register(end.socket, events, end)
        elif not events:
            self._selector.unregister(end.socket)
        else:
            self._selector.modify(end.socket, events, end)
        end.events = events

    def _drop(self, end: _End) -> None:
        for one in (end, end.other):
            if one is None:
                continue
            if one.events:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(one.socket)
                one.events = 0
            one.socket.close()
