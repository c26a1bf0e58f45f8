"""Cloud Storage: buckets and their IAM policies.

Source: https://cloud.google.com/storage/docs/json_api/v1/buckets
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from google.api_core.exceptions import BadRequest

from emulator.core.service import Context, DiscoveryService, JsonRequest, JsonResponse
from emulator.services.storage import resources
from emulator.services.storage.catalogue import StoredBucket
from emulator.services.storage.listing import MAX_RESULTS, page_token, parse_page_token
from emulator.services.storage.preconditions import NONE, Preconditions
from emulator.services.storage.schema import typed
from emulator.services.storage.store import ObjectFiles


class Buckets(DiscoveryService):
    api = "storage.v1"
    resource = "buckets"
    legacy_errors = True

    def __init__(self, store: ObjectFiles) -> None:
        self._store = store

    def insert(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        project = _required(request, "project")
        document = typed("Bucket", request.body)
        if not document.get("name"):
            raise BadRequest("Required", errors=[{"reason": "required"}])
        return self._shown(self._store.create_bucket(document["name"], project, document))

    def get(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        stored = self._store.bucket(request.parameters["bucket"])
        conditions = Preconditions.of(request.parameters, request.headers)
        conditions.check(stored.created, stored.metageneration, resources.bucket_etag(stored))
        return self._shown(stored)

    def list(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        project = self._store.projects.get(_required(request, "project"))
        limit = max_results(request)
        start = parse_page_token(request.get("pageToken", ""))
        stored = self._store.catalogue.buckets(project.id, request.get("prefix", ""), start, limit + 1)
        if request.get("softDeleted"):
            stored = []
        answer: dict[str, Any] = {"kind": "storage#buckets"}
        if stored:
            answer["items"] = [self._shown(bucket) for bucket in stored[:limit]]
        if len(stored) > limit:
            answer["nextPageToken"] = page_token(stored[limit].name)
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
            return stored if after == before else replace(stored, fields=json.dumps(after))

        return self._shown(self._store.change_bucket(request.parameters["bucket"], apply))

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
        permissions = request.parameters.get("permissions", [])
        unknown = next((name for name in permissions if not name.startswith("storage.")), None)
        if unknown:
            raise BadRequest(f"Invalid permission: {unknown}")
        return {"kind": "storage#testIamPermissionsResponse", "permissions": permissions}

    def _shown(self, stored: StoredBucket) -> dict[str, Any]:
        return resources.bucket_resource(stored, self._store.projects.get(stored.project))


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
