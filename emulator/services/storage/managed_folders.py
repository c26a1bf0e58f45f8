"""Cloud Storage: managed folders, prefixes with a policy of their own.

Source: https://cloud.google.com/storage/docs/json_api/v1/managedFolder
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from google.api_core.exceptions import BadRequest, Conflict, NotFound

from emulator.core.service import Context, DiscoveryService, JsonRequest, JsonResponse
from emulator.core.state import Database
from emulator.services.storage import acl, resources
from emulator.services.storage.catalogue import StoredBucket
from emulator.services.storage.listing import MAX_RESULTS, page_token, parse_page_token
from emulator.services.storage.names import after_prefix, check_object_name
from emulator.services.storage.policies import tested_permissions
from emulator.services.storage.preconditions import NONE, Preconditions
from emulator.services.storage.schema import typed
from emulator.services.storage.store import ObjectFiles


@dataclass(frozen=True)
class StoredFolder:
    bucket: str
    name: str
    """with a slash at its end"""
    metageneration: int
    created: int
    updated: int
    policy: str
    """JSON of the IAM policy; empty until a client sets one"""


class FolderRows:
    """The managed folders of all buckets."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create(
            "CREATE TABLE IF NOT EXISTS storage_managed_folders (bucket TEXT NOT NULL, name TEXT NOT NULL, "
            "metageneration INTEGER NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL, "
            "policy TEXT NOT NULL, PRIMARY KEY (bucket, name)) WITHOUT ROWID"
        )

    def find(self, bucket: str, name: str) -> StoredFolder | None:
        rows = self._database.query(
            "SELECT * FROM storage_managed_folders WHERE bucket = ? AND name = ?", (bucket, name)
        )
        return StoredFolder(*rows[0]) if rows else None

    def save(self, folder: StoredFolder) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO storage_managed_folders VALUES (?, ?, ?, ?, ?, ?)",
                (folder.bucket, folder.name, folder.metageneration, folder.created, folder.updated, folder.policy),
            )

    def delete(self, bucket: str, name: str) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM storage_managed_folders WHERE bucket = ? AND name = ?", (bucket, name))

    def forget_bucket(self, bucket: str) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM storage_managed_folders WHERE bucket = ?", (bucket,))

    def page(self, bucket: str, prefix: str, start: str, limit: int) -> list[StoredFolder]:
        """By name, from `start` on."""
        rows = self._database.query(
            "SELECT * FROM storage_managed_folders WHERE bucket = ? AND name >= ? AND substr(name, 1, ?) = ? "
            "ORDER BY name LIMIT ?",
            (bucket, max(start, prefix), len(prefix), prefix, limit),
        )
        return [StoredFolder(*row) for row in rows]

    def names(self, bucket: str, prefix: str) -> list[str]:
        """Those with a prefix, in order."""
        rows = self._database.query(
            "SELECT name FROM storage_managed_folders WHERE bucket = ? AND name >= ? AND substr(name, 1, ?) = ? "
            "ORDER BY name",
            (bucket, prefix, len(prefix), prefix),
        )
        return [row["name"] for row in rows]


