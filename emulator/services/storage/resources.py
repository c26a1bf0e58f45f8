"""Buckets and objects as the JSON API shows them: names of fields, defaults, what a client may set.

Source: https://cloud.google.com/storage/docs/json_api/v1/buckets, …/objects
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from google.api_core.exceptions import BadRequest, PreconditionFailed

from emulator.core.projects import Project
from emulator.services.storage import checksums, lifecycle
from emulator.services.storage.catalogue import StoredBucket, StoredObject

#: Fields of an object that a client sets; all others are the server's.
OBJECT_FIELDS = frozenset(
    {"cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType", "contexts",
     "customTime", "eventBasedHold", "metadata", "retention", "storageClass", "temporaryHold"}
)  # fmt: skip
#: What a copy does not take over from its source.
_NOT_COPIED = frozenset({"eventBasedHold", "retention", "storageClass", "temporaryHold"})
BUCKET_FIELDS = frozenset(
    {"autoclass", "billing", "cors", "customPlacementConfig", "defaultEventBasedHold", "encryption",
     "hierarchicalNamespace", "iamConfiguration", "ipFilter", "labels", "lifecycle", "location", "logging",
     "retentionPolicy", "rpo", "softDeletePolicy", "storageClass", "versioning", "website"}
)  # fmt: skip
#: Set once, when the bucket is made.
_BUCKET_IMMUTABLE = frozenset({"location", "customPlacementConfig", "hierarchicalNamespace"})
_STORAGE_CLASSES = frozenset(
    {"STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE", "MULTI_REGIONAL", "REGIONAL", "DURABLE_REDUCED_AVAILABILITY"}
)
_MULTI_REGIONS = frozenset({"US", "EU", "ASIA"})
_DUAL_REGIONS = frozenset({"NAM4", "EUR4", "EUR5", "EUR7", "EUR8", "ASIA1"})
_EPOCH = datetime(1970, 1, 1)  # UTC throughout; without a zone, `Z` can be written behind it
_SEVEN_DAYS = "604800"
_CENTURY_SECONDS = 3_155_760_000
API = "https://www.googleapis.com/storage/v1"


def microseconds(moment: datetime) -> int:
    """Since the epoch; exact, where a float of seconds is not."""
    since = moment - datetime.fromtimestamp(0, UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def time_text(stamp: int) -> str:
    """RFC 3339 with milliseconds, from microseconds since the epoch."""
    return f"{(_EPOCH + timedelta(microseconds=stamp)).isoformat(timespec='milliseconds')}Z"


def etag(generation: int, metageneration: int) -> str:
    """What the real service makes: the two numbers as fields 1 and 2 of a message, in base64."""
    fields = [(0x08, generation), (0x10, metageneration)] if generation else [(0x08, metageneration)]
    return base64.b64encode(b"".join(bytes([tag]) + _varint(value) for tag, value in fields)).decode()


def object_etag(stored: StoredObject) -> str:
    return etag(stored.generation, stored.metageneration)


def bucket_etag(stored: StoredBucket) -> str:
    return etag(0, stored.metageneration)


def object_resource(stored: StoredObject, uri: str) -> dict[str, Any]:
    """The object as JSON.

    uri: address of the call. The client fetches `mediaLink`, so it points to the host that the client reached.
    """
    name = quote(stored.name, safe="")
    fields = stored.settings
    created = time_text(stored.created)
    resource = {
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.name}/{stored.generation}",
        "selfLink": f"{API}/b/{stored.bucket}/o/{name}",
        "mediaLink": (
            f"{origin(uri)}/download/storage/v1/b/{stored.bucket}/o/{name}?generation={stored.generation}&alt=media"
        ),
        "name": stored.name,
        "bucket": stored.bucket,
        "generation": str(stored.generation),
        "metageneration": str(stored.metageneration),
        "size": str(stored.size),
        "crc32c": checksums.crc32c_text(stored.crc32c),
        "etag": object_etag(stored),
        "timeCreated": created,
        "updated": created if stored.updated == stored.created else time_text(stored.updated),
        "timeStorageClassUpdated": created,
        "timeFinalized": created,
        **shown_fields(fields),
    }
    if stored.md5 is not None:
        resource["md5Hash"] = checksums.md5_text(stored.md5)
    if stored.component_count:
        resource["componentCount"] = stored.component_count
    if stored.deleted:
        resource["timeDeleted"] = time_text(stored.deleted)
    if stored.soft_deleted:
        resource["softDeleteTime"] = time_text(stored.soft_deleted)
        resource["hardDeleteTime"] = time_text(stored.hard_delete)
    return resource


def shown_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what the server alone remembers."""
    return {key: value for key, value in fields.items() if key[0] != "_"}


def origin(uri: str) -> str:
    """Scheme and host for links that the client will follow."""
    scheme, _, rest = uri.partition("://")
    host = rest.partition("/")[0] or "storage.googleapis.com"
    if host.partition(":")[0] == "www.googleapis.com":
        return "https://storage.googleapis.com"
    return f"{scheme or 'https'}://{host}"


