"""REST: an ASGI application that turns HTTP requests into calls of the dispatcher.

Handlers are synchronous. They run on the event loop of their connection where it serves no other, and on a pool of
threads where it does: that loop only moves bytes. Nothing of a body that may be large (an upload, a download) is ever
held as a whole.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import unquote_plus

from google.api_core.exceptions import (
    Forbidden,
    GoogleAPICallError,
    InvalidArgument,
    MethodNotImplemented,
    NotFound,
    Unauthenticated,
)

from emulator.core import batch, errors, rpc_answers, transcoding
from emulator.core.certificates import is_ours
from emulator.core.dispatch import Dispatcher
from emulator.core.egress import is_loopback
from emulator.core.front import Connection
from emulator.core.plain_http import LARGEST_BODY_BYTES, HttpRequest, HttpResponse, PlainHttp
from emulator.core.rpc_answers import HTTP_BODY, JSON
from emulator.core.service import Caller, Context, FileBody, JsonRequest, JsonResponse
from emulator.core.streamed_http import StreamedBody, StreamedHttp, StreamedRequest
from emulator.core.tables import JsonRoute, RpcRoute, Tables
from emulator.core.tokens import Tokens
from emulator.core.workers import Workers

logger = logging.getLogger(__name__)

#: A JSON body is parsed as a whole; an upload is not subject to this.
_LARGEST_JSON_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
_ANONYMOUS = Caller("anonymous")
_END = object()
_Service = TypeVar("_Service", PlainHttp, StreamedHttp)


@dataclass(frozen=True)
class _Exchange:
    """One request as ASGI gives it."""

    scope: Any
    receive: Any
    send: Any
    connection: Connection
    verb: str
    host: str
    path: str
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    workers: Workers

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What the work returns: done here when nobody else is kept waiting by it, else on a thread."""
        if self.connection.has_own_loop:
            return work(*arguments)
        return await self.workers.run(work, *arguments)

    def parameter(self, name: str) -> str:
        return next((value for key, value in self.query if key == name), "")


