"""objects.list: one page of names and of the prefixes that a delimiter folds them into.

Only what the page shows is read: behind a prefix the next name is sought, however many it stands for.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from google.api_core.exceptions import BadRequest

from emulator.services.storage.catalogue import StoredObject
from emulator.services.storage.glob import Glob
from emulator.services.storage.names import after_prefix
from emulator.services.storage.store import ObjectFiles

MAX_RESULTS = 1000
_BATCH = 250


@dataclass(frozen=True)
class Query:
    """What to list. Offsets compare with whole names: from `start` on, before `end`."""

    bucket: str
    prefix: str = ""
    delimiter: str = ""
    include_trailing_delimiter: bool = False
    start: str = ""
    end: str | None = None
    glob: Glob | None = None
    limit: int = MAX_RESULTS


@dataclass
class Page:
    items: list[StoredObject] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    next_start: str | None = None
    """the name from which the next page begins; None on the last"""

    @property
    def size(self) -> int:
        return len(self.items) + len(self.prefixes)


def list_page(store: ObjectFiles, query: Query) -> Page:
    """At most `limit` items and prefixes, in the byte order of their UTF-8 names."""
    page = Page()
    end = _earlier(after_prefix(query.prefix), query.end)
    start: str | None = max(query.start, query.prefix)
    while start is not None:
        # A name more than fits is read, to know whether there is a next page; a glob may drop any of them.
        folding = query.delimiter or query.glob
        rows, more = store.page(query.bucket, start, end, _BATCH if folding else query.limit - page.size + 1)
        start = _add(page, query, rows, more)
        if page.next_start is not None:
            break
    return page


def _add(page: Page, query: Query, rows: list[StoredObject], more: str | None) -> str | None:
    """Put rows on the page; gives back the name to go on from, None at the end or when the page is full."""
    skip_until = ""
    for row in rows:
        if row.name < skip_until or (query.glob and not query.glob.matches(row.name)):
            continue
        folded = _fold(query, row.name)
        if page.size >= query.limit:
            page.next_start = row.name
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
    return max(more, skip_until)


def _fold(query: Query, name: str) -> str | None:
    """The prefix that stands for a name, up to and with the first delimiter behind the query's own prefix."""
    if not query.delimiter:
        return None
    at = name.find(query.delimiter, len(query.prefix))
    return None if at < 0 else name[: at + len(query.delimiter)]


def _earlier(one: str | None, other: str | None) -> str | None:
    return min((end for end in (one, other) if end is not None), default=None)


def page_token(start: str) -> str:
    return base64.urlsafe_b64encode(start.encode()).decode()


def parse_page_token(token: str) -> str:
    """The name a page begins with; an empty token is the first page. Raises BadRequest."""
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise BadRequest(
            "Invalid argument.", errors=[{"reason": "invalid", "locationType": "parameter", "location": "pageToken"}]
        ) from None
