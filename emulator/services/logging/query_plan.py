"""Which part of a filter the database answers, and which is left to look at entry by entry.

Entries that share log, resource and labels form a stream. What a filter says of log and resource picks streams;
what it says of time, severity and insert id becomes SQL; the rest is a predicate in Python.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from emulator.services.logging.query_language import And, Call, Comparison, Field, Literal, Node, Not, Or, Text
from emulator.services.logging.query_match import SEVERITIES, Predicate, predicate, read_severity, read_time

#: How near to the machine's time an upper bound must be to mean "until now".
NOW_WITHIN_SECONDS = 60

_COLUMNS: Mapping[tuple[str, ...], str] = {
    ("timestamp",): "time",
    ("receiveTimestamp",): "received",
    ("receive_timestamp",): "received",
    ("severity",): "severity",
    ("insertId",): "insert_id",
    ("insert_id",): "insert_id",
}
#: Field -> condition of the rows that may have it.
_PAYLOADS = {
    "textPayload": "kind <> 1", "text_payload": "kind <> 1", "jsonPayload": "kind <> 0", "json_payload": "kind <> 0",
}  # fmt: skip
#: Text that stands in a payload as it does in a filter: nothing that JSON escapes, and no number, whose spelling
#: may differ.
_PLAIN = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 _./-]+")
#: Payloads of kind 2 are messages, in which not everything is text.
_IN_PAYLOAD = "kind = 2 OR instr(lower(payload), ?)"
_IN_OTHER_COLUMNS = (
    "instr(lower(insert_id), ?) OR stream IN (SELECT value FROM json_each(?)) "
    "OR severity IN (SELECT value FROM json_each(?))"
)
_STREAM_FIELDS = frozenset({"logName", "log_name", "resource"})
_STREAM_FUNCTIONS = frozenset({"log_id", "source"})


@dataclass(frozen=True)
class Plan:
    """How to find the entries that pass: rows of these streams, for which `where` holds and then `rest`."""

    streams: tuple[int, ...]
    where: str
    """SQL, empty for no condition"""
    parameters: tuple[Any, ...]
    rest: Predicate | None


def make_plan(node: Node, streams: Mapping[int, Any]) -> Plan:
    """streams: id -> LogEntry with log name, resource and labels, of everything that may be read.

    Raises InvalidArgument for what the filter's fields and values cannot be.
    """
    predicate(node)
    chosen = dict(streams)
    conditions: list[str] = []
    parameters: list[Any] = []
    rest: list[Node] = []
    for part in node.parts if isinstance(node, And) else (node,):
        if _is_of_stream(part):
            test = predicate(part)
            chosen = {key: template for key, template in chosen.items() if test(template)}
            continue
        found = _sql(part, streams)
        if found is None:
            rest.append(part)
            found = _necessary(part, streams)
        if found is not None:
            conditions.append(found[0])
            parameters.extend(found[1])
    return Plan(
        tuple(chosen), " AND ".join(conditions), tuple(parameters), predicate(And(tuple(rest))) if rest else None
    )


def follow_clock(node: Node, machine_now: int, offset: int) -> Node:
    """The filter with upper bounds of time that mean "until now" moved to the emulator's now.

    `gcloud ai custom-jobs stream-logs` asks for entries before its own clock's now less five seconds. Once
    the emulator's clock is ahead, everything it writes would be later than that, and never be shown.
    Both in nanoseconds: machine_now since 1970, offset of the emulator's clock from the machine's.
    """
    if offset < NOW_WITHIN_SECONDS * 10**9:
        return node
    match node:
        case And(parts):
            return And(tuple(follow_clock(part, machine_now, offset) for part in parts))
        case Or(parts):
            return Or(tuple(follow_clock(part, machine_now, offset) for part in parts))
        case Not(part):
            return Not(follow_clock(part, machine_now, offset))
        case Comparison(Field(("timestamp",)), "<" | "<=", value):
            bound = read_time(value.text)
            if abs(bound - machine_now) <= NOW_WITHIN_SECONDS * 10**9:
                return replace(node, value=Literal(_format_time(bound + offset)))
    return node


def _format_time(nanoseconds: int) -> str:
    from datetime import UTC, datetime

    seconds, fraction = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def _is_of_stream(node: Node) -> bool:
    """Whether log and resource alone decide."""
    match node:
        case And(parts) | Or(parts):
            return bool(parts) and all(_is_of_stream(part) for part in parts)
        case Not(part):
            return _is_of_stream(part)
        case Comparison(left=Field(path)):
            return path[0] in _STREAM_FIELDS
        case Call(name):
            return name in _STREAM_FUNCTIONS
    return False


def _sql(node: Node, streams: Mapping[int, Any]) -> tuple[str, list[Any]] | None:
    """The condition that says exactly the same of a row, or None where there is none."""
    if _is_of_stream(node):
        test = predicate(node)
        chosen = [key for key, template in streams.items() if test(template)]
        return "stream IN (SELECT value FROM json_each(?))", [json.dumps(chosen)]
    match node:
        case And(parts) | Or(parts):
            found = [_sql(part, streams) for part in parts]
            exact = [part for part in found if part is not None]
            if not parts or len(exact) < len(parts):
                return None
            return _joined(" AND " if isinstance(node, And) else " OR ", exact)
        case Not(part):
            inner = _sql(part, streams)
            return None if inner is None else (f"NOT {inner[0]}", inner[1])
        case Comparison(Field(path), operation, value):
            return _sql_comparison(_COLUMNS.get(path), operation, value)
        case Text() | Call() | Comparison():
            return None


def _necessary(node: Node, streams: Mapping[int, Any]) -> tuple[str, list[Any]] | None:
    """A condition that holds of every entry that passes, and of some others: it saves looking at most of them."""
    exact = _sql(node, streams)
    if exact is not None:
        return exact
    match node:
        case And(parts):
            found = [condition for part in parts if (condition := _necessary(part, streams)) is not None]
            return _joined(" AND ", found) if found else None
        case Or(parts):
            found = [condition for part in parts if (condition := _necessary(part, streams)) is not None]
            return _joined(" OR ", found) if len(found) == len(parts) else None
        case Text(text) if _PLAIN.fullmatch(text):
            test = predicate(node)
            chosen = [key for key, template in streams.items() if test(template)]
            severities = [number for name, number in SEVERITIES.items() if text.lower() in name.lower()]
            return (
                f"({_IN_PAYLOAD} OR {_IN_OTHER_COLUMNS})",
                [text.lower(), text.lower(), json.dumps(chosen), json.dumps(severities)],
            )
        case Comparison(Field(path), operation, value) if path[0] in _PAYLOADS:
            if operation in ("=", ":") and _PLAIN.fullmatch(value.text):
                return f"({_PAYLOADS[path[0]]} AND ({_IN_PAYLOAD}))", [value.text.lower()]
            return f"({_PAYLOADS[path[0]]})", []
    return None


def _joined(word: str, conditions: list[tuple[str, list[Any]]]) -> tuple[str, list[Any]]:
    return f"({word.join(sql for sql, _ in conditions)})", [value for _, values in conditions for value in values]


def _sql_comparison(column: str | None, operation: str, value: Literal) -> tuple[str, list[Any]] | None:
    if column is None or operation in ("=~", "!~"):
        return None
    if operation == ":" and value.text == "*" and not value.quoted:
        return None
    if column == "insert_id":
        if operation == ":" or not value.text.isascii():
            return None
        if operation in ("=", "!="):
            return f"(lower(insert_id) {operation} ?)", [value.text.lower()]
        return f"(insert_id {operation} ?)", [value.text]
    wanted = read_severity(value.text) if column == "severity" else read_time(value.text)
    if not -(2**63) <= wanted < 2**63:
        return None
    return f"({column} {'=' if operation == ':' else operation} ?)", [wanted]