class RestApp:
    """The application of the one port.

    plain: services outside the tables, asked before them, in order; streamed: those asked after them.
    """

    def __init__(
        self,
        tables: Tables,
        dispatcher: Dispatcher,
        tokens: Tokens,
        plain: Sequence[PlainHttp],
        *,
        streamed: Sequence[StreamedHttp] = (),
        threads: int = 32,
    ) -> None:
        self._tables = tables
        self._dispatcher = dispatcher
        self._tokens = tokens
        self._plain = plain
        self._streamed = streamed
        self._workers = Workers(threads, "rest")

    def close(self) -> None:
        self._workers.close()

    async def __call__(self, scope: Any, receive: Any, send: Any, connection: Connection) -> None:
        exchange = _exchange(scope, receive, send, connection, self._workers)
        legacy = False
        try:
            _check_host(exchange)
            plain = _matching(self._plain, exchange)
            found = None if plain else self._tables.match(exchange.host, exchange.verb, exchange.path)
            streamed = None if plain or found else _matching(self._streamed, exchange)
            if streamed is not None:
                await self._answer_streamed(streamed, exchange)
                return
            _check_origin(exchange)
            if plain is not None:
                await self._answer_plain(plain, exchange)
                return
            if batch.is_batch(exchange.verb, exchange.path):
                await self._answer_batch(exchange)
                return
            if found is None:
                raise self._unknown(exchange)
            route, path = found
            if isinstance(route, RpcRoute):
                await self._answer_rpc(route, path, exchange)
            else:
                legacy = self._dispatcher.uses_legacy_errors(route.method)
                await self._answer_json(route, path, exchange)
        except GoogleAPICallError as error:
            await self._answer_error(error, exchange, legacy)
        except _ClientGoneError:
            logger.debug("%s %s: the client left", exchange.verb, exchange.path)
        except Exception as error:  # noqa: BLE001  # a bug: told to the caller, traceback in the log
            await self._answer_error(errors.as_api_error(error, exchange.path), exchange, legacy)

    async def _answer_plain(self, service: PlainHttp, exchange: _Exchange) -> None:
        body = await _read_body(exchange, LARGEST_BODY_BYTES)
        try:
            caller = self._caller(exchange)
        except Unauthenticated:
            caller = None
        context = Context(method=f"{service.name} {exchange.path}", caller=caller or _ANONYMOUS, transport="http")
        request = HttpRequest(
            exchange.verb, exchange.host, exchange.path, list(exchange.query), exchange.headers, body, caller,
            exchange.connection.sandbox,
        )  # fmt: skip
        answer: HttpResponse = await exchange.run(self._dispatcher.call_plain, service, request, context)
        await _send(exchange, answer.status, answer.headers, answer.body)

    async def _answer_streamed(self, service: StreamedHttp, exchange: _Exchange) -> None:
        try:
            caller = self._caller(exchange)
        except Unauthenticated:
            caller = None
        body = StreamedBody(exchange.receive, asyncio.get_running_loop())
        request = StreamedRequest(
            exchange.verb, exchange.host, exchange.path, body, list(exchange.query), exchange.headers, _uri(exchange),
            caller, allows_anonymous=not exchange.connection.is_tls and "authorization" not in exchange.headers,
        )  # fmt: skip
        try:
            _check_origin(exchange)
        except Forbidden:
            if not await exchange.run(service.admits_page, request):
                raise
        method = f"{service.name} {exchange.verb.upper()} {exchange.path}"
        context = _context(method, _ANONYMOUS, exchange)
        await body.begin()
        run = exchange.run if body.is_complete else self._workers.run
        answer: JsonResponse = await run(self._dispatcher.call_streamed, service, request, context)
        await self._send_json_answer(exchange, answer, context)

    async def _answer_batch(self, exchange: _Exchange) -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await self(scope, receive, send, exchange.connection)

        body = await _read_body(exchange, batch.LARGEST_BODY_BYTES)
        content_type, answer = await batch.answer(application, exchange.headers, body)
        await _send(exchange, 200, {"content-type": content_type}, answer)

    async def _answer_rpc(self, route: RpcRoute, path: Mapping[str, str], exchange: _Exchange) -> None:
        caller = self._authenticated(exchange, f"{route.rpc.service}/{route.rpc.name}")
        data = await _read_body(exchange, _LARGEST_JSON_BYTES)
        context = _context(route.rpc.path[1:], caller, exchange, version=route.rpc.version)
        as_numbers = "enum-encoding=int" in exchange.parameter("$alt")

        def work() -> Any:
            request_class = self._dispatcher.input_class(route.rpc, self._tables.rpcs)
            request = _rpc_request(request_class, route.body, path, exchange, data)
            response = self._dispatcher.call(route.rpc, request, context)
            if route.rpc.server_streaming:
                return rpc_answers.streamed(response, as_numbers)
            return rpc_answers.whole(response, as_numbers)

        if route.rpc.server_streaming:
            # On a thread each time: what was sent has to leave, and the client's leaving to be seen, meanwhile.
            headers, pieces = await self._workers.run(work)
            await self._send_stream(exchange, {**headers, **context.response_headers}, pieces)
            return
        content_type, body = await exchange.run(work)
        await _send(exchange, 200, {"content-type": content_type, **context.response_headers}, body)

    async def _answer_json(self, route: JsonRoute, path: Mapping[str, str], exchange: _Exchange) -> None:
        session = route.upload and bool(exchange.parameter("upload_id"))
        is_storage = route.method.api.startswith("storage.")
        # A resumable session's address is its own credential.
        caller = _ANONYMOUS if session else self._authenticated(exchange, route.method.id, anonymous=is_storage)
        parameters = _typed_parameters(route.method.parameters, path, exchange.query)
        if route.download:
            parameters.setdefault("alt", "media")
        media = None
        body: Any = {}
        run = exchange.run
        if route.upload:
            media = StreamedBody(exchange.receive, asyncio.get_running_loop())
            await media.begin()
            if not media.is_complete:
                # What has yet to come is received by the loop while the handler waits for it.
                run = self._workers.run
        else:
            data = await _read_body(exchange, _LARGEST_JSON_BYTES)
            body = transcoding.load(data)
            if not isinstance(body, dict):
                raise InvalidArgument("Invalid JSON payload received. An object was expected.")
        request = JsonRequest(parameters, body, exchange.headers, media, _uri(exchange), exchange.verb)
        context = _context(route.method.id, caller, exchange)
        answer = await run(self._dispatcher.call_json, route.method, request, context)
        await self._send_json_answer(exchange, answer, context)

    async def _send_json_answer(self, exchange: _Exchange, answer: JsonResponse, context: Context) -> None:
        headers = {**answer.headers, **context.response_headers}
        body = answer.body
        if isinstance(body, dict):
            await _send(exchange, answer.status, {**JSON, **headers}, transcoding.dump(body))
        elif body is None or isinstance(body, bytes):
            await _send(exchange, answer.status, headers, body or b"")
        elif isinstance(body, FileBody):
            headers.setdefault("content-length", str(body.length))
            await self._send_pieces(exchange, answer.status, headers, _file_pieces(body))
        else:
            await self._send_pieces(exchange, answer.status, headers, iter(body))

    async def _send_pieces(
        self, exchange: _Exchange, status: int, headers: Mapping[str, str], pieces: Iterator[bytes]
    ) -> None:
        """Send what an iterator yields, running it on a thread; its first piece comes before the status line."""
        piece = await exchange.run(next, pieces, _END)
        await _send_head(exchange, status, headers)
        while piece is not _END:
            await exchange.send({"type": "http.response.body", "body": piece, "more_body": True})
            piece = await exchange.run(next, pieces, _END)
        await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_stream(self, exchange: _Exchange, headers: Mapping[str, str], pieces: Iterator[bytes]) -> None:
        """Send pieces as they come, until the client leaves. An error among them cuts the answer off."""
        gone = asyncio.ensure_future(exchange.receive())
        try:
            await _send_head(exchange, 200, headers)
            while (piece := await self._workers.run(next, pieces, _END)) is not _END:
                if gone.done():
                    raise _ClientGoneError
                await exchange.send({"type": "http.response.body", "body": piece, "more_body": True})
            await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})
        except GoogleAPICallError as error:
            # Without its last chunk an answer is incomplete to the client: its connection is closed on return.
            logger.warning("%s: the answer is cut off: %s", exchange.path, error.message)
        finally:
            gone.cancel()

    async def _answer_error(self, error: GoogleAPICallError, exchange: _Exchange, legacy: bool) -> None:
        own = errors.own_answer(error)
        if own is not None:
            await _send(exchange, own.status, {"content-type": own.content_type}, own.body)
            return
        status = errors.http_status(error)
        headers = dict(JSON)
        if status == 401:
            headers["www-authenticate"] = 'Bearer realm="https://accounts.google.com/"'
        body = b"" if status == 304 else transcoding.dump(errors.json_body(error, legacy=legacy))
        await _send(exchange, status, headers, body)

    def _authenticated(self, exchange: _Exchange, method: str, *, anonymous: bool = False) -> Caller:
        """The caller. Raises Unauthenticated, and notes the refusal in the journal.

        anonymous: without a token on the plain port is fine, as STORAGE_EMULATOR_HOST has it.
        """
        has_token = "authorization" in exchange.headers or exchange.parameter("access_token")
        if anonymous and not has_token and not exchange.connection.is_tls:
            return _ANONYMOUS
        try:
            return self._caller(exchange)
        except Unauthenticated as error:
            self._dispatcher.refused(_context(method, _ANONYMOUS, exchange), error)
            raise

    def _caller(self, exchange: _Exchange) -> Caller:
        authorization = exchange.headers.get("authorization") or exchange.parameter("access_token")
        caller = self._tokens.verify(authorization)
        sandbox = exchange.connection.sandbox
        return Caller(caller.subject, sandbox.name) if sandbox else caller

    def _unknown(self, exchange: _Exchange) -> GoogleAPICallError:
        error: GoogleAPICallError
        if self._tables.is_emulated(exchange.host) or is_loopback(exchange.host):
            error = NotFound(f"The requested URL {exchange.path} was not found on this server.")
        else:
            error = MethodNotImplemented(
                f"{exchange.host} is not emulated yet: {exchange.verb.upper()} {exchange.path} was not answered, "
                "and no Google host is ever reached from here"
            )
        self._dispatcher.refused(
            _context(f"{exchange.verb.upper()} {exchange.host}{exchange.path}", _ANONYMOUS, exchange), error
        )
        return error


