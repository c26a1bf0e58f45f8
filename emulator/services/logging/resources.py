"""Names, defaults and checks of what clients write to Cloud Logging: pure functions.

Source: https://cloud.google.com/logging/docs/reference/v2/rpc/google.logging.v2 and
https://cloud.google.com/logging/quotas
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, unquote

from google.api_core.exceptions import InvalidArgument, NotFound, PermissionDenied

from emulator.services.logging.store import LARGEST_ENTRY_BYTES, Scope

_LOG_NAME = re.compile(r"(projects|organizations|folders|billingAccounts)/([^/]+)/logs/([^/]+)")
_LOG_ID = re.compile(r"[A-Za-z0-9/_.\-]{1,511}")
_RESOURCE_NAME = re.compile(
    r"(projects|organizations|folders|billingAccounts)/([^/]+)(?:/locations/([^/]+)/buckets/([^/]+)/views/([^/]+))?"
)
#: Logs that Google keeps in the bucket `_Required` and not in `_Default`.
_REQUIRED_LOG_IDS = ("activity", "system_event", "access_transparency")


def parse_log_name(name: str, project_id: Callable[[str], str]) -> tuple[str, str]:
    """The project's id and the log's canonical name, which has that id and an encoded log id.

    project_id: the id of a project's id or number. Raises InvalidArgument; PermissionDenied for a log of an
    organization, folder or billing account, none of which exist here.
    """
    match = _LOG_NAME.fullmatch(name)
    log_id = unquote(match[3]) if match else ""
    if match is None or not _LOG_ID.fullmatch(log_id):
        raise InvalidArgument(
            f"Invalid log name '{name}': expected projects/[PROJECT_ID]/logs/[LOG_ID], with a URL-encoded LOG_ID of "
            "up to 511 letters, digits, '/', '_', '-' and '.'"
        )
    if match[1] != "projects":
        raise PermissionDenied("The caller does not have permission")
    project = project_id(match[2])
    return project, f"projects/{project}/logs/{quote(log_id, safe='')}"


def scope(names: Iterable[str], project_id: Callable[[str], str]) -> Scope:
    """What the resource names of a list or tail let it read.

    An organization, folder or billing account holds nothing. Raises InvalidArgument, and NotFound for buckets
    and views other than those that every project has.
    """
    whole: set[str] = set()
    buckets: set[tuple[str, str]] = set()
    for name in names:
        match = _RESOURCE_NAME.fullmatch(name)
        if match is None:
            raise InvalidArgument(f"Invalid resource name: '{name}'")
        kind, container, location, bucket, view = match.groups()
        if kind != "projects":
            continue
        project = project_id(container)
        if bucket is None:
            whole.add(project)
            continue
        if location != "global" or bucket not in ("_Default", "_Required"):
            raise NotFound(f"Bucket `{bucket}` in location `{location}` does not exist")
        if view not in ("_AllLogs", "_Default"):
            raise NotFound(f"View {view} does not exist")
        buckets.add((project, bucket))

    def holds(log_name: str) -> bool:
        project = log_name.split("/")[1]
        return project in whole or (project, _bucket_of(log_name)) in buckets

    return Scope(frozenset(whole | {project for project, _ in buckets}), holds)


def _bucket_of(log_name: str) -> str:
    """Where a project's own sinks send a log."""
    log_id = unquote(log_name.partition("/logs/")[2])
    is_required = log_id in {f"cloudaudit.googleapis.com/{name}" for name in _REQUIRED_LOG_IDS}
    return "_Required" if is_required else "_Default"


def complete_entry(entry: Any, request: Any, project_id: Callable[[str], str]) -> str:
    """Fill an entry from its request's defaults, check it, and give back the id of its project.

    Raises InvalidArgument and PermissionDenied.
    """
    project, entry.log_name = parse_log_name(entry.log_name or request.log_name, project_id)
    if not entry.HasField("resource"):
        entry.resource.CopyFrom(request.resource)
    if not entry.resource.type:
        raise InvalidArgument(f"Log entry of {entry.log_name} has no monitored resource type")
    if entry.resource.type == "global" and "project_id" not in entry.resource.labels:
        entry.resource.labels["project_id"] = project
    for key, value in request.labels.items():
        if key not in entry.labels:
            entry.labels[key] = value
    size = entry.ByteSize()
    if size > LARGEST_ENTRY_BYTES:
        raise InvalidArgument(
            f"Log entry with size {_kibibytes(size)} exceeds maximum size of {_kibibytes(LARGEST_ENTRY_BYTES)}"
        )
    if entry.HasField("json_payload"):
        _name_odd_numbers(entry.json_payload.fields.values())
    return project


def _kibibytes(size: int) -> str:
    return f"{size / 1024:.1f}K"


def _name_odd_numbers(values: Any) -> None:
    """Make text of NaN and infinities, which JSON has no numbers for: one of them would spoil every list."""
    for value in values:
        match value.WhichOneof("kind"):
            case "number_value" if not math.isfinite(value.number_value):
                value.string_value = {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value.number_value, "NaN")
            case "struct_value":
                _name_odd_numbers(value.struct_value.fields.values())
            case "list_value":
                _name_odd_numbers(value.list_value.values)
