"""HTTP/1.1 over one kept socket, with so little of its own that the server is what is measured."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterable
from types import TracebackType

_PIECE_BYTES = 1024 * 1024
_TIMEOUT_SECONDS = 120


class HttpSocket:
    """A connection to a server on this machine, made anew where the server closes it after every answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=_TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._waiting = b""
        self._ends = False

    def __enter__(self) -> HttpSocket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def call(self, request: bytes, body: Iterable[bytes] = ()) -> tuple[int, bytes]:
        """Send a request made by `head`; gives back the answer's status and the whole of its body."""
        self._send(request, body)
        status, headers = self._head()
        length = re.search(rb"\r\ncontent-length: *(\d+)", headers, re.IGNORECASE)
        if length is not None:
            return status, self._take(int(length[1]))
        if re.search(rb"\r\ntransfer-encoding: *chunked", headers, re.IGNORECASE):
            return status, b"".join(iter(self._chunk, b""))
        return status, self._rest() if self._ends else b""

    def count(self, request: bytes) -> tuple[int, int]:
        """The same for a large answer, of which only the length is kept. The server must state it."""
        self._send(request, ())
        status, headers = self._head()
        length = re.search(rb"\r\ncontent-length: *(\d+)", headers, re.IGNORECASE)
        if length is None:
            count = 0
            while chunk := self._chunk():
                count += len(chunk)
            return status, count
        left = int(length[1]) - len(self._waiting)
        self._waiting = b""
        buffer = bytearray(_PIECE_BYTES)
        while left > 0:
            received = self._socket.recv_into(buffer, min(left, _PIECE_BYTES))
            if not received:
                raise ConnectionError("the server closed the connection")
            left -= received
        return status, int(length[1])

    def _send(self, request: bytes, body: Iterable[bytes]) -> None:
        if self._ends:
            self._socket.close()
            self._connect()
        self._socket.sendall(request)
        for piece in body:
            self._socket.sendall(piece)

    def _head(self) -> tuple[int, bytes]:
        while (end := self._waiting.find(b"\r\n\r\n")) < 0:
            self._receive()
        head, self._waiting = self._waiting[: end + 2], self._waiting[end + 4 :]
        self._ends = head.startswith(b"HTTP/1.0") or b"\r\nconnection: close\r\n" in head.lower()
        return int(head[9:12]), head

    def _take(self, length: int) -> bytes:
        if len(self._waiting) < length:
            pieces, have = [self._waiting], len(self._waiting)
            while have < length:
                pieces.append(self._socket.recv(_PIECE_BYTES))
                if not pieces[-1]:
                    raise ConnectionError("the server closed the connection")
                have += len(pieces[-1])
            self._waiting = b"".join(pieces)
        taken, self._waiting = self._waiting[:length], self._waiting[length:]
        return taken

    def _rest(self) -> bytes:
        """What comes until the server closes, which is how HTTP/1.0 ends a body."""
        with contextlib.suppress(ConnectionError):
            while True:
                self._receive()
        return self._waiting

    def _chunk(self) -> bytes:
        while b"\r\n" not in self._waiting:
            self._receive()
        size, _, self._waiting = self._waiting.partition(b"\r\n")
        data = self._take(int(size.partition(b";")[0], 16))
        self._take(2)
        return data

    def _receive(self) -> None:
        data = self._socket.recv(_PIECE_BYTES)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._waiting += data


def head(verb: str, target: str, length: int | None = None, *more: str) -> bytes:
    """The head of a request, with what every client sends and `more` lines."""
    lines = [f"{verb} {target} HTTP/1.1", "Host: 127.0.0.1", "Accept: */*", "User-Agent: benchmark", *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()