class _ClientGoneError(Exception):
    """The client closed its connection before its request was complete."""


def _exchange(scope: Any, receive: Any, send: Any, connection: Connection, workers: Workers) -> _Exchange:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    path = scope["raw_path"].decode("latin-1") or "/"
    query = _query(scope["query_string"].decode("latin-1"))
    verb = headers.get("x-http-method-override", scope["method"]).lower()
    host = _host_name(headers.get("host", ""))
    return _Exchange(scope, receive, send, connection, verb, host, path, query, headers, workers)


def _query(text: str) -> list[tuple[str, str]]:
    """Names and values, decoded, in order; blank values are kept."""
    pairs = (part.partition("=") for part in text.split("&") if part)
    return [(unquote_plus(name), unquote_plus(value)) for name, _, value in pairs]


@lru_cache
def _host_name(header: str) -> str:
    """`example.org` of `example.org:443`, `::1` of `[::1]:80`."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower().rstrip(".")


def _matching(services: Sequence[_Service], exchange: _Exchange) -> _Service | None:
    return next((one for one in services if one.matches(exchange.host, exchange.path, exchange.headers)), None)


def _check_host(exchange: _Exchange) -> None:
    """A name of somebody else's that leads here is a trick on a browser. Raises Forbidden."""
    if not (exchange.connection.is_tls or is_loopback(exchange.host) or is_ours(exchange.host)):
        raise Forbidden(f"Host {exchange.host!r} is not served here: use 127.0.0.1, or a Google host name.")


