"""Services of plain HTTP that move bodies of any size and check credentials of their own kinds.

Like `PlainHttp`, for addresses that no API description covers; bodies come and go in pieces, and who calls is the
service's to find out: a signature in the address, say, which no token check would understand.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from google.api_core import exceptions

from emulator.core.service import Body, Caller, Context, JsonResponse

_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class StreamedRequest:
    """A call whose body is read as it arrives."""

    verb: str
    """lower case, as in the tables"""
    host: str
    """lower case, without its port; a loopback address where the caller named no service"""
    path: str
    """raw: percent signs as they were sent"""
    body: Body
    query: list[tuple[str, str]] = field(default_factory=list)
    """decoded, in order"""
    headers: Mapping[str, str] = field(default_factory=dict)
    """names in lower case"""
    uri: str = ""
    """scheme, host, path and query as the client sent them"""
    caller: Caller | None = None
    """who the bearer token says is calling; None without a valid one"""
    allows_anonymous: bool = False
    """it came in by the plain port, without credentials in its head"""

    def parameter(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return next((value for key, value in self.query if key == name), default)

    def has(self, name: str) -> bool:
        """Whether a query parameter is there, be it empty."""
        return any(key == name for key, _ in self.query)


class StreamedHttp(ABC):
    """Such a service. It is asked for what no table knows."""

    name: ClassVar[str]
    """what the journal calls it"""

    @abstractmethod
    def matches(self, host: str, path: str, headers: Mapping[str, str]) -> bool:
        """Whether a request is this service's, judged before its body is read."""

    @abstractmethod
    def caller(self, request: StreamedRequest) -> Caller:
        """Who calls. Raises what becomes the caller's answer."""

    @abstractmethod
    def handle(self, request: StreamedRequest, context: Context) -> JsonResponse:
        """Answer. What is raised from google.api_core.exceptions becomes an error as everywhere."""

    def admits_page(self, request: StreamedRequest) -> bool:
        """Whether a page of another origin may send this request through its reader's browser to the plain port."""
        return False


class StreamedBody:
    """A request's body for a handler on a thread, pulled piece by piece from the event loop."""

    def __init__(self, receive: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._receive = receive
        self._loop = loop
        self._first = b""
        self._done = False
        self._gone = False

    async def begin(self) -> None:
        """On the event loop: receive the first piece, which is mostly the whole of a small body."""
        self._first = self._take(await self._receive())

    @property
    def is_complete(self) -> bool:
        """Whether nothing has to be waited for any more."""
        return self._done or self._gone

    def __iter__(self) -> Iterator[bytes]:
        data, self._first = self._first, b""
        while True:
            if data:
                yield data
            if self._gone:
                raise exceptions.Cancelled("The client left before its upload was complete.")
            if self._done:
                return
            data = asyncio.run_coroutine_threadsafe(self._gather(), self._loop).result()

    async def _gather(self) -> bytes:
        """The next mebibyte, or what comes before the end: a hop between threads costs more than a small piece."""
        pieces, size = [], 0
        while size < _PIECE_BYTES and not (self._done or self._gone):
            pieces.append(self._take(await self._receive()))
            size += len(pieces[-1])
        return b"".join(pieces)

    def _take(self, message: Any) -> bytes:
        if message["type"] == "http.disconnect":
            self._gone = True
            return b""
        self._done = not message.get("more_body", False)
        return bytes(message["body"])

    def read(self, limit: int) -> bytes:
        data = bytearray()
        for piece in self:
            data += piece
            if len(data) > limit:
                raise exceptions.from_http_status(413, f"The body is larger than {limit} bytes.")
        return bytes(data)
