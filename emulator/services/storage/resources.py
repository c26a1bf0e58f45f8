"""Buckets and objects as the JSON API shows them: names of fields, defaults, what a client may set.

Source: https://cloud.google.com/storage/docs/json_api/v1/buckets, …/objects
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from google.api_core.exceptions import BadRequest

from emulator.core.projects import Project
from emulator.services.storage import checksums
from emulator.services.storage.catalogue import StoredBucket, StoredObject

#: Fields of an object that a client sets; all others are the server's.
OBJECT_FIELDS = frozenset(
    {"cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType", "contexts",
     "customTime", "eventBasedHold", "metadata", "retention", "storageClass", "temporaryHold"}
)  # fmt: skip
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
_API = "https://www.googleapis.com/storage/v1"


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
    fields = json.loads(stored.fields)
    created = time_text(stored.created)
    resource = {
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.name}/{stored.generation}",
        "selfLink": f"{_API}/b/{stored.bucket}/o/{name}",
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
        "updated": time_text(stored.updated),
        "timeStorageClassUpdated": created,
        "timeFinalized": created,
        **fields,
    }
    if stored.md5 is not None:
        resource["md5Hash"] = checksums.md5_text(stored.md5)
    if stored.component_count:
        resource["componentCount"] = stored.component_count
    return resource


def origin(uri: str) -> str:
    """Scheme and host for links that the client will follow."""
    parts = urlsplit(uri)
    host = parts.netloc or "storage.googleapis.com"
    if host.partition(":")[0] == "www.googleapis.com":
        return "https://storage.googleapis.com"
    return f"{parts.scheme or 'https'}://{host}"


def new_object_fields(metadata: Mapping[str, Any], content_type: str, storage_class: str) -> dict[str, Any]:
    """What is kept of the metadata of an upload, with the defaults."""
    fields = {key: value for key, value in metadata.items() if key in OBJECT_FIELDS and value is not None}
    fields.setdefault("contentType", content_type)
    fields.setdefault("storageClass", storage_class)
    return _checked_object(fields)


def copied_object(source: StoredObject, document: Mapping[str, Any]) -> dict[str, Any]:
    """What a copy holds: its source's fields, unless the call brings any beside the storage class."""
    fields = json.loads(source.fields)
    given = {key: value for key, value in document.items() if key in OBJECT_FIELDS and value is not None}
    if given.keys() <= {"storageClass"}:
        return _checked_object({**fields, **given})
    return new_object_fields(given, fields.get("contentType", ""), fields["storageClass"])


def patched_object(fields: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """With a patch applied: null removes a key, `metadata` and `contexts` merge."""
    result = merged(fields, {key: value for key, value in patch.items() if key in OBJECT_FIELDS})
    # Only a rewrite changes the class.
    result["storageClass"] = fields.get("storageClass", "STANDARD")
    if not result.get("metadata"):
        result.pop("metadata", None)
    return _checked_object(result)


def _checked_object(fields: dict[str, Any]) -> dict[str, Any]:
    check_storage_class(fields["storageClass"])
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
    fields = {key: value for key, value in document.items() if key in BUCKET_FIELDS and value is not None}
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
    kept = {key: fields[key] for key in (*_BUCKET_IMMUTABLE, "softDeletePolicy", "storageClass") if key in fields}
    return patched_bucket(kept, document, now)


def _completed_bucket(fields: dict[str, Any], before: Mapping[str, Any], now: int) -> dict[str, Any]:
    """With what the server adds to the client's settings."""
    check_storage_class(fields["storageClass"])
    moment = time_text(now)
    iam = dict(fields.get("iamConfiguration", {}))
    asked = {**iam.pop("bucketPolicyOnly", {}), **iam.get("uniformBucketLevelAccess", {})}
    uniform: dict[str, Any] = {"enabled": bool(asked.get("enabled", False))}
    if uniform["enabled"]:
        old = before.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {})
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
    for key in ("labels", "cors", "website", "logging"):
        if key in fields and not fields[key]:
            del fields[key]
    autoclass = fields.get("autoclass")
    if autoclass and autoclass.get("enabled") and autoclass != before.get("autoclass"):
        fields["autoclass"] = {"terminalStorageClass": "NEARLINE", **autoclass,
                               "toggleTime": moment, "terminalStorageClassUpdateTime": moment}  # fmt: skip
    retention = fields.get("retentionPolicy")
    if retention and retention != before.get("retentionPolicy"):
        fields["retentionPolicy"] = {**retention, "effectiveTime": moment}
    return fields


def location_type(location: str) -> str:
    if location in _MULTI_REGIONS:
        return "multi-region"
    return "dual-region" if location in _DUAL_REGIONS else "region"


def bucket_resource(stored: StoredBucket, project: Project) -> dict[str, Any]:
    fields = json.loads(stored.fields)
    iam = fields["iamConfiguration"]
    kind = location_type(fields["location"])
    resource = {
        "kind": "storage#bucket",
        "id": stored.name,
        "selfLink": f"{_API}/b/{stored.name}",
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
