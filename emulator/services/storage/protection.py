"""What keeps an object from being deleted or replaced: holds, the bucket's retention policy, its own retention.

Source: https://cloud.google.com/storage/docs/bucket-lock, …/docs/object-holds, …/docs/object-lock
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from google.api_core.exceptions import BadRequest, Forbidden

from emulator.services.storage import resources
from emulator.services.storage.catalogue import StoredObject

#: When an event-based hold was released: the bucket's retention period counts from there.
HOLD_RELEASED = "_holdReleased"
_SECOND = 1_000_000


def parse_time(text: str, field: str) -> int:
    """Microseconds since the epoch. Raises BadRequest for what is no RFC 3339 time."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError(text)
        return resources.microseconds(moment)
    except ValueError:
        raise BadRequest(f"Invalid value for {field}: {text!r} is not an RFC 3339 time.") from None


def retention_expiration(bucket_fields: Mapping[str, Any], stored: StoredObject) -> int | None:
    """Until when it must be kept; None where nothing asks for it, or where a hold leaves the time open."""
    fields = stored.settings
    own = fields.get("retention", {}).get("retainUntilTime")
    times = [parse_time(own, "retention.retainUntilTime")] if own else []
    period = int(bucket_fields.get("retentionPolicy", {}).get("retentionPeriod") or 0)
    if period:
        if fields.get("eventBasedHold"):
            return None
        times.append(max(stored.created, fields.get(HOLD_RELEASED, 0)) + period * _SECOND)
    return max(times, default=None)


def is_versioned(bucket_fields: Mapping[str, Any]) -> bool:
    """Whether a bucket keeps what is replaced or deleted as noncurrent."""
    return bool(bucket_fields.get("versioning", {}).get("enabled"))


def soft_delete_seconds(bucket_fields: Mapping[str, Any]) -> int:
    """For how long a bucket keeps what was deleted for good; 0 for not at all."""
    return int(bucket_fields.get("softDeletePolicy", {}).get("retentionDurationSeconds") or 0)


def is_protected(bucket_fields: Mapping[str, Any], stored: StoredObject) -> bool:
    """Whether a hold or a retention, over or not, was set on an object."""
    fields = stored.settings
    is_held = fields.get("temporaryHold") or fields.get("eventBasedHold")
    return bool(is_held) or retention_expiration(bucket_fields, stored) is not None


def check_removal(
    bucket_fields: Mapping[str, Any], stored: StoredObject, now: int, *, becomes_noncurrent: bool = False
) -> None:
    """Raises Forbidden while the object may not be deleted or replaced.

    becomes_noncurrent: whether it is kept as a version, which a retention allows and a hold does not.
    """
    fields = stored.settings
    name = f"{stored.bucket}/{stored.name}"
    for field, kind in (("temporaryHold", "Temporary"), ("eventBasedHold", "Event-Based")):
        if fields.get(field):
            raise Forbidden(
                f"Object '{name}' is under active {kind} hold and cannot be deleted, overwritten or archived until "
                "hold is removed.",
                errors=[{"reason": "objectUnderActiveHold"}],
            )
    until = None if becomes_noncurrent else retention_expiration(bucket_fields, stored)
    if until is not None and until > now:
        raise Forbidden(
            f"Object '{name}' is subject to bucket's retention policy or object retention and cannot be deleted or "
            f"overwritten until {resources.time_text(until)}",
            errors=[{"reason": "retentionPolicyNotMet"}],
        )


def check_retention_change(before: Mapping[str, Any], after: Mapping[str, Any], *, override: bool) -> None:
    """An object's own retention may grow; Unlocked, it may do anything when the caller says so.

    before, after: the object's fields. Raises Forbidden.
    """
    old, new = before.get("retention") or {}, after.get("retention") or {}
    if not old or old == new:
        return
    shorter = not new or parse_time(new["retainUntilTime"], "retention.retainUntilTime") < parse_time(
        old["retainUntilTime"], "retention.retainUntilTime"
    )
    if old["mode"] == "Locked" and (shorter or new.get("mode") != "Locked"):
        raise Forbidden(
            "Object retention is locked: it can neither be removed nor shortened nor unlocked.",
            errors=[{"reason": "retentionPolicyNotMet"}],
        )
    if (shorter or new.get("mode") != old["mode"]) and not override:
        raise Forbidden(
            "Removing or reducing an object's retention, or locking it, requires overrideUnlockedRetention=true.",
            errors=[{"reason": "retentionPolicyNotMet"}],
        )


def checked_retention(bucket_fields: Mapping[str, Any], fields: Mapping[str, Any], now: int) -> None:
    """Raises BadRequest for a retention that is incomplete, over, or not allowed in the bucket."""
    retention = fields.get("retention")
    if not retention:
        return
    if bucket_fields.get("objectRetention", {}).get("mode") != "Enabled":
        raise BadRequest("Object retention configurations are not enabled on the bucket.")
    if retention.get("mode") not in ("Locked", "Unlocked") or not retention.get("retainUntilTime"):
        raise BadRequest("An object's retention needs a mode, Locked or Unlocked, and a retainUntilTime.")
    if parse_time(retention["retainUntilTime"], "retention.retainUntilTime") <= now:
        raise BadRequest("The retainUntilTime of an object's retention must lie in the future.")


def check_policy_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """A locked retention policy may only grow. before, after: the bucket's fields. Raises Forbidden."""
    old, new = before.get("retentionPolicy") or {}, after.get("retentionPolicy") or {}
    if old.get("isLocked") and int(new.get("retentionPeriod") or 0) < int(old["retentionPeriod"]):
        raise Forbidden("Cannot reduce retention duration of a locked Retention Policy for bucket.")


def new_object(bucket_fields: Mapping[str, Any], fields: dict[str, Any], now: int) -> dict[str, Any]:
    """A new object's fields with what its bucket adds. Raises BadRequest for a retention that it does not allow."""
    fields = {"storageClass": bucket_fields["storageClass"], **resources.stamped_contexts({}, fields, now)}
    if bucket_fields.get("defaultEventBasedHold"):
        fields.setdefault("eventBasedHold", True)
    checked_retention(bucket_fields, fields, now)
    return fields


def changed_object(
    bucket_fields: Mapping[str, Any], before: Mapping[str, Any], after: dict[str, Any], now: int, *, override: bool
) -> dict[str, Any]:
    """A changed object's fields with what follows from the change. Raises Forbidden, BadRequest.

    override: whether an unlocked retention may be shortened, removed or locked.
    """
    check_retention_change(before, after, override=override)
    if after.get("retention") != before.get("retention"):
        checked_retention(bucket_fields, after, now)
    after = resources.stamped_contexts(before, after, now)
    if before.get("eventBasedHold") and not after.get("eventBasedHold"):
        after[HOLD_RELEASED] = now
    return after
