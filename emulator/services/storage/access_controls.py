"""Cloud Storage: the entries of access control lists, of buckets, of objects, and of a bucket's new objects.

Source: https://cloud.google.com/storage/docs/json_api/v1/bucketAccessControls, …/objectAccessControls,
…/defaultObjectAccessControls
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from google.api_core.exceptions import BadRequest, NotFound

from emulator.core.service import Context, DiscoveryService, JsonRequest, JsonResponse
from emulator.services.storage import acl
from emulator.services.storage.acl import Entry
from emulator.services.storage.catalogue import StoredBucket, StoredObject
from emulator.services.storage.preconditions import Preconditions, integer
from emulator.services.storage.resources import bucket_etag
from emulator.services.storage.schema import typed
from emulator.services.storage.store import ObjectFiles

# Names for lists, which a method of that name would hide inside the classes.
Entries = list[Entry]
Shown = list[dict[str, Any]]
Change = Callable[[Entries], Entries]


class AccessControls(DiscoveryService):
    """What the three kinds of lists have in common. A list is kept whole; each change makes a new one."""

    api = "storage.v1"
    legacy_errors = True
    schema = "ObjectAccessControl"
    roles = acl.OBJECT_ROLES
    what = "an object"

    def __init__(self, store: ObjectFiles) -> None:
        self._store = store

    def list(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        shown = self._read(request)
        return {"kind": f"{self._kind}s", **({"items": shown} if shown else {})}

    def get(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        entry: dict[str, Any] = self._entry(request, self._read(request))
        return entry

    def insert(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        (entry,) = self._checked(request, typed(self.schema, request.body))
        shown = self._change(request, lambda entries: [*_without(entries, entry["entity"]), entry])
        return next(item for item in shown if item["entity"] == entry["entity"])

    def patch(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        document = typed(self.schema, request.body)

        def change(entries: Entries) -> Entries:
            before = self._entry(request, entries)
            (entry,) = self._checked(
                request, {"entity": before["entity"], "role": document.get("role") or before["role"]}
            )
            return [entry if item["entity"] == entry["entity"] else item for item in entries]

        entry: dict[str, Any] = self._entry(request, self._change(request, change))
        return entry

    def update(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        if not typed(self.schema, request.body).get("role"):
            raise BadRequest("Required", errors=[{"reason": "required"}])
        return self.patch(request, context)

    def delete(self, request: JsonRequest, context: Context) -> JsonResponse:
        def change(entries: Entries) -> Entries:
            return _without(entries, self._entry(request, entries)["entity"])

        self._change(request, change)
        return JsonResponse(None, 204, {"content-type": "application/json"})

    @property
    def _kind(self) -> str:
        return f"storage#{self.schema[0].lower()}{self.schema[1:]}"

    def _checked(self, request: JsonRequest, document: dict[str, Any]) -> Entries:
        return acl.checked([document], self.roles, json.loads(self._bucket(request).fields))

    def _bucket(self, request: JsonRequest, verb: str = "get") -> StoredBucket:
        bucket = self._store.bucket(request.parameters["bucket"])
        acl.refuse_if_uniform(bucket, verb, self.what)
        return bucket

    @staticmethod
    def _entry(request: JsonRequest, entries: Entries | Shown) -> Any:
        entity = request.parameters["entity"]
        found = next((entry for entry in entries if entry["entity"].lower() == entity.lower()), None)
        if found is None:
            raise NotFound("The specified key does not exist.")
        return found

    def _read(self, request: JsonRequest) -> Shown:
        """The list as JSON."""
        raise NotImplementedError

    def _change(self, request: JsonRequest, change: Change) -> Shown:
        """Replace the list as one step; gives back the new one as JSON."""
        raise NotImplementedError


class BucketAccessControls(AccessControls):
    resource = "bucketAccessControls"
    schema = "BucketAccessControl"
    roles = acl.BUCKET_ROLES
    what = "a bucket"
    _key = acl.BUCKET_ACL

    def _entries(self, bucket: StoredBucket) -> Entries:
        return acl.bucket_list(bucket, self._store.projects.get(bucket.project))

    def _shown(self, bucket: StoredBucket) -> Shown:
        project = self._store.projects.get(bucket.project)
        return [acl.bucket_entry(entry, bucket, project) for entry in self._entries(bucket)]

    def _read(self, request: JsonRequest) -> Shown:
        bucket = self._bucket(request)
        conditions = Preconditions.of(request.parameters, request.headers)
        conditions.check(bucket.created, bucket.metageneration, bucket_etag(bucket))
        return self._shown(bucket)

    def _change(self, request: JsonRequest, change: Change) -> Shown:
        self._bucket(request, "update")

        def apply(bucket: StoredBucket, now: int) -> StoredBucket:
            fields = {**json.loads(bucket.fields), self._key: change(self._entries(bucket))}
            return replace(bucket, fields=json.dumps(fields))

        return self._shown(self._store.change_bucket(request.parameters["bucket"], apply))


class DefaultObjectAccessControls(BucketAccessControls):
    resource = "defaultObjectAccessControls"
    schema = "ObjectAccessControl"
    roles = acl.OBJECT_ROLES
    what = "an object"
    _key = acl.DEFAULT_ACL

    def _entries(self, bucket: StoredBucket) -> Entries:
        return acl.default_list(bucket, self._store.projects.get(bucket.project))

    def _shown(self, bucket: StoredBucket) -> Shown:
        project = self._store.projects.get(bucket.project)
        return [acl.default_entry(entry, bucket, project) for entry in self._entries(bucket)]


class ObjectAccessControls(AccessControls):
    resource = "objectAccessControls"

    def _shown(self, bucket: StoredBucket, stored: StoredObject) -> Shown:
        project = self._store.projects.get(bucket.project)
        return [acl.object_entry(entry, stored, project) for entry in acl.object_list(stored, project)]

    def _read(self, request: JsonRequest) -> Shown:
        given = request.parameters
        bucket = self._bucket(request)
        return self._shown(bucket, self._store.find(given["bucket"], given["object"], integer(given, "generation")))

    def _change(self, request: JsonRequest, change: Change) -> Shown:
        given = request.parameters
        bucket = self._bucket(request, "update")
        project = self._store.projects.get(bucket.project)
        generation = integer(given, "generation")
        with self._store.database.transaction():
            entries = change(acl.object_list(self._store.find(given["bucket"], given["object"], generation), project))
            stored = self._store.change(
                given["bucket"], given["object"], lambda fields, *_: {**fields, acl.OBJECT_ACL: entries},
                generation=generation,
            )  # fmt: skip
        return self._shown(bucket, stored)


def _without(entries: Entries, entity: str) -> Entries:
    return [entry for entry in entries if entry["entity"].lower() != entity.lower()]
