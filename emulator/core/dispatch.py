"""One path for every call, whichever transport brought it: find the handler, check, run, note.

Both transports hand over a parsed message in the terms of the service's own version and get one back; what is
raised comes out as an exception of google.api_core.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from google.api_core.exceptions import GoogleAPICallError
from google.protobuf.message import Message

from emulator.core import errors, field_behavior, partial_response
from emulator.core.journal import Call, Journal
from emulator.core.plain_http import HttpRequest, HttpResponse, PlainHttp
from emulator.core.service import (
    Context,
    DiscoveryService,
    GapicService,
    JsonRequest,
    JsonResponse,
    not_emulated,
)
from emulator.core.streamed_http import StreamedHttp, StreamedRequest
from emulator.core.tables import JsonMethod, Rpc, base_service


class Dispatcher:
    """Calls handlers. gapic and json: the services by API name, and by document and resource."""

    def __init__(self, services: Iterable[GapicService | DiscoveryService], journal: Journal) -> None:
        self._journal = journal
        self._gapic: dict[str, GapicService] = {}
        self._json: dict[tuple[str, str], DiscoveryService] = {}
        for service in services:
            if isinstance(service, GapicService):
                self._gapic[service.api] = service
            else:
                self._json[service.api, service.resource] = service

    @property
    def services(self) -> list[GapicService | DiscoveryService]:
        return [*self._gapic.values(), *self._json.values()]

    def call(self, rpc: Rpc, request: Any, context: Context) -> Any:
        """The response message, or an iterator of them for an RPC that streams.

        request: a message of `input_class`, or an iterator of them where the client streams.
        """
        started = time.perf_counter()
        try:
            service = self._gapic.get(base_service(rpc.service))
            handler = service.handler(rpc.name) if service else None
            if handler is None:
                raise not_emulated(f"{rpc.service}.{rpc.name}", type(service) if service else None)
            if isinstance(request, Message):
                field_behavior.clean(request)
            response = handler(request, context)
            if rpc.server_streaming:
                return self._stream(response, context, started)
        except Exception as raised:  # noqa: BLE001  # every exception becomes the caller's answer
            raise self._failed(raised, context, started) from None
        self._note(context, "OK", started)
        return response

    def call_json(self, method: JsonMethod, request: JsonRequest, context: Context) -> JsonResponse:
        """The answer of a JSON API's method."""
        started = time.perf_counter()
        try:
            service = self._json.get((method.api, method.resource))
            handler = service.handler(method.name) if service else None
            if handler is None:
                raise not_emulated(method.id, type(service) if service else None)
            fields = partial_response.parse(request.parameters["fields"]) if request.get("fields") else {}
            answer = handler(request, context)
            if not isinstance(answer, JsonResponse):
                answer = JsonResponse(answer)
            if fields and isinstance(answer.body, dict):
                answer.body = partial_response.select(answer.body, fields)
        except Exception as raised:  # noqa: BLE001  # every exception becomes the caller's answer
            raise self._failed(raised, context, started) from None
        self._note(context, "OK" if answer.status < 400 else errors.status_code_name(answer.status), started)
        return answer

    def call_plain(self, service: PlainHttp, request: HttpRequest, context: Context) -> HttpResponse:
        """The answer of a service outside the tables."""
        started = time.perf_counter()
        try:
            answer = service.handle(request)
        except Exception as raised:  # noqa: BLE001  # every exception becomes the caller's answer
            raise self._failed(raised, context, started) from None
        self._note(context, "OK" if answer.status < 400 else str(answer.status), started)
        return answer

    def call_streamed(self, service: StreamedHttp, request: StreamedRequest, context: Context) -> JsonResponse:
        """The answer of a service that streams and knows its callers itself."""
        started = time.perf_counter()
        try:
            context = context.by(service.caller(request))
            answer = service.handle(request, context)
        except Exception as raised:  # noqa: BLE001  # every exception becomes the caller's answer
            raise self._failed(raised, context, started) from None
        self._note(context, "OK" if answer.status < 400 else errors.status_code_name(answer.status), started)
        return answer

    def input_class(self, rpc: Rpc, tables_rpcs: dict[str, Rpc]) -> type[Message]:
        """The message class that the handler expects: the stable version's, whichever the client spoke."""
        return tables_rpcs.get(f"/{base_service(rpc.service)}/{rpc.name}", rpc).input_class

    def uses_legacy_errors(self, method: JsonMethod) -> bool:
        service = self._json.get((method.api, method.resource))
        return service.legacy_errors if service else method.api.startswith(("storage.", "bigquery."))

    def refused(self, context: Context, error: GoogleAPICallError) -> None:
        """Note a call that never reached a handler."""
        self._note(context, errors.code_name(error), time.perf_counter(), error.message)

    def _stream(self, responses: Iterator[Any], context: Context, started: float) -> Iterator[Any]:
        try:
            yield from responses
        except GeneratorExit:
            self._note(context, "CANCELLED", started)
            raise
        except Exception as raised:  # noqa: BLE001  # every exception becomes the caller's answer
            raise self._failed(raised, context, started) from None
        self._note(context, "OK", started)

    def _failed(self, raised: Exception, context: Context, started: float) -> GoogleAPICallError:
        error = errors.as_api_error(raised, context.method)
        self._note(context, errors.code_name(error), started, error.message)
        return error

    def _note(self, context: Context, status: str, started: float, detail: str = "") -> None:
        self._journal.record(
            Call(
                time=time.time(),
                transport=context.transport,
                method=context.method,
                status=status,
                milliseconds=round((time.perf_counter() - started) * 1000, 3),
                caller=context.caller.subject,
                sandbox=context.caller.sandbox,
                detail=detail[:1000],
            )
        )
