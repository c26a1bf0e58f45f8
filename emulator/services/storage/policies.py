"""IAM on single objects, and which permissions a caller has: all of them, for it owns the project."""

from __future__ import annotations

import json
from typing import Any

from google.api_core.exceptions import BadRequest, PreconditionFailed

from emulator.core.service import JsonRequest
from emulator.services.storage import acl, resources
from emulator.services.storage.catalogue import StoredBucket, StoredObject
from emulator.services.storage.store import ObjectFiles

#: Under this name an object's policy is kept among its fields.
_POLICY = "_policy"


def tested_permissions(request: JsonRequest) -> dict[str, Any]:
    """All that are asked for. Raises BadRequest for one that is not of Cloud Storage."""
    permissions = request.parameters.get("permissions", [])
    unknown = next((name for name in permissions if not name.startswith("storage.")), None)
    if unknown:
        raise BadRequest(f"Invalid permission: {unknown}")
    return {"kind": "storage#testIamPermissionsResponse", "permissions": permissions}


class ObjectPolicies:
    """Policies of objects, which exist only where access is not uniform."""

    def __init__(self, store: ObjectFiles) -> None:
        self._store = store

    def get(self, bucket: StoredBucket, stored: StoredObject) -> dict[str, Any]:
        """The policy that a client set, or the list of access controls as a policy."""
        acl.refuse_if_uniform(bucket, "get", "an object")
        policy = json.loads(stored.fields).get(_POLICY)
        if policy is None:
            policy = {"bindings": self._bindings(bucket, stored)}
        return {
            "kind": "storage#policy",
            "resourceId": f"projects/_/buckets/{stored.bucket}/objects/{stored.name}",
            "version": 1,
            "etag": resources.object_etag(stored),
            **policy,
        }

    def _bindings(self, bucket: StoredBucket, stored: StoredObject) -> list[dict[str, Any]]:
        members: dict[str, list[str]] = {}
        for entry in acl.object_list(stored, self._store.projects.get(bucket.project)):
            members.setdefault(entry["role"], []).append(_member(entry["entity"], bucket.project))
        roles = {"OWNER": "roles/storage.legacyObjectOwner", "READER": "roles/storage.legacyObjectReader"}
        return [{"role": roles[role], "members": sorted(members[role])} for role in roles if role in members]

    def set(self, bucket: StoredBucket, stored: StoredObject, policy: dict[str, Any]) -> dict[str, Any]:
        """Raises PreconditionFailed when the policy carries an etag that is not the object's."""
        acl.refuse_if_uniform(bucket, "set", "an object")
        if policy.get("etag") and policy["etag"] != resources.object_etag(stored):
            raise PreconditionFailed("At least one of the pre-conditions you specified did not hold.")
        kept = {key: policy[key] for key in ("bindings", "version") if policy.get(key)}
        changed = self._store.change(
            stored.bucket, stored.name, lambda fields, *_: {**fields, _POLICY: kept}, generation=stored.generation
        )
        return self.get(bucket, changed)


def _member(entity: str, project: str) -> str:
    """`user:x@y` of `user-x@y`; the project's teams under their names in IAM."""
    kind, _, who = entity.partition("-")
    if kind == "project":
        team = who.partition("-")[0].removesuffix("s")
        return f"project{team.capitalize()}:{project}"
    if kind == "user" and who.endswith(".gserviceaccount.com"):
        return f"serviceAccount:{who}"
    return f"{kind}:{who}" if who else entity
