"""List calls: filter, order, one page, read mask; the same for every kind of resource.

Source: https://google.aip.dev/132, https://google.aip.dev/158
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.api_core.exceptions import InvalidArgument
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from emulator.core import field_masks, filters

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Page(Generic[M]):
    """What one list call answers; `next_page_token` is empty at the end."""

    items: list[M]
    next_page_token: str


def page(
    items: Iterable[M],
    request: Message,
    message_type: type[M],
    *,
    filterable: Iterable[str] = (),
    computed: Mapping[str, Callable[[M], str | Iterable[str]]] | None = None,
    canonical: Callable[[str], str] = lambda name: name,
    test: Callable[[M], bool] | None = None,
    sortable: Iterable[str] = (),
    key: Callable[[M], str] = lambda item: item.name,  # type: ignore[attr-defined]  # every listed kind has one
    default_size: int = 100,
    largest_size: int = 1000,
) -> Page[M]:
    """The page that a list request asks for, by those of `filter`, `order_by`, `page_size`, `page_token` and
    `read_mask` that it has.

    items: in their default order. filterable, computed, canonical: see filters.compile.
    test: what a caller has made of `filter` itself, in place of these three. sortable: fields for `order_by`.
    key: what tells one item from another. A larger page_size than largest_size counts as that.
    Raises InvalidArgument for a bad filter, order, size, mask, or a token of another query.
    """
    asked: Any = request
    fields = request.DESCRIPTOR.fields_by_name
    found = list(items)
    if test is None and "filter" in fields:
        test = filters.compile(asked.filter, message_type, filterable, computed, canonical)
    if test is not None:
        found = [item for item in found if test(item)]
    if "order_by" in fields:
        found = order(found, asked.order_by, message_type, sortable)
    if asked.page_size < 0:
        raise InvalidArgument("page_size must not be negative.")
    size = min(asked.page_size or default_size, largest_size)
    query = _query_mark(request)
    start = _start(found, asked.page_token, query, key) if asked.page_token else 0
    shown = found[start : start + size]
    token = _token(query, key(shown[-1]), start + size) if start + size < len(found) else ""
    if "read_mask" in fields:
        shown = [field_masks.read(item, asked.read_mask.paths) for item in shown]
    return Page(shown, token)


def order(items: Sequence[M], order_by: str, message_type: type[M], sortable: Iterable[str]) -> list[M]:
    """The items by `create_time desc, name`; as they are for an empty text. Raises InvalidArgument."""
    allowed = frozenset(sortable)
    result = list(items)
    clauses = [clause.split() for clause in order_by.split(",")] if order_by.strip() else []
    # Sorting is stable, so the last clause goes first.
    for words in reversed(clauses):
        direction = words[1].lower() if len(words) == 2 else "asc"
        field = filters.find_field(filters.descriptor_of(message_type), words[0]) if words else None
        if len(words) > 2 or direction not in ("asc", "desc") or field is None or field.name not in allowed:
            raise InvalidArgument(f'Invalid order_by "{order_by[:200]}": {" ".join(words) or "empty field"}.')
        result.sort(key=_sort_key(field), reverse=direction == "desc")
    return result


def _sort_key(field: FieldDescriptor) -> Callable[[Any], Any]:
    if field.message_type is not None and field.message_type.full_name == "google.protobuf.Timestamp":
        return lambda item: (getattr(item, field.name).seconds, getattr(item, field.name).nanos)
    return lambda item: getattr(item, field.name)


def _query_mark(request: Message) -> str:
    """The same for two requests that differ in page_size and page_token alone."""
    query = type(request)()
    query.CopyFrom(request)
    query.ClearField("page_token")
    query.ClearField("page_size")
    return hashlib.sha256(query.SerializeToString(deterministic=True)).hexdigest()[:16]


def _token(query: str, last: str, position: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([query, last, position]).encode()).decode().rstrip("=")


def _start(items: Sequence[M], token: str, query: str, key: Callable[[M], str]) -> int:
    """Where the next page begins: behind the last item that was shown, wherever it is by now."""
    try:
        padded = token + "=" * (-len(token) % 4)
        mark, last, position = json.loads(base64.b64decode(padded, b"-_", validate=True))
        position = int(position)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise InvalidArgument("Invalid page_token.") from None
    if mark != query or position < 0:
        raise InvalidArgument("Invalid page_token: it belongs to another query.")
    for index, item in enumerate(items):
        if key(item) == last:
            return index + 1
    return min(position, len(items))
