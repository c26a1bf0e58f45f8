"""Cloud Storage: buckets and their IAM policies.

Source: https://cloud.google.com/storage/docs/json_api/v1/buckets
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from google.api_core.exceptions import BadRequest, NotFound

from emulator.core.projects import Project
from emulator.core.service import Context, DiscoveryService, JsonRequest, JsonResponse
from emulator.services.storage import acl, protection, resources, views
from emulator.services.storage.bucket_operations import BucketOperations
from emulator.services.storage.catalogue import StoredBucket
from emulator.services.storage.listing import MAX_RESULTS, page_token, parse_page_token
from emulator.services.storage.policies import tested_permissions
from emulator.services.storage.preconditions import NONE, Preconditions, integer
from emulator.services.storage.schema import typed
from emulator.services.storage.store import ObjectFiles

_EMPTY = "type.googleapis.com/google.protobuf.Empty"


class Buckets(DiscoveryService):
    api = "storage.v1"
    resource = "buckets"
    legacy_errors = True

    def __init__(self, store: ObjectFiles, operations: BucketOperations) -> None:
        self._store = store
        self._operations = operations

    def insert(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        project = _required(request, "project")
        document = typed("Bucket", request.body)
        if not document.get("name"):
            raise BadRequest("Required", errors=[{"reason": "required"}])
        fields = self._with_lists(request, document, self._store.projects.get(project))
        fields.pop("objectRetention", None)
        if request.get("enableObjectRetention"):
            fields["objectRetention"] = {"mode": "Enabled"}
        stored = self._store.create_bucket(document["name"], project, fields)
        return self._shown(request, stored)

    def get(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        name = request.parameters["bucket"]
        generation = integer(request.parameters, "generation")
        if request.get("softDeleted"):
            stored = self._store.soft_deleted_bucket(name, _required_generation(generation))
        else:
            stored = self._store.bucket(name)
            if generation not in (None, stored.created):
                raise NotFound("The specified bucket does not exist.")
        conditions = Preconditions.of(request.parameters, request.headers)
        conditions.check(stored.created, stored.metageneration, resources.bucket_etag(stored))
        return self._shown(request, stored)

    def list(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        project = self._store.projects.get(_required(request, "project"))
        limit, prefix = max_results(request), request.get("prefix", "")
        start = parse_page_token(request.get("pageToken", ""))
        soft_deleted = bool(request.get("softDeleted"))
        if soft_deleted:
            now = resources.microseconds(self._store.clock.now())
            stored = self._store.deleted_buckets.page(project.id, prefix, start, limit + 1, now)
        else:
            stored = self._store.catalogue.buckets(project.id, prefix, start[0], limit + 1)
        answer: dict[str, Any] = {"kind": "storage#buckets"}
        if stored:
            answer["items"] = [self._shown(request, bucket) for bucket in stored[:limit]]
        if len(stored) > limit:
            last = stored[limit]
            answer["nextPageToken"] = page_token(last.name, last.created if soft_deleted else 0)
        return answer

    def patch(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        return self._changed(request, resources.patched_bucket)

    def update(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        return self._changed(request, resources.replaced_bucket)

    def _changed(self, request: JsonRequest, change: Any) -> dict[str, Any]:
        document = typed("Bucket", request.body)

        def apply(stored: StoredBucket, now: int) -> StoredBucket:
            _check(request, stored)
            before = json.loads(stored.fields)
            after = change(before, document, now)
            protection.check_policy_change(before, after)
            lists = self._with_lists(request, {**document, **after}, self._store.projects.get(stored.project))
            after.update({key: lists[key] for key in (acl.BUCKET_ACL, acl.DEFAULT_ACL) if key in lists})
            return stored if after == before else replace(stored, fields=json.dumps(after))

        return self._shown(request, self._store.change_bucket(request.parameters["bucket"], apply), full=True)

    def _with_lists(self, request: JsonRequest, document: dict[str, Any], project: Project) -> dict[str, Any]:
        """The document with the lists of access controls that the call names or brings, as they are kept."""
        result = dict(document)
        access = document.get("iamConfiguration", {})
        fields = {"iamConfiguration": access}
        predefined, default = request.get("predefinedAcl"), request.get("predefinedDefaultObjectAcl")
        if predefined:
            result[acl.BUCKET_ACL] = acl.predefined_bucket(predefined, project)
        elif document.get("acl") is not None:
            result[acl.BUCKET_ACL] = acl.checked(document["acl"], acl.BUCKET_ROLES, fields)
        if default:
            result[acl.DEFAULT_ACL] = acl.predefined_object(default, project, "")
        elif document.get("defaultObjectAcl") is not None:
            result[acl.DEFAULT_ACL] = acl.checked(document["defaultObjectAcl"], acl.OBJECT_ROLES, fields)
        asks = predefined or default or document.get("acl") or document.get("defaultObjectAcl")
        if asks and access.get("uniformBucketLevelAccess", {}).get("enabled"):
            raise BadRequest("Cannot use ACL API to update bucket policy when uniform bucket-level access is enabled.")
        return result

    def lock_retention_policy(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        _required(request, "ifMetagenerationMatch")

        def lock(stored: StoredBucket, now: int) -> StoredBucket:
            _check(request, stored)
            fields = json.loads(stored.fields)
            if "retentionPolicy" not in fields:
                raise BadRequest("Bucket does not have an unlocked Retention Policy.")
            fields["retentionPolicy"]["isLocked"] = True
            return replace(stored, fields=json.dumps(fields))

        return self._shown(request, self._store.change_bucket(request.parameters["bucket"], lock), full=True)

    def restore(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        generation = _required_generation(integer(request.parameters, "generation"))
        return self._shown(request, self._store.restore_bucket(request.parameters["bucket"], generation), full=True)

    def relocate(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """Done before it answers, as an operation: nothing has to be copied here."""
        wanted = typed("RelocateBucketRequest", request.body)
        location = str(wanted.get("destinationLocation") or "").upper()
        before = json.loads(self._store.bucket(request.parameters["bucket"]).fields)
        if not location or location == before["location"]:
            raise BadRequest("The destination location of a relocation must be given, and be another one.")

        def move(stored: StoredBucket, now: int) -> StoredBucket:
            fields = {**json.loads(stored.fields), "location": location}
            if wanted.get("destinationCustomPlacementConfig"):
                fields["customPlacementConfig"] = wanted["destinationCustomPlacementConfig"]
            return replace(stored, fields=json.dumps(fields))

        if not wanted.get("validateOnly"):
            self._store.change_bucket(request.parameters["bucket"], move)
        metadata = {
            "sourceLocation": before["location"], "destinationLocation": location,
            "validateOnly": bool(wanted.get("validateOnly")), "relocationState": "FINALIZED",
        }  # fmt: skip
        return self._operations.finished(
            request.parameters["bucket"], "RelocateBucketMetadata", metadata, {"@type": _EMPTY}
        )

    def delete(self, request: JsonRequest, context: Context) -> JsonResponse:
        self._store.delete_bucket(request.parameters["bucket"], lambda stored: _check(request, stored))
        return JsonResponse(None, 204, {"content-type": "application/json"})

    def get_storage_layout(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        stored = self._store.bucket(request.parameters["bucket"])
        fields = json.loads(stored.fields)
        return {
            "kind": "storage#storageLayout",
            "bucket": stored.name,
            "location": fields["location"],
            "locationType": resources.location_type(fields["location"]),
            "hierarchicalNamespace": fields.get("hierarchicalNamespace", {"enabled": False}),
        }

    def get_iam_policy(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        return _shown_policy(self._store.bucket(request.parameters["bucket"]))

    def set_iam_policy(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        policy = typed("Policy", request.body)

        def apply(stored: StoredBucket, now: int) -> StoredBucket:
            if policy.get("etag"):
                conditions = replace(NONE, etag_match=policy["etag"])
                conditions.check_for_write(0, stored.metageneration, resources.bucket_etag(stored))
            kept = {key: policy[key] for key in ("bindings", "version") if policy.get(key)}
            return replace(stored, policy=json.dumps(kept))

        return _shown_policy(self._store.change_bucket(request.parameters["bucket"], apply))

    def test_iam_permissions(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """All that is asked for: the emulator's caller owns the project."""
        self._store.bucket(request.parameters["bucket"])
        return tested_permissions(request)

    def _shown(self, request: JsonRequest, stored: StoredBucket, *, full: bool = False) -> dict[str, Any]:
        return views.shown_bucket(self._store, request, stored, full=full)


