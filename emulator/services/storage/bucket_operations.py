"""Cloud Storage: long-running operations on a bucket, which here are over before they are answered.

Source: https://cloud.google.com/storage/docs/json_api/v1/buckets/operations
"""

from __future__ import annotations

import json
from typing import Any

from google.api_core.exceptions import BadRequest, GoogleAPICallError, NotFound

from emulator.core.ids import new_id
from emulator.core.service import Context, DiscoveryService, JsonRequest
from emulator.services.storage import resources
from emulator.services.storage.catalogue import StoredBucket, StoredObject
from emulator.services.storage.copies import Copies
from emulator.services.storage.glob import compile_glob
from emulator.services.storage.listing import MAX_RESULTS, page_token, parse_page_token
from emulator.services.storage.preconditions import Preconditions
from emulator.services.storage.protection import parse_time
from emulator.services.storage.store import ObjectFiles

_METADATA = "type.googleapis.com/google.storage.v2."
_BATCH = 500


class BucketOperations(DiscoveryService):
    """The operations of each bucket, newest first."""

    api = "storage.v1"
    resource = "buckets.operations"
    legacy_errors = True

    def __init__(self, store: ObjectFiles) -> None:
        self._store = store
        store.database.create(
            "CREATE TABLE IF NOT EXISTS storage_operations (number INTEGER PRIMARY KEY AUTOINCREMENT, "
            "bucket TEXT NOT NULL, id TEXT NOT NULL, document TEXT NOT NULL)",
            "CREATE INDEX IF NOT EXISTS storage_operations_by_bucket ON storage_operations (bucket, number)",
        )

    def get(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        self._store.bucket(request.parameters["bucket"])
        rows = self._store.database.query(
            "SELECT document FROM storage_operations WHERE bucket = ? AND id = ?",
            (request.parameters["bucket"], request.parameters["operationId"]),
        )
        if not rows:
            raise NotFound("The specified operation does not exist.")
        document: dict[str, Any] = json.loads(rows[0]["document"])
        return document

    def list(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        self._store.bucket(request.parameters["bucket"])
        if request.get("filter"):
            raise BadRequest("Filters on the operations of a bucket are not emulated yet.")
        limit = min(request.get("pageSize") or MAX_RESULTS, MAX_RESULTS)
        _, before = parse_page_token(request.get("pageToken", ""))
        rows = self._store.database.query(
            "SELECT number, document FROM storage_operations WHERE bucket = ? AND (? = 0 OR number < ?) "
            "ORDER BY number DESC LIMIT ?",
            (request.parameters["bucket"], before, before, limit + 1),
        )
        answer: dict[str, Any] = {"kind": "storage#operations"}
        if rows:
            answer["operations"] = [json.loads(row["document"]) for row in rows[:limit]]
        if len(rows) > limit:
            answer["nextPageToken"] = page_token("", rows[limit - 1]["number"])
        return answer

    def cancel(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """Nothing is left to cancel: an operation is done when it is known."""
        self.get(request, context)
        return {}

    def finished(self, bucket: str, kind: str, metadata: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
        """A new operation that is over. kind: message of its metadata."""
        identifier = new_id()
        moment = resources.time_text(resources.microseconds(self._store.clock.now()))
        common = {"createTime": moment, "updateTime": moment, "endTime": moment, "progressPercent": 100}
        document = {
            "kind": "storage#operation",
            "name": f"projects/_/buckets/{bucket}/operations/{identifier}",
            "selfLink": f"{resources.API}/b/{bucket}/operations/{identifier}",
            "metadata": {"@type": f"{_METADATA}{kind}", "commonMetadata": common, **metadata},
            "done": True,
            "response": response,
        }
        with self._store.database.transaction() as connection:
            connection.execute(
                "INSERT INTO storage_operations (bucket, id, document) VALUES (?, ?, ?)",
                (bucket, identifier, json.dumps(document)),
            )
        return document

    def bulk_restore(self, bucket: StoredBucket, wanted: dict[str, Any], copies: Copies) -> dict[str, Any]:
        """Restore what was soft-deleted as the request selects, each name's newest generation."""
        globs = [compile_glob(text) for text in wanted.get("matchGlobs") or []]
        spans = [_Span(wanted, "created"), _Span(wanted, "softDeleted")]
        newest: dict[str, StoredObject] = {}
        start: tuple[str, int] | None = ("", 0)
        while start is not None:
            rows, start = self._store.page_of_soft_deleted(bucket.name, start, None, _BATCH)
            for row in rows:
                inside = spans[0].holds(row.created) and spans[1].holds(row.soft_deleted)
                if inside and (not globs or any(glob.matches(row.name) for glob in globs)):
                    newest[row.name] = row
        restored, failed, skipped = 0, 0, 0
        for row in newest.values():
            if not wanted.get("allowOverwrite") and self._store.catalogue.find(bucket.name, row.name) is not None:
                skipped += 1
                continue
            only_new = Preconditions() if wanted.get("allowOverwrite") else Preconditions(generation_match=0)
            try:
                copies.restore(
                    bucket.name, row.name, row.generation, conditions=only_new,
                    copies_acl=bool(wanted.get("copySourceAcl")),
                )  # fmt: skip
                restored += 1
            except GoogleAPICallError:
                failed += 1
        counts = {"succeededCount": str(restored), "failedCount": str(failed), "skippedCount": str(skipped)}
        empty = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        return self.finished(bucket.name, "BulkRestoreObjectsMetadata", counts, empty)


class _Span:
    """`<what>AfterTime` to `<what>BeforeTime` of a request, either of which may be missing."""

    def __init__(self, wanted: dict[str, Any], what: str) -> None:
        after, before = wanted.get(f"{what}AfterTime"), wanted.get(f"{what}BeforeTime")
        self._after = parse_time(after, f"{what}AfterTime") if after else None
        self._before = parse_time(before, f"{what}BeforeTime") if before else None

    def holds(self, moment: int) -> bool:
        return (self._after is None or moment > self._after) and (self._before is None or moment < self._before)
