"""HTTP/1.1 to a server on a Unix socket: connections are kept and used again, one request at a time on each.

`http.client` would take a fifth of a millisecond for what this does in a fortieth: every prediction passes here.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httptools

from emulator.core.interfaces import ServerAnswer, ServerStream

#: A server that sends more in one answer that is kept whole is cut off; no API that is emulated passes on as much.
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
        connection, answer = self._ask(method, path, body, content_type, deadline)
        try:
            while not answer.is_complete:
                answer.read(connection, deadline)
        except BaseException:
            connection.close()
            raise
        self._give_back(connection, answer)
        return ServerAnswer(answer.status, answer.content_type, answer.taken())

    @contextmanager
    def stream(
        self, method: str, path: str, body: bytes, content_type: str, timeout_seconds: float
    ) -> Iterator[ServerStream]:
        """An answer as it comes: no more of it is held than one read brings. Raises what `request` raises."""
        deadline = time.monotonic() + timeout_seconds
        connection, answer = self._ask(method, path, body, content_type, deadline)
        try:
            yield ServerStream(answer.status, answer.content_type, _pieces(connection, answer, deadline))
        except BaseException:
            connection.close()
            raise
        self._give_back(connection, answer)

    def _ask(
        self, method: str, path: str, body: bytes, content_type: str, deadline: float
    ) -> tuple[socket.socket, _Answer]:
        """Send a request; the connection, and the answer once its head has come."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        if content_type:
            head += f"Content-Type: {content_type}\r\n"
        data = b"%s\r\n%s" % (head.encode("latin-1", "replace"), body)
        kept = self._take()
        if kept is not None:
            try:
                return kept, _begun(kept, data, deadline)
            except (BrokenPipeError, ConnectionResetError):
                # A server may close a connection that is idle, as this request is on its way.
                pass
        connection = self._connect(_left(deadline))
        return connection, _begun(connection, data, deadline)

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

    def _give_back(self, connection: socket.socket, answer: _Answer) -> None:
        """Keep a connection for the next request, or close it where its answer was left or says so."""
        with self._lock:
            if answer.keeps_alive and not self._closed and len(self._idle) < _IDLE:
                self._idle.append(connection)
            else:
                connection.close()


def _begun(connection: socket.socket, data: bytes, deadline: float) -> _Answer:
    """The answer to what is sent, once its head has come."""
    try:
        connection.settimeout(_left(deadline))
        connection.sendall(data)
        answer = _Answer()
        while not answer.has_head:
            answer.read(connection, deadline)
    except BaseException:
        connection.close()
        raise
    return answer


def _pieces(connection: socket.socket, answer: _Answer, deadline: float) -> Iterator[bytes]:
    """The body, as it comes."""
    while True:
        piece = answer.taken()
        if piece:
            yield piece
        if answer.is_complete:
            return
        answer.read(connection, deadline)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Answer:
    """An answer as its bytes arrive."""

    def __init__(self) -> None:
        self.content_type = ""
        self.has_head = False
        self.is_complete = False
        self.keeps_alive = False
        self._body = bytearray()
        self._has_length = False
        self._parser = httptools.HttpResponseParser(self)

    @property
    def status(self) -> int:
        return int(self._parser.get_status_code())

    def taken(self) -> bytes:
        """What came of the body since this was asked last."""
        body, self._body = self._body, bytearray()
        return bytes(body)

    def read(self, connection: socket.socket, deadline: float) -> None:
        """Wait for more. Raises TimeoutError, ConnectionError at an end that comes too early, ValueError."""
        connection.settimeout(_left(deadline))
        data = connection.recv(_READ_BYTES)
        if not data:
            # HTTP/1.0: the end of the connection is the end of a body without a length.
            if not self.has_head:
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
        self.has_head = True

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > _LARGEST_ANSWER_BYTES:
            raise AnswerTooLarge

    def on_message_complete(self) -> None:
        self.is_complete = True
        self.keeps_alive = bool(self._parser.should_keep_alive())
