"""Buckets and objects as JSON, with what depends on the call: projection, keys, links, partial responses."""

from __future__ import annotations

from typing import Any

from emulator.core import partial_response
from emulator.core.service import JsonRequest
from emulator.services.storage import acl, encryption, protection, resources
from emulator.services.storage.catalogue import StoredBucket, StoredObject
from emulator.services.storage.store import ObjectFiles


def shown_object(
    store: ObjectFiles, request: JsonRequest, stored: StoredObject, *place: str, full: bool = False
) -> dict[str, Any]:
    """The object as JSON.

    place: where it stands in the answer, for what `fields` leaves out is not computed. full: whether a call that
    does not name a projection wants access control lists.
    """
    mask = partial_response.parse(request.parameters["fields"]) if request.get("fields") else {}
    if partial_response.includes(mask, *place, "md5Hash"):
        stored = store.md5(stored)
    resource = resources.object_resource(stored, request.uri)
    key = encryption.key_of(stored)
    if key and key != encryption.given_key(request.headers):
        for name in ("crc32c", "md5Hash"):
            resource.pop(name, None)
    wants_lists = _is_full(request, full)
    if not wants_lists and not partial_response.includes(mask, *place, "retentionExpirationTime"):
        return resource
    bucket = store.catalogue.find_bucket(stored.bucket)
    if bucket is None:
        return resource
    until = protection.retention_expiration(bucket.settings, stored)
    if until is not None:
        resource["retentionExpirationTime"] = resources.time_text(until)
    if wants_lists and not acl.is_uniform(bucket):
        project = store.projects.get(bucket.project)
        owner = stored.settings.get(acl.OWNER)
        if owner:
            resource["owner"] = {"entity": owner}
        resource["acl"] = [acl.object_entry(entry, stored, project) for entry in acl.object_list(stored, project)]
    return resource


def shown_bucket(
    store: ObjectFiles, request: JsonRequest, stored: StoredBucket, *, full: bool = False
) -> dict[str, Any]:
    """The bucket as JSON. full: as above."""
    project = store.projects.get(stored.project)
    resource = resources.bucket_resource(stored, project)
    if _is_full(request, full) and not acl.is_uniform(stored):
        resource["owner"] = {"entity": f"project-owners-{project.number}"}
        resource["acl"] = [acl.bucket_entry(entry, stored, project) for entry in acl.bucket_list(stored, project)]
        resource["defaultObjectAcl"] = [
            acl.default_entry(entry, stored, project) for entry in acl.default_list(stored, project)
        ]
    return resource


def _is_full(request: JsonRequest, default: bool) -> bool:
    return bool(request.get("projection", "full" if default else "noAcl") == "full")
