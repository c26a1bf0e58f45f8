"""Exceptions as the two transports send them.

Handlers raise what the client will catch, from `google.api_core.exceptions`. This module alone turns that
into a gRPC status or a JSON body. Anything else that is raised is a bug: INTERNAL to the caller, the
traceback in the emulator's log.
Source: https://cloud.google.com/apis/design/errors, https://cloud.google.com/storage/docs/json_api/v1/status-codes
"""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import grpc
from google.api_core import exceptions

logger = logging.getLogger(__name__)

#: google.rpc.Code name -> HTTP status. Source: google/rpc/code.proto.
HTTP_STATUS: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "ABORTED": 409, "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499, "INTERNAL": 500, "UNKNOWN": 500, "DATA_LOSS": 500, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}  # fmt: skip
_CODE_OF_HTTP = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
                 409: "ABORTED", 412: "FAILED_PRECONDITION", 416: "OUT_OF_RANGE", 429: "RESOURCE_EXHAUSTED",
                 499: "CANCELLED", 500: "INTERNAL", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE",
                 504: "DEADLINE_EXCEEDED"}  # fmt: skip
#: The word that the older JSON services add, by HTTP status.
_REASON = {304: "notModified", 400: "invalid", 401: "required", 403: "forbidden", 404: "notFound", 409: "conflict",
           411: "required", 412: "conditionNotMet", 413: "uploadTooLarge", 416: "requestedRangeNotSatisfiable",
           429: "rateLimitExceeded", 500: "backendError", 501: "notImplemented", 503: "backendError"}  # fmt: skip


class DiskFull(exceptions.ServerError):
    """507: no space is left; clients do not retry it."""

    code = 507


def as_api_error(error: BaseException, where: str) -> exceptions.GoogleAPICallError:
    """The error itself when it is one for the caller, else INTERNAL, with the traceback in the log."""
    if isinstance(error, exceptions.GoogleAPICallError):
        return error
    if is_disk_full(error):
        return DiskFull(f"No space is left for the emulator's state: {error}.")  # type: ignore[no-untyped-call]
    logger.error("%s failed", where, exc_info=error)
    return exceptions.InternalServerError(f"{where} failed inside the emulator: {type(error).__name__}: {error}")


def is_disk_full(error: BaseException) -> bool:
    """Whether the file system, or SQLite on it, has no room for what was to be written."""
    if isinstance(error, sqlite3.OperationalError):
        return "disk is full" in str(error)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Answer(NamedTuple):
    """What the caller of an HTTP method gets in place of an error's JSON: another server's own words."""

    status: int
    content_type: str
    body: bytes


def answered(error: exceptions.GoogleAPICallError, answer: Answer) -> exceptions.GoogleAPICallError:
    """The same error, which REST passes on as this answer; gRPC has its code and message."""
    vars(error)["http_answer"] = answer
    return error


def own_answer(error: exceptions.GoogleAPICallError) -> Answer | None:
    """The answer that an error was given, if any."""
    answer: Answer | None = vars(error).get("http_answer")
    return answer


def code_name(error: exceptions.GoogleAPICallError) -> str:
    """Name in google.rpc.Code, such as NOT_FOUND."""
    if error.grpc_status_code is not None:
        return str(error.grpc_status_code.name)
    return status_code_name(int(error.code or 500))


def status_code_name(status: int) -> str:
    """Name in google.rpc.Code of an HTTP status."""
    return _CODE_OF_HTTP.get(status, "UNKNOWN")


def code_number(error: exceptions.GoogleAPICallError) -> int:
    """Number in google.rpc.Code, as operations and jobs carry it."""
    number: int = grpc.StatusCode[code_name(error)].value[0]
    return number


def http_status(error: exceptions.GoogleAPICallError) -> int:
    """The exception's own status when it has one (412 and 304 exist in JSON APIs alone), else its code's."""
    if error.grpc_status_code is not None:
        return HTTP_STATUS[error.grpc_status_code.name]
    return int(error.code or 500)


def json_body(error: exceptions.GoogleAPICallError, *, legacy: bool = False) -> dict[str, Any]:
    """`{"error": {...}}` in the form of today's services, or of Storage and BigQuery (legacy)."""
    status = http_status(error)
    body: dict[str, Any] = {"code": status, "message": error.message}
    if legacy:
        own = [item for item in error.errors if isinstance(item, Mapping)]
        body["errors"] = [
            {"message": error.message, "domain": "global", "reason": _REASON.get(status, "backendError"), **item}
            for item in own or [{}]
        ]
        return {"error": body}
    body["status"] = code_name(error)
    details = [_detail_json(detail) for detail in error.details]
    if details:
        body["details"] = details
    return {"error": body}


def details_as_any(error: exceptions.GoogleAPICallError) -> list[Any]:
    """The error's details, each packed for a google.rpc.Status; those that are plain JSON have no such form."""
    from selfloop_apis import protobuf

    packed = []
    for detail in error.details:
        if not isinstance(detail, Mapping):
            packed.append(
                protobuf.Any(
                    type_url=f"type.googleapis.com/{detail.DESCRIPTOR.full_name}", value=detail.SerializeToString()
                )
            )
    return packed


def _detail_json(detail: Any) -> Any:
    from google.protobuf import json_format

    if isinstance(detail, Mapping):
        return detail
    return {
        "@type": f"type.googleapis.com/{detail.DESCRIPTOR.full_name}",
        **json_format.MessageToDict(detail),
    }


def status_phrase(status: int) -> str:
    """`Not Found` for 404; Google's 499 has no name in the standard."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request" if status == 499 else "Unknown"