def _check_origin(exchange: _Exchange) -> None:
    """A web page must not reach the emulator through its reader's browser. Raises Forbidden.

    Over TLS a browser has no way in: it would have to trust the certificate and use the proxy.
    """
    if exchange.connection.is_tls:
        return
    origin = exchange.headers.get("origin", "")
    if origin and origin.partition("://")[2] != exchange.headers.get("host"):
        raise Forbidden(f"Requests of pages from {origin} are refused.")
    if exchange.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Forbidden("Requests of other sites' pages are refused.")


def _context(method: str, caller: Caller, exchange: _Exchange, version: str = "v1") -> Context:
    return Context(
        method=method, caller=caller, version=version, transport="rest", host=exchange.host, headers=exchange.headers
    )


def _uri(exchange: _Exchange) -> str:
    """The address as the client sent it: links in answers must lead back the same way."""
    scheme = "https" if exchange.connection.is_tls else "http"
    query = exchange.scope["query_string"].decode("latin-1")
    return f"{scheme}://{exchange.headers.get('host', exchange.host)}{exchange.path}{'?' if query else ''}{query}"


async def _read_body(exchange: _Exchange, limit: int) -> bytes:
    """The whole body, inflated where the client compressed it."""
    data = bytearray()
    more = True
    while more:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise _ClientGoneError
        data += message["body"]
        more = message.get("more_body", False)
        if len(data) > limit:
            raise InvalidArgument(f"Request payload size exceeds the limit: {limit} bytes.")
    if exchange.headers.get("content-encoding") != "gzip" or not data:
        return bytes(data)
    return _inflate(bytes(data), limit)


