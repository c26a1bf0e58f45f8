"""gRPC: a generic handler that turns every path of the tables into a call of the dispatcher.

The server listens on two UNIX sockets, one with TLS and one without; the front relays connections there. Messages
are parsed as the stable version's, whichever version the client spoke: the bytes are the same, and fields that one
version lacks survive as unknown ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from functools import cache
from typing import Any

import grpc
from google.api_core.exceptions import GoogleAPICallError, Unauthenticated

from emulator.core import errors
from emulator.core.dispatch import Dispatcher
from emulator.core.service import Caller, Context, not_emulated
from emulator.core.tables import Rpc, Tables
from emulator.core.tokens import Tokens

_LARGEST_MESSAGE_BYTES = 64 * 1024 * 1024
_GRACE_SECONDS = 1.0


class GrpcServer:
    """tls_socket, plain_socket: paths to listen at, in a folder of the emulator's own."""

    def __init__(
        self,
        tables: Tables,
        dispatcher: Dispatcher,
        tokens: Tokens,
        *,
        credentials: Any,
        tls_socket: str,
        plain_socket: str,
        threads: int = 32,
    ) -> None:
        self._pool = futures.ThreadPoolExecutor(threads, thread_name_prefix="grpc")
        self._server = grpc.server(
            self._pool,
            handlers=[_Handlers(tables, dispatcher, tokens)],
            options=(
                ("grpc.max_receive_message_length", _LARGEST_MESSAGE_BYTES),
                ("grpc.max_send_message_length", _LARGEST_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
            ),
        )
        self._server.add_secure_port(f"unix:{tls_socket}", credentials)
        self._server.add_insecure_port(f"unix:{plain_socket}")

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        """End once the calls at work have, within a moment."""
        self._server.stop(_GRACE_SECONDS).wait(_GRACE_SECONDS + 1)
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # it takes none at run time
    def __init__(self, tables: Tables, dispatcher: Dispatcher, tokens: Tokens) -> None:
        self._tables = tables
        self._dispatcher = dispatcher
        self._tokens = tokens
        self._handler = cache(self._new_handler)

    def service(self, details: Any) -> Any:
        if details.method in self._tables.rpcs:
            return self._handler(details.method)
        error = not_emulated(details.method.strip("/").replace("/", "."), None)
        return grpc.unary_unary_rpc_method_handler(lambda _, context: _abort(context, error))

    def _new_handler(self, path: str) -> Any:
        rpc = self._tables.rpcs[path]
        kinds: dict[tuple[bool, bool], Callable[..., Any]] = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }
        serve = self._stream if rpc.server_streaming else self._unary
        return kinds[rpc.client_streaming, rpc.server_streaming](
            lambda request, context: serve(rpc, request, context),
            request_deserializer=self._dispatcher.input_class(rpc, self._tables.rpcs).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _unary(self, rpc: Rpc, request: Any, grpc_context: Any) -> Any:
        try:
            context = self._context(rpc, grpc_context)
            response = self._dispatcher.call(rpc, request, context)
        except GoogleAPICallError as error:
            _abort(grpc_context, error)
        if context.response_headers:
            _send_headers(context, grpc_context)
        return response

    def _stream(self, rpc: Rpc, request: Any, grpc_context: Any) -> Iterator[Any]:
        try:
            context = self._context(rpc, grpc_context)
            for response in self._dispatcher.call(rpc, request, context):
                if context.response_headers:
                    _send_headers(context, grpc_context)
                    context.response_headers.clear()
                yield response
        except GoogleAPICallError as error:
            _abort(grpc_context, error)

    def _context(self, rpc: Rpc, grpc_context: Any) -> Context:
        metadata = {key: value for key, value in grpc_context.invocation_metadata() if isinstance(value, str)}
        context = Context(
            method=rpc.path[1:],
            caller=Caller("anonymous"),
            version=rpc.version,
            is_active=grpc_context.is_active,
            seconds_left=grpc_context.time_remaining,
            headers=metadata,
        )
        try:
            return context.by(self._tokens.verify(metadata.get("authorization", "")))
        except Unauthenticated as error:
            self._dispatcher.refused(context, error)
            raise


def _send_headers(context: Context, grpc_context: Any) -> None:
    grpc_context.send_initial_metadata([(name.lower(), v) for name, v in context.response_headers.items()])


def _abort(context: Any, error: GoogleAPICallError) -> Any:
    """End the call with the error's code and message, and its details in `grpc-status-details-bin`."""
    from selfloop_apis import rpc

    code = grpc.StatusCode[errors.code_name(error)]
    details = errors.details_as_any(error)
    if details:
        status = rpc.Status(code=code.value[0], message=error.message, details=details)
        context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
    context.abort(code, error.message)
