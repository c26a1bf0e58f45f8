"""A tree of the Logging query language as a test of one entry.

Text compares without regard to case, but for regular expressions and order. A comparison with a field that an
entry lacks is false, `!=` among them; so is one whose types do not fit.
Source: https://cloud.google.com/logging/docs/view/logging-query-language
"""

from __future__ import annotations

import ipaddress
import operator
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import unquote

from google.api_core.exceptions import InvalidArgument
from selfloop_apis import logging_v2

from emulator.services.logging.field_values import Inside, Rank, Time, all_values, leaves, resolve
from emulator.services.logging.query_language import And, Call, Comparison, Field, Literal, Node, Not, Or, Text

Predicate = Callable[[Any], bool]
Test = Callable[[Any], bool]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    ":": operator.eq,
}  # fmt: skip
_severity_type: Any = logging_v2.LogEntry.DESCRIPTOR.fields_by_name["severity"].enum_type
#: Name -> number: google.logging.type.LogSeverity.
SEVERITIES: Mapping[str, int] = {name: value.number for name, value in _severity_type.values_by_name.items()}
_RFC_3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(Z|z|[+-]\d{2}:?\d{2})?)?", re.ASCII
)
_UNIT_NANOSECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"-?(?:\d+(?:\.\d+)?(?:ns|us|ms|s|m|h))+", re.ASCII)
#: RE2 runs in time linear to the text, so an expression can only cost memory: this bounds it.
_RE2_BYTES = 8 << 20


def predicate(node: Node) -> Predicate:
    """Whether an entry passes. Raises InvalidArgument for an unknown field or function, or a value unfit for it."""
    match node:
        case And(parts):
            tests = [predicate(part) for part in parts]
            return tests[0] if len(tests) == 1 else lambda entry: all(test(entry) for test in tests)
        case Or(parts):
            tests = [predicate(part) for part in parts]
            return lambda entry: any(test(entry) for test in tests)
        case Not(part):
            inner = predicate(part)
            return lambda entry: not inner(entry)
        case Text(text):
            contains = _contains(text)
            return lambda entry: any(contains(value) for value in all_values(entry))
        case Call():
            return _function(node)
        case Comparison():
            return _comparison(node)