def _inflate(data: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise InvalidArgument(f"The body is no gzip stream: {error}") from None
    if len(plain) > limit:
        raise InvalidArgument(f"Request payload size exceeds the limit: {limit} bytes.")
    return plain


def _rpc_request(request_class: Any, body_field: str, path: Mapping[str, str], exchange: _Exchange, data: bytes) -> Any:
    raw = request_class.DESCRIPTOR.fields_by_name.get("http_body")
    if raw is not None and raw.message_type.full_name == HTTP_BODY:
        # The payload is whatever the model takes: it goes through untouched.
        request = transcoding.parse_request(request_class, "", path, exchange.query, None)
        request.http_body.data = data  # type: ignore[attr-defined]
        request.http_body.content_type = exchange.headers.get("content-type", "")  # type: ignore[attr-defined]
        return request
    document = transcoding.load(data) if body_field else None
    return transcoding.parse_request(request_class, body_field, path, exchange.query, document)


def _typed_parameters(
    described: Mapping[str, Any], path: Mapping[str, str], query: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Parameters by the document's types; int64 ones are numbers, repeated ones lists.

    Raises InvalidArgument for a value that is not of its type. Unknown ones are left out.
    """
    parameters: dict[str, Any] = {}
    for name, value in [*query, *path.items()]:
        description = described.get(name)
        if description is None:
            if name in ("upload_id", "name"):
                parameters[name] = value
            continue
        typed = _typed(name, value, description)
        if description.get("repeated"):
            parameters.setdefault(name, []).append(typed)
        else:
            parameters[name] = typed
    return parameters


def _typed(name: str, value: str, description: Mapping[str, Any]) -> Any:
    if description.get("type") == "boolean":
        if value.lower() not in ("true", "false", "1", "0"):
            raise InvalidArgument(f"Invalid value for boolean: {value}")
        return value.lower() in ("true", "1")
    if description.get("type") == "integer" or description.get("format") in ("int64", "uint64"):
        try:
            return int(value)
        except ValueError:
            raise InvalidArgument(f"Invalid value for {name}: {value!r} is no integer.") from None
    return value


def _file_pieces(body: FileBody) -> Iterator[bytes]:
    offset, left = body.offset, body.length
    try:
        while left > 0:
            piece = os.pread(body.descriptor, min(left, _PIECE_BYTES), offset)
            if not piece:
                raise OSError("the object's file ended before its length")
            yield piece
            offset, left = offset + len(piece), left - len(piece)
    finally:
        os.close(body.descriptor)


async def _send(exchange: _Exchange, status: int, headers: Mapping[str, str], body: bytes) -> None:
    names = {name.lower() for name in headers}
    # What comes with a length is an object's own bytes, JSON or not: they are sent as they are stored.
    compressible = _is_json(headers) and not names & {"content-length", "content-encoding"}
    if compressible and len(body) > 1024 and "gzip" in exchange.headers.get("accept-encoding", ""):
        body = await exchange.run(gzip.compress, body, 1)
        headers = {**headers, "content-encoding": "gzip"}
    if "content-length" not in names and status not in (204, 304):
        headers = {**headers, "content-length": str(len(body))}
    await _send_head(exchange, status, headers)
    await exchange.send({"type": "http.response.body", "body": body, "more_body": False})


def _is_json(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").startswith("application/json")


async def _send_head(exchange: _Exchange, status: int, headers: Mapping[str, str]) -> None:
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await exchange.send({"type": "http.response.start", "status": status, "headers": encoded})
