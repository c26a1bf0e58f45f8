"""objects.list: one page of names and of the prefixes that a delimiter folds them into.

Only what the page shows is read: behind a prefix the next name is sought, however many it stands for.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from google.api_core.exceptions import BadRequest

from emulator.services.storage.catalogue import StoredObject
from emulator.services.storage.glob import Glob
from emulator.services.storage.names import after_prefix
from emulator.services.storage.store import ObjectFiles
from emulator.services.storage.versions import Position

MAX_RESULTS = 1000
_BATCH = 250


@dataclass(frozen=True)
class Query:
    """What to list. Offsets compare with whole names: from `start` on, before `end`."""

    bucket: str
    prefix: str = ""
    delimiter: str = ""
    include_trailing_delimiter: bool = False
    start: Position = ("", 0)
    end: str | None = None
    glob: Glob | None = None
    limit: int = MAX_RESULTS
    versions: bool = False
    """noncurrent generations too"""
    soft_deleted: bool = False
    """instead, generations that can be restored"""
    test: Callable[[StoredObject], bool] | None = None
    """which objects to list, where not all"""


@dataclass
class Page:
    items: list[StoredObject] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    next_start: Position | None = None
    """where the next page begins; None on the last"""

    @property
    def size(self) -> int:
        return len(self.items) + len(self.prefixes)


def list_page(store: ObjectFiles, query: Query) -> Page:
    """At most `limit` items and prefixes, in the byte order of their UTF-8 names, generations from old to new."""
    page = Page()
    end = _earlier(after_prefix(query.prefix), query.end)
    start: Position | None = max(query.start, (query.prefix, 0))
    while start is not None:
        # A name more than fits is read, to know whether there is a next page; a filter may drop any of them.
        folding = query.delimiter or query.glob or query.test
        rows, more = _rows(store, query, start, end, _BATCH if folding else query.limit - page.size + 1)
        start = _add(page, query, rows, more)
        if page.next_start is not None:
            break
    return page


def _rows(
    store: ObjectFiles, query: Query, start: Position, end: str | None, limit: int
) -> tuple[list[StoredObject], Position | None]:
    if query.soft_deleted:
        return store.page_of_soft_deleted(query.bucket, start, end, limit)
    if query.versions:
        return store.page_of_generations(query.bucket, start, end, limit)
    rows, more = store.page(query.bucket, start[0], end, limit)
    return rows, None if more is None else (more, 0)


def _add(page: Page, query: Query, rows: list[StoredObject], more: Position | None) -> Position | None:
    """Put rows on the page; gives back where to go on from, None at the end or when the page is full."""
    skip_until = ""
    for row in rows:
        if row.name < skip_until or (query.glob and not query.glob.matches(row.name)):
            continue
        if query.test and not query.test(row):
            continue
        folded = _fold(query, row.name)
        if page.size >= query.limit:
            page.next_start = (row.name, row.generation if query.versions or query.soft_deleted else 0)
            return None
        if folded is None:
            page.items.append(row)
            continue
        beyond = after_prefix(folded)
        page.prefixes.append(folded)
        if row.name == folded and query.include_trailing_delimiter:
            page.items.append(row)
        if beyond is None:
            return None
        skip_until = beyond
    if more is None:
        return None
    return max(more, (skip_until, 0))


def add_folders(page: Page, query: Query, names: Iterable[str]) -> None:
    """Put the prefixes of managed folders on a page of objects, as far as the page reaches.

    names: of the folders, in order. What no longer fits goes to the next page.
    """
    start = max(query.start[0], query.prefix)
    folded = {_fold(query, name) for name in names if name.startswith(query.prefix) and name >= start}
    reach = page.next_start[0] if page.next_start is not None else None
    added = {
        prefix
        for prefix in folded - {None, *page.prefixes}
        if prefix and (reach is None or prefix < reach) and (query.end is None or prefix < query.end)
    }
    if not added:
        return
    entries: list[tuple[str, int, StoredObject | None]] = [(row.name, row.generation, row) for row in page.items]
    entries.extend((prefix, 0, None) for prefix in {*page.prefixes, *added})
    entries.sort(key=lambda entry: entry[:2])
    if len(entries) > query.limit:
        name, generation, row = entries[query.limit]
        page.next_start = (name, generation if row is not None and query.versions else 0)
    shown = entries[: query.limit]
    page.items = [row for _, _, row in shown if row is not None]
    page.prefixes = [name for name, _, row in shown if row is None]


def _fold(query: Query, name: str) -> str | None:
    """The prefix that stands for a name, up to and with the first delimiter behind the query's own prefix."""
    if not query.delimiter:
        return None
    at = name.find(query.delimiter, len(query.prefix))
    return None if at < 0 else name[: at + len(query.delimiter)]


def _earlier(one: str | None, other: str | None) -> str | None:
    return min((end for end in (one, other) if end is not None), default=None)


def page_token(start: str, generation: int = 0) -> str:
    # No name holds a line break.
    text = f"{start}\n{generation}" if generation else start
    return base64.urlsafe_b64encode(text.encode()).decode()


def parse_page_token(token: str) -> Position:
    """What a page begins with; an empty token is the first page. Raises BadRequest."""
    try:
        name, _, generation = base64.b64decode(token, altchars=b"-_", validate=True).decode().partition("\n")
        return name, int(generation or 0)
    except (binascii.Error, ValueError):
        raise BadRequest(
            "Invalid argument.", errors=[{"reason": "invalid", "locationType": "parameter", "location": "pageToken"}]
        ) from None
