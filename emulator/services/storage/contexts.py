"""`filter` of objects.list: objects by their contexts.

    contexts."team"="blue"     -contexts."team"="blue"     contexts."team":*     and, with NOT, -contexts."team":*

Source: https://cloud.google.com/storage/docs/listing-objects#filter-by-object-contexts
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from google.api_core.exceptions import BadRequest

from emulator.services.storage.catalogue import StoredObject

_FILTER = re.compile(r'(-|NOT\s+)?contexts\."((?:[^"\\]|\\.)*)"\s*(?::\s*(\*)|=\s*"((?:[^"\\]|\\.)*)")')


def compile_filter(text: str) -> Callable[[StoredObject], bool] | None:
    """A test of objects; None for an empty text. Raises BadRequest for what is no such filter."""
    if not text.strip():
        return None
    match = _FILTER.fullmatch(text.strip())
    if match is None:
        raise BadRequest(
            f"Invalid filter: {text[:200]}",
            errors=[{"reason": "invalid", "locationType": "parameter", "location": "filter"}],
        )
    negated, key, any_value = bool(match[1]), _plain(match[2]), bool(match[3])
    value = _plain(match[4] or "")

    def holds(stored: StoredObject) -> bool:
        payload = json.loads(stored.fields).get("contexts", {}).get("custom", {}).get(key)
        found = payload is not None and (any_value or payload.get("value") == value)
        return found is not negated

    return holds


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