def new_object_fields(metadata: Mapping[str, Any], content_type: str, storage_class: str = "") -> dict[str, Any]:
    """What is kept of the metadata of an upload; without a storage class, the bucket's will be its own."""
    fields = {key: value for key, value in metadata.items() if key in OBJECT_FIELDS and value is not None}
    fields.setdefault("contentType", content_type)
    if storage_class:
        fields.setdefault("storageClass", storage_class)
    return _checked_object(fields)


def copied_object(source: StoredObject, document: Mapping[str, Any]) -> dict[str, Any]:
    """What a copy holds: its source's fields, unless the call brings any beside the storage class.

    Neither holds nor a retention are copied, and no storage class: without one given it is the bucket's.
    """
    fields = json.loads(source.fields)
    given = {key: value for key, value in document.items() if key in OBJECT_FIELDS and value is not None}
    if given.keys() <= {"storageClass"}:
        kept = {key: value for key, value in shown_fields(fields).items() if key in OBJECT_FIELDS - _NOT_COPIED}
        return _checked_object({**kept, **given})
    return new_object_fields(given, fields.get("contentType", ""))


def patched_object(fields: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """With a patch applied: null removes a key, `metadata` and `contexts` merge."""
    result = merged(fields, {key: value for key, value in patch.items() if key in OBJECT_FIELDS})
    # Only a rewrite changes the class.
    result["storageClass"] = fields.get("storageClass", "STANDARD")
    for key in ("metadata", "retention"):
        if not result.get(key):
            result.pop(key, None)
    return _checked_object(result)


def replaced_object(fields: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """After an update: of what a client may set, only what the document holds."""
    kept = {key: value for key, value in fields.items() if key not in OBJECT_FIELDS or key == "storageClass"}
    return patched_object(kept, document)


def stamped_contexts(before: Mapping[str, Any], after: dict[str, Any], now: int) -> dict[str, Any]:
    """The fields with the times of their contexts: when each was made, and when it last changed."""
    custom = after.get("contexts", {}).get("custom")
    if not custom:
        return {key: value for key, value in after.items() if key != "contexts"}
    moment, known, stamped = time_text(now), before.get("contexts", {}).get("custom", {}), {}
    for key, payload in custom.items():
        if payload is None:
            continue
        old = known.get(key)
        value = payload.get("value", "")
        unchanged = old is not None and old.get("value") == value
        stamped[key] = {
            "value": value,
            "createTime": old["createTime"] if old else moment,
            "updateTime": old["updateTime"] if old and unchanged else moment,
        }
    return {**after, "contexts": {"custom": stamped}}


def _checked_object(fields: dict[str, Any]) -> dict[str, Any]:
    check_storage_class(fields.get("storageClass", "STANDARD"))
    metadata = fields.get("metadata", {})
    if sum(len(key.encode()) + len(str(value).encode()) for key, value in metadata.items()) > 8192:
        raise BadRequest("Metadata exceeds the maximum size of 8192 bytes.")
    if any(value is None for value in metadata.values()):
        fields["metadata"] = {key: value for key, value in metadata.items() if value is not None}
    return fields


def check_storage_class(name: str) -> None:
    if name not in _STORAGE_CLASSES:
        raise BadRequest(f"The storage class you provided, '{name}', is not valid.")


def merged(document: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch. Source: RFC 7396."""
    result = dict(document)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, dict) else {}, value)
        else:
            result[key] = value
    return result


def new_bucket_fields(document: Mapping[str, Any], now: int) -> dict[str, Any]:
    """What a new bucket holds: the client's fields over the service's defaults."""
    allowed = {*BUCKET_FIELDS, "objectRetention"}
    fields = {key: value for key, value in document.items() if (key in allowed or key[0] == "_") and value is not None}
    fields["location"] = str(fields.get("location", "US")).upper()
    fields.setdefault("storageClass", "STANDARD")
    return _completed_bucket(fields, {}, now)


def patched_bucket(fields: Mapping[str, Any], patch: Mapping[str, Any], now: int) -> dict[str, Any]:
    settable = {key: value for key, value in patch.items() if key in BUCKET_FIELDS and key not in _BUCKET_IMMUTABLE}
    result = merged(fields, settable)
    result.setdefault("storageClass", "STANDARD")
    return _completed_bucket(result, fields, now)


def replaced_bucket(fields: Mapping[str, Any], document: Mapping[str, Any], now: int) -> dict[str, Any]:
    """After an update: what the document leaves out goes back to its default."""
    always = {*_BUCKET_IMMUTABLE, "objectRetention", "softDeletePolicy", "storageClass"}
    kept = {key: value for key, value in fields.items() if key in always or key[0] == "_"}
    return patched_bucket(kept, document, now)


def _completed_bucket(fields: dict[str, Any], before: Mapping[str, Any], now: int) -> dict[str, Any]:
    """With what the server adds to the client's settings."""
    check_storage_class(fields["storageClass"])
    moment = time_text(now)
    iam = dict(fields.get("iamConfiguration", {}))
    asked = {**iam.pop("bucketPolicyOnly", {}), **iam.get("uniformBucketLevelAccess", {})}
    uniform: dict[str, Any] = {"enabled": bool(asked.get("enabled", False))}
    old = before.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {})
    if old.get("enabled") and not uniform["enabled"] and old["lockedTime"] <= moment:
        raise PreconditionFailed("Uniform bucket-level access can no longer be disabled: its lockedTime has passed.")
    if uniform["enabled"]:
        uniform["lockedTime"] = old.get("lockedTime") or time_text(now + 90 * 86_400 * 1_000_000)
    iam["uniformBucketLevelAccess"] = uniform
    iam.setdefault("publicAccessPrevention", "inherited")
    fields["iamConfiguration"] = iam
    soft = dict(fields.get("softDeletePolicy") or {"retentionDurationSeconds": _SEVEN_DAYS})
    if soft.get("retentionDurationSeconds", "0") == "0":
        soft = {"retentionDurationSeconds": "0"}
    elif soft != before.get("softDeletePolicy"):
        soft["effectiveTime"] = moment
    fields["softDeletePolicy"] = soft
    if not fields.get("lifecycle", {}).get("rule"):
        fields.pop("lifecycle", None)
    elif fields["lifecycle"] != before.get("lifecycle"):
        lifecycle.check_rules(fields["lifecycle"]["rule"])
    for key in ("labels", "cors", "website", "logging"):
        if key in fields and not fields[key]:
            del fields[key]
    autoclass = fields.get("autoclass")
    if autoclass and autoclass.get("enabled") and autoclass != before.get("autoclass"):
        fields["autoclass"] = {"terminalStorageClass": "NEARLINE", **autoclass,
                               "toggleTime": moment, "terminalStorageClassUpdateTime": moment}  # fmt: skip
    _complete_retention_policy(fields, before, moment)
    return fields


def _complete_retention_policy(fields: dict[str, Any], before: Mapping[str, Any], moment: str) -> None:
    retention, old = fields.get("retentionPolicy") or {}, before.get("retentionPolicy") or {}
    period = int(retention.get("retentionPeriod") or 0)
    if not period:
        fields.pop("retentionPolicy", None)
        return
    if not 0 < period < _CENTURY_SECONDS:
        raise BadRequest("The retention period must be greater than zero and less than 100 years.")
    locked = {"isLocked": True} if old.get("isLocked") else {}
    changed = period != int(old.get("retentionPeriod") or 0)
    effective = moment if changed or "effectiveTime" not in old else old["effectiveTime"]
    fields["retentionPolicy"] = {"retentionPeriod": str(period), "effectiveTime": effective, **locked}


def location_type(location: str) -> str:
    if location in _MULTI_REGIONS:
        return "multi-region"
    return "dual-region" if location in _DUAL_REGIONS else "region"


def bucket_resource(stored: StoredBucket, project: Project) -> dict[str, Any]:
    fields = shown_fields(json.loads(stored.fields))
    iam = fields["iamConfiguration"]
    kind = location_type(fields["location"])
    resource = {
        "kind": "storage#bucket",
        "id": stored.name,
        "selfLink": f"{API}/b/{stored.name}",
        "projectNumber": project.number,
        "name": stored.name,
        "generation": str(stored.created),
        "metageneration": str(stored.metageneration),
        "etag": bucket_etag(stored),
        "locationType": kind,
        "timeCreated": time_text(stored.created),
        "updated": time_text(stored.updated),
        **fields,
        # The old name of uniform access is still shown beside the new.
        "iamConfiguration": {**iam, "bucketPolicyOnly": iam["uniformBucketLevelAccess"]},
    }
    if stored.soft_deleted:
        resource["softDeleteTime"] = time_text(stored.soft_deleted)
        resource["hardDeleteTime"] = time_text(stored.hard_delete)
    if kind == "region":
        resource["satisfiesPZI"] = True
    else:
        resource.setdefault("rpo", "DEFAULT")
    return resource


def default_policy(stored: StoredBucket) -> dict[str, Any]:
    """The IAM policy of a bucket that nobody changed."""
    owners = [f"projectEditor:{stored.project}", f"projectOwner:{stored.project}"]
    viewers = [f"projectViewer:{stored.project}"]
    kinds = ["Bucket"]
    if json.loads(stored.fields)["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"]:
        kinds.append("Object")
    return {
        "bindings": [
            binding
            for kind in kinds
            for binding in (
                {"role": f"roles/storage.legacy{kind}Owner", "members": owners},
                {"role": f"roles/storage.legacy{kind}Reader", "members": viewers},
            )
        ]
    }


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
