"""`fields=`: the part of a JSON answer that a client wants.

    kind,items(name,size),nextPageToken     items/name     items/metadata/*

Source: https://cloud.google.com/storage/docs/json_api#partial-response
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from google.api_core.exceptions import BadRequest

#: Field -> what is wanted of it; an empty mapping wants all.
Mask = Mapping[str, "Mask"]

_TOKEN = re.compile(r"\s*([^,/()\s]+|[,/()])")
_DEEPEST = 50


@lru_cache(maxsize=256)
def parse(text: str) -> Mask:
    """A mask as a tree. Raises BadRequest for one that is malformed."""
    tokens = _TOKEN.findall(text)
    if not tokens or "".join(tokens) != re.sub(r"\s+", "", text):
        raise _invalid(text)
    mask, rest = _parse_list(tokens, text, 0)
    if rest:
        raise _invalid(text)
    return mask


def select(document: Mapping[str, Any], mask: Mask) -> dict[str, Any]:
    """What a mask takes of a document; fields that are not there are left out."""
    return {
        key: _select(value, wanted) for key, value in document.items() if (wanted := _wanted(mask, key)) is not None
    }


def includes(mask: Mask, *path: str) -> bool:
    """Whether a mask takes a field, given from the outside in; a mask of nothing takes all."""
    for key in path:
        if not mask:
            return True
        wanted = _wanted(mask, key)
        if wanted is None:
            return False
        mask = wanted
    return True


def _select(value: Any, mask: Mask) -> Any:
    if not mask:
        return value
    if isinstance(value, Mapping):
        return select(value, mask)
    if isinstance(value, list):
        return [_select(item, mask) for item in value]
    return value


def _wanted(mask: Mask, key: str) -> Mask | None:
    return mask.get(key, mask.get("*"))


def _parse_list(tokens: list[str], text: str, depth: int) -> tuple[dict[str, Mask], list[str]]:
    if depth > _DEEPEST:
        raise _invalid(text)
    mask: dict[str, Mask] = {}
    while True:
        mask, tokens = _parse_path(mask, tokens, text, depth)
        if not tokens or tokens[0] != ",":
            return mask, tokens
        tokens = tokens[1:]


def _parse_path(mask: dict[str, Mask], tokens: list[str], text: str, depth: int) -> tuple[dict[str, Mask], list[str]]:
    if not tokens or tokens[0] in ",/()" or depth > _DEEPEST:
        raise _invalid(text)
    name, tokens = tokens[0], tokens[1:]
    below: dict[str, Mask] = {}
    if tokens and tokens[0] == "/":
        below, tokens = _parse_path({}, tokens[1:], text, depth + 1)
    elif tokens and tokens[0] == "(":
        below, tokens = _parse_list(tokens[1:], text, depth + 1)
        if not tokens or tokens[0] != ")":
            raise _invalid(text)
        tokens = tokens[1:]
    return _joined(mask, {name: below}), tokens


def _joined(one: Mapping[str, Mask], other: Mapping[str, Mask]) -> dict[str, Mask]:
    """What either of two masks takes."""
    result = dict(one)
    for key, wanted in other.items():
        before = result.get(key)
        result[key] = wanted if before is None else _joined(before, wanted) if before and wanted else {}
    return result


def _invalid(text: str) -> BadRequest:
    return BadRequest(
        f"Invalid field selection {text}",
        errors=[{"reason": "invalidParameter", "locationType": "parameter", "location": "fields"}],
    )
