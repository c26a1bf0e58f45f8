"""HTTP/1.1 on a Unix socket, for the emulator alone: keep-alive, bodies with a length, one event loop.

Predicting runs on the loop itself: it takes the processor, so a thread for it would only add hand-overs.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

#: A longer head, or body, ends the connection: the emulator's limits are far below.
_LARGEST_HEAD = 64 * 1024
_LARGEST_BODY = 256 * 1024 * 1024
_PHRASES: dict[int, bytes] = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    500: b"Internal Server Error",
}


class Answer(NamedTuple):
    """What a route gives back; every body is JSON."""

    status: int
    body: bytes

    @classmethod
    def of(cls, status: int, document: Any) -> Answer:
        return cls(status, json.dumps(document).encode())


Handler = Callable[[str, str, bytes], Answer]
"""method, path, body -> answer"""


def serve(path: str, handler: Handler) -> None:
    """Listen until SIGTERM."""
    asyncio.run(_serve(path, handler))


async def _serve(path: str, handler: Handler) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    server = await loop.create_unix_server(lambda: _Connection(handler), sock=_listen(path))
    try:
        await stopped.wait()
    finally:
        server.close()


def _listen(path: str) -> socket.socket:
    """A socket bound by its name alone: an address may have 107 bytes, and the path of a sandbox more."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.getcwd()
    os.chdir(os.path.dirname(path))
    try:
        listener.bind(os.path.basename(path))
    finally:
        os.chdir(folder)
    return listener


class _Connection(asyncio.Protocol):
    """One connection; requests are answered in the order they came."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._received = bytearray()
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._answer_one():
            pass

    def _answer_one(self) -> bool:
        """Answer the first request, if it is here as a whole."""
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            if len(self._received) > _LARGEST_HEAD:
                self._transport.abort()
            return False
        lines = bytes(self._received[:head_end]).decode("latin-1").split("\r\n")
        try:
            method, path, _ = lines[0].split(" ")
            length = _content_length(lines[1:])
        except ValueError:
            self._transport.abort()
            return False
        body_end = head_end + 4 + length
        if len(self._received) < body_end:
            return False
        body = bytes(self._received[head_end + 4 : body_end])
        del self._received[:body_end]
        answer = self._handler(method, path.partition("?")[0], body)
        self._transport.write(
            b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (answer.status, _PHRASES.get(answer.status, b"Error"), len(answer.body), answer.body)
        )
        return bool(self._received)


def _content_length(lines: list[str]) -> int:
    """Raises ValueError for a length that is none, is too large, or is left open."""
    length = 0
    for line in lines:
        name, _, value = line.partition(":")
        lower = name.lower()
        if lower == "transfer-encoding":
            raise ValueError(value)
        if lower == "content-length":
            length = int(value)
    if not 0 <= length <= _LARGEST_BODY:
        raise ValueError(length)
    return length