class ServiceAccount(DiscoveryService):
    """The account in whose name Cloud Storage itself acts for a project."""

    api = "storage.v1"
    resource = "projects.serviceAccount"
    legacy_errors = True

    def __init__(self, store: ObjectFiles) -> None:
        self._store = store

    def get(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        project = self._store.projects.get(request.parameters["projectId"])
        return {
            "kind": "storage#serviceAccount",
            "email_address": f"service-{project.number}@gs-project-accounts.iam.gserviceaccount.com",
        }


def max_results(request: JsonRequest) -> int:
    """Items on a page: at most 1,000, which is also the default. Raises BadRequest below 1."""
    asked = request.get("maxResults")
    if asked is None:
        return MAX_RESULTS
    if asked < 1:
        raise BadRequest(
            f"Invalid value '{asked}'. Values must be within the range: [1, 1000]",
            errors=[{"reason": "invalidParameter", "locationType": "parameter", "location": "maxResults"}],
        )
    return min(int(asked), MAX_RESULTS)


def _required(request: JsonRequest, name: str) -> str:
    value = request.get(name)
    if not value:
        raise BadRequest(
            f"Required parameter: {name}",
            errors=[{"reason": "required", "locationType": "parameter", "location": name}],
        )
    return str(value)


def _required_generation(generation: int | None) -> int:
    if generation is None:
        raise BadRequest("Required parameter: generation", errors=[{"reason": "required"}])
    return generation


def _check(request: JsonRequest, stored: StoredBucket) -> None:
    conditions = Preconditions.of(request.parameters, request.headers)
    conditions.check_for_write(stored.created, stored.metageneration, resources.bucket_etag(stored))


def _shown_policy(stored: StoredBucket) -> dict[str, Any]:
    policy = json.loads(stored.policy) if stored.policy else resources.default_policy(stored)
    return {
        "kind": "storage#policy",
        "resourceId": f"projects/_/buckets/{stored.name}",
        "version": 1,
        "etag": resources.bucket_etag(stored),
        **policy,
    }
