"""Lifecycle rules of a bucket: which are valid, what they ask of an object, and from when on. Pure functions.

Source: https://cloud.google.com/storage/docs/lifecycle
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.api_core.exceptions import BadRequest

from emulator.services.storage.catalogue import StoredObject

_DAY = 86_400_000_000
_MOST_RULES = 100
#: From dear to cheap storage: a rule only moves objects down.
_CLASSES = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")
_LIKE_STANDARD = frozenset({"MULTI_REGIONAL", "REGIONAL", "DURABLE_REDUCED_AVAILABILITY", "STANDARD"})
_CONDITIONS = frozenset(
    {"age", "createdBefore", "customTimeBefore", "daysSinceCustomTime", "daysSinceNoncurrentTime", "isLive",
     "matchesPrefix", "matchesStorageClass", "matchesSuffix", "noncurrentTimeBefore", "numNewerVersions",
     "sizeAboveBytes", "sizeBelowBytes"}
)  # fmt: skip
_UPLOAD_CONDITIONS = frozenset({"age", "matchesPrefix", "matchesSuffix"})


@dataclass(frozen=True)
class Action:
    """What a rule asks of one generation, and since when."""

    due: int
    storage_class: str = ""
    """to change to; empty for a deletion"""


def check_rules(rules: Iterable[Mapping[str, Any]]) -> None:
    """Raises BadRequest for rules that the service refuses."""
    listed = list(rules)
    if len(listed) > _MOST_RULES:
        raise BadRequest(f"A bucket may have at most {_MOST_RULES} lifecycle rules, not {len(listed)}.")
    for rule in listed:
        action, condition = rule.get("action") or {}, rule.get("condition") or {}
        kind = action.get("type")
        if kind not in ("Delete", "SetStorageClass", "AbortIncompleteMultipartUpload"):
            raise BadRequest(f"Invalid lifecycle action type: {kind!r}.")
        if not condition:
            raise BadRequest("A lifecycle rule must have at least one condition.")
        unknown = condition.keys() - (_UPLOAD_CONDITIONS if kind.startswith("Abort") else _CONDITIONS)
        if unknown:
            raise BadRequest(f"Lifecycle action {kind} does not support the condition {min(unknown)}.")
        if kind == "SetStorageClass" and action.get("storageClass") not in _CLASSES:
            raise BadRequest(f"Invalid storage class of a lifecycle rule: {action.get('storageClass')!r}.")
        for name, value in condition.items():
            if isinstance(value, int) and not isinstance(value, bool) and value < 0:
                raise BadRequest(f"The lifecycle condition {name} must not be negative.")
            if name.endswith("Before"):
                _midnight(value)


def action_on(rules: Iterable[Mapping[str, Any]], stored: StoredObject, newer: int) -> Action | None:
    """What the rules will ask of a generation, were it to stay as it is; the earliest where it is several things.

    newer: number of newer generations of its name.
    """
    fields: dict[str, Any] = {}
    found: list[Action] = []
    for rule in rules:
        kind = rule["action"]["type"]
        if kind.startswith("Abort"):
            continue
        fields = fields or json.loads(stored.fields)
        target = rule["action"].get("storageClass", "") if kind == "SetStorageClass" else ""
        if target and not _is_cheaper(target, fields.get("storageClass", "STANDARD")):
            continue
        due = _due(rule["condition"], stored, fields, newer)
        if due is not None:
            found.append(Action(due, target))
    return min(found, key=lambda action: action.due, default=None)


def best_of_due(rules: Iterable[Mapping[str, Any]], stored: StoredObject, newer: int, now: int) -> Action | None:
    """Of the actions that are due now, the one taken: a deletion before a change of class, the cheapest class first."""
    due = []
    for rule in rules:
        action = action_on([rule], stored, newer)
        if action is not None and action.due <= now:
            due.append(action)
    return min(
        due, key=lambda action: -_CLASSES.index(action.storage_class) if action.storage_class else -9, default=None
    )


def upload_due(rules: Iterable[Mapping[str, Any]], name: str, begun: int) -> int | None:
    """From when on the rules want an unfinished multipart upload aborted."""
    found = []
    for rule in rules:
        condition = rule["condition"]
        if rule["action"]["type"].startswith("Abort") and _name_fits(condition, name):
            found.append(begun + condition.get("age", 0) * _DAY)
    return min(found, default=None)


def _due(condition: Mapping[str, Any], stored: StoredObject, fields: Mapping[str, Any], newer: int) -> int | None:
    """From when on all conditions hold; None for never."""
    storage_class = fields.get("storageClass", "STANDARD")
    wanted = condition.get("matchesStorageClass")
    custom = _stamp(fields["customTime"]) if fields.get("customTime") else None
    noncurrent = stored.deleted or None
    holds = (
        _name_fits(condition, stored.name)
        and (not wanted or storage_class in wanted)
        and condition.get("isLive", stored.is_live) == stored.is_live
        and stored.size > int(condition.get("sizeAboveBytes", -1))
        and stored.size < int(condition.get("sizeBelowBytes", stored.size + 1))
        and _before(condition.get("createdBefore"), stored.created)
        and _before(condition.get("customTimeBefore"), custom)
        and _before(condition.get("noncurrentTimeBefore"), noncurrent)
        and (not condition.get("numNewerVersions") or newer >= condition["numNewerVersions"])
    )
    if not holds:
        return None
    due = 0
    for name, begin in (
        ("age", stored.created),
        ("daysSinceCustomTime", custom),
        ("daysSinceNoncurrentTime", noncurrent),
    ):
        if name in condition:
            if begin is None:
                return None
            due = max(due, begin + condition[name] * _DAY)
    return due


def _name_fits(condition: Mapping[str, Any], name: str) -> bool:
    prefixes, suffixes = condition.get("matchesPrefix"), condition.get("matchesSuffix")
    return (not prefixes or name.startswith(tuple(prefixes))) and (not suffixes or name.endswith(tuple(suffixes)))


def _before(date: str | None, moment: int | None) -> bool:
    return date is None or (moment is not None and moment < _midnight(date))


def _midnight(date: str) -> int:
    """The beginning of a day in UTC. Raises BadRequest for what is no date."""
    try:
        return _stamp(f"{datetime.strptime(date, '%Y-%m-%d').date()}T00:00:00Z")
    except (TypeError, ValueError):
        raise BadRequest(f"Invalid date in a lifecycle rule: {date!r}, not of the form 2013-01-15.") from None


def _stamp(text: str) -> int:
    moment = datetime.fromisoformat(text)
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _is_cheaper(target: str, current: str) -> bool:
    at = 0 if current in _LIKE_STANDARD else _CLASSES.index(current)
    return _CLASSES.index(target) > at or (target == "STANDARD" and current != "STANDARD" and at == 0)