def read_time(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time or a date. Raises InvalidArgument."""
    match = _RFC_3339.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError(text)
        day, clock, fraction, zone = match.groups()
        if clock is None:
            moment = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
        else:
            offset = "+00:00" if zone is None or zone in "Zz" else zone
            moment = datetime.fromisoformat(f"{day}T{clock}{offset}")
        seconds = int((moment - datetime.fromtimestamp(0, UTC)).total_seconds())
    except (ValueError, OverflowError):
        raise InvalidArgument(f"Unparseable filter: invalid timestamp '{text}'; RFC 3339 is expected") from None
    return seconds * 10**9 + int((fraction or "").ljust(9, "0"))


def read_severity(text: str) -> int:
    """The number of a severity's name or number. Raises InvalidArgument."""
    if text.upper() in SEVERITIES:
        return SEVERITIES[text.upper()]
    if re.fullmatch(r"\d{1,4}", text, re.ASCII):
        return int(text)
    raise InvalidArgument(f"Unparseable filter: invalid severity '{text}'")


def _comparison(node: Comparison) -> Predicate:
    if isinstance(node.left, Call):
        get, kind = _extraction(node.left), ""
    else:
        path = resolve(node.left.path)
        get, kind = path.get, path.kind
        if node.left.path[-1] == "severity" and kind == "enum":
            kind = "severity"
    test = _value_test(node.operator, node.value, kind)
    return lambda entry: any(test(value) for value in get(entry))


def _value_test(operation: str, literal: Literal, kind: str) -> Test:
    """kind: see field_values.Path; with `severity` for the one enum whose names have an order."""
    if operation == ":" and literal.text == "*" and not literal.quoted:
        return lambda _: True
    if operation in ("=~", "!~"):
        return _regex_test(operation, literal.text)
    compare = _ORDER[operation]
    if kind in ("timestamp", "duration", "severity"):
        reader = {"timestamp": read_time, "duration": _read_duration, "severity": read_severity}[kind]
        wanted = reader(literal.text)
        return lambda value: compare(value.number if isinstance(value, Rank) else value.nanoseconds, wanted)
    return _dynamic_test(operation, literal)


def _dynamic_test(operation: str, literal: Literal) -> Test:
    """A comparison whose meaning the value's own type decides."""
    compare = _ORDER[operation]
    lowered, number = literal.text.lower(), _read_number(literal.text)
    truth = {"true": True, "false": False}.get(lowered)
    is_null = literal.text == "NULL_VALUE" and not literal.quoted
    time = _as_time(literal.text)
    contains = _contains(literal.text)

    def test(value: Any) -> bool:
        if isinstance(value, str):
            if operation == ":":
                return lowered in value.lower()
            if operation in ("=", "!="):
                return compare(value.lower(), lowered)
            return compare(value, literal.text)
        if isinstance(value, bool):
            return truth is not None and operation in ("=", "!=", ":") and compare(value, truth)
        if isinstance(value, int | float):
            return number is not None and compare(value, number)
        if value is None:
            return operation in ("=", "!=", ":") and (is_null == (operation != "!="))
        if isinstance(value, Rank):
            return operation in ("=", "!=", ":") and compare(value.name.lower(), lowered)
        if isinstance(value, Time):
            return time is not None and compare(value.nanoseconds, time.nanoseconds)
        if isinstance(value, Inside) and operation == ":":
            return any(key == literal.text or contains(item) for key, item in _deep_items(value))
        return False

    return test


def _deep_items(inside: Inside) -> Iterator[tuple[str, Any]]:
    for key, value in inside.items():
        yield key, value
        if isinstance(value, Inside):
            yield from _deep_items(value)


def _contains(text: str) -> Test:
    """Whether a value, written out, holds the text."""
    lowered = text.lower()

    def test(value: Any) -> bool:
        written = _written(value)
        return written is not None and lowered in written.lower()

    return test


def _written(value: Any) -> str | None:
    """A value as text; None for what has no one form."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):
        return str(value)
    return value.name if isinstance(value, Rank) else None


def _regex_test(operation: str, pattern: str) -> Test:
    search = compile_regex(pattern).search
    wanted = operation == "=~"

    def test(value: Any) -> bool:
        # A Rank is written by name; numbers are no text for a regular expression.
        text = value.name if isinstance(value, Rank) else value
        return isinstance(text, str) and (search(text) is not None) == wanted

    return test


def compile_regex(pattern: str) -> Any:
    """An RE2 expression. Raises InvalidArgument."""
    import re2  # few filters have a regular expression

    options = re2.Options()
    options.max_mem = _RE2_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidArgument(f"Unparseable filter: invalid regular expression '{pattern}': {reason}") from None


def _read_number(text: str) -> float | int | None:
    try:
        return int(text) if re.fullmatch(r"[+-]?\d+", text, re.ASCII) else float(text)
    except ValueError:
        return None


def _read_duration(text: str) -> int:
    """Nanoseconds of `1.5s`, `250ms`, `1h15m`. Raises InvalidArgument."""
    if not _DURATION.fullmatch(text):
        raise InvalidArgument(f"Unparseable filter: invalid duration '{text}'")
    total = 0.0
    for amount, unit in re.findall(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)", text):
        total += float(amount) * _UNIT_NANOSECONDS[unit]
    return round(-total if text.startswith("-") else total)


# Functions


def _function(call: Call) -> Predicate:
    """A function that stands where a comparison could."""
    match call.name, call.arguments:
        case "search", (Literal(text),):
            return _search(text, all_values)
        case "search", (Field(path), Literal(text)):
            get = resolve(path).get
            return _search(text, lambda entry: (leaf for value in get(entry) for leaf in leaves(value)))
        case "log_id", (Literal(text),):
            return lambda entry: unquote(entry.log_name.partition("/logs/")[2]) == text
        case "source", (Literal(text),):
            return lambda entry: bool(entry.log_name.startswith(f"{text}/"))
        case "sample", (Field(path), Field(fraction)):
            return _sample(path, ".".join(fraction))
        case "sample", (Field(path), Literal(fraction)):
            return _sample(path, fraction)
        case "ip_in_net", (Field(path), Literal(network)):
            return _ip_in_net(path, network)
    if call.name in ("cast", "regexp_extract"):
        raise InvalidArgument(f"Unparseable filter: {call.name.upper()} must be compared with a value")
    raise InvalidArgument(f"Unparseable filter: '{call.name}' is no function, or its arguments do not fit")


def _search(text: str, values: Callable[[Any], Iterable[Any]]) -> Predicate:
    """All words somewhere in the values, whole and without regard to case; `a phrase` in backticks as it is."""
    phrases = [phrase.lower() for phrase in re.findall(r"`([^`]*)`", text)]
    words = _words(re.sub(r"`[^`]*`", " ", text))

    def test(entry: Any) -> bool:
        texts = [written.lower() for value in values(entry) if (written := _written(value)) is not None]
        if not all(any(phrase in written for written in texts) for phrase in phrases):
            return False
        missing = set(words)
        for written in texts:
            missing -= _words(written)
            if not missing:
                return True
        return not missing

    return test


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def _sample(path: tuple[str, ...], fraction: str) -> Predicate:
    share = _read_number(fraction)
    if share is None or not 0 <= share <= 1:
        raise InvalidArgument(f"Unparseable filter: invalid fraction '{fraction}'; a number from 0 to 1 is expected")
    get = resolve(path).get
    limit = share * 2**32
    # The same entries at every call: the choice is by the value, not by chance.
    return lambda entry: any(zlib.crc32((_written(value) or "").encode()) < limit for value in get(entry))


def _ip_in_net(path: tuple[str, ...], network: str) -> Predicate:
    try:
        wanted = ipaddress.ip_network(network, strict=False)
    except ValueError:
        raise InvalidArgument(f"Unparseable filter: invalid subnet '{network}'") from None
    get = resolve(path).get

    def is_inside(value: Any) -> bool:
        try:
            return ipaddress.ip_address(value) in wanted
        except ValueError:
            return False

    return lambda entry: any(is_inside(value) for value in get(entry))


def _extraction(call: Call) -> Callable[[Any], Iterator[Any]]:
    """`CAST(field, INT64)` and `REGEXP_EXTRACT(field, "…(…)…")`: new values of a field."""
    match call.name, call.arguments:
        case "cast", (Field() | Call() as inner, Field((kind,)) | Literal(kind)) if kind.upper() in _CASTS:
            get, convert = _operand(inner), _CASTS[kind.upper()]

            def cast_values(entry: Any) -> Iterator[Any]:
                for value in get(entry):
                    converted = convert(value)
                    if converted is not None:
                        yield converted

            return cast_values
        case "regexp_extract", (Field() | Call() as inner, Literal(pattern)):
            get, regex = _operand(inner), compile_regex(pattern)
            if regex.groups > 1:
                raise InvalidArgument("Unparseable filter: REGEXP_EXTRACT takes one capture group")

            def extracted(entry: Any) -> Iterator[Any]:
                for value in get(entry):
                    found = regex.search(value) if isinstance(value, str) else None
                    if found and found[regex.groups] is not None:
                        yield found[regex.groups]

            return extracted
    raise InvalidArgument(f"Unparseable filter: '{call.name}' gives no value to compare, or its arguments do not fit")


def _operand(inner: Field | Call) -> Callable[[Any], Iterator[Any]]:
    return _extraction(inner) if isinstance(inner, Call) else resolve(inner.path).get


def _as_bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else {"true": True, "false": False}.get((_written(value) or "").lower())


def _as_integer(value: Any) -> int | None:
    number = _read_number(_written(value) or "")
    return number if isinstance(number, int) else None


def _as_time(value: Any) -> Time | None:
    if isinstance(value, Time):
        return value
    try:
        return Time(read_time(value)) if isinstance(value, str) else None
    except InvalidArgument:
        return None


_CASTS: dict[str, Callable[[Any], Any]] = {
    "STRING": _written,
    "INT64": _as_integer,
    "FLOAT64": lambda value: _read_number(_written(value) or ""),
    "BOOL": _as_bool,
    "TIMESTAMP": _as_time,
}