class ManagedFolders(DiscoveryService):
    api = "storage.v1"
    resource = "managedFolders"
    legacy_errors = True

    def __init__(self, store: ObjectFiles) -> None:
        self._store = store
        self.rows = FolderRows(store.database)
        store.when_deleted.append(self.rows.forget_bucket)

    def insert(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        document = typed("ManagedFolder", request.body)
        return _shown(self.create(request.parameters["bucket"], document.get("name") or ""))

    def create(self, bucket: str, name: str) -> StoredFolder:
        """Raises Conflict, BadRequest where access is not uniform."""
        owner = self._store.bucket(bucket)
        check_object_name(name)
        if not acl.is_uniform(owner):
            raise BadRequest("Managed folders require uniform bucket-level access to be enabled on the bucket.")
        now = resources.microseconds(self._store.clock.now())
        folder = StoredFolder(bucket, name if name.endswith("/") else f"{name}/", 1, now, now, "")
        with self._store.database.transaction():
            if self.rows.find(bucket, folder.name) is not None:
                raise Conflict("The managed folder you tried to create already exists.")
            self.rows.save(folder)
        return folder

    def get(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        folder = self._named(request)
        conditions = Preconditions.of(request.parameters, request.headers)
        conditions.check(folder.created, folder.metageneration, _etag(folder))
        return _shown(folder)

    def _named(self, request: JsonRequest) -> StoredFolder:
        return self.find(request.parameters["bucket"], request.parameters["managedFolder"])

    def find(self, bucket: str, name: str) -> StoredFolder:
        """Raises NotFound."""
        self._store.bucket(bucket)
        folder = self.rows.find(bucket, name if name.endswith("/") else f"{name}/")
        if folder is None:
            raise NotFound("The specified managed folder does not exist.")
        return folder

    def list(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        bucket = self._store.bucket(request.parameters["bucket"]).name
        limit = min(request.get("pageSize") or MAX_RESULTS, MAX_RESULTS)
        start, _ = parse_page_token(request.get("pageToken", ""))
        folders = self.rows.page(bucket, request.get("prefix", ""), start, limit + 1)
        answer: dict[str, Any] = {"kind": "storage#managedFolders"}
        if folders:
            answer["items"] = [_shown(folder) for folder in folders[:limit]]
        if len(folders) > limit:
            answer["nextPageToken"] = page_token(folders[limit].name)
        return answer

    def delete(self, request: JsonRequest, context: Context) -> JsonResponse:
        folder = self._named(request)
        conditions = Preconditions.of(request.parameters, request.headers)
        conditions.check_for_write(folder.created, folder.metageneration, _etag(folder))
        self.remove(folder, allow_non_empty=bool(request.get("allowNonEmpty")))
        return JsonResponse(None, 204, {"content-type": "application/json"})

    def remove(self, folder: StoredFolder, *, allow_non_empty: bool) -> None:
        """Raises Conflict while objects lie in it, unless that is allowed."""
        end = after_prefix(folder.name)
        rows, _ = self._store.page(folder.bucket, folder.name, end, 1)
        if rows and not allow_non_empty:
            raise Conflict("The managed folder you tried to delete is not empty.")
        self.rows.delete(folder.bucket, folder.name)

    def get_iam_policy(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        return _policy(self._named(request))

    def set_iam_policy(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        policy = typed("Policy", request.body)
        with self._store.database.transaction():
            folder = self._named(request)
            if policy.get("etag"):
                Preconditions(**{**vars(NONE), "etag_match": policy["etag"]}).check_for_write(
                    folder.created, folder.metageneration, _etag(folder)
                )
            kept = {key: policy[key] for key in ("bindings", "version") if policy.get(key)}
            now = resources.microseconds(self._store.clock.now())
            folder = StoredFolder(
                folder.bucket, folder.name, folder.metageneration + 1, folder.created, now, json.dumps(kept)
            )
            self.rows.save(folder)
        return _policy(folder)

    def test_iam_permissions(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        self._named(request)
        return tested_permissions(request)


def _shown(folder: StoredFolder) -> dict[str, Any]:
    return {
        "kind": "storage#managedFolder",
        "id": f"{folder.bucket}/{folder.name}",
        "selfLink": f"{resources.API}/b/{folder.bucket}/managedFolders/{quote(folder.name, safe='')}",
        "bucket": folder.bucket,
        "name": folder.name,
        "metageneration": str(folder.metageneration),
        "createTime": resources.time_text(folder.created),
        "updateTime": resources.time_text(folder.updated),
    }


def _policy(folder: StoredFolder) -> dict[str, Any]:
    policy = json.loads(folder.policy) if folder.policy else {}
    return {
        "kind": "storage#policy",
        "resourceId": f"projects/_/buckets/{folder.bucket}/managedFolders/{folder.name}",
        "version": 1,
        "etag": _etag(folder),
        **policy,
    }


def _etag(folder: StoredFolder) -> str:
    return resources.etag(0, folder.metageneration)


def is_hierarchical(bucket: StoredBucket) -> bool:
    """Whether a bucket has real folders."""
    return bool(json.loads(bucket.fields).get("hierarchicalNamespace", {}).get("enabled"))
