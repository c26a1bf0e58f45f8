"""HTTP/1.1 to a server on a Unix socket: connections are kept and used again, one request at a time on each.

`http.client` would take a fifth of a millisecond for what this does in a fortieth: every prediction passes here.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import httptools

from emulator.core.interfaces import ServerAnswer

#: A server that sends more is cut off; no API that is emulated passes on as much.
_LARGEST_ANSWER_BYTES = 256 << 20
_READ_BYTES = 256 << 10
#: Connections kept while nothing is asked.
_IDLE = 64


class AnswerTooLarge(Exception):
    """The server sent more than any caller takes."""


class HttpClient:
    """Requests to one server. Any number of threads may use it.

    connect: opens a connection; may raise OSError, which passes through.
    """

    def __init__(self, connect: Callable[[float], socket.socket]) -> None:
        self._connect = connect
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()
        self._closed = False

    def request(self, method: str, path: str, body: bytes, content_type: str, timeout_seconds: float) -> ServerAnswer:
        """Raises TimeoutError, OSError when the server cannot be reached or goes, ValueError for what is not HTTP."""
        deadline = time.monotonic() + timeout_seconds
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        if content_type:
            head += f"Content-Type: {content_type}\r\n"
        data = b"%s\r\n%s" % (head.encode("latin-1", "replace"), body)
        kept = self._take()
        if kept is not None:
            try:
                return self._exchange(kept, data, deadline)
            except (BrokenPipeError, ConnectionResetError):
                # A server may close a connection that is idle, as this request is on its way.
                pass
        return self._exchange(self._connect(timeout_seconds), data, deadline)

    def touch(self, timeout_seconds: float) -> None:
        """Open a connection and close it. Raises OSError."""
        self._connect(timeout_seconds).close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> socket.socket | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _exchange(self, connection: socket.socket, data: bytes, deadline: float) -> ServerAnswer:
        try:
            connection.settimeout(_left(deadline))
            connection.sendall(data)
            answer = _Answer()
            while not answer.is_complete:
                connection.settimeout(_left(deadline))
                answer.feed(connection.recv(_READ_BYTES))
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if answer.keeps_alive and not self._closed and len(self._idle) < _IDLE:
                self._idle.append(connection)
            else:
                connection.close()
        return ServerAnswer(answer.status, answer.content_type, bytes(answer.body))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Answer:
    """An answer as its bytes arrive."""

    def __init__(self) -> None:
        self.content_type = ""
        self.body = bytearray()
        self.is_complete = False
        self.keeps_alive = False
        self._has_head = False
        self._has_length = False
        self._parser = httptools.HttpResponseParser(self)

    @property
    def status(self) -> int:
        return int(self._parser.get_status_code())

    def feed(self, data: bytes) -> None:
        """Take what came. Raises ConnectionResetError at an end that comes too early."""
        if not data:
            # HTTP/1.0: the end of the connection is the end of a body without a length.
            if not self._has_head:
                raise ConnectionResetError("The server closed the connection without an answer.")
            if self._has_length:
                raise ConnectionAbortedError("The server closed the connection before its answer was complete.")
            self.is_complete = True
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise ValueError(f"The server did not answer in HTTP: {error}") from None

    # What the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self.content_type = value.decode("latin-1")
        elif name in (b"content-length", b"transfer-encoding"):
            self._has_length = True

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, data: bytes) -> None:
        self.body += data
        if len(self.body) > _LARGEST_ANSWER_BYTES:
            raise AnswerTooLarge

    def on_message_complete(self) -> None:
        self.is_complete = True
        self.keeps_alive = bool(self._parser.should_keep_alive())
