"""The emulator's own API, `/emulator/…` on the plain port: its health, clock, journal, coverage and snapshots.

Everything but health wants the token that the state directory holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

from google.api_core.exceptions import InvalidArgument, MethodNotImplemented, NotFound, Unauthenticated

from emulator.core.clock import MovableClock
from emulator.core.egress import is_loopback
from emulator.core.journal import Journal
from emulator.core.plain_http import HttpRequest, HttpResponse, PlainHttp
from emulator.core.schedule import Schedule

_LARGEST_JOURNAL = 10_000
#: How long an advance waits for what one due event started.
_WAIT_SECONDS = 60.0


class Operator(Protocol):
    """What the control API asks of the emulator as a whole."""

    def health(self) -> dict[str, Any]:
        """Address, project, sandbox level and the like."""
        ...

    def environment(self) -> dict[str, str]:
        """Variables for a shell."""
        ...

    def coverage(self) -> dict[str, dict[str, str]]:
        """Service -> method -> `absent`, `shape`, `behaves` or `checked`."""
        ...

    def snapshots(self) -> list[dict[str, Any]]: ...

    def take_snapshot(self, name: str) -> dict[str, Any]:
        """Raises FailedPrecondition while something runs, AlreadyExists."""
        ...

    def restore(self, name: str | None) -> None:
        """Begin anew from a snapshot, or from nothing; the process starts itself again once this is answered."""
        ...


class Control(PlainHttp):
    name = "emulator"

    def __init__(self, operator: Operator, clock: MovableClock, schedule: Schedule, journal: Journal) -> None:
        self._operator = operator
        self._clock = clock
        self._schedule = schedule
        self._journal = journal

    def matches(self, host: str, path: str, headers: Mapping[str, str]) -> bool:
        return path.startswith("/emulator/") and is_loopback(host)

    def handle(self, request: HttpRequest) -> HttpResponse:
        route = (request.verb, request.path.removeprefix("/emulator/").rstrip("/"))
        if route == ("get", "health"):
            return HttpResponse.json(self._operator.health())
        if request.caller is None:
            raise Unauthenticated("The control API wants the token of the state directory as a Bearer token.")
        if request.sandbox is not None or request.caller.sandbox:
            raise Unauthenticated("The control API is not for jobs.")
        handlers: dict[tuple[str, str], Callable[[HttpRequest], Any]] = {
            ("get", "env"): lambda _: self._operator.environment(),
            ("get", "coverage"): lambda _: self._operator.coverage(),
            ("get", "journal"): self._read_journal,
            ("get", "clock"): lambda _: self._read_clock(),
            ("post", "clock"): self._advance,
            ("post", "reset"): lambda _: self._restore(None),
            ("get", "snapshots"): lambda _: {"snapshots": self._operator.snapshots()},
            ("post", "snapshots"): lambda request: self._operator.take_snapshot(str(_body(request).get("name", ""))),
        }
        handler = handlers.get(route)
        if handler is not None:
            return HttpResponse.json(handler(request))
        restore = re.fullmatch(r"snapshots/([^/]+)/restore", route[1])
        if restore and request.verb == "post":
            return HttpResponse.json(self._restore(restore[1]))
        if route[1] == "faults":
            raise MethodNotImplemented("/emulator/faults is not emulated yet; add it to emulator/core/control.py")
        raise NotFound(f"The control API has no {request.verb.upper()} {request.path}.")

    def _read_journal(self, request: HttpRequest) -> dict[str, Any]:
        limit = request.parameter("limit", "100")
        if not limit.isdecimal():
            raise InvalidArgument(f"limit is {limit!r}, no number")
        calls = self._journal.read(min(int(limit), _LARGEST_JOURNAL), request.parameter("method"))
        return {"calls": list(calls)}

    def _read_clock(self) -> dict[str, Any]:
        return {"now": self._clock.now().isoformat(), "offset_seconds": self._clock.offset.total_seconds()}

    def _advance(self, request: HttpRequest) -> dict[str, Any]:
        """Move the clock; what falls due on the way is run, and waited for as long as `wait_seconds` says."""
        body = _body(request)
        seconds, wait = _number(body, "advance_seconds"), _number(body, "wait_seconds", _WAIT_SECONDS)
        try:
            advanced = self._schedule.advance(timedelta(seconds=seconds), wait)
        except (ValueError, OverflowError) as error:
            raise InvalidArgument(f"advance_seconds: {error}") from None
        return {**self._read_clock(), "events": advanced.events, "unfinished": advanced.unfinished}

    def _restore(self, name: str | None) -> dict[str, Any]:
        self._operator.restore(name)
        return {"restarting": True}


def _number(body: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = body.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidArgument(f"{name} is no number")
    return value


def _body(request: HttpRequest) -> dict[str, Any]:
    try:
        document = json.loads(request.body or b"{}")
    except ValueError as error:
        raise InvalidArgument(f"The body is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidArgument("The body is no JSON object.")
    return document
