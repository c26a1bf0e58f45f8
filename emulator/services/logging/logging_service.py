"""Cloud Logging's LoggingServiceV2: writing, reading and following log entries.

Source: https://cloud.google.com/logging/docs/reference/v2/rpc/google.logging.v2
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, OutOfRange, ResourceExhausted
from google.protobuf.message import Message
from selfloop_apis import logging_v2, protobuf

from emulator.core import errors
from emulator.core.clock import Clock
from emulator.core.messages import as_datetime
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService
from emulator.services.logging import resources
from emulator.services.logging.query_language import parse
from emulator.services.logging.query_match import predicate
from emulator.services.logging.store import KEPT, LogStore, Position, Scope

#: Tails open at once: each holds one of the server's threads for as long as it is followed.
MOST_TAILS = 8
#: Source: https://cloud.google.com/logging/quotas
LONGEST_TAIL_SECONDS = 3600
_LARGEST_BUFFER_WINDOW_SECONDS = 60
_DEFAULT_BUFFER_WINDOW_SECONDS = 2
_MOST_RESOURCE_NAMES = 100
_LARGEST_PAGE = 1000
_LATEST_TIMESTAMP = timedelta(hours=24)


class LoggingService(GapicService):
    api = "google.logging.v2.LoggingServiceV2"

    def __init__(self, store: LogStore, projects: Projects, clock: Clock) -> None:
        self._store = store
        self._projects = projects
        self._clock = clock
        self._tails = threading.BoundedSemaphore(MOST_TAILS)

    def write_log_entries(
        self, request: logging_v2.WriteLogEntriesRequest, context: Context
    ) -> logging_v2.WriteLogEntriesResponse:
        """Store entries, all or none unless partial_success; those outside the time that is kept are dropped."""
        by_project: dict[str, list[Any]] = {}
        failed: dict[int, GoogleAPICallError] = {}
        for index, entry in enumerate(request.entries):
            try:
                project = resources.complete_entry(entry, request, self._project_id)
            except GoogleAPICallError as error:
                failed[index] = error
                continue
            if self._is_timely(entry):
                by_project.setdefault(project, []).append(entry)
        if (request.partial_success or not failed) and not request.dry_run:
            for project, entries in by_project.items():
                self._store.write_entries(project, entries)
        if failed:
            raise _partial_errors(failed)
        return logging_v2.WriteLogEntriesResponse()

    def list_log_entries(
        self, request: logging_v2.ListLogEntriesRequest, context: Context
    ) -> logging_v2.ListLogEntriesResponse:
        """A page of entries in order of time; it may be short, even empty, and yet have a next one."""
        if not 0 <= request.page_size <= _LARGEST_PAGE:
            raise InvalidArgument(f"page_size must be between 0 and {_LARGEST_PAGE}, got {request.page_size}")
        descending = _is_descending(request.order_by)
        mark = _query_mark(request)
        page = self._store.read(
            self._scope(request.resource_names),
            parse(request.filter),
            descending=descending,
            limit=request.page_size or 50,
            after=_read_token(request.page_token, mark) if request.page_token else None,
        )
        token = _token(page.end, mark) if page.end else ""
        return logging_v2.ListLogEntriesResponse(entries=page.entries, next_page_token=token)

    def list_logs(self, request: logging_v2.ListLogsRequest, context: Context) -> logging_v2.ListLogsResponse:
        """Names of the logs that have entries."""
        names = self._store.log_names(self._scope([*request.resource_names] or [request.parent]))
        if request.page_token:
            last = _decode_token(request.page_token)
            names = [name for name in names if name > str(last)]
        size = min(request.page_size or _LARGEST_PAGE, _LARGEST_PAGE)
        if size < 0:
            raise InvalidArgument("page_size must not be negative")
        token = _encode_token(names[size - 1]) if len(names) > size else ""
        return logging_v2.ListLogsResponse(log_names=names[:size], next_page_token=token)

    def delete_log(self, request: logging_v2.DeleteLogRequest, context: Context) -> protobuf.Empty:
        project, name = resources.parse_log_name(request.log_name, self._project_id)
        self._store.delete_log(project, name)
        return protobuf.Empty()

    def tail_log_entries(
        self, requests: Iterator[Any] | Message, context: Context
    ) -> Iterator[logging_v2.TailLogEntriesResponse]:
        """Entries as they are received, by the first request; until the client leaves, at most for an hour."""
        # A call over REST brings the one request itself.
        request: Any = requests if isinstance(requests, Message) else next(requests, None)
        if request is None:
            return
        scope, query = self._scope(request.resource_names), parse(request.filter)
        predicate(query)
        window = float(_DEFAULT_BUFFER_WINDOW_SECONDS)
        if request.HasField("buffer_window"):
            window = request.buffer_window.seconds + request.buffer_window.nanos / 1e9
        if not 0 <= window <= _LARGEST_BUFFER_WINDOW_SECONDS:
            raise InvalidArgument(
                f"buffer_window must be between 0 and {_LARGEST_BUFFER_WINDOW_SECONDS} seconds, got {window}"
            )
        if not self._tails.acquire(blocking=False):
            raise ResourceExhausted(f"There are {MOST_TAILS} open tail sessions, the most that may be at once.")
        try:
            yield from self._follow(scope, query, window, context)
        finally:
            self._tails.release()

    def _follow(
        self, scope: Scope, query: Any, window_seconds: float, context: Context
    ) -> Iterator[logging_v2.TailLogEntriesResponse]:
        seen = self._store.newest()
        deadline = time.monotonic() + LONGEST_TAIL_SECONDS
        while context.is_active():
            if time.monotonic() > deadline:
                raise OutOfRange(
                    "Session has run for the maximum allowed duration of 1h. To continue, start a new session."
                )
            if not self._store.wait(seen, 0.5):
                continue
            # Late ones of the window are still put in order.
            settled = time.monotonic() + window_seconds
            while context.is_active() and (left := settled - time.monotonic()) > 0:
                time.sleep(min(left, 0.5))
            entries, seen = self._store.received_after(scope, query, seen, _LARGEST_PAGE)
            if entries:
                entries.sort(key=lambda entry: (entry.timestamp.seconds, entry.timestamp.nanos, entry.insert_id))
                yield logging_v2.TailLogEntriesResponse(entries=entries)

    def _project_id(self, name: str) -> str:
        return self._projects.get(name).id

    def _scope(self, resource_names: Any) -> Scope:
        if len(resource_names) > _MOST_RESOURCE_NAMES:
            raise InvalidArgument(f"At most {_MOST_RESOURCE_NAMES} resource names may be given")
        return resources.scope(resource_names, self._project_id)

    def _is_timely(self, entry: Any) -> bool:
        """Whether a timestamp that a client gave lies within what is kept.

        A client goes by the machine's clock, which the emulator's may be far ahead of.
        """
        if not entry.HasField("timestamp"):
            return True
        now = self._clock.now()
        try:
            given = as_datetime(entry.timestamp)
        except (ValueError, OverflowError):
            return False
        return min(now, datetime.now(UTC)) - KEPT <= given <= now + _LATEST_TIMESTAMP


def _is_descending(order_by: str) -> bool:
    words = order_by.split()
    if words in ([], ["timestamp"], ["timestamp", "asc"]):
        return False
    if words == ["timestamp", "desc"]:
        return True
    raise InvalidArgument(f"Invalid order_by '{order_by}': 'timestamp asc' or 'timestamp desc' is expected")


def _partial_errors(failed: dict[int, GoogleAPICallError]) -> GoogleAPICallError:
    """The first entry's error, with all of them in its details."""
    details = logging_v2.WriteLogEntriesPartialErrors()
    for index, error in failed.items():
        details.log_entry_errors[index].code = errors.code_number(error)
        details.log_entry_errors[index].message = error.message
    first = next(iter(failed.values()))
    return type(first)(first.message, details=[details])


def _query_mark(request: Any) -> str:
    """The same for two requests that differ in page size and token alone."""
    query = [*request.resource_names, request.filter, request.order_by]
    return hashlib.sha256(json.dumps(query).encode()).hexdigest()[:16]


def _token(end: Position, mark: str) -> str:
    return _encode_token([mark, end.time, end.insert_id, end.sequence])


def _read_token(token: str, mark: str) -> Position:
    """Raises InvalidArgument for a token of another query."""
    match _decode_token(token):
        case [str(of), int(moment), str(insert_id), int(sequence)] if of == mark:
            return Position(moment, insert_id, sequence)
    raise InvalidArgument("page_token doesn't match arguments from the request")


def _encode_token(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _decode_token(token: str) -> Any:
    try:
        return json.loads(base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise InvalidArgument("page_token is invalid") from None
